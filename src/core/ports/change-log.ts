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

/** One change of a transaction that is too large to be held until its position is known. */
export type SpooledChange = Pick<ChangeLogEntry, 'xid' | 'seq' | 'accountId' | 'change'>;

/** A commit whose changes were spooled. */
export type SpooledCommit = Pick<ChangeLogEntry, 'position' | 'xid' | 'committedAt'>;

/** The event store, `change_log`. Appending what is already there does nothing (key: epoch, position, seq). */
export interface ChangeLog {
  /** All or nothing. Rejects when the database cannot be reached; the caller tries again. */
  append(entries: readonly ChangeLogEntry[]): Promise<void>;
  /** Puts changes aside, durably, until their commit has come. Repeating it does nothing; all or nothing. */
  spool(changes: readonly SpooledChange[]): Promise<void>;
  /** What was spooled of the transaction becomes entries of its commit, all or nothing. Repeating it does nothing. */
  finishSpool(commit: SpooledCommit): Promise<void>;
  /**
   * Says which database this is, before anything is appended: a new system identifier or timeline starts a new epoch,
   * so that positions of a lost branch never collide with new ones. Returns true when the epoch was raised.
   */
  enterTimeline(systemId: string, timeline: number): Promise<boolean>;
}
export const CHANGE_LOG = Symbol('ChangeLog');
