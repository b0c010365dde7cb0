/**
 * Picks the relays for a peer (wire-protocol.md 5.1): the two nearest places, one relay from each; where all are at one
 * place, two of it. Relays the peer has already are kept where they qualify, so that nothing moves without need.
 */
import type { RelayId } from '../model/ids.js';
import type { Random } from '../support/clock.js';
import { distanceKm, type Place } from './choose-gateway.js';

export interface RelayCandidate extends Place {
  readonly relayId: RelayId;
}

/** A peer holds an allocation at each; more cost relays ports and peers nothing is gained. */
const RELAYS_PER_PEER = 2;

/** At most two, the nearest first; all there are when there are fewer. */
export function chooseRelays<R extends RelayCandidate>(
  candidates: readonly R[],
  peer: Place,
  kept: (relay: R) => boolean,
  random: Random,
): R[] {
  const places = peer.latitude === null || peer.longitude === null ? [[...candidates]] : byDistance(candidates, peer);
  const chosen: R[] = [];
  // One from each of the nearest places, then again, until there are enough or none is left.
  for (const nearest = places.slice(0, RELAYS_PER_PEER); chosen.length < RELAYS_PER_PEER;) {
    const before = chosen.length;
    for (const place of nearest) {
      if (chosen.length < RELAYS_PER_PEER) chosen.push(...takeOne(place, kept, random));
    }
    if (chosen.length === before) break;
  }
  return chosen;
}

/** Relays at equal coordinates are one place; an unknown one comes last. */
function byDistance<R extends RelayCandidate>(candidates: readonly R[], peer: Place): R[][] {
  const places = new Map<string, R[]>();
  for (const relay of candidates) {
    const key = `${relay.latitude}/${relay.longitude}`;
    places.set(key, [...(places.get(key) ?? []), relay]);
  }
  const distanceOf = ([first]: readonly R[]): number => (first ? distanceKm(peer, first) : Infinity);
  return [...places.values()].sort((a, b) => {
    const [near, far] = [distanceOf(a), distanceOf(b)];
    return near === far ? 0 : near - far; // Infinity minus itself is no number
  });
}

/** Removes one from `place`: a kept one, else any. */
function takeOne<R extends RelayCandidate>(place: R[], kept: (relay: R) => boolean, random: Random): R[] {
  if (place.length === 0) return [];
  const known = place.findIndex(kept);
  return place.splice(known >= 0 ? known : Math.floor(random.fraction() * place.length), 1);
}
