import { describe, expect, it } from '@jest/globals';
import { ManualClock } from '../../../test/support/manual-clock.js';
import { within } from './within.js';

describe('within', () => {
  it('is what the task settles to, and leaves no timer', async () => {
    const clock = new ManualClock();
    expect(await within(clock, 5, Promise.resolve(7))).toBe(7);
    await expect(within(clock, 5, Promise.reject(new Error('no')))).rejects.toThrow('no');
    expect(clock.pending).toBe(0);
  });

  it('rejects when the time is over, whatever the task does later', async () => {
    const clock = new ManualClock();
    const waiting = within(clock, 5, new Promise(() => undefined));
    clock.advance(4);
    expect(clock.pending).toBe(1);
    clock.advance(1);
    await expect(waiting).rejects.toThrow('not within 5 ms');
  });
});
