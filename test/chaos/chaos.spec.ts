/** A short campaign with a fixed seed, as part of every test run, and the battery as a list that is complete. */
import { describe, expect, it, jest } from '@jest/globals';
import { runCampaign } from './campaign.js';
import { FAULTS, isRunnable } from './faults.js';

jest.setTimeout(300_000);

/** One of each way to break something, those that take long left to longer campaigns. */
const SHORT = ['F1', 'F3', 'F5', 'F9', 'F12', 'F15', 'F19', 'F18', 'F7', 'F27', 'F34', 'F36', 'F10', 'F28'];

describe('the fault battery', () => {
  it('has F1 to F36 once each, with a figure, and runs it or says why not', () => {
    expect(FAULTS.map(({ id }) => id)).toEqual(Array.from({ length: 36 }, (_, index) => `F${index + 1}`));
    for (const fault of FAULTS) {
      expect(fault.pass).not.toBe('');
      if (isRunnable(fault)) expect(fault.graceMs).toBeLessThanOrEqual(15_000);
      else expect(fault.notHere.length).toBeGreaterThan(20);
    }
  });
});

describe('a campaign', () => {
  it.each([1, 7])('S1 to S8: of seed %i finds no violation', async (seed) => {
    const turn = seed % 2 === 0 ? SHORT : [...SHORT].reverse();
    const report = await runCampaign({ seconds: 45, seed, faults: turn });
    const found = Object.entries(report.violations).filter(([, list]) => list.length > 0);
    expect(Object.fromEntries(found)).toEqual({});
    // It looked at something.
    expect(report.faultsInjected).toBeGreaterThan(5);
    expect(report.commits).toBeGreaterThan(400);
    expect(report.frames).toBeGreaterThan(4_000);
    expect(report.revocations?.count).toBeGreaterThan(50);
    expect(report.ackSamples).toBeGreaterThan(10);
  });
});
