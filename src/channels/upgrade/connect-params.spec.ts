import { describe, expect, it } from '@jest/globals';
import type { Random } from '../../core/support/clock.js';
import { clientParams, gatewayParams, relayParams, tokenOf, vsnOf } from './connect-params.js';
import { generatedClientName, generatedGatewayName } from './generated-name.js';
import type { UpgradeRequest } from './upgrade-request.js';

const KEY = 'AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=';
const DEVICE = { external_id: 'fd4f33b1', public_key: KEY };
const UNREADABLE = ['%00', 'a%00b', '%FF', '%C3%28'];

function aRandom(fraction = 0): Random {
  return { fraction: () => fraction, bytes: (length) => new Uint8Array(length), uuid: () => '' };
}

function aRequest(query: Record<string, string> | string, headers: UpgradeRequest['headers'] = {}): UpgradeRequest {
  const text = typeof query === 'string' ? query : new URLSearchParams(query).toString();
  return {
    method: 'GET',
    httpVersion: '1.1',
    url: `/client/websocket?${text}`,
    headers: { 'user-agent': 'Ubuntu/24.4.0 connlib/1.5.2', ...headers },
    remoteAddress: '203.0.113.9',
  };
}

describe('the token of an upgrade', () => {
  it('stands in the query', () => {
    expect(tokenOf(aRequest('token=.SFMyNTY.g2gD&x=1'))).toBe('.SFMyNTY.g2gD');
  });

  it('stands in X-Authorization before the query', () => {
    const headers = { 'x-authorization': 'Bearer pcc_header' };
    expect(tokenOf(aRequest('token=pcc_query', headers))).toBe('pcc_header');
    expect(tokenOf(aRequest('', headers))).toBe('pcc_header');
    expect(tokenOf(aRequest('token=pcc_query', { 'x-authorization': 'Basic eHg6eHg=' }))).toBe('pcc_query');
  });

  it.each(['', 'token=', 'tok=x', '__proto__=x', 'TOKEN=x'])('is missing in %j', (query) => {
    expect(tokenOf(aRequest(query))).toBeUndefined();
  });

  it('is missing without any query', () => {
    expect(tokenOf({ ...aRequest(''), url: '/client/websocket' })).toBeUndefined();
  });
});

it('vsn is what was asked for, or undefined', () => {
  expect(vsnOf(aRequest('vsn=2.0.0'))).toBe('2.0.0');
  expect(vsnOf(aRequest(''))).toBeUndefined();
  expect(vsnOf(aRequest('vsn='))).toBe('');
});

describe('the parameters of a client', () => {
  it('of the documented example are read', () => {
    const query =
      'token=x&external_id=fd4f33b1736b58cff0da1555673731a6942169201a11112e2b4c937525631420&name=ada-laptop' +
      '&device_serial=C02XX1234&public_key=AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE%3D';
    expect(clientParams(aRequest(query), aRandom())).toEqual({
      ok: true,
      params: {
        userAgent: 'Ubuntu/24.4.0 connlib/1.5.2',
        version: '1.5.2',
        externalId: 'fd4f33b1736b58cff0da1555673731a6942169201a11112e2b4c937525631420',
        publicKey: KEY,
        pointKey: KEY,
        name: 'ada-laptop',
        deviceSerial: 'C02XX1234',
        deviceUuid: null,
        identifierForVendor: null,
        firebaseInstallationId: null,
      },
    });
  });

  it('lose the white space around them, and a blank one is as good as none', () => {
    const request = aRequest({ ...DEVICE, external_id: ' fd4f33b1\n', name: '  ', device_uuid: ' ' });
    expect(clientParams(request, aRandom())).toMatchObject({
      ok: true,
      params: { externalId: 'fd4f33b1', name: 'amber-badger', deviceUuid: null },
    });
  });

  it('may hold any script', () => {
    const name = 'Łódź 😀 \u202eabc';
    expect(clientParams(aRequest({ ...DEVICE, name }), aRandom())).toMatchObject({ params: { name } });
    expect(clientParams(aRequest({ ...DEVICE, name: '😀'.repeat(255) }), aRandom())).toMatchObject({ ok: true });
  });

  it('name every fault at once, and no value', () => {
    const request = aRequest({ public_key: 'secret', name: 'n'.repeat(256) }, { 'user-agent': 'curl/8' });
    expect(clientParams(request, aRandom())).toEqual({
      ok: false,
      faults: {
        last_seen_user_agent: ['is invalid'],
        external_id: ["can't be blank"],
        public_key: ['should be 44 character(s)'],
        name: ['should be at most 255 character(s)'],
      },
    });
  });

  it.each([
    [{}, "can't be blank"],
    [{ public_key: '' }, "can't be blank"],
    [{ public_key: KEY.slice(1) }, 'should be 44 character(s)'],
    [{ public_key: ` ${KEY}` }, 'should be 44 character(s)'],
    [{ public_key: KEY.replace('=', 'A') }, 'is invalid'],
    [{ public_key: `${'A'.repeat(43)}=` }, 'is invalid'], // zero, a low-order point
  ])('with the key %j are refused: %s (D30)', (key, fault) => {
    const request = aRequest({ external_id: 'x', ...key });
    expect(clientParams(request, aRandom())).toEqual({ ok: false, faults: { public_key: [fault] } });
  });

  it.each(['external_id', 'name', 'device_serial', 'device_uuid', 'identifier_for_vendor', 'firebase_installation_id'])(
    'are refused with a NUL or broken UTF-8 in %s (B4)',
    (field) => {
      const others = new URLSearchParams(field === 'external_id' ? { public_key: KEY } : DEVICE).toString();
      for (const value of UNREADABLE) {
        const request = aRequest(`${others}&${field}=${value}`);
        expect(clientParams(request, aRandom())).toEqual({ ok: false, faults: { [field]: ['is invalid'] } });
      }
    },
  );

  it('take no account, id or verification from the peer (B15)', () => {
    const assigned = { account_id: 'x', id: 'y', verified_at: 'z', actor_id: 'w' };
    const plain = clientParams(aRequest({ ...DEVICE, name: 'n' }), aRandom());
    expect(clientParams(aRequest({ ...DEVICE, name: 'n', ...assigned }), aRandom())).toEqual(plain);
  });

  it('survive a query of a megabyte', () => {
    expect(clientParams(aRequest(`${'a&'.repeat(500_000)}external_id=x`), aRandom()).ok).toBe(false);
    expect(clientParams(aRequest({ ...DEVICE, external_id: 'x'.repeat(1_000_000) }), aRandom()).ok).toBe(false);
  });
});

