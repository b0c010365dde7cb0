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

  it('without a delay to wait for, real time passes and the task runs', async () => {
    const clock = new SystemClock();
    const before = clock.now();
    await new Promise<void>((resolve) => void clock.after(0, resolve));
    expect(clock.now()).toBeGreaterThanOrEqual(before);
  });
});

class FakeTimers implements Timers {
  readonly #tasks = new Map<number, { readonly delayMs: number; readonly task: () => void }>();
  #next = 1;

  get armed(): number[] {
    return [...this.#tasks.values()].map(({ delayMs }) => delayMs);
  }

  now(): number {
    return 0;
  }

  set(task: () => void, delayMs: number): number {
    this.#tasks.set(this.#next, { delayMs, task });
    return this.#next++;
  }

  clear(timer: NodeJS.Timeout | number): void {
    this.#tasks.delete(Number(timer));
  }

  fire(): void {
    const [first] = this.#tasks;
    if (!first) throw new Error('nothing is armed');
    this.#tasks.delete(first[0]);
    first[1].task();
  }
}
