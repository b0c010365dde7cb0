import { beforeEach, describe, expect, it } from '@jest/globals';
import { ManualClock } from '../../test/support/manual-clock.js';
import type { Clock } from '../core/support/clock.js';
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

  it('never rings before its instant: not beyond 2^31 ms, where a bare timer fires at once', () => {
    const at = clock.now() + 40 * DAY;
    const capped: Clock = {
      now: () => clock.now(),
      after: (delayMs, task) => clock.after(delayMs > 2 ** 31 - 1 ? 1 : delayMs, task),
    };
    const long = new Alarm(capped, () => rung.push(clock.now()));
    long.set(at);
    clock.advance(2);
    expect(rung).toEqual([]);
    long.set(null);
    expect(clock.pending).toBe(0);
  });

  it('never rings before its instant: not when a timer is early or the wall clock was set back', () => {
    const start = clock.now();
    let setBackBy = 0;
    const shifted: Clock = {
      now: () => clock.now() - setBackBy,
      after: (delayMs, task) => clock.after(delayMs, task),
    };
    const late = new Alarm(shifted, () => rung.push(shifted.now()));
    late.set(start + HOUR);
    setBackBy = 10 * 60_000;
    clock.advance(HOUR);
    expect(rung).toEqual([]);
    clock.advance(setBackBy);
    expect(rung).toEqual([start + HOUR]);
  });
});
