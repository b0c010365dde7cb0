/** Waits between attempts: longer each time, never the same for two processes, and cut short when the wait is pointless. */
import type { Clock, Random } from '../core/support/clock.js';

/** Shorter hammers a server that is coming up; longer keeps revocations waiting after a blip. */
const FIRST_MS = 100;
const LONGEST_MS = 1_000;

export class BackOff {
  #failures = 0;
  #wake: (() => void) | undefined;

  constructor(
    private readonly clock: Clock,
    private readonly random: Random,
  ) {}

  get failures(): number {
    return this.#failures;
  }

  /** Resolves after between half and all of 0.1, 0.2, 0.4, 0.8, 1, 1 … s. One wait at a time. */
  wait(): Promise<void> {
    const longestMs = Math.min(LONGEST_MS, FIRST_MS * 2 ** Math.min(this.#failures, 16));
    this.#failures += 1;
    const delayMs = longestMs * (0.5 + this.random.fraction() / 2);
    return new Promise((resolve) => {
      const cancel = this.clock.after(delayMs, () => this.#wake?.());
      this.#wake = () => {
        cancel();
        this.#wake = undefined;
        resolve();
      };
    });
  }

  succeeded(): void {
    this.#failures = 0;
  }

  /** Ends the present wait at once. */
  interrupt(): void {
    this.#wake?.();
  }
}
