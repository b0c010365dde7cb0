/** The real time. Everything else is handed a Clock; only this folder may ask the machine. */
import type { EpochMs } from '../core/model/time.js';
import type { Clock } from '../core/support/clock.js';

/** What Node offers; a test passes its own. */
export interface Timers {
  now(): EpochMs;
  set(task: () => void, delayMs: number): NodeJS.Timeout | number;
  clear(timer: NodeJS.Timeout | number): void;
}

/**
 * The longest delay `setTimeout` keeps; a longer one fires after 1 ms.
 * Source: Node.js documentation, "setTimeout(callback[, delay[, ...args]])".
 */
const LONGEST_TIMEOUT_MS = 2 ** 31 - 1;

const NODE_TIMERS: Timers = {
  now: () => Date.now(),
  set: (task, delayMs) => setTimeout(task, delayMs),
  clear: (timer) => clearTimeout(timer),
};

/**
 * Timers keep the process alive (they are not unref'd): a forgotten timer then shows as a process that does not end, where
 * an unref'd one would show as work that silently never happened. The server ends by `process.exit` after its drain.
 */
export class SystemClock implements Clock {
  constructor(private readonly timers: Timers = NODE_TIMERS) {}

  now(): EpochMs {
    return this.timers.now();
  }

  /**
   * A delay that fits one timeout is left to it alone: it counts monotonic time, so a changed wall clock does not move it.
   * A longer one is taken in steps that each start where the last one ended, for the same reason. Negative counts as 0.
   */
  after(delayMs: number, task: () => void): () => void {
    if (Number.isNaN(delayMs)) throw new RangeError('a delay must be a number of milliseconds');
    let remainingMs = Math.max(0, delayMs);
    let timer: NodeJS.Timeout | number;
    const arm = (): void => {
      const stepMs = Math.min(remainingMs, LONGEST_TIMEOUT_MS);
      remainingMs -= stepMs;
      timer = this.timers.set(remainingMs > 0 ? arm : task, stepMs);
    };
    arm();
    return () => this.timers.clear(timer);
  }
}
