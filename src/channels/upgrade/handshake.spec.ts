import { describe, expect, it } from '@jest/globals';
import { handshakeFault } from './handshake.js';
import type { UpgradeRequest } from './upgrade-request.js';

const HEADERS = {
  host: 'portcullis.example',
  upgrade: 'WebSocket',
  'sec-websocket-key': 'dGhlIHNhbXBsZSBub25jZQ==',
  'sec-websocket-version': '13',
};

function fault(headers: Record<string, string | undefined> = {}, of: Partial<UpgradeRequest> = {}): string | undefined {
  const all = Object.entries({ ...HEADERS, ...headers }).filter(([, value]) => value !== undefined);
  return handshakeFault({
    ...{ method: 'GET', httpVersion: '1.1', url: '/client/websocket', remoteAddress: '192.0.2.7' },
    headers: Object.fromEntries(all),
    ...of,
  })?.code;
}

describe('handshakeFault', () => {
  it('lets a handshake pass, also one that says it has no body', () => {
    expect(fault()).toBeUndefined();
    expect(fault({ 'content-length': '0' })).toBeUndefined();
  });

  it.each<[string, Record<string, string | undefined>, Partial<UpgradeRequest>]>([
    ['another method', {}, { method: 'POST' }],
    ['an older HTTP', {}, { httpVersion: '1.0' }],
    ['no host', { host: undefined }, {}],
    ['another protocol', { upgrade: 'h2c' }, {}],
    ['no upgrade', { upgrade: undefined }, {}],
    ['no key', { 'sec-websocket-key': undefined }, {}],
    ['a short key', { 'sec-websocket-key': 'dGhlIHNhbXBsZQ==' }, {}],
    ['a body', { 'content-length': '5' }, {}],
    ['a body of unknown length', { 'transfer-encoding': 'chunked' }, {}],
  ])('B21: refuses %s', (_what, headers, of) => {
    expect(fault(headers, of)).toBe('bad_handshake');
  });

  it.each(['8', '12', '14', '', undefined])('B21: refuses version %s', (version) => {
    expect(fault({ 'sec-websocket-version': version })).toBe('unsupported_websocket_version');
  });
});
