import { isIP } from 'node:net';
import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import ipaddr from 'ipaddr.js';
import { contains, formatRange, parseAddress, parseCidr } from './ip-ranges.js';

const v4 = fc.ipV4();
const v6 = fc.ipV6().filter((text) => !text.includes('%'));
/** Few distinct values, so that random networks and addresses do meet. */
const closeV4 = fc
  .tuple(fc.constantFrom(10, 192), fc.constantFrom(0, 1, 128, 255), fc.constantFrom(0, 64, 255), fc.nat(255))
  .map((octets) => octets.join('.'));
const closeV6 = fc
  .tuple(fc.constantFrom('2001:db8', 'fd00:0'), fc.constantFrom('0', '1', '8000', 'ffff'), fc.nat(3))
  .map(([head, middle, tail]) => `${head}:${middle}::${tail}`);

function must<T>(value: T | undefined): T {
  if (value === undefined) throw new Error('did not parse');
  return value;
}

/** Without dots: ipaddr.js takes `::1.2.3.4` for `::ffff:1.2.3.4`. */
const parsed = (text: string): ipaddr.IPv4 | ipaddr.IPv6 =>
  ipaddr.parse(text.includes(':') ? new URL(`http://[${text}]`).hostname.slice(1, -1) : text);

describe('ip ranges', () => {
  it('membership is what ipaddr.js match says', () => {
    const cases = fc.oneof(
      fc.tuple(fc.oneof(v4, closeV4), fc.oneof(v4, closeV4), fc.nat(32)),
      fc.tuple(fc.oneof(v6, closeV6), fc.oneof(v6, closeV6), fc.nat(128)),
    );
    fc.assert(
      fc.property(cases, ([address, network, prefix]) => {
        const expected = parsed(address).match(parsed(network), prefix);
        expect(contains(must(parseCidr(`${network}/${prefix}`)), must(parseAddress(address)))).toBe(expected);
      }),
      { numRuns: 2_000, examples: [[['::0:0.0.0.0', '::0.0.0.0', 81]]] },
    );
  });

  it('an address of one family is in no network of the other', () => {
    fc.assert(
      fc.property(v4, v6, (four, six) => {
        expect(contains(must(parseCidr('::/0')), must(parseAddress(four)))).toBe(false);
        expect(contains(must(parseCidr('0.0.0.0/0')), must(parseAddress(six)))).toBe(false);
      }),
    );
  });

  it('accepts the text that node:net calls an IP address, without zones, and nothing else', () => {
    const text = fc.oneof(
      v4,
      v6,
      fc.string({ unit: fc.constantFrom(...'0123456789abcdef:./%x '), maxLength: 24 }),
      fc.tuple(v6, fc.constantFrom('', ':', '::', '.1', ':1.2.3.4', ':01.2.3.4')).map((parts) => parts.join('')),
    );
    fc.assert(
      fc.property(text, (candidate) => {
        const expected = candidate.includes('%') ? 0 : isIP(candidate);
        expect(parseAddress(candidate)?.version ?? 0).toBe(expected);
      }),
      { numRuns: 5_000 },
    );
  });

  it('the canonical text reads back as the same network', () => {
    fc.assert(
      fc.property(fc.oneof(fc.tuple(v4, fc.nat(32)), fc.tuple(v6, fc.nat(128))), ([address, prefix]) => {
        const range = must(parseCidr(`${address}/${prefix}`));
        expect(parseCidr(formatRange(range))).toEqual(range);
      }),
    );
  });
});
