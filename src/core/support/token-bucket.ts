/** How often something may happen: `burst` times at once, and `perSecond` times a second for ever. */
import type { EpochMs } from '../model/time.js';

export interface Rate {
  readonly burst: number;
  readonly perSecond: number;
}

/** Fractions do not add up exactly; without it a wait is a millisecond longer than it must be. */
const ROUNDING_MS = 1e-6;

/** Counts in a bucket that refills with time. A wall clock that is set back refills nothing. */
export class TokenBucket {
  #tokens: number;

  constructor(
    private readonly rate: Rate,
    private at: EpochMs,
  ) {
    this.#tokens = rate.burst;
  }

  /** Takes one and returns 0, or takes nothing and returns how long to wait for one. Unit ms. */
  take(now: EpochMs): number {
    this.#refill(now);
    if (this.#tokens < 1 - ROUNDING_MS) return this.#waitMs(1);
    this.#tokens -= 1;
    return 0;
  }

  /** Takes one, into debt of at most a burst, and returns how long to wait until there is none. Unit ms. */
  spend(now: EpochMs): number {
    this.#refill(now);
    this.#tokens = Math.max(-this.rate.burst, this.#tokens - 1);
    return this.#tokens >= 0 ? 0 : this.#waitMs(0);
  }

  /** As good as new: whoever keeps many buckets may forget it. */
  isFull(now: EpochMs): boolean {
    this.#refill(now);
    return this.#tokens >= this.rate.burst;
  }

  #waitMs(wanted: number): number {
    return Math.ceil(((wanted - this.#tokens) / this.rate.perSecond) * 1000 - ROUNDING_MS);
  }

  #refill(now: EpochMs): void {
    const elapsedMs = Math.max(0, now - this.at);
    this.at = now;
    this.#tokens = Math.min(this.rate.burst, this.#tokens + (elapsedMs / 1000) * this.rate.perSecond);
  }
}
