/** Hands items on in order, without holding the event loop for longer than a slice. */
import type { Clock } from '../core/support/clock.js';
import type { Scheduler } from '../core/support/scheduler.js';

/** Longer: sockets' heartbeats wait behind a burst of commits. Shorter: the burst takes more turns of the loop. */
const SLICE_MS = 10;

export interface Delivery {
  readonly bytes: number;
  /** Never throws. */
  deliver(): void;
}

/**
 * Delivers at once while the present slice lasts; past it, the rest waits for the next turn of the event loop. It yields
 * between items only, so a commit is never seen half applied (D12), and everything goes through the one queue, keepalives
 * too: a keepalive handed on past waiting commits would say that they have been.
 */
export class DeliveryQueue {
  #items: Delivery[] = [];
  #bytes = 0;
  #sliceStartedAt: number | undefined;

  /** @param onIdle runs when the queue has become empty after it had to wait. */
  constructor(
    private readonly clock: Clock,
    private readonly scheduler: Scheduler,
    private readonly onIdle: () => void,
  ) {}

  get bytes(): number {
    return this.#bytes;
  }

  /** True while items wait for another turn: whoever fills the queue should stop reading. */
  get isBehind(): boolean {
    return this.#items.length > 0;
  }

  push(item: Delivery): void {
    if (this.#items.length === 0 && this.#mayGoOn()) {
      item.deliver();
      return;
    }
    this.#items.push(item);
    this.#bytes += item.bytes;
  }

  clear(): void {
    this.#items = [];
    this.#bytes = 0;
  }

  /** A slice spans all pushes of one turn of the loop: the socket delivers many in one go. */
  #mayGoOn(): boolean {
    const now = this.clock.now();
    if (this.#sliceStartedAt === undefined) {
      this.#sliceStartedAt = now;
      this.scheduler.nextTurn(() => {
        this.#nextTurn();
      });
    }
    return now - this.#sliceStartedAt < SLICE_MS;
  }

  #nextTurn(): void {
    this.#sliceStartedAt = undefined;
    const items = this.#items;
    if (items.length === 0) return;
    let delivered = 0;
    // An item may clear the queue; what it replaced must not be delivered any more.
    while (delivered < items.length && this.#items === items && this.#mayGoOn()) {
      const item = items[delivered];
      delivered += 1;
      this.#bytes -= item?.bytes ?? 0;
      item?.deliver();
    }
    if (this.#items !== items) return;
    this.#items = items.slice(delivered);
    if (this.#items.length === 0) this.onIdle();
  }
}
