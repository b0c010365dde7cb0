import type { AccountId, FlowId } from '../core/model/ids.js';
import type { AccountSnapshot, HydrationReader, XidSnapshot } from '../core/ports/hydration-reader.js';
import type { Clock } from '../core/support/clock.js';

/** A snapshot older than the slot's start is read again after this long; in practice the first one is new enough. */
const READ_AGAIN_MS = 10;

/**
 * Lets only so many accounts be read at once, first come first served: a reconnect storm must not take every connection.
 *
 * Gives out no snapshot that is older than the slot: a transaction that committed before the slot's first position is
 * never streamed, and may still be invisible for a moment; a snapshot without it would miss it for good (events.md B.4.2).
 */
export class HydrationQueue {
  readonly #waiting: (() => void)[] = [];
  #running = 0;

  /** @param startSnapshot what was visible when the slot was made; undefined when an older slot is used */
  constructor(
    private readonly reader: HydrationReader,
    private readonly concurrency: number,
    private readonly startSnapshot: () => XidSnapshot | undefined,
    private readonly clock: Clock,
  ) {}

  async read(accountId: AccountId, flowIds: readonly FlowId[] = []): Promise<AccountSnapshot> {
    if (this.#running >= this.concurrency) await new Promise<void>((go) => this.#waiting.push(go));
    this.#running += 1;
    try {
      for (;;) {
        const read = await this.reader.readAccount(accountId, flowIds);
        if (isAsNewAs(read.snapshot, this.startSnapshot())) return read;
        await new Promise<void>((resume) => this.clock.after(READ_AGAIN_MS, resume));
      }
    } finally {
      this.#running -= 1;
      this.#waiting.shift()?.();
    }
  }
}

/** Nothing that `start` contains is missing from `snapshot`. */
function isAsNewAs(snapshot: XidSnapshot, start: XidSnapshot | undefined): boolean {
  if (!start) return true;
  if (snapshot.xmax < start.xmax) return false;
  for (const xid of snapshot.running) if (xid < start.xmax && !start.running.has(xid)) return false;
  return true;
}
