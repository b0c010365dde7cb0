/** Time and chance are passed in, so that everything that can be replayed is (ORD-5). Real ones live in `src/system`. */
import type { EpochMs } from '../model/time.js';

export interface Clock {
  now(): EpochMs;
  /** Runs `task` once, not before `delayMs` has passed. Any length: longer than 2^31-1 ms is re-armed. Returns its cancel. */
  after(delayMs: number, task: () => void): () => void;
  /**
   * Runs `task` once, when `now()` has reached `instant`: never before, and within a second or so of a correction that
   * moves the wall clock past it. Not inside the call, also where it is past already. Returns its cancel.
   */
  at(instant: EpochMs, task: () => void): () => void;
}

export interface Random {
  /** A new random UUID (version 4) as lower-case text. */
  uuid(): string;
  bytes(length: number): Uint8Array;
  /** Uniform in [0, 1). */
  fraction(): number;
}
