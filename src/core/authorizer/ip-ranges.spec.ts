import { describe, expect, it } from '@jest/globals';
import {
  contains,
  formatRange,
  isOneAddress,
  overlaps,
  parseAddress,
  parseCidr,
  parseRange,
  unmapped,
} from './ip-ranges.js';

function must<T>(value: T | undefined): T {
  if (value === undefined) throw new Error('did not parse');
  return value;
}

describe('ip text', () => {
  it.each([
    ['10.1.2.3/8', '10.0.0.0/8'],
    ['192.168.0.1/24', '192.168.0.0/24'],
    ['192.168.0.1', '192.168.0.1/32'],
    ['2001:db8::1/32', '2001:db8::/32'],
    ['2001:DB8:0:0:1:0:0:1', '2001:db8::1:0:0:1/128'],
    ['::/0', '::/0'],
    ['::ffff:10.1.2.3', '::ffff:a01:203/128'],
    ['::10.1.2.3', '::a01:203/128'],
    ['64:ff9b::192.0.2.33', '64:ff9b::c000:221/128'],
    ['1:2:3:4:5:6:7.8.9.10', '1:2:3:4:5:6:708:90a/128'],
  ])('%s is canonically %s', (text, canonical) => {
    expect(formatRange(must(parseRange(text)))).toBe(canonical);
  });

  it.each([
    '',
    '10.0.0',
    '010.0.0.1',
    '0x0a.0.0.1',
    '167772161',
    '10.0.0.256',
    '10.0.0.0/33',
    '10.0.0.0/08',
    '10.0.0.0/-1',
    '10.0.0.0/',
    '/8',
    '10.0.0.0/8/8',
    '::1%eth0',
    ':::',
    '1::2::3',
    '::/129',
    '::ffff:010.1.1.1',
    '1:2:3:4:5:6:7:8.9.10.11',
    '::1.2.3.4:5',
    '::1.2.3',
    ' 10.0.0.1',
    `${'0'.repeat(60)}::1`,
  ])('%j is neither an address nor a network', (text) => {
    expect(parseRange(text)).toBeUndefined();
  });

  it('an address is no network until it has a prefix', () => {
    expect(parseCidr('10.0.0.0')).toBeUndefined();
    expect(parseCidr('10.0.0.0/32')).toEqual(parseRange('10.0.0.0'));
  });

  it('overlaps in either direction, never across families', () => {
    const range = (text: string) => must(parseRange(text));
    expect(overlaps(range('64.0.0.0/2'), range('100.64.0.0/10'))).toBe(true);
    expect(overlaps(range('100.64.0.1'), range('100.64.0.0/10'))).toBe(true);
    expect(overlaps(range('fd00:2021:ffff::5'), range('fd00:2021:1111::/48'))).toBe(false);
    expect(overlaps(range('0.0.0.0/0'), range('::/0'))).toBe(false);
  });

  it('one address is a network of full length in its own family', () => {
    const isOne = ['10.0.0.1', '10.0.0.1/31', '::1', '::1/32'].map((text) => isOneAddress(must(parseRange(text))));
    expect(isOne).toEqual([true, false, true, false]);
  });

  it('unwraps an IPv4-mapped address only when asked', () => {
    const mapped = must(parseAddress('::ffff:10.1.2.3'));
    expect(contains(must(parseRange('10.0.0.0/8')), mapped)).toBe(false);
    expect(unmapped(mapped)).toEqual(parseAddress('10.1.2.3'));
    expect(unmapped(must(parseAddress('2001:db8::1')))).toBeUndefined();
  });
});
