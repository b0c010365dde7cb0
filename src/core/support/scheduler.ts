/** Lets other work of the process run between two slices of ours. */
export interface Scheduler {
  /** Runs `task` in a later turn of the event loop, after the input and output that is ready. */
  nextTurn(task: () => void): void;
  /** Milliseconds of a clock that only moves forward; for measuring, never for deciding. */
  elapsedMs(): number;
}
