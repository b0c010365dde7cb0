import { describe, expect, it } from '@jest/globals';
import { dnsPatternProblem } from './parse-dns-pattern.js';

const label63 = 'a'.repeat(63);

describe('dnsPatternProblem (domain 8.2)', () => {
  it.each([
    'example.com',
    '*.example.com',
    '**.example.com',
    'foo?.example.com',
    '*-prod.corp',
    '**.corp.internal',
    'myhost',
    'db',
    'sub.*.example.com',
    '*.corp',
    'bücher.de',
    'EXAMPLE.Com',
    'xn--bcher-kva.de',
    'उदाहरण.परीक्षा',
    'localhost.example.com',
    '1.2.3.example.com',
    `${label63}.com`,
    `${label63}.${label63}.${label63}.${'a'.repeat(61)}`,
  ])('accepts %s', (pattern) => {
    expect(dnsPatternProblem(pattern)).toBeUndefined();
  });

  it.each([
    '',
    '*.com',
    '**.io',
    '?.io',
    '*.**.COM',
    '*.uk',
    'foo.*',
    'foo.b?r',
    '**',
    '*',
    '*.*',
    'a**b.example.com',
    '***.example.com',
    'localhost',
    'x.localhost',
    'x.LocalHost',
    '1.2.3.4',
    '1.2.3.4/8',
    '10.0.0.0/8',
    '::1',
    '2001:db8::/32',
    'a_b.example.com',
    '-a.com',
    'a-.com',
    'a..b',
    '.example.com',
    'example.com.',
    'com',
    'de',
    ' example.com',
    'exa mple.com',
    'example.com\n',
    'https://example.com',
    `${label63}a.com`,
    `${label63}.${label63}.${label63}.${'a'.repeat(62)}`,
  ])('rejects %j', (pattern) => {
    expect(dnsPatternProblem(pattern)).toEqual(expect.any(String));
  });

  it('B17: the longest patterns made to hurt are judged at once', () => {
    for (const pattern of ['a.'.repeat(126), '*'.repeat(253), '-'.repeat(253), `${'1.'.repeat(126)}x`]) {
      dnsPatternProblem(pattern);
    }
    expect(dnsPatternProblem('a.'.repeat(100_000))).toMatch(/253/);
  });
});