describe('the parameters of a gateway', () => {
  it('say whether a name was sent', () => {
    expect(gatewayParams(aRequest({ ...DEVICE, name: 'gw-fra-1' }), aRandom())).toMatchObject({
      params: { name: 'gw-fra-1', newName: 'gw-fra-1' },
    });
    expect(gatewayParams(aRequest(DEVICE), aRandom())).toMatchObject({ params: { name: null, newName: 'bbbbb' } });
  });
});

describe('the parameters of a relay', () => {
  it('of the documented example are read', () => {
    const request = aRequest('token=x&ipv4=203.0.113.7&ipv6=2001%3Adb8%3A%3A7&port=3479', {
      'user-agent': 'relay/0.1.0',
    });
    expect(relayParams(request)).toEqual({
      ok: true,
      params: {
        userAgent: 'relay/0.1.0',
        version: '0.1.0',
        ipv4: '203.0.113.7',
        ipv6: '2001:db8::7',
        port: 3479,
        name: null,
      },
    });
  });

  it('need one address, and have a default port', () => {
    expect(relayParams(aRequest('ipv6=2001:DB8:0::7'))).toMatchObject({
      params: { ipv4: null, ipv6: '2001:db8::7', port: 3478 },
    });
    expect(relayParams(aRequest('ipv4='))).toEqual({ ok: false, faults: { ipv4: ["can't be blank"] } });
  });

  it.each([
    ['ipv4=203.0.113.7:80', 'ipv4'],
    ['ipv4=2001:db8::7', 'ipv4'],
    ['ipv4=203.0.113.7/32', 'ipv4'],
    ['ipv4=relay.example', 'ipv4'],
    ['ipv6=203.0.113.7', 'ipv6'],
    ['ipv6=fe80::1%25eth0', 'ipv6'],
    ['ipv4=203.0.113.7&port=0', 'port'],
    ['ipv4=203.0.113.7&port=65536', 'port'],
    ['ipv4=203.0.113.7&port=-1', 'port'],
    ['ipv4=203.0.113.7&port=3478.5', 'port'],
    ['ipv4=203.0.113.7&port=1e3', 'port'],
  ])('%s are refused', (query, field) => {
    expect(relayParams(aRequest(query))).toEqual({ ok: false, faults: { [field]: ['is invalid'] } });
  });
});

describe('generated names', () => {
  it('of clients are two words of at most 15 characters, whatever chance says', () => {
    for (let i = 0; i < 1; i += 0.01) expect(generatedClientName(aRandom(i))).toMatch(/^[a-z]{3,}-[a-z]{3,}$/);
    for (let i = 0; i < 1; i += 0.001) expect(generatedClientName(aRandom(i)).length).toBeLessThanOrEqual(15);
  });

  it('of gateways are five characters that are not mistaken for others', () => {
    for (let i = 0; i < 1; i += 0.01) expect(generatedGatewayName(aRandom(i))).toMatch(/^[b-hj-km-np-z2-9]{5}$/);
  });
});
