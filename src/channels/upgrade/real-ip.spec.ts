import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { parseRange } from '../../core/authorizer/ip-ranges.js';
import { comesFromTrustedProxy, realIp } from './real-ip.js';
import type { TrustedProxies } from './real-ip.js';
import type { UpgradeRequest } from './upgrade-request.js';

const TRUSTED: TrustedProxies = ['10.0.0.0/8', '127.0.0.1', '2001:db8:aaaa::/48'].flatMap(
  (text) => parseRange(text) ?? [],
);

function aRequest(remoteAddress: string | undefined, forwardedFor?: string | string[]): UpgradeRequest {
  return {
    method: 'GET',
    httpVersion: '1.1',
    url: '/client/websocket',
    headers: forwardedFor === undefined ? {} : { 'x-forwarded-for': forwardedFor },
    remoteAddress,
  };
}

describe('the real address (B8)', () => {
  it.each([
    // TCP peer, X-Forwarded-For, address
    ['203.0.113.9', undefined, '203.0.113.9'],
    ['203.0.113.9', '198.51.100.4', '203.0.113.9'], // spoofed by a peer that is no proxy
    ['203.0.113.9', '10.0.0.1', '203.0.113.9'],
    ['127.0.0.2', '198.51.100.4', '127.0.0.2'], // loopback is not trusted by itself, only 127.0.0.1 is configured
    ['192.168.0.1', '198.51.100.4', '192.168.0.1'], // nor are private ranges
    ['10.0.0.1', undefined, '10.0.0.1'],
    ['10.0.0.1', '', '10.0.0.1'],
    ['10.0.0.1', '198.51.100.4', '198.51.100.4'],
    ['10.0.0.1', '198.51.100.4, 10.9.9.9', '198.51.100.4'],
    ['10.0.0.1', '198.51.100.4,10.9.9.9,10.8.8.8', '198.51.100.4'],
    ['10.0.0.1', '1.2.3.4, 198.51.100.4, 10.9.9.9', '198.51.100.4'], // the left one is the peer's invention
    ['10.0.0.1', '10.9.9.9, 198.51.100.4', '198.51.100.4'],
    ['10.0.0.1', '192.168.0.7', '192.168.0.7'], // private but no proxy of ours: the peer itself
    ['10.0.0.1', '192.168.0.7, 10.1.1.1', '192.168.0.7'],
    ['10.0.0.1', '10.1.1.1, 10.2.2.2', '10.0.0.1'], // all of them ours: nobody else is known
    ['10.0.0.1', 'unknown', '10.0.0.1'],
    ['10.0.0.1', '198.51.100.4, unknown', '10.0.0.1'],
    ['10.0.0.1', 'unknown, 198.51.100.4', '198.51.100.4'],
    ['10.0.0.1', '_hidden', '10.0.0.1'],
    ['10.0.0.1', 'for=198.51.100.4', '10.0.0.1'],
    ['10.0.0.1', '198.51.100.4,', '10.0.0.1'],
    ['10.0.0.1', ',198.51.100.4', '198.51.100.4'],
    ['10.0.0.1', '198.51.100.4:50712', '198.51.100.4'],
    ['10.0.0.1', '198.51.100.4:0', '10.0.0.1'],
    ['10.0.0.1', '198.51.100.4:99999', '10.0.0.1'],
    ['10.0.0.1', '198.51.100.4:', '10.0.0.1'],
    ['10.0.0.1', '198.51.100.4/32', '10.0.0.1'],
    ['10.0.0.1', '"198.51.100.4"', '10.0.0.1'],
    ['10.0.0.1', '2001:db8::7', '2001:db8::7'],
    ['10.0.0.1', '[2001:db8::7]', '2001:db8::7'],
    ['10.0.0.1', '[2001:db8::7]:50712', '2001:db8::7'],
    ['10.0.0.1', '[2001:db8::7', '10.0.0.1'],
    ['10.0.0.1', '[198.51.100.4]:1', '10.0.0.1'],
    ['10.0.0.1', '2001:DB8:0:0:0:0:0:7', '2001:db8::7'],
    ['10.0.0.1', 'fe80::1%eth0', '10.0.0.1'],
    ['10.0.0.1', '2001:db8:aaaa::1', '10.0.0.1'],
    ['10.0.0.1', '198.51.100.4, 2001:db8:aaaa::1', '198.51.100.4'],
    ['2001:db8:aaaa::1', '198.51.100.4', '198.51.100.4'],
    ['2001:db8:bbbb::1', '198.51.100.4', '2001:db8:bbbb::1'],
    ['10.0.0.1', '::ffff:198.51.100.4', '198.51.100.4'],
    ['10.0.0.1', '198.51.100.4, ::ffff:10.3.3.3', '198.51.100.4'],
    ['::ffff:10.0.0.1', '198.51.100.4', '198.51.100.4'],
    ['::ffff:203.0.113.9', '198.51.100.4', '203.0.113.9'],
    ['10.0.0.1', '010.0.0.7', '10.0.0.1'], // octal to some readers
    ['10.0.0.1', '0x0a000007', '10.0.0.1'],
    ['10.0.0.1', '3221226219', '10.0.0.1'],
    ['10.0.0.1', '1.2.3', '10.0.0.1'],
    ['10.0.0.1', '198.51.100.4\0', '10.0.0.1'],
    ['10.0.0.1', '198.51.100.4 198.51.100.5', '10.0.0.1'],
    ['10.0.0.1', "198.51.100.4'; DROP TABLE flows", '10.0.0.1'],
    ['10.0.0.1', 'x'.repeat(10_000), '10.0.0.1'],
    ['10.0.0.1', '10.1.1.1,'.repeat(1_000) + '10.1.1.1', '10.0.0.1'],
    ['10.0.0.1', `198.51.100.4${',10.1.1.1'.repeat(31)}`, '198.51.100.4'],
    ['10.0.0.1', `198.51.100.4${',10.1.1.1'.repeat(32)}`, '10.0.0.1'], // more proxies than anybody runs
    ['fe80::1%eth0', undefined, 'fe80::1'],
    ['', undefined, null],
    ['not an address', '198.51.100.4', null],
    [undefined, '198.51.100.4', null],
  ])('of TCP peer %s with X-Forwarded-For %j is %s', (remoteAddress, forwardedFor, address) => {
    expect(realIp(aRequest(remoteAddress, forwardedFor), TRUSTED)).toBe(address);
  });

  it('reads a repeated header in order', () => {
    expect(realIp(aRequest('10.0.0.1', ['198.51.100.4', '10.2.2.2']), TRUSTED)).toBe('198.51.100.4');
  });

  it('believes nobody when no proxy is configured', () => {
    for (const peer of ['10.0.0.1', '127.0.0.1', '::1', 'fc00::1'])
      expect(realIp(aRequest(peer, '198.51.100.4'), [])).toBe(peer);
  });

  it('never throws, and never believes a header from elsewhere', () => {
    const header = fc
      .array(fc.oneof(fc.ipV4(), fc.ipV6(), fc.string({ unit: 'binary' })))
      .map((hops) => hops.join(', '));
    fc.assert(
      fc.property(header, (forwardedFor) => {
        expect(realIp(aRequest('203.0.113.9', forwardedFor), TRUSTED)).toBe('203.0.113.9');
        expect(typeof realIp(aRequest('10.0.0.1', forwardedFor), TRUSTED)).toBe('string');
      }),
    );
  });
});

describe('a trusted proxy', () => {
  it('is the TCP peer, whatever the headers say', () => {
    expect(comesFromTrustedProxy(aRequest('10.0.0.1', '198.51.100.4'), TRUSTED)).toBe(true);
    expect(comesFromTrustedProxy(aRequest('::ffff:10.0.0.1'), TRUSTED)).toBe(true);
    expect(comesFromTrustedProxy(aRequest('203.0.113.9', '10.0.0.1'), TRUSTED)).toBe(false);
    expect(comesFromTrustedProxy(aRequest(undefined), TRUSTED)).toBe(false);
  });
});
