/**
 * The relays one client or gateway has been told of, and when it must hear of others (wire-protocol.md 5.2). State-based:
 * each look compares what the peer has with who is online now, so no order of events can confuse it.
 *
 * A relay whose control connection flaps goes on relaying: it counts as gone only when it has been away for a while, or
 * when another process listens in its place. A peer without any online relay hears at once of the next one that comes.
 */
import type { AccountId, RelayId } from '../core/model/ids.js';
import type { EpochMs } from '../core/model/time.js';
import { relayAddress, type Presence, type RelayPeer } from '../core/ports/presence.js';
import type { Place } from '../core/views/choose-gateway.js';
import { chooseRelays } from '../core/views/choose-relays.js';
import type { Clock, Random } from '../core/support/clock.js';
import type { ClientPushes, RelayEntry } from '../protocol/outbound.js';
import { relayEntries, relaysPresence } from '../protocol/views/relay-entries.js';
import { Alarm } from './alarm.js';

export interface RelayUser extends Place {
  readonly accountId: AccountId;
  readonly publicKey: string;
}

export interface PeerRelaysDependencies {
  readonly presence: Presence;
  readonly clock: Clock;
  readonly random: Random;
  readonly limits: {
    /** How long a relay may be away before its peers are told. Unit ms. */
    readonly relaysDebounceMs: number;
  };
}

interface Told {
  readonly relay: RelayPeer;
  /** When it was first found missing; undefined while it is online. */
  awaySince: EpochMs | undefined;
}

export class PeerRelays {
  readonly #told = new Map<RelayId, Told>();
  /** Who was online at the last look. */
  #seen: ReadonlySet<RelayId> = new Set();
  readonly #alarm: Alarm;
  readonly #unsubscribe: () => void;

  /**
   * Listens from here on; call `select` in the same step, so that nothing comes in between.
   * @param expiresAt unix seconds, part of the credentials: the same for as long as the peer's key is (D28)
   * @param push queues the message on the peer's socket
   * @param post runs a task in the channel's mailbox
   */
  constructor(
    private readonly user: RelayUser,
    private readonly expiresAt: number,
    private readonly with_: PeerRelaysDependencies,
    private readonly push: (payload: ClientPushes['relays_presence']) => void,
    post: (task: () => void) => void,
  ) {
    const lookLater = (): void => {
      post(() => {
        this.#look();
      });
    };
    this.#alarm = new Alarm(with_.clock, lookLater);
    this.#unsubscribe = with_.presence.onRelays(user.accountId, lookLater);
  }

  /** False: the peer was given none, or has been told that all are gone. */
  get hasAny(): boolean {
    return this.#told.size > 0;
  }

  /** For an `init`: chosen now, from what the peer has where possible. */
  select(): RelayEntry[] {
    const online = this.#online();
    this.#seen = new Set(online.keys());
    return this.#choose(online);
  }

  close(): void {
    this.#unsubscribe();
    this.#alarm.set(null);
  }

  /** One snapshot of presence decides everything that is pushed. */
  #look(): void {
    const now = this.with_.clock.now();
    const online = this.#online();
    const listening = new Set([...online.values()].map(relayAddress));
    const gone: RelayId[] = [];
    let hasOnline = false;
    let nextAt: EpochMs | null = null;
    for (const [id, told] of this.#told) {
      if (online.has(id)) {
        told.awaySince = undefined;
        hasOnline = true;
        continue;
      }
      told.awaySince ??= now;
      const goneAt = told.awaySince + this.with_.limits.relaysDebounceMs;
      if (goneAt <= now || listening.has(relayAddress(told.relay))) gone.push(id);
      else nextAt = Math.min(nextAt ?? goneAt, goneAt);
    }
    for (const id of gone) this.#told.delete(id);
    this.#alarm.set(nextAt);
    const hasCome = [...online.keys()].some((id) => !this.#seen.has(id));
    this.#seen = new Set(online.keys());
    if (gone.length > 0 || (!hasOnline && hasCome)) this.push(relaysPresence(gone, this.#choose(online)));
  }

  #online(): Map<RelayId, RelayPeer> {
    return new Map(this.with_.presence.relays(this.user.accountId).map((relay) => [relay.relayId, relay]));
  }

  #choose(online: ReadonlyMap<RelayId, RelayPeer>): RelayEntry[] {
    const kept = ({ relayId }: RelayPeer): boolean => this.#told.has(relayId);
    const chosen = chooseRelays([...online.values()], this.user, kept, this.with_.random);
    for (const relay of chosen) this.#told.set(relay.relayId, { relay, awaySince: undefined });
    const facts = chosen.map(({ relayId, ipv4, ipv6, port, stampSecret }) => ({
      ...{ id: relayId, ipv4, ipv6, port, stampSecret },
    }));
    return relayEntries(facts, this.user.publicKey, this.expiresAt);
  }
}
