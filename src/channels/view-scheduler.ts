/**
 * Brings client views up to date after commits, in slices, so that a commit that concerns thousands of clients blocks
 * nobody for long (D12). Gateways were told inside the commit's step; clients come after, in the order they were marked.
 * A channel that handles a frame or timer settles itself first and is then passed over here.
 */
import type { Position } from '../core/model/position.js';
import type { ViewBacklog } from '../core/ports/view-backlog.js';
import type { Scheduler } from '../core/support/scheduler.js';

export interface Settling {
  /** Does nothing when the view is up to date. Must not throw. */
  settle(): void;
  /** Position of the oldest commit not looked at; undefined when up to date. */
  unseenSince(): Position | undefined;
}

/** Longer delays other sockets; shorter spends more on turning the loop. */
const SLICE_MS = 20;

interface Entry {
  readonly channel: Settling;
  /** Of the commit that made it out of date. A channel that has settled since, or was marked again, answers another. */
  readonly since: Position | undefined;
}

export class ViewScheduler implements ViewBacklog {
  /** In the order of marking, which is that of commits. */
  readonly #waiting = new Set<Entry>();
  #armed = false;

  constructor(private readonly scheduler: Scheduler) {}

  /** Must be called once per channel and time it becomes out of date. */
  enqueue(channel: Settling): void {
    this.#waiting.add({ channel, since: channel.unseenSince() });
    this.#arm();
  }

  oldestPosition(): Position | undefined {
    for (const { channel, since } of this.#waiting) {
      if (since !== undefined && channel.unseenSince() === since) return since;
    }
    return undefined;
  }

  #arm(): void {
    if (this.#armed) return;
    this.#armed = true;
    this.scheduler.nextTurn(() => {
      this.#slice();
    });
  }

  #slice(): void {
    this.#armed = false;
    const end = this.scheduler.elapsedMs() + SLICE_MS;
    for (const entry of this.#waiting) {
      this.#waiting.delete(entry);
      entry.channel.settle();
      if (this.scheduler.elapsedMs() >= end) break;
    }
    if (this.#waiting.size > 0) this.#arm();
  }
}
