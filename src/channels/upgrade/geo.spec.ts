import { describe, expect, it } from '@jest/globals';
import { parseRange } from '../../core/authorizer/ip-ranges.js';
import { REGION_CODES } from '../../core/model/country-codes.js';
import type { GeoIp } from '../../core/ports/geo-ip.js';
import { COUNTRY_CENTROIDS } from './country-centroids.js';
import { locationOf as locate, type Location } from './geo.js';
import { realIp, type TrustedProxies } from './real-ip.js';
import type { UpgradeRequest } from './upgrade-request.js';

const TRUSTED = [parseRange('10.0.0.0/8')].flatMap((range) => range ?? []);

function aRequest(headers: UpgradeRequest['headers'], remoteAddress = '10.0.0.1'): UpgradeRequest {
  return { method: 'GET', httpVersion: '1.1', url: '/client/websocket', headers, remoteAddress };
}

/** Without a GeoIP database unless one is given. */
function locationOf(request: UpgradeRequest, trusted: TrustedProxies, geoIp?: GeoIp): Location {
  return locate(request, realIp(request, trusted), { trusted, geoIp });
}

const KYIV = {
  'x-geo-location-region': 'UA',
  'x-geo-location-city': 'Kyiv',
  'x-geo-location-coordinates': '50.4500,30.5233',
};

describe('the location of a peer (B8)', () => {
  it('is what a trusted proxy says', () => {
    expect(locationOf(aRequest(KYIV), TRUSTED)).toEqual({
      region: 'UA',
      city: 'Kyiv',
      latitude: 50.45,
      longitude: 30.5233,
    });
  });

  it('is unknown when anybody else says it', () => {
    const unknown = { region: null, city: null, latitude: null, longitude: null };
    expect(locationOf(aRequest(KYIV, '203.0.113.9'), TRUSTED)).toEqual(unknown);
    expect(locationOf(aRequest({ ...KYIV, 'x-forwarded-for': '10.0.0.1' }, '203.0.113.9'), TRUSTED)).toEqual(unknown);
    expect(locationOf(aRequest(KYIV), [])).toEqual(unknown);
    expect(locationOf(aRequest({}), TRUSTED)).toEqual(unknown);
  });

  it.each([
    ['ua', 'UA'],
    [' DE ', 'DE'],
    ['', null],
    ['D', null],
    ['DEU', null],
    ['D1', null],
    ['DE, US', null],
    ['ДЕ', null],
    ['__proto__', null],
    ['D'.repeat(10_000), null],
  ])('reads the region %j as %j', (header, region) => {
    expect(locationOf(aRequest({ 'x-geo-location-region': header }), TRUSTED).region).toBe(region);
  });

  it.each([
    ['0,0', 0, 0],
    ['-90,-180', -90, -180],
    ['90, 180', 90, 180],
    ['+49.0,+32.', 49, 32],
  ])('reads the coordinates %j', (header, latitude, longitude) => {
    expect(locationOf(aRequest({ 'x-geo-location-coordinates': header }), TRUSTED)).toMatchObject({
      latitude,
      longitude,
    });
  });

  it.each([
    '',
    ',',
    '50.45',
    '50.45,',
    ',30.5',
    'abc,def',
    '50.45,30.5,1',
    '90.1,0',
    '0,180.1',
    'NaN,NaN',
    'Infinity,0',
    '1e2,0',
    '0x10,0',
    '50.45;30.5',
    '1 2,3',
    `${'9'.repeat(10_000)},0`,
    `0.${'1'.repeat(10_000)},0`,
  ])('takes the coordinates %j as unknown, both of them', (header) => {
    expect(locationOf(aRequest({ 'x-geo-location-coordinates': header }), TRUSTED)).toMatchObject({
      latitude: null,
      longitude: null,
    });
  });

  it('takes a city that no table can hold as unknown', () => {
    for (const city of ['', '  ', 'a\0b', 'x'.repeat(256)])
      expect(locationOf(aRequest({ 'x-geo-location-city': city }), TRUSTED).city).toBeNull();
  });

  it('of a country alone is its centre', () => {
    expect(locationOf(aRequest({ 'x-geo-location-region': 'UA' }), TRUSTED)).toEqual({
      region: 'UA',
      city: null,
      latitude: 49,
      longitude: 32,
    });
    const odd = { 'x-geo-location-region': 'UA', 'x-geo-location-coordinates': ',' };
    expect(locationOf(aRequest(odd), TRUSTED)).toMatchObject({ latitude: 49, longitude: 32 });
    expect(locationOf(aRequest({ 'x-geo-location-region': 'XX' }), TRUSTED)).toMatchObject({ latitude: null });
  });

  it('has a centre for each country there is', () => {
    expect([...COUNTRY_CENTROIDS.keys()].sort()).toEqual([...REGION_CODES].sort());
    for (const { latitude, longitude } of COUNTRY_CENTROIDS.values()) {
      expect(Math.abs(latitude)).toBeLessThanOrEqual(90);
      expect(Math.abs(longitude)).toBeLessThanOrEqual(180);
    }
  });
});

describe('the location of a peer of whom no proxy says it', () => {
  const asked: string[] = [];
  const geoIp: GeoIp = {
    locate: (ip) => {
      asked.push(ip);
      if (ip === '203.0.113.9') return { region: 'DE', latitude: null, longitude: null };
      return ip === '203.0.113.10' ? { region: 'DE', latitude: 52.5, longitude: 13.4 } : undefined;
    },
  };

  it('comes from the database, by its real address', () => {
    const centre = { region: 'DE', city: null, latitude: 51, longitude: 9 };
    expect(locationOf(aRequest(KYIV, '203.0.113.9'), TRUSTED, geoIp)).toEqual(centre);
    expect(locationOf(aRequest({ 'x-forwarded-for': '203.0.113.9' }), TRUSTED, geoIp)).toEqual(centre);
    const inBerlin = { ...centre, latitude: 52.5, longitude: 13.4 };
    expect(locationOf(aRequest({}, '203.0.113.10'), TRUSTED, geoIp)).toEqual(inBerlin);
  });

  it('is unknown where the database does not know it', () => {
    const unknown = { region: null, city: null, latitude: null, longitude: null };
    expect(locationOf(aRequest({}, '198.51.100.1'), TRUSTED, geoIp)).toEqual(unknown);
  });

  it('stays unknown when the proxy says so: it knows better where its peers come from', () => {
    asked.length = 0;
    const said = { 'x-geo-location-region': '', 'x-forwarded-for': '203.0.113.9' };
    expect(locationOf(aRequest(said), TRUSTED, geoIp).region).toBeNull();
    expect(asked).toEqual([]);
  });
});
