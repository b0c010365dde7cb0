import type { AccountId } from '../model/ids.js';
import type { Position } from '../model/position.js';
import type { EpochMs } from '../model/time.js';
import type { Change } from '../changes/commit.js';

/** One change as the event store keeps it: raw column text. */
export interface ChangeLogEntry {
  readonly position: Position;
  readonly seq: number;
  readonly xid: bigint;
  readonly committedAt: EpochMs;
  /** Null for rows of no account and for TRUNCATE. */
  readonly accountId: AccountId | null;
  readonly change: Change;
}

/** The event store, `change_log`. Appending what is already there does nothing (key: epoch, position, seq). */
export interface ChangeLog {
  /** All or nothing. Rejects when the database cannot be reached; the caller tries again. */
  append(entries: readonly ChangeLogEntry[]): Promise<void>;
  /**
   * Says which database this is, before anything is appended: a new system identifier or timeline starts a new epoch,
   * so that positions of a lost branch never collide with new ones. Returns true when the epoch was raised.
   */
  enterTimeline(systemId: string, timeline: number): Promise<boolean>;
}
export const CHANGE_LOG = Symbol('ChangeLog');
