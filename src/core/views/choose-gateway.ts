/**
 * Picks the gateway for a new flow (wire-protocol.md 3.5, step 5): one the client already has, else the nearest location,
 * there the highest version, there any.
 */
import { compare } from 'semver';
import type { GatewayId } from '../model/ids.js';
import type { Random } from '../support/clock.js';

export interface Place {
  readonly latitude: number | null;
  readonly longitude: number | null;
}

export interface GatewayCandidate extends Place {
  readonly gatewayId: GatewayId;
  /** SemVer text. */
  readonly version: string;
}

/** `undefined` only when there is no candidate. */
export function chooseGateway<C extends GatewayCandidate>(
  candidates: readonly C[],
  connected: ReadonlySet<string>,
  client: Place,
  random: Random,
): C | undefined {
  const known = candidates.filter((candidate) => connected.has(candidate.gatewayId));
  const eligible = known.length > 0 ? known : candidates;
  if (eligible.length <= 1 || client.latitude === null || client.longitude === null) return pick(eligible, random);

  const distances = eligible.map((candidate) => distanceKm(client, candidate));
  const nearestKm = distances.reduce((a, b) => Math.min(a, b));
  const nearest = eligible.filter((_, i) => distances[i] === nearestKm);
  const newest = nearest.reduce((best, candidate) => (compare(candidate.version, best.version) > 0 ? candidate : best));
  return pick(
    nearest.filter((candidate) => compare(candidate.version, newest.version) === 0),
    random,
  );
}

const EARTH_RADIUS_KM = 6371.0;

/** Great-circle distance; Infinity when either place is unknown, so that unknown sorts last. */
export function distanceKm(a: Place, b: Place): number {
  if (a.latitude === null || a.longitude === null || b.latitude === null || b.longitude === null) return Infinity;
  const radians = Math.PI / 180;
  const half = (degrees: number): number => Math.sin((degrees * radians) / 2) ** 2;
  const h =
    half(b.latitude - a.latitude) +
    Math.cos(a.latitude * radians) * Math.cos(b.latitude * radians) * half(b.longitude - a.longitude);
  return 2 * EARTH_RADIUS_KM * Math.asin(Math.min(1, Math.sqrt(h)));
}

function pick<T>(from: readonly T[], random: Random): T | undefined {
  if (from.length <= 1) return from[0]; // most sites have one gateway, and chance costs a system call
  return from[Math.floor(random.fraction() * from.length)];
}
