import { describe, expect, it } from '@jest/globals';
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { DBIP, openGeoIp } from './mmdb-geo-ip.js';

describe('the database of DB-IP', () => {
  const geoIp = openGeoIp(DBIP);

  it('knows the country of public addresses of both families', () => {
    expect(geoIp.locate('8.8.8.8')).toEqual({ region: 'US', latitude: null, longitude: null });
    expect(geoIp.locate('2a00:1450:4001::1')?.region).toMatch(/^[A-Z]{2}$/);
  });

  it.each([
    '127.0.0.1',
    '10.1.2.3',
    '::1',
    'fe80::1',
    '100.64.0.1',
    '192.0.2.1',
    '',
    'x',
    '8.8.8',
    '8.8.8.8/32',
    '1'.repeat(10_000),
  ])('does not know %s', (ip) => {
    expect(geoIp.locate(ip)).toBeUndefined();
  });
});

describe('openGeoIp', () => {
  it('names the file that it cannot read, or that is no database', () => {
    expect(() => openGeoIp('/nowhere/geo.mmdb')).toThrow('GEOIP_DATABASE: cannot read /nowhere/geo.mmdb');
    const file = path.join(mkdtempSync(path.join(tmpdir(), 'portcullis-geoip-')), 'geo.mmdb');
    writeFileSync(file, 'not a database');
    expect(() => openGeoIp(file)).toThrow(`GEOIP_DATABASE: ${file} is no MaxMind database (.mmdb)`);
  });
});
