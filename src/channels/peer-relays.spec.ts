import { beforeEach, describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { ACCOUNT, idOf } from '../../test/support/builders.js';
import { ManualClock } from '../../test/support/manual-clock.js';
import { relayIdOf } from '../core/derivations/relay-id.js';
import type { ConnectionId } from '../core/model/ids.js';
import type { RelayPeer } from '../core/ports/presence.js';
import { LocalPresence } from '../presence/local-presence.js';
import type { ClientPushes, RelayEntry } from '../protocol/outbound.js';
import { PeerRelays } from './peer-relays.js';

const DEBOUNCE_MS = 3000;
const KYIV = { latitude: 50.45, longitude: 30.52 };
const BERLIN = { latitude: 52.52, longitude: 13.4 };
const NEW_YORK = { latitude: 40.71, longitude: -74.01 };

/** A relay by name; its address follows from the name, its id from name and `start`. */
function aRelay(name: string, of: Partial<RelayPeer> & { start?: number } = {}): RelayPeer {
  const stampSecret = `${name} ${of.start ?? 1}`;
  upgrades += 1;
  return {
    accountId: null,
    relayId: relayIdOf(stampSecret),
    connectionId: idOf<ConnectionId>('conn'),
    upgradeNumber: upgrades,
    ipv4: `203.0.113.${name.charCodeAt(0)}`,
    ipv6: null,
    port: 3478,
    stampSecret,
    latitude: null,
    longitude: null,
    evict: () => undefined,
    ...of,
  };
}

let upgrades = 0;

/** One peer and the relays around it; names stand for ids. */
class Scene {
  readonly clock = new ManualClock();
  readonly presence = new LocalPresence();
  readonly pushes: ClientPushes['relays_presence'][] = [];
  #relays: PeerRelays | undefined;
  readonly #names = new Map<string, string>();
  readonly #leave = new Map<string, () => void>();

  constructor(private readonly place: { latitude: number | null; longitude: number | null } = KYIV) {}

  /** Made at its first use, as a channel makes it with its `init`. */
  get relays(): PeerRelays {
    const random = { fraction: () => 0, uuid: () => '', bytes: (length: number) => new Uint8Array(length) };
    const limits = { relaysDebounceMs: DEBOUNCE_MS };
    return (this.#relays ??= new PeerRelays(
      { accountId: ACCOUNT, publicKey: 'key', ...this.place },
      1_767_225_600,
      { presence: this.presence, clock: this.clock, random, limits },
      (payload) => this.pushes.push(payload),
      (task) => {
        task();
      },
    ));
  }

  comes(name: string, of: Partial<RelayPeer> & { start?: number } = {}): void {
    const relay = aRelay(name, of);
    this.#names.set(relay.relayId, of.start === undefined ? name : `${name}${of.start}`);
    this.#leave.set(name, this.presence.enterRelay(relay));
  }

  goes(name: string): void {
    this.#leave.get(name)?.();
  }

  initial(): string[] {
    return this.namesOf(this.relays.select());
  }

  /** What was pushed since the last call. */
  heard(): { gone: string[]; connected: string[] }[] {
    return this.pushes.splice(0).map((push) => ({
      gone: push.disconnected_ids.map((id) => this.#names.get(id) ?? id),
      connected: this.namesOf(push.connected),
    }));
  }

  namesOf(entries: readonly RelayEntry[]): string[] {
    return [...new Set(entries.map(({ id }) => this.#names.get(id) ?? id))];
  }
}

describe('PeerRelays', () => {
  let scene: Scene;

  beforeEach(() => {
    scene = new Scene();
  });

  it('chooses the nearest two for an init', () => {
    scene.comes('n', NEW_YORK);
    scene.comes('k', KYIV);
    scene.comes('b', BERLIN);
    expect(scene.initial()).toEqual(['k', 'b']);
    expect(scene.relays.hasAny).toBe(true);
  });

  it('gives the same credentials at each init, and both entries of a dual-stack relay next to each other', () => {
    scene.comes('k', { ...KYIV, ipv6: '2001:db8::7' });
    scene.comes('b', BERLIN);
    const first = scene.relays.select();
    expect(first.map(({ addr }) => addr)).toEqual(['203.0.113.107:3478', '[2001:db8::7]:3478', '203.0.113.98:3478']);
    expect(scene.relays.select()).toEqual(first);
  });

  it('says nothing of a relay that is back in time with the same secret', () => {
    scene.comes('k');
    scene.initial();
    scene.goes('k');
    scene.clock.advance(DEBOUNCE_MS - 1);
    scene.comes('k');
    scene.clock.advance(10 * DEBOUNCE_MS);
    expect(scene.heard()).toEqual([]);
    expect(scene.clock.pending).toBe(0);
  });

  it('counts each absence from its own beginning', () => {
    scene.comes('k');
    scene.comes('b');
    scene.initial();
    scene.goes('k');
    scene.clock.advance(2000);
    scene.comes('k');
    scene.goes('k');
    scene.goes('b');
    scene.clock.advance(DEBOUNCE_MS - 1);
    expect(scene.heard()).toEqual([]);
    scene.clock.advance(1);
    expect(scene.heard()).toEqual([{ gone: ['k', 'b'], connected: [] }]);
  });

  it('reports a relay that stays away, with others in its place as they are at that moment', () => {
    scene.comes('k', KYIV);
    scene.comes('b', BERLIN);
    scene.initial();
    scene.goes('k');
    scene.comes('n', NEW_YORK);
    scene.clock.advance(DEBOUNCE_MS - 1);
    expect(scene.heard()).toEqual([]);
    scene.clock.advance(1);
    expect(scene.heard()).toEqual([{ gone: ['k'], connected: ['b', 'n'] }]);
    expect(scene.relays.hasAny).toBe(true);
  });

  it('reports two that leave one after the other each in its time, and neither twice', () => {
    scene.comes('k');
    scene.comes('b');
    scene.initial();
    scene.goes('k');
    scene.clock.advance(1000);
    scene.goes('b');
    scene.clock.advance(2000);
    expect(scene.heard()).toEqual([{ gone: ['k'], connected: [] }]);
    scene.clock.advance(1000);
    expect(scene.heard()).toEqual([{ gone: ['b'], connected: [] }]);
    scene.clock.advance(10 * DEBOUNCE_MS);
    expect(scene.heard()).toEqual([]);
    expect(scene.relays.hasAny).toBe(false);
  });

  it('reports a restarted relay at once: its allocations are lost', () => {
    scene.comes('k');
    scene.comes('b');
    scene.initial();
    scene.comes('k', { start: 2 });
    expect(scene.heard()).toEqual([{ gone: ['k'], connected: ['b', 'k2'] }]);
    scene.goes('b');
    scene.clock.advance(1000);
    scene.comes('b', { start: 2 });
    expect(scene.heard()).toEqual([{ gone: ['b'], connected: ['k2', 'b2'] }]);
    scene.clock.advance(10 * DEBOUNCE_MS);
    expect(scene.heard()).toEqual([]);
  });

  it('is told at once of the first relay when it has none, and of none that joins later', () => {
    expect(scene.initial()).toEqual([]);
    expect(scene.relays.hasAny).toBe(false);
    scene.comes('k');
    scene.comes('b');
    expect(scene.heard()).toEqual([{ gone: [], connected: ['k'] }]);
    expect(scene.relays.hasAny).toBe(true);
  });

  it('is told at once of another relay when all it has are away, and of those in their time', () => {
    scene.comes('k');
    scene.initial();
    scene.goes('k');
    scene.clock.advance(1000);
    scene.comes('b');
    expect(scene.heard()).toEqual([{ gone: [], connected: ['b'] }]);
    scene.clock.advance(2000);
    expect(scene.heard()).toEqual([{ gone: ['k'], connected: ['b'] }]);
  });

  it('hears nothing when all it has flap while another one is online', () => {
    const scene = new Scene();
    scene.comes('a');
    scene.initial();
    scene.comes('b');
    scene.goes('a');
    scene.clock.advance(DEBOUNCE_MS - 1);
    scene.comes('a');
    scene.clock.advance(DEBOUNCE_MS);
    expect(scene.heard()).toEqual([]);
  });

  it('hears of the next relay after the last one was reported gone', () => {
    scene.comes('k');
    scene.initial();
    scene.goes('k');
    scene.clock.advance(DEBOUNCE_MS);
    expect(scene.heard()).toEqual([{ gone: ['k'], connected: [] }]);
    scene.comes('b');
    expect(scene.heard()).toEqual([{ gone: [], connected: ['b'] }]);
  });

  it('a further init while a relay is away neither lists nor forgets it', () => {
    scene.comes('k');
    scene.comes('b');
    scene.initial();
    scene.goes('k');
    expect(scene.initial()).toEqual(['b']);
    scene.clock.advance(DEBOUNCE_MS);
    expect(scene.heard()).toEqual([{ gone: ['k'], connected: ['b'] }]);
  });

  it('hears nothing after it is closed', () => {
    scene.comes('k');
    scene.initial();
    scene.goes('k');
    scene.relays.close();
    scene.comes('b');
    scene.clock.advance(DEBOUNCE_MS);
    expect(scene.heard()).toEqual([]);
    expect(scene.clock.pending).toBe(0);
  });

  it('in every history: what the peer has is online or away for less than the delay, and it has one whenever one comes', () => {
    const names = ['a', 'b', 'c', 'd'];
    const event = fc.oneof(
      fc.record({ kind: fc.constant('comes' as const), name: fc.constantFrom(...names) }),
      fc.record({ kind: fc.constant('goes' as const), name: fc.constantFrom(...names) }),
      fc.record({ kind: fc.constant('restarts' as const), name: fc.constantFrom(...names) }),
      fc.record({ kind: fc.constant('time' as const), ms: fc.integer({ min: 1, max: 4000 }) }),
    );
    fc.assert(
      fc.property(fc.array(event, { maxLength: 40 }), (events) => {
        const history = new Scene();
        const starts = new Map(names.map((name) => [name, 1]));
        const online = new Set<string>();
        const awaySince = new Map<string, number>();
        const has = new Set(history.initial());
        const nameOf = (name: string): string => `${name}${starts.get(name)}`;
        for (const each of events) {
          const hasCome = each.kind === 'restarts' || (each.kind === 'comes' && !online.has(nameOf(each.name)));
          if (each.kind === 'time') history.clock.advance(each.ms);
          else if (each.kind === 'goes') {
            history.goes(each.name);
            if (online.delete(nameOf(each.name))) awaySince.set(nameOf(each.name), history.clock.now());
          } else {
            if (each.kind === 'restarts') {
              online.delete(nameOf(each.name));
              has.delete(nameOf(each.name)); // reported with the coming of the next; checked below
              starts.set(each.name, (starts.get(each.name) ?? 0) + 1);
            }
            online.add(nameOf(each.name));
            awaySince.delete(nameOf(each.name));
            history.comes(each.name, { start: starts.get(each.name) ?? 1 });
          }
          for (const { gone, connected } of history.heard()) {
            expect(gone.filter((name) => connected.includes(name))).toEqual([]);
            for (const name of gone) has.delete(name);
            for (const name of connected) has.add(name);
          }
          for (const name of has) {
            if (!online.has(name)) expect(history.clock.now() - (awaySince.get(name) ?? 0)).toBeLessThan(DEBOUNCE_MS);
          }
          if (online.size > 0) expect([...has]).not.toEqual([]);
          if (hasCome) expect([...has].some((name) => online.has(name))).toBe(true);
        }
      }),
    );
  });
});
