import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { idOf } from '../../../test/support/builders.js';
import type { RelayId } from '../model/ids.js';
import type { Random } from '../support/clock.js';
import { distanceKm, type Place } from './choose-gateway.js';
import { chooseRelays, type RelayCandidate } from './choose-relays.js';

const KYIV = { latitude: 50.45, longitude: 30.52 };
const BERLIN = { latitude: 52.52, longitude: 13.4 };
const NEW_YORK = { latitude: 40.71, longitude: -74.01 };
const NOWHERE = { latitude: null, longitude: null };

const at = (name: string, place: Place): RelayCandidate => ({ relayId: idOf<RelayId>(name), ...place });

function chance(...fractions: number[]): Random {
  return { fraction: () => fractions.shift() ?? 0, uuid: () => '', bytes: (length) => new Uint8Array(length) };
}

const none = (): boolean => false;

/** Every choice that chance can make, each as its members in order of choice. */
function choices(relays: readonly RelayCandidate[], peer: Place, kept: readonly RelayCandidate[] = []): string[] {
  const found = new Set<string>();
  for (let i = 0; i < 100; i += 1) {
    const random = chance(Math.floor(i / 10) / 10, (i % 10) / 10);
    const chosen = chooseRelays(relays, peer, (relay) => kept.includes(relay), random);
    found.add(chosen.map((relay) => relays.indexOf(relay)).join());
  }
  return [...found].sort();
}

describe('chooseRelays', () => {
  const [kyivA, kyivB, berlin, newYork, lost] = [
    at('ka', KYIV),
    at('kb', KYIV),
    at('be', BERLIN),
    at('ny', NEW_YORK),
    at('lo', NOWHERE),
  ];

  it('takes one relay from each of the two nearest places', () => {
    expect(choices([newYork, berlin, kyivA, kyivB, lost], KYIV)).toEqual(['2,1', '3,1']);
    expect(choices([lost, newYork, berlin], BERLIN)).toEqual(['2,1']);
  });

  it('takes an unknown place last', () => {
    expect(choices([lost, newYork], KYIV)).toEqual(['1,0']);
    expect(choices([lost, at('l2', NOWHERE), newYork], KYIV)).toEqual(['2,0', '2,1']);
  });

  it('takes two from one place when there is no other, and the only one when there is one', () => {
    expect(choices([kyivA, kyivB], KYIV)).toEqual(['0,1', '1,0']);
    expect(choices([berlin], KYIV)).toEqual(['0']);
    expect(choices([], KYIV)).toEqual(['']);
  });

  it('leaves it to chance for a peer at an unknown place', () => {
    expect(choices([kyivA, berlin, newYork], NOWHERE)).toEqual(['0,1', '0,2', '1,0', '1,2', '2,0', '2,1']);
    expect(choices([kyivA, berlin], { latitude: 1, longitude: null })).toEqual(['0,1', '1,0']);
  });

  it('keeps what the peer has, where it qualifies', () => {
    expect(choices([kyivA, kyivB, berlin], KYIV, [kyivB])).toEqual(['1,2']);
    expect(choices([kyivA, berlin, newYork], NOWHERE, [newYork])).toEqual(['2,0', '2,1']);
    expect(choices([kyivA, berlin, newYork], KYIV, [newYork])).toEqual(['0,1']);
  });

  it('never takes more than two, none twice, and none farther than one it left at a place it did not use', () => {
    const coordinate = fc.option(fc.tuple(fc.integer({ min: -2, max: 2 }), fc.integer({ min: -2, max: 2 })));
    const relays = fc.array(coordinate, { maxLength: 8 });
    const fraction = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true });
    fc.assert(
      fc.property(relays, fraction, (drawn, draw) => {
        const all = drawn.map((place, i) => at(`r${i}`, place ? { latitude: place[0], longitude: place[1] } : NOWHERE));
        const chosen = chooseRelays(all, KYIV, none, chance(draw, draw));
        expect(chosen).toHaveLength(Math.min(2, all.length));
        expect(new Set(chosen).size).toBe(chosen.length);
        const placeOf = ({ latitude, longitude }: Place): string => `${latitude}/${longitude}`;
        const used = new Set(chosen.map(placeOf));
        const farthest = Math.max(...chosen.map((relay) => distanceKm(KYIV, relay)));
        for (const left of all) {
          if (!used.has(placeOf(left))) expect(distanceKm(KYIV, left)).toBeGreaterThanOrEqual(farthest);
        }
      }),
    );
  });
});
