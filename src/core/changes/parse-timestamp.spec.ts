import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { EARLIEST, LATEST, parseTimestamp } from './parse-timestamp.js';

describe('parseTimestamp', () => {
  it.each([
    ['2026-11-21 02:32:26.123456+00', Date.parse('2026-11-21T02:32:26.123Z')],
    ['2026-11-21 02:32:26.999999+00', Date.parse('2026-11-21T02:32:26.999Z')],
    ['2026-11-21 02:32:26+00', Date.parse('2026-11-21T02:32:26Z')],
    ['2026-11-21 02:32:26.5+00', Date.parse('2026-11-21T02:32:26.500Z')],
    ['2026-11-21 02:32:26.05+00', Date.parse('2026-11-21T02:32:26.050Z')],
    ['2026-11-21 08:02:26+05:30', Date.parse('2026-11-21T02:32:26Z')],
    ['2026-11-20 23:02:26-03:30', Date.parse('2026-11-21T02:32:26Z')],
    ['1850-01-01 00:00:00-04:56:02', Date.parse('1850-01-01T04:56:02Z')],
    ['1970-01-01 00:00:00+00', 0],
    ['1969-12-31 23:59:59.9995+00', -1],
    ['0001-01-01 00:00:00+00', Date.parse('+000001-01-01T00:00:00Z')],
    ['0001-01-01 00:00:00+00 BC', Date.parse('+000000-01-01T00:00:00Z')],
    ['0044-03-15 12:00:00+00 BC', Date.parse('-000043-03-15T12:00:00Z')],
    ['4714-11-24 00:00:00+00 BC', Date.parse('-004713-11-24T00:00:00Z')],
    ['275760-09-13 00:00:00+00', LATEST],
    ['275760-09-13 00:00:00.001+00', LATEST],
    ['275760-12-31 00:00:00+00', LATEST],
    ['294276-12-31 23:59:59.999999+00', LATEST],
    ['infinity', LATEST],
    ['-infinity', EARLIEST],
  ])('%s', (text, expected) => {
    expect(parseTimestamp(text)).toBe(expected);
  });

  it.each([
    '',
    'now',
    'Infinity',
    '2026-11-21 02:32:26',
    '2026-11-21',
    '2026-13-21 02:32:26+00',
    '2026-11-32 02:32:26+00',
    '2026-11-21 24:00:00+00',
    '2026-11-21 02:32:60+00',
    '2026-11-21 02:32:26 UTC',
    '21.11.2026 02:32:26+00',
    '1763692346',
    '2026-11-21 02:32:26+00 AD',
  ])('%j is no timestamp', (text) => {
    expect(parseTimestamp(text)).toBeUndefined();
  });

  it('D9: every millisecond prints and reads back as itself, in any zone', () => {
    fc.assert(
      fc.property(fc.date({ noInvalidDate: true }), fc.integer({ min: -14 * 60, max: 14 * 60 }), (date, offset) => {
        fc.pre(date.getUTCFullYear() > 0 && Math.abs(date.getTime() + offset * 60_000) <= LATEST);
        const local = new Date(date.getTime() + offset * 60_000)
          .toISOString()
          .replace(/^\+0*|Z$/g, '')
          .replace('T', ' ');
        fc.pre(!local.startsWith('-'));
        const hours = String(Math.floor(Math.abs(offset) / 60)).padStart(2, '0');
        const minutes = String(Math.abs(offset) % 60).padStart(2, '0');
        expect(parseTimestamp(`${local}${offset < 0 ? '-' : '+'}${hours}:${minutes}`)).toBe(date.getTime());
      }),
      { numRuns: 1_000 },
    );
  });
});
