import { describe, it, expect } from '@jest/globals';
import { SystemClock, type Timers } from './system-clock.js';

const LONGEST = 2 ** 31 - 1;

describe('SystemClock', () => {
  it('a delay longer than one timeout can take is armed again until it has passed', () => {
    const timers = new FakeTimers();
    const clock = new SystemClock(timers);
    let runs = 0;
    clock.after(2 * LONGEST + 500, () => runs++);

    expect(timers.armed).toEqual([LONGEST]);
    timers.fire();
    expect(timers.armed).toEqual([LONGEST]);
    timers.fire();
    expect(timers.armed).toEqual([500]);
    expect(runs).toBe(0);
    timers.fire();
    expect(runs).toBe(1);
    expect(timers.armed).toEqual([]);
  });

  it('the longest delay of one timeout is one timeout', () => {
    const timers = new FakeTimers();
    let runs = 0;
    new SystemClock(timers).after(LONGEST, () => runs++);
    timers.fire();
    expect([runs, timers.armed]).toEqual([1, []]);
  });

  it('a cancelled task does not run, not even after being armed again', () => {
    const timers = new FakeTimers();
    const clock = new SystemClock(timers);
    const cancel = clock.after(LONGEST + 1, () => expect('run').toBe('never'));
    timers.fire();
    cancel();
    expect(timers.armed).toEqual([]);
  });

  it('a delay in the past is due at once, and one that is no number is a mistake', () => {
    const timers = new FakeTimers();
    new SystemClock(timers).after(-5, () => undefined);
    expect(timers.armed).toEqual([0]);
    expect(() => new SystemClock(timers).after(Number.NaN, () => undefined)).toThrow(RangeError);
  });

  describe('at an instant', () => {
    const HOUR = 3_600_000;

    it('the task runs once it is reached, and never before: a timer that was early is armed again', () => {
      const timers = new FakeTimers();
      let runs = 0;
      new SystemClock(timers).at(HOUR, () => runs++);
      timers.pass(HOUR - 2);
      timers.fire(); // early
      expect(runs).toBe(0);
      timers.pass(2_000);
      expect([runs, timers.armed]).toEqual([1, []]);
    });

    it('an instant beyond the longest timeout is waited for', () => {
      const timers = new FakeTimers();
      let runs = 0;
      new SystemClock(timers).at(LONGEST + HOUR, () => runs++);
      timers.pass(LONGEST + HOUR - 1);
      expect(runs).toBe(0);
      timers.pass(1);
      expect(runs).toBe(1);
    });

    it('S10: a clock that was behind and is put right runs what is due within a second', () => {
      const timers = new FakeTimers();
      timers.wrongByMs = -2 * HOUR;
      const ran: string[] = [];
      const clock = new SystemClock(timers);
      clock.at(HOUR, () => ran.push('first'));
      clock.at(3 * HOUR, () => ran.push('second'));
      timers.pass(HOUR / 2);
      timers.wrongByMs = HOUR; // it is half past one, by this clock
      timers.pass(1_000);
      expect(ran).toEqual(['first']);
      timers.pass(2 * HOUR);
      expect(ran).toEqual(['first', 'second']);
    });

    it('S10: a clock that is set back does not run it before its time', () => {
      const timers = new FakeTimers();
      let runs = 0;
      new SystemClock(timers).at(HOUR, () => runs++);
      timers.wrongByMs = -HOUR;
      timers.pass(2 * HOUR - 1);
      expect(runs).toBe(0);
      timers.pass(1);
      expect(runs).toBe(1);
    });

    it('what is cancelled does not run, and nothing is looked at any more', () => {
      const timers = new FakeTimers();
      const clock = new SystemClock(timers);
      clock.at(HOUR, () => expect('run').toBe('never'))();
      timers.pass(2 * HOUR);
      expect(timers.armed).toEqual([]);
      clock.at(0, () => undefined);
      expect(timers.armed).toHaveLength(2);
    });
  });

  it('without a delay to wait for, real time passes and the task runs', async () => {
    const clock = new SystemClock();
    const before = clock.now();
    await new Promise<void>((resolve) => void clock.after(0, resolve));
    expect(clock.now()).toBeGreaterThanOrEqual(before);
  });
});

class FakeTimers implements Timers {
  /** How far the wall clock is off. */
  wrongByMs = 0;
  #passedMs = 0;
  readonly #tasks = new Map<number, { readonly delayMs: number; readonly dueAt: number; readonly task: () => void }>();
  #next = 1;

  get armed(): number[] {
    return [...this.#tasks.values()].map(({ delayMs }) => delayMs);
  }

  now(): number {
    return this.#passedMs + this.wrongByMs;
  }

  monotonic(): number {
    return this.#passedMs;
  }

  set(task: () => void, delayMs: number): number {
    this.#tasks.set(this.#next, { delayMs, dueAt: this.#passedMs + delayMs, task });
    return this.#next++;
  }

  clear(timer: NodeJS.Timeout | number): void {
    this.#tasks.delete(Number(timer));
  }

  /** Runs the oldest timer, due or not. */
  fire(): void {
    const [first] = this.#tasks;
    if (!first) throw new Error('nothing is armed');
    this.#tasks.delete(first[0]);
    first[1].task();
  }

  /** Lets time pass and runs what falls due, earliest first. */
  pass(ms: number): void {
    const until = this.#passedMs + ms;
    for (;;) {
      const [next] = [...this.#tasks].filter(([, { dueAt }]) => dueAt <= until).sort((a, b) => a[1].dueAt - b[1].dueAt);
      if (!next) break;
      this.#tasks.delete(next[0]);
      this.#passedMs = Math.max(this.#passedMs, next[1].dueAt);
      next[1].task();
    }
    this.#passedMs = until;
  }
}
