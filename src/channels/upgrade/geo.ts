/** Where a peer is, as a trusted proxy in front of us says (wire-protocol.md 1.6). From anybody else: unknown. */
import { comesFromTrustedProxy } from './real-ip.js';
import type { TrustedProxies } from './real-ip.js';
import { headerOf } from './upgrade-request.js';
import type { UpgradeRequest } from './upgrade-request.js';

export interface Location {
  /** ISO 3166-1 alpha-2, upper case. Unknown violates every condition on it (D17). */
  readonly region: string | null;
  readonly city: string | null;
  /** Degrees, -90 to 90; null exactly when `longitude` is. */
  readonly latitude: number | null;
  /** Degrees, -180 to 180. */
  readonly longitude: number | null;
}

const UNKNOWN: Location = { region: null, city: null, latitude: null, longitude: null };

/** Each part that cannot be read is unknown, never an error. */
export function locationOf(request: UpgradeRequest, trusted: TrustedProxies): Location {
  if (!comesFromTrustedProxy(request, trusted)) return UNKNOWN;
  return {
    region: regionOf(headerOf(request, 'x-geo-location-region')),
    city: cityOf(headerOf(request, 'x-geo-location-city')),
    ...coordinatesOf(headerOf(request, 'x-geo-location-coordinates')),
  };
}

function regionOf(header = ''): string | null {
  const region = header.trim().toUpperCase();
  return /^[A-Z]{2}$/.test(region) ? region : null;
}

const MAX_CITY_LENGTH = 255;

function cityOf(header = ''): string | null {
  const city = header.trim();
  return city.length > 0 && city.length <= MAX_CITY_LENGTH && !city.includes('\0') ? city : null;
}

function coordinatesOf(header = ''): Pick<Location, 'latitude' | 'longitude'> {
  const [latitude, longitude, ...rest] = header.split(',', 3).map(degreesOf);
  if (latitude === undefined || longitude === undefined || rest.length > 0) return UNKNOWN_PLACE;
  return Math.abs(latitude) <= 90 && Math.abs(longitude) <= 180 ? { latitude, longitude } : UNKNOWN_PLACE;
}

const UNKNOWN_PLACE = { latitude: null, longitude: null };

function degreesOf(text: string): number | undefined {
  return /^[+-]?\d{1,3}(?:\.\d{0,20})?$/.test(text.trim()) ? Number(text) : undefined;
}
