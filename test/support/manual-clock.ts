/** A clock that stands still until a test moves it. */
import type { EpochMs } from '../../src/core/model/time.js';
import type { Clock } from '../../src/core/support/clock.js';

export class ManualClock implements Clock {
  #now: EpochMs;
  #order = 0;
  readonly #timers = new Set<Timer>();

  /** @param now 2026-01-05 09:00 UTC, a Monday, unless told. */
  constructor(now: EpochMs = Date.UTC(2026, 0, 5, 9)) {
    this.#now = now;
  }

  /** How many timers are waiting. */
  get pending(): number {
    return this.#timers.size;
  }

  now(): EpochMs {
    return this.#now;
  }

  after(delayMs: number, task: () => void): () => void {
    const timer = { dueAt: this.#now + Math.max(0, delayMs), order: this.#order++, task };
    this.#timers.add(timer);
    return () => void this.#timers.delete(timer);
  }

  at(instant: EpochMs, task: () => void): () => void {
    return this.after(instant - this.#now, task);
  }

  /**
   * Moves time forward and runs what falls due, earliest first and ties in the order of `after`. During a task the time is
   * its own due time, and what it sets within the span runs too. Tasks only: promises they settle need an `await` after.
   */
  advance(ms: number): void {
    const until = this.#now + ms;
    for (let timer = this.#nextDue(until); timer; timer = this.#nextDue(until)) {
      this.#timers.delete(timer);
      this.#now = Math.max(this.#now, timer.dueAt);
      timer.task();
    }
    this.#now = until;
  }

  #nextDue(until: EpochMs): Timer | undefined {
    let next: Timer | undefined;
    for (const timer of this.#timers) {
      if (timer.dueAt > until) continue;
      if (!next || timer.dueAt < next.dueAt || (timer.dueAt === next.dueAt && timer.order < next.order)) next = timer;
    }
    return next;
  }
}

interface Timer {
  readonly dueAt: EpochMs;
  readonly order: number;
  readonly task: () => void;
}
