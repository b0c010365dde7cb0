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

export class ViewScheduler implements ViewBacklog {
  #queue: Settling[] = [];
  #next = 0;
  #armed = false;

  constructor(private readonly scheduler: Scheduler) {}

  /** Must be called once per channel and time it becomes out of date. */
  enqueue(channel: Settling): void {
    this.#queue.push(channel);
    this.#arm();
  }

  oldestPosition(): Position | undefined {
    for (let i = this.#next; i < this.#queue.length; i += 1) {
      const position = this.#queue[i]?.unseenSince();
      if (position !== undefined) return position;
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
    while (this.#next < this.#queue.length) {
      this.#queue[this.#next]?.settle();
      this.#next += 1;
      if (this.scheduler.elapsedMs() >= end) break;
    }
    if (this.#next < this.#queue.length) this.#arm();
    else {
      this.#queue = [];
      this.#next = 0;
    }
  }
}
