import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { IpRangeSet } from './ip-range-set.js';
import { contains, parseAddress, parseRange, type IpAddress, type IpRange } from './ip-ranges.js';

function mustBe<T>(value: T | undefined): T {
  if (value === undefined) throw new TypeError('not parsed');
  return value;
}

const setOf = (...ranges: string[]): IpRangeSet => new IpRangeSet(ranges.map((text) => mustBe(parseRange(text))));
const has = (set: IpRangeSet, address: string): boolean => set.has(mustBe(parseAddress(address)));

describe('IpRangeSet', () => {
  it('has the first and the last address of each network, and neither neighbour', () => {
    const set = setOf('10.1.0.0/16', '192.0.2.7', '2001:db8::/32', '::10.0.0.1');
    for (const address of ['10.1.0.0', '10.1.255.255', '192.0.2.7', '2001:db8::', '::10.0.0.1']) {
      expect([address, has(set, address)]).toEqual([address, true]);
    }
    expect(has(set, '2001:db8:ffff:ffff:ffff:ffff:ffff:ffff')).toBe(true);
    for (const address of ['10.0.255.255', '10.2.0.0', '192.0.2.6', '192.0.2.8', '2001:db9::', '10.0.0.1', '::']) {
      expect([address, has(set, address)]).toEqual([address, false]);
    }
  });

  it('without networks has nothing', () => {
    expect(has(setOf(), '10.0.0.1')).toBe(false);
    expect(has(setOf('10.0.0.0/8'), '::1')).toBe(false);
    expect(has(setOf('::/0'), '10.0.0.1')).toBe(false);
  });

  it('equals a look at each network, whatever nests and in whatever order', () => {
    const address = (version: 4 | 6): fc.Arbitrary<IpAddress> =>
      fc.bigInt({ min: 0n, max: 255n }).map((low) => ({ version, bits: version === 4 ? low << 24n : low << 120n }));
    const anyAddress = fc.oneof(address(4), address(6));
    const range: fc.Arbitrary<IpRange> = fc.tuple(anyAddress, fc.nat(8)).map(([{ version, bits }, prefixLength]) => {
      const hostBits = BigInt((version === 4 ? 32 : 128) - prefixLength);
      return { version, bits: (bits >> hostBits) << hostBits, prefixLength };
    });
    fc.assert(
      fc.property(fc.array(range, { maxLength: 12 }), fc.array(anyAddress, { minLength: 20 }), (ranges, addresses) => {
        const set = new IpRangeSet(ranges);
        for (const one of addresses) expect(set.has(one)).toBe(ranges.some((other) => contains(other, one)));
      }),
      { numRuns: 500 },
    );
  });
});
