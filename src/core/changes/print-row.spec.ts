import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import {
  anAccount,
  anAccountInUse,
  aPolicy,
  aResource,
  aToken,
  duringHours,
  MONDAY_9,
} from '../../../test/support/builders.js';
import { parseRow } from './parse-row.js';
import { EARLIEST, LATEST, parseTimestamp } from './parse-timestamp.js';
import { printRow, printTimestamp } from './print-row.js';

describe('printRow', () => {
  it('is read again as the same row, of every table', () => {
    const rows = [
      ...anAccountInUse(),
      ['accounts', anAccount({ config: { searchDomain: 'acme.example', upstreamDns: ['1.1.1.1', '9.9.9.9:5353'] } })],
      ['policies', aPolicy({ conditions: [duringHours('M/9-17/UTC')], disabledAt: MONDAY_9 })],
      ['tokens', aToken({ expiresAt: MONDAY_9 + 1 })],
      [
        'resources',
        aResource({
          filters: [
            {
              protocol: 'tcp',
              ports: [
                { from: 80, to: 80 },
                { from: 8000, to: 8100 },
              ],
            },
            { protocol: 'icmp', ports: [] },
          ],
        }),
      ],
    ] as const;
    for (const [table, row] of rows) expect(parseRow(table, printRow(row))).toEqual({ row, faults: [] });
  });

  it('of a policy that could not be read is read as one that cannot', () => {
    const row = aPolicy({ conditions: 'unreadable' });
    expect(parseRow('policies', printRow(row)).row).toEqual(row);
  });
});

describe('printTimestamp', () => {
  it('is read again as the same instant, before our era as well', () => {
    expect(printTimestamp(MONDAY_9)).toBe('2026-01-05 09:00:00.000+00');
    expect(printTimestamp(Date.UTC(-43, 2, 15))).toBe('0044-03-15 00:00:00.000+00 BC');
    expect([printTimestamp(EARLIEST), printTimestamp(LATEST)]).toEqual(['-infinity', 'infinity']);
    fc.assert(
      fc.property(fc.integer({ min: EARLIEST, max: LATEST }), (at) => {
        expect(parseTimestamp(printTimestamp(at))).toBe(at);
      }),
    );
    for (const at of [-62_167_219_200_000, -62_167_219_200_001, -62_135_596_800_000]) {
      expect(parseTimestamp(printTimestamp(at))).toBe(at);
    }
  });
});
