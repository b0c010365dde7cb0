/**
 * Where a peer is (wire-protocol.md 1.6): as a trusted proxy in front of us says, else as an offline GeoIP database does,
 * if there is one. What anybody else says is not believed.
 */
import type { GeoIp, GeoIpPlace } from '../../core/ports/geo-ip.js';
import { COUNTRY_CENTROIDS } from './country-centroids.js';
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

const UNKNOWN_PLACE = { latitude: null, longitude: null };

/**
 * Each part that cannot be read is unknown, never an error. A proxy that names the region, be it as unknown, is believed;
 * where none does, the GeoIP database is asked. A country without coordinates stands at its centre.
 * @param ip of the peer, as `realIp` says
 */
export function locationOf(
  request: UpgradeRequest,
  ip: string | null,
  { trusted, geoIp }: { readonly trusted: TrustedProxies; readonly geoIp: GeoIp | undefined },
): Location {
  const isBelieved = comesFromTrustedProxy(request, trusted);
  const header = (name: string): string | undefined => (isBelieved ? headerOf(request, name) : undefined);
  const city = cityOf(header('x-geo-location-city'));
  const named = header('x-geo-location-region');
  const found = named === undefined && ip !== null ? geoIp?.locate(ip) : undefined;
  const region = found ? found.region : regionOf(named);
  const place = coordinatesOf(header('x-geo-location-coordinates')) ?? placeOf(found);
  return { region, city, ...(place ?? COUNTRY_CENTROIDS.get(region ?? '') ?? UNKNOWN_PLACE) };
}

function placeOf(found: GeoIpPlace | undefined): { latitude: number; longitude: number } | undefined {
  if (found?.latitude == null || found.longitude === null) return undefined;
  return { latitude: found.latitude, longitude: found.longitude };
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

function coordinatesOf(header = ''): { latitude: number; longitude: number } | undefined {
  const [latitude, longitude, ...rest] = header.split(',', 3).map(degreesOf);
  if (latitude === undefined || longitude === undefined || rest.length > 0) return undefined;
  return Math.abs(latitude) <= 90 && Math.abs(longitude) <= 180 ? { latitude, longitude } : undefined;
}

function degreesOf(text: string): number | undefined {
  return /^[+-]?\d{1,3}(?:\.\d{0,20})?$/.test(text.trim()) ? Number(text) : undefined;
}
