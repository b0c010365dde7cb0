/** When is a backlog not worth working off any more? (events.md B.9, "lag") */
import type { SlotState } from '../core/ports/slot-status.js';

export interface LagLimits {
  /** Shorter: `change_log` gets a gap for a stream that would have caught up. Longer: nothing is granted for longer. Unit ms. */
  readonly maxLagMs: number;
  /** From here on nothing is granted from memory. Unit ms. */
  readonly staleAfterMs: number;
}

export interface Lag {
  /** Age of the last proof that the stream is up to date; undefined before the first. */
  readonly proofAgeMs: number | undefined;
  /** How long the present connection has been streaming. */
  readonly streamingForMs: number;
  readonly slot: SlotState | undefined;
}

/** A process that was stopped for an hour must get the time to notice that its connection is gone, or to catch up. */
const CHECKS_IN_A_ROW = 3;

/**
 * A backlog is abandoned when the stream has been connected and behind for longer than the limit: a new slot begins at the
 * end of the log, and every live account is read again, which costs the same however long the backlog is. It is abandoned
 * sooner, once the stream is stale, when the next checkpoint may take the log away: then it will not be worked off anyway.
 *
 * The time without a connection does not count: after an hour's outage of the database there is no backlog to speak of.
 */
export class LagLimit {
  #inARow = 0;

  constructor(private readonly limits: LagLimits) {}

  /** Called once per heartbeat. True: abandon now; the count begins again. */
  isOver({ proofAgeMs, streamingForMs, slot }: Lag): boolean {
    const behindMs = Math.min(streamingForMs, proofAgeMs ?? Infinity);
    const limitMs = slot === 'unreserved' ? this.limits.staleAfterMs : this.limits.maxLagMs;
    this.#inARow = behindMs > limitMs ? this.#inARow + 1 : 0;
    if (this.#inARow < CHECKS_IN_A_ROW) return false;
    this.#inARow = 0;
    return true;
  }
}
