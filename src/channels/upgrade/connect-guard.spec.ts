import { beforeEach, describe, expect, it } from '@jest/globals';
import { ManualClock } from '../../../test/support/manual-clock.js';
import { ConnectGuard, type SocketEnd } from './connect-guard.js';

const LAPTOP = 'a laptop';
const CRASHED: SocketEnd = { byUs: true, why: 'crashed' };
const LEFT: SocketEnd = { byUs: false, why: 'peer-closed-1000' };
const EVICTED: SocketEnd = { byUs: true, why: 'newer-connection' };

let clock: ManualClock;
let guard: ConnectGuard;

beforeEach(() => {
  clock = new ManualClock();
  guard = new ConnectGuard({ connects: { burst: 5, perSecond: 1 }, maxBackOffSeconds: 60 }, clock);
});

/** Seconds to wait, or nothing when the device may connect. */
function waits(publicKey: string | null = 'key', device = LAPTOP): number | undefined {
  const refusal = guard.admit({ device, publicKey });
  if (refusal) expect(refusal.status).toBe(503);
  return refusal?.retryAfterSeconds;
}

/** Connects, lives for so long, and ends. */
function lives(ms: number, end: SocketEnd, publicKey: string | null = 'key'): void {
  const ended = guard.opened({ device: LAPTOP, publicKey });
  clock.advance(ms);
  ended(end);
}

describe('the rate of connects (D34)', () => {
  it('is five at once and then one a second, for each address, token and device', () => {
    const answers = (key: string): (number | undefined)[] =>
      Array.from({ length: 6 }, () => guard.rate(key)?.retryAfterSeconds);
    expect(answers('a')).toEqual([undefined, undefined, undefined, undefined, undefined, 1]);
    expect(answers('b')).toEqual([undefined, undefined, undefined, undefined, undefined, 1]);
    clock.advance(1000);
    expect([guard.rate('a'), guard.rate('a')?.status]).toEqual([undefined, 503]);
  });

  it('G6: is remembered of so many and no more', () => {
    for (let i = 0; i < 120_000; i += 1) guard.rate(`flood ${i}`);
    expect(guard.rate('a good one')).toBeUndefined();
  });
});

describe('after a close of ours (D24a)', () => {
  it('a device waits 1, 2, 4 … 60 s', () => {
    const waited = Array.from({ length: 8 }, () => {
      lives(10, CRASHED);
      const seconds = waits() ?? 0;
      clock.advance(seconds * 1000 - 1);
      expect(waits()).toBe(1);
      clock.advance(1);
      expect(waits()).toBeUndefined();
      return seconds;
    });
    expect(waited).toEqual([1, 2, 4, 8, 16, 32, 60, 60]);
  });

  it('it begins at 1 s again once a socket has lived 30 s, however that ended', () => {
    for (let i = 0; i < 3; i += 1) lives(0, CRASHED);
    clock.advance(60_000);
    lives(30_000, CRASHED);
    expect(waits()).toBe(1);
    for (let i = 0; i < 3; i += 1) lives(0, CRASHED);
    clock.advance(60_000);
    lives(30_000, LEFT);
    expect(waits()).toBeUndefined();
    lives(0, CRASHED);
    expect(waits()).toBe(1);
  });

  it('it does not begin again for sockets that die young', () => {
    lives(0, CRASHED);
    clock.advance(1000);
    lives(29_999, LEFT);
    lives(0, CRASHED);
    expect(waits()).toBe(2);
  });

  it('only that device waits, whatever its key', () => {
    lives(0, CRASHED);
    expect([waits('key', 'another'), waits('another key'), waits(null)]).toEqual([undefined, 1, 1]);
  });

  it.each([
    ['the peer left', LEFT],
    ['a newer connection of it is here', EVICTED],
    ['its row is gone', { byUs: true, why: 'client-deleted' }],
    ['its token has to be looked at again', { byUs: true, why: 'token-doubtful' }],
  ])('nobody waits because %s', (_, end) => {
    lives(0, end);
    expect(waits()).toBeUndefined();
  });

  it('nobody waits for a clock that was ahead and has been set right', () => {
    lives(100, CRASHED);
    expect(waits()).toBe(1);
    clock.advance(-24 * 3_600_000);
    expect(waits()).toBeUndefined();
  });

  it('nobody waits where it is switched off', () => {
    guard = new ConnectGuard({ connects: { burst: 5, perSecond: 1 }, maxBackOffSeconds: 0 }, clock);
    for (let i = 0; i < 5; i += 1) lives(0, CRASHED);
    expect(waits()).toBeUndefined();
  });
});

describe('two processes as one device (D23)', () => {
  /** Connects and evicts whoever holds the device. */
  function takesOver(publicKey: string): (end: SocketEnd) => void {
    expect(waits(publicKey)).toBeUndefined();
    const ended = guard.opened({ device: LAPTOP, publicKey });
    holder?.(EVICTED);
    holder = ended;
    return ended;
  }
  let holder: ((end: SocketEnd) => void) | undefined;

  beforeEach(() => {
    holder = undefined;
  });

  it('evict each other once each; then the one that came back twice waits a minute', () => {
    takesOver('A');
    takesOver('B');
    takesOver('A'); // its first return
    takesOver('B'); // its first return
    expect(waits('A')).toBe(60);
    clock.advance(59_000);
    expect(waits('A')).toBe(1);
    clock.advance(1_000);
    expect(waits('A')).toBeUndefined();
  });

  it('the holder’s own key always takes over', () => {
    takesOver('A');
    takesOver('B');
    takesOver('A');
    for (let i = 0; i < 10; i += 1) takesOver('A');
  });

  it('the one that waits may come as soon as the holder is gone', () => {
    takesOver('A');
    takesOver('B');
    takesOver('A');
    takesOver('B');
    expect(waits('A')).toBe(60);
    holder?.(LEFT);
    expect(waits('A')).toBeUndefined();
  });

  it('coming back later than 5 s, or evicted again only after a while, is no duel', () => {
    takesOver('A');
    takesOver('B');
    clock.advance(5_001);
    takesOver('A');
    takesOver('B');
    takesOver('A');
    clock.advance(10_001);
    takesOver('B');
    takesOver('A');
  });

  it('a process that restarts with a new key each time is no duel: its old one never comes back', () => {
    for (let i = 0; i < 100; i += 1) takesOver(`key ${i}`);
  });

  it('an end that comes late, of a key that was evicted, does not take the holder away', () => {
    const first = takesOver('A');
    holder = undefined;
    takesOver('B');
    first(EVICTED);
    first(LEFT);
    takesOver('A');
    takesOver('B');
    expect(waits('A')).toBe(60);
  });
});

it('G6: devices are remembered up to a limit, those of no consequence are forgotten first', () => {
  const ended = guard.opened({ device: 'first', publicKey: 'key' });
  for (let i = 0; i < 120_000; i += 1) {
    if (i === 40_000) clock.advance(200_000);
    guard.opened({ device: `flood ${i}`, publicKey: 'key' })(LEFT);
  }
  ended(CRASHED);
  lives(0, CRASHED);
  expect(waits()).toBe(1);
});
