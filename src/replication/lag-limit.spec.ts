import { describe, expect, it } from '@jest/globals';
import { type Lag, LagLimit } from './lag-limit.js';

const BEHIND: Lag = { proofAgeMs: 301_000, streamingForMs: 400_000, slot: 'extended' };

/** How many checks in a row it takes; 0: not within twenty. */
function checksUntilOver(lag: Lag): number {
  const limit = new LagLimit({ maxLagMs: 300_000, staleAfterMs: 30_000 });
  for (let n = 1; n <= 20; n += 1) if (limit.isOver(lag)) return n;
  return 0;
}

describe('LagLimit (D14)', () => {
  it.each<[number, Lag]>([
    [3, BEHIND],
    [0, { ...BEHIND, proofAgeMs: 300_000 }],
    [3, { ...BEHIND, proofAgeMs: undefined }],
    // The database was away for an hour and has just come back: there is no backlog.
    [0, { ...BEHIND, proofAgeMs: 3_600_000, streamingForMs: 5_000 }],
    [3, { ...BEHIND, proofAgeMs: 31_000, slot: 'unreserved' }],
    // It keeps up; something else, a long transaction perhaps, holds the log.
    [0, { ...BEHIND, proofAgeMs: 5_000, slot: 'unreserved' }],
    [3, { ...BEHIND, slot: undefined }],
  ])('is over after %i checks (0: never) for %j', (checks, lag) => {
    expect(checksUntilOver(lag)).toBe(checks);
  });

  it('forgives a process that was stopped and catches up between two checks', () => {
    const limit = new LagLimit({ maxLagMs: 300_000, staleAfterMs: 30_000 });
    const said = [BEHIND, BEHIND, { ...BEHIND, proofAgeMs: 0 }, BEHIND, BEHIND].map((lag) => limit.isOver(lag));
    expect(said).toEqual([false, false, false, false, false]);
    expect(limit.isOver(BEHIND)).toBe(true);
    expect(limit.isOver(BEHIND)).toBe(false);
  });
});
