/**
 * Who may connect again, and when. A peer of 2025 comes back at once after every close and forgets its own patience at
 * each upgrade that succeeds, so the patience is ours (D24a, D34, D23). Every refusal here is temporary: 503.
 *
 * - *Rate:* one device from one address with one token, a burst and then one a second. Counted before the database is
 *   asked, so that a flood costs little.
 * - *Back-off:* after a close of ours the device waits 1, 2, 4 … 60 s, until one of its sockets has lived for a while.
 * - *Duel:* two processes with one device's identity and different keys evict each other for ever. Whose key was evicted
 *   and came back twice waits for a minute, while the other one lives. The holder's own key always takes over.
 */
import type { EpochMs } from '../../core/model/time.js';
import type { Clock } from '../../core/support/clock.js';
import { TokenBucket, type Rate } from '../../core/support/token-bucket.js';
import { comeBack, type Refusal } from './refusal.js';

export interface ConnectLimits {
  readonly connects: Rate;
  /** Longest back-off; 0: none. Unit s. */
  readonly maxBackOffSeconds: number;
}

/** One device as far as connecting goes; of one token kind and account, so that nobody can get in another's way. */
export interface DeviceIdentity {
  readonly device: string;
  /** Null for relays, which have none: a restarted one is another relay. */
  readonly publicKey: string | null;
}

/** How a socket ended, as far as its device's next connect is concerned. */
export interface SocketEnd {
  readonly byUs: boolean;
  readonly why: string;
}

interface Device {
  /** Sockets of `holder`'s key that are open. */
  live: number;
  holder: string | null;
  readonly evicted: Map<string, Evicted>;
  backOff: number;
  waitUntil: EpochMs;
  touchedAt: EpochMs;
}

interface Evicted {
  at: EpochMs;
  returns: number;
  barredUntil: EpochMs;
}

/** A socket that has lived this long was no part of a loop. */
const SETTLED_MS = 30_000;
/** Later than this a device that comes back is not fighting. */
const DUEL_WITHIN_MS = 5_000;
const DUEL_BAR_MS = 60_000;
/** Evictions of one key further apart than this belong to two fights. */
const SAME_FIGHT_MS = 10_000;
/** Keys of one device that are remembered as evicted: more is a flood, not a duel. */
const MAX_RIVALS = 16;
/** Devices and rates that are remembered; what is of no consequence any more goes first. About 300 bytes each. */
const MAX_REMEMBERED = 50_000;
/** What says nothing of the peer or of us: the device may come back at once. */
const BLAMELESS = new Set(['newer-connection', 'token-doubtful', 'client-deleted', 'gateway-deleted', 'left']);

export class ConnectGuard {
  readonly #rates = new Map<string, TokenBucket>();
  readonly #devices = new Map<string, Device>();

  constructor(
    private readonly limits: ConnectLimits,
    private readonly clock: Clock,
  ) {}

  /** @param key address, token and device */
  rate(key: string): Refusal | undefined {
    const now = this.clock.now();
    let bucket = this.#rates.get(key);
    if (!bucket) {
      bucket = new TokenBucket(this.limits.connects, now);
      remember(this.#rates, key, bucket, (old) => old.isFull(now));
    }
    const waitMs = bucket.take(now);
    return waitMs === 0 ? undefined : comeBack('rate_limit', seconds(waitMs));
  }

  /** Asked once the peer is known to be who it says. */
  admit({ device, publicKey }: DeviceIdentity): Refusal | undefined {
    const known = this.#devices.get(device);
    if (!known) return undefined;
    const now = this.clock.now();
    const waitMs = msUntil(known.waitUntil, now, this.limits.maxBackOffSeconds * 1000);
    if (waitMs > 0) return comeBack('back_off', seconds(waitMs));
    return publicKey === null ? undefined : this.#duel(known, publicKey, now);
  }

  /** The upgrade succeeded. Returns what to call when its socket ends, once. */
  opened({ device, publicKey }: DeviceIdentity): (end: SocketEnd) => void {
    const openedAt = this.clock.now();
    const known = this.#deviceOf(device, openedAt);
    if (known.live > 0 && known.holder !== null && known.holder !== publicKey) evict(known, known.holder, openedAt);
    const isSame = known.holder === publicKey;
    known.live = isSame ? known.live + 1 : 1;
    known.holder = publicKey;
    return (end) => {
      const now = this.clock.now();
      if (known.holder === publicKey) known.live = Math.max(0, known.live - 1);
      if (now - openedAt >= SETTLED_MS) known.backOff = 0;
      if (end.byUs && !BLAMELESS.has(end.why)) this.#backOff(known, now);
      known.touchedAt = now;
    };
  }

  #backOff(device: Device, now: EpochMs): void {
    const delayS = Math.min(this.limits.maxBackOffSeconds, 2 ** device.backOff);
    device.backOff += 1;
    device.waitUntil = now + delayS * 1000;
  }

  #duel(device: Device, publicKey: string, now: EpochMs): Refusal | undefined {
    const evicted = device.evicted.get(publicKey);
    if (!evicted || device.live === 0 || device.holder === publicKey) return undefined;
    const barredMs = msUntil(evicted.barredUntil, now, DUEL_BAR_MS);
    if (barredMs > 0) return comeBack('duel', seconds(barredMs));
    if (now - evicted.at > DUEL_WITHIN_MS) {
      device.evicted.delete(publicKey);
      return undefined;
    }
    evicted.returns += 1;
    if (evicted.returns < 2) return undefined;
    evicted.barredUntil = now + DUEL_BAR_MS;
    evicted.returns = 0;
    return comeBack('duel', seconds(DUEL_BAR_MS));
  }

  #deviceOf(key: string, now: EpochMs): Device {
    const known = this.#devices.get(key);
    if (known) {
      known.touchedAt = now;
      return known;
    }
    const device: Device = {
      ...{ live: 0, holder: null, evicted: new Map<string, Evicted>(), backOff: 0, waitUntil: 0, touchedAt: now },
    };
    remember(this.#devices, key, device, (old) => isForgettable(old, now));
    return device;
  }
}

function evict(device: Device, publicKey: string, now: EpochMs): void {
  const known = device.evicted.get(publicKey);
  if (known && now - known.at <= SAME_FIGHT_MS) known.at = now;
  else device.evicted.set(publicKey, { at: now, returns: 0, barredUntil: 0 });
  for (const oldest of device.evicted.keys()) {
    if (device.evicted.size <= MAX_RIVALS) break;
    device.evicted.delete(oldest);
  }
}

function isForgettable(device: Device, now: EpochMs): boolean {
  return device.live === 0 && now > Math.max(device.waitUntil, device.touchedAt) + DUEL_BAR_MS;
}

/** Sets, and makes room when there are too many: first what `isSpent`, then the oldest. */
function remember<Value>(map: Map<string, Value>, key: string, value: Value, isSpent: (value: Value) => boolean): void {
  map.set(key, value);
  if (map.size <= MAX_REMEMBERED) return;
  for (const [each, old] of map) if (each !== key && isSpent(old)) map.delete(each);
  // Well below the limit, so that the next one does not walk them all again.
  for (const oldest of map.keys()) {
    if (map.size <= MAX_REMEMBERED * 0.9) break;
    if (oldest !== key) map.delete(oldest);
  }
}

/** Nobody waits longer than was ever imposed: the clock was ahead then, and has been set right since. */
function msUntil(at: EpochMs, now: EpochMs, longestMs: number): number {
  return at - now > longestMs ? 0 : Math.max(0, at - now);
}

function seconds(ms: number): number {
  return Math.max(1, Math.ceil(ms / 1000));
}
