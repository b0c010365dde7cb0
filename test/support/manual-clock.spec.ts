import { describe, it, expect } from '@jest/globals';
import { ManualClock } from './manual-clock.js';

describe('ManualClock', () => {
  it('runs what is due in order of time, ties in order of arming, each at its own time', () => {
    const clock = new ManualClock(1000);
    const ran: string[] = [];
    const note = (name: string) => () => void ran.push(`${name}@${clock.now()}`);
    clock.after(20, note('b'));
    clock.after(10, note('a'));
    clock.after(20, note('c'));
    clock.after(21, note('later'));

    clock.advance(20);
    expect(ran).toEqual(['a@1010', 'b@1020', 'c@1020']);
    expect([clock.now(), clock.pending]).toEqual([1020, 1]);
  });

  it('a task may arm another within the same span, and cancel one that is due', () => {
    const clock = new ManualClock(0);
    const ran: number[] = [];
    clock.after(5, () => {
      cancel();
      clock.after(5, () => void ran.push(clock.now()));
    });
    const cancel = clock.after(6, () => void ran.push(-1));
    clock.advance(10);
    expect(ran).toEqual([10]);
  });
});
