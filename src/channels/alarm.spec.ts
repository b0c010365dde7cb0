import { beforeEach, describe, expect, it } from '@jest/globals';
import { ManualClock } from '../../test/support/manual-clock.js';
import { Alarm } from './alarm.js';

const HOUR = 3_600_000;
const DAY = 24 * HOUR;

describe('Alarm', () => {
  let clock: ManualClock;
  let rung: number[];
  let alarm: Alarm;

  beforeEach(() => {
    clock = new ManualClock();
    rung = [];
    alarm = new Alarm(clock, () => rung.push(clock.now()));
  });

  it('rings once, at its instant', () => {
    const at = clock.now() + HOUR;
    alarm.set(at);
    clock.advance(HOUR - 1);
    expect(rung).toEqual([]);
    clock.advance(DAY);
    expect(rung).toEqual([at]);
    expect(clock.pending).toBe(0);
  });

  it('another instant replaces the first, earlier or later', () => {
    const start = clock.now();
    alarm.set(start + 2 * HOUR);
    alarm.set(start + HOUR);
    clock.advance(HOUR);
    alarm.set(start + 2 * HOUR);
    alarm.set(start + 3 * HOUR);
    clock.advance(DAY);
    expect(rung).toEqual([start + HOUR, start + 3 * HOUR]);
  });

  it('null waits for nothing, and leaves no timer', () => {
    alarm.set(clock.now() + HOUR);
    alarm.set(null);
    expect(clock.pending).toBe(0);
  });

  it('the same instant again keeps the timer, and after it rang sets a new one', () => {
    const at = clock.now() + HOUR;
    alarm.set(at);
    alarm.set(at);
    expect(clock.pending).toBe(1);
    clock.advance(HOUR);
    alarm.set(at);
    clock.advance(0);
    expect(rung).toEqual([at, at]);
  });

  it('an instant in the past rings at the next turn, not inside `set`', () => {
    alarm.set(clock.now() - HOUR);
    expect(rung).toEqual([]);
    clock.advance(0);
    expect(rung).toHaveLength(1);
  });

  it('setEarlier only ever brings it forward', () => {
    const start = clock.now();
    alarm.setEarlier(start + 2 * HOUR);
    alarm.setEarlier(start + 3 * HOUR);
    alarm.setEarlier(undefined);
    alarm.setEarlier(start + HOUR);
    clock.advance(DAY);
    expect(rung).toEqual([start + HOUR]);
  });

  it('may set itself again while it rings', () => {
    const start = clock.now();
    const again: Alarm = new Alarm(clock, () => {
      rung.push(clock.now() - start);
      if (rung.length < 3) again.set(clock.now() + HOUR);
    });
    again.set(start + HOUR);
    clock.advance(DAY);
    expect(rung).toEqual([HOUR, 2 * HOUR, 3 * HOUR]);
  });
});
