import { describe, expect, it } from '@jest/globals';
import { toBase64 } from './rfc4648.js';
import { iceCredentials } from './ice-credentials.js';
import { pairSecrets } from './pair-secrets.js';
import { presharedKey } from './preshared-key.js';
import { relayIdOf } from './relay-id.js';
import { DISTANT_TURN_EXPIRY, turnCredentials } from './turn-credentials.js';
import type { ClientId, GatewayId } from '../model/ids.js';
import type { DevicePair, PairEnd } from './device-pair.js';

const filled = (byte: number) => new Uint8Array(32).fill(byte);
const CLIENT_KEY = toBase64(filled(1));
const GATEWAY_KEY = toBase64(filled(2));

function aPair(given: { client?: Partial<PairEnd<ClientId>>; gateway?: Partial<PairEnd<GatewayId>> } = {}): DevicePair {
  return {
    client: {
      id: '0c8f2b0e-6f0a-4a55-9d5c-2f4f7a1b9c01' as ClientId,
      publicKey: CLIENT_KEY,
      pskBase: filled(0x11),
      ...given.client,
    },
    gateway: {
      id: '5b1d3f77-2c84-4c0e-8a3e-7d2f90c4e102' as GatewayId,
      publicKey: GATEWAY_KEY,
      pskBase: filled(0x22),
      ...given.gateway,
    },
  };
}

/** The pair, and every pair that differs from it in one input. */
const VARIANTS: readonly DevicePair[] = [
  aPair(),
  aPair({ client: { id: '0c8f2b0e-6f0a-4a55-9d5c-2f4f7a1b9c02' as ClientId } }),
  aPair({ client: { publicKey: toBase64(filled(9)) } }),
  aPair({ client: { pskBase: filled(0x12) } }),
  aPair({ gateway: { id: '5b1d3f77-2c84-4c0e-8a3e-7d2f90c4e103' as GatewayId } }),
  aPair({ gateway: { publicKey: toBase64(filled(9)) } }),
  aPair({ gateway: { pskBase: filled(0x23) } }),
];

describe('the preshared key', () => {
  it('reproduces the documented vectors', () => {
    expect(presharedKey(aPair())).toBe('j+ykmHfHyPkDbD0SL9KXsdjWdk3PGmxQuUVyz27B8/A=');
    const other = aPair({
      client: { id: '11111111-1111-4111-8111-111111111111' as ClientId, pskBase: filled(3) },
      gateway: { id: '22222222-2222-4222-8222-222222222222' as GatewayId, pskBase: filled(4) },
    });
    expect(presharedKey(other)).toBe('XW093AoW7OpBXD0nxDlmJyPhoh/To8j1k3f6UZyTtoM=');
  });

  it('depends on each input (B30)', () => {
    expect(new Set(VARIANTS.map(presharedKey)).size).toBe(VARIANTS.length);
  });

  it('refuses psk bases of another size, which could run into each other', () => {
    expect(() => presharedKey(aPair({ client: { pskBase: new Uint8Array(31) } }))).toThrow(RangeError);
    expect(() => iceCredentials(aPair({ gateway: { pskBase: new Uint8Array(33) } }))).toThrow(RangeError);
  });
});

describe('the ICE credentials (D28)', () => {
  it('do not change between releases: a live tunnel would break', () => {
    expect(iceCredentials(aPair())).toEqual({
      client: { username: 'zbtl', password: 'dijxlirm2zty5beej3qkji' },
      gateway: { username: 'nkeh', password: 'rgzn3xwqlllh5g4kk2vama' },
    });
  });

  it('are not the ones that anybody can compute from ids and public keys', () => {
    const { client, gateway } = iceCredentials(aPair());
    const unkeyed = ['tlen', 'daah7cjwuydigesnn7fyqj', '2e3h', 'pngkpo7er6cwso3wodd35q'];
    for (const part of [client.username, client.password, gateway.username, gateway.password])
      expect(unkeyed).not.toContain(part);
  });

  it('meet the minimum lengths of ICE', () => {
    const { client, gateway } = iceCredentials(aPair());
    for (const end of [client, gateway]) {
      expect(end.username).toMatch(/^[a-z2-7]{4}$/);
      expect(end.password).toMatch(/^[a-z2-7]{22}$/);
    }
  });

  it('depend on each input, both psk bases among them (B30)', () => {
    expect(new Set(VARIANTS.map((pair) => iceCredentials(pair).client.password)).size).toBe(VARIANTS.length);
  });

  it('differ when characters move from one field to the next (B30)', () => {
    const moved = (publicKey: string, id: string) =>
      iceCredentials(aPair({ client: { publicKey }, gateway: { id: id as GatewayId } })).client.password;
    expect(moved('a', ':b')).not.toBe(moved('a:', 'b'));
    expect(moved('a","b', 'c')).not.toBe(moved('a', 'b","c'));
  });
});

describe('the secrets of a pair', () => {
  it('are the preshared key and both ICE credentials, each on its own side', () => {
    const { client, gateway } = iceCredentials(aPair());
    expect(pairSecrets(aPair())).toEqual({
      presharedKey: presharedKey(aPair()),
      clientIce: client,
      gatewayIce: gateway,
    });
  });
});

describe('the TURN credentials', () => {
  it('reproduce the documented vectors', () => {
    expect(turnCredentials(CLIENT_KEY, 'a3'.repeat(32), 1_767_225_600)).toEqual({
      username: '1767225600:xXzDtV05+ab3cvUI44IeCigIIjUsDQ8NJZ+6Y7dNqaA',
      password: 'DbsxnSuna3lRUZXpxvd70r/vTsWO5UbRfFIQeKrpvfM',
    });
    expect(turnCredentials(CLIENT_KEY, 'stamp-secret-example', 1_753_000_000)).toEqual({
      username: '1753000000:xXzDtV05+ab3cvUI44IeCigIIjUsDQ8NJZ+6Y7dNqaA',
      password: 'h9m5RfbuY6ydBwYbGz6G0lDDO8ekUxeHNZi2YytLCOM',
    });
  });

  it('of gateways expire at the start of 2038', () => {
    expect(new Date(DISTANT_TURN_EXPIRY * 1000).toISOString()).toBe('2038-01-01T00:00:00.000Z');
  });
});

describe('the id of a relay', () => {
  it('reproduces the documented vector', () => {
    expect(relayIdOf('stamp-secret-example')).toBe('794258bf-b89b-4084-917e-44c666791a3d');
  });

  it('is a version 4 uuid, another one for each secret', () => {
    const ids = Array.from({ length: 1000 }, (_, i) => relayIdOf(`secret ${i}`));
    expect(new Set(ids).size).toBe(ids.length);
    for (const id of ids) expect(id).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  });
});
