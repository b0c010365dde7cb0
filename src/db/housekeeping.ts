/** What ages is deleted in the background: flows past their expiry, and the event store beyond its retention (D8, D10). */
import type { Clock } from '../core/support/clock.js';
import type { Logger } from '../core/support/logger.js';
import type { Database } from './open-database.js';
import { deleteExpiredFlows, deleteOldChangeLog } from './retention.js';

/** Oftener costs scans for little; rarer lets a burst of flows lie about. */
const EVERY_MS = 10 * 60 * 1000;
/** An expired flow stays a while for whoever looks at what just ended. */
const KEEP_EXPIRED_FLOWS_MS = 60 * 60 * 1000;
const DAY_MS = 24 * 60 * 60 * 1000;

export class Housekeeping {
  #cancel: (() => void) | undefined;

  /** @param retentionDays of `change_log`; 0 keeps everything */
  constructor(
    private readonly database: Database,
    private readonly retentionDays: number,
    private readonly clock: Clock,
    private readonly log: Logger,
  ) {}

  start(): void {
    this.#cancel = this.clock.after(EVERY_MS, () => void this.#clean());
  }

  stop(): void {
    this.#cancel?.();
    this.#cancel = undefined;
  }

  async #clean(): Promise<void> {
    const now = this.clock.now();
    try {
      const flows = await deleteExpiredFlows(this.database, now - KEEP_EXPIRED_FLOWS_MS);
      const changes =
        this.retentionDays === 0 ? 0 : await deleteOldChangeLog(this.database, now - this.retentionDays * DAY_MS);
      this.log.info('housekeeping.done', { flows, changes });
    } catch (error) {
      this.log.warn('housekeeping.failed', { error });
    }
    if (this.#cancel) this.start();
  }
}
