/** The real time. Everything else is handed a Clock; only this folder may ask the machine. */
import type { EpochMs } from '../core/model/time.js';
import type { Clock } from '../core/support/clock.js';

/** What Node offers; a test passes its own. */
export interface Timers {
  /** The wall clock; people and NTP correct it. */
  now(): EpochMs;
  /** Milliseconds since some moment; nobody corrects it. */
  monotonic(): number;
  set(task: () => void, delayMs: number): NodeJS.Timeout | number;
  clear(timer: NodeJS.Timeout | number): void;
}

/**
 * The longest delay `setTimeout` keeps; a longer one fires after 1 ms.
 * Source: Node.js documentation, "setTimeout(callback[, delay[, ...args]])".
 */
const LONGEST_TIMEOUT_MS = 2 ** 31 - 1;

/** How soon a corrected wall clock is noticed. More often costs wake-ups of an idle process, less often late ends of tokens. */
const LOOK_MS = 1_000;
/** Less is a clock that is slewed: what waits is armed again often enough by itself. */
const JUMP_MS = 100;

const NODE_TIMERS: Timers = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  set: (task, delayMs) => setTimeout(task, delayMs),
  clear: (timer) => clearTimeout(timer),
};

/**
 * Timers keep the process alive (they are not unref'd): a forgotten timer then shows as a process that does not end, where
 * an unref'd one would show as work that silently never happened. The server ends by `process.exit` after its drain.
 */
export class SystemClock implements Clock {
  readonly #waiting = new Set<Waiting>();
  /** Wall clock less monotonic time, when what waits was last armed; undefined while nobody looks. */
  #offset: number | undefined;

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

  at(instant: EpochMs, task: () => void): () => void {
    const waiting: Waiting = { instant, task, cancel: () => undefined };
    this.#waiting.add(waiting);
    this.#arm(waiting);
    if (this.#offset === undefined) this.#look();
    return () => {
      waiting.cancel();
      this.#waiting.delete(waiting);
    };
  }

  #arm(waiting: Waiting): void {
    waiting.cancel = this.after(waiting.instant - this.now(), () => {
      if (this.now() < waiting.instant) {
        this.#arm(waiting); // the timer was early, or the wall clock was set back
        return;
      }
      this.#waiting.delete(waiting);
      waiting.task();
    });
  }

  /** A timer of Node counts monotonic time: one that was set while the wall clock was an hour behind would be an hour late. */
  #look(): void {
    const offset = this.timers.now() - this.timers.monotonic();
    if (this.#waiting.size === 0) {
      this.#offset = undefined;
      return;
    }
    if (this.#offset !== undefined && Math.abs(offset - this.#offset) > JUMP_MS) {
      for (const waiting of [...this.#waiting]) {
        waiting.cancel();
        this.#arm(waiting);
      }
      this.#offset = offset;
    }
    this.#offset ??= offset;
    this.timers.set(() => {
      this.#look();
    }, LOOK_MS);
  }
}

interface Waiting {
  readonly instant: EpochMs;
  readonly task: () => void;
  cancel: () => void;
}
