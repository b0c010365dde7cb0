/** The real event loop, for work that is done in slices. */
import type { Scheduler } from '../core/support/scheduler.js';

export class SystemScheduler implements Scheduler {
  nextTurn(task: () => void): void {
    setImmediate(task);
  }

  elapsedMs(): number {
    return performance.now();
  }
}
