import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { XidEpoch } from './xid-epoch.js';

const EPOCH = 2n ** 32n;

describe('XidEpoch', () => {
  it('gives back the full id of every transaction less than 2^31 away from a recent one, across epochs', () => {
    const start = fc.oneof(
      fc.bigInt(3n, 10n * EPOCH),
      fc.constantFrom(1n, 2n, 3n).chain((epoch) => fc.bigInt(-5n, 5n).map((near) => epoch * EPOCH + near)),
    );
    // Steps stay short of half an epoch altogether: an older transaction may end after many younger ones.
    const steps = fc.array(fc.bigInt(-(2n ** 30n), 2n ** 30n - 1n), { maxLength: 20 });
    fc.assert(
      fc.property(start, steps, (first, offsets) => {
        const xids = new XidEpoch();
        xids.observe(first);
        let newest = first;
        for (const offset of offsets) {
          const full = newest + offset < 3n ? 3n : newest + offset;
          expect(xids.widen(Number(full % EPOCH))).toBe(full);
          if (full > newest) newest = full;
        }
      }),
    );
  });

  it('follows ids that were used up elsewhere when it is shown a snapshot', () => {
    const xids = new XidEpoch();
    xids.observe(1_000n);
    xids.observe(3n * EPOCH + 77n);
    expect(xids.widen(78)).toBe(3n * EPOCH + 78n);
  });

  it('does not go back for an older snapshot, but does for another branch of history', () => {
    const xids = new XidEpoch();
    xids.observe(2n * EPOCH + 5n);
    xids.observe(7n);
    expect(xids.widen(6)).toBe(2n * EPOCH + 6n);
    xids.restartAt(7n);
    expect(xids.widen(8)).toBe(8n);
  });
});
