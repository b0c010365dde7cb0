/** How our replication slot fares, as the server says it. Asked at the heartbeat's pace, never for a commit or a frame. */

/** Best first. `in-use`: by a connection that is not ours. */
export const SLOT_STATES = ['reserved', 'extended', 'unreserved', 'in-use', 'lost', 'missing'] as const;
export type SlotState = (typeof SLOT_STATES)[number];

/** One row of `pg_replication_slots`, with sizes instead of positions. */
export interface SlotFacts {
  /** `reserved`, `extended`, `unreserved` or `lost`. */
  readonly walStatus: string;
  /** False while it is being made: the server waits for the transactions that were open. */
  readonly isMade: boolean;
  /** The server process that reads it; null when nobody does. */
  readonly activePid: number | null;
  /** Log the server keeps for it: from its restart position to the end. */
  readonly retainedBytes: number;
  /** Log that was not acknowledged yet. */
  readonly lagBytes: number;
  /** What may still be written before the slot is lost; null without a limit. */
  readonly safeWalBytes: number | null;
  /** Why it can never be read again; null while it can, and before PostgreSQL 17, which does not say. */
  readonly invalidation: string | null;
  /** True when it is copied to standbys, so that it survives a failover (PostgreSQL 17). */
  readonly failover: boolean;
}

export interface SlotStatus extends Partial<SlotFacts> {
  readonly state: SlotState;
}
