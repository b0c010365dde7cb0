import type { Commit } from '../changes/commit.js';
import type { Position } from '../model/position.js';
import type { EpochMs } from '../model/time.js';

/**
 * What an interruption of the stream may have lost: `nothing`, so that only what the stores hold is in doubt; `commits`,
 * which went by unheard; or the `branch` of history itself, so that positions and transaction ids start over.
 */
export type Lost = 'nothing' | 'commits' | 'branch';

/** How far the stream was heard, and when that was. */
export interface LastHeard {
  readonly upTo: Position;
  readonly at: EpochMs;
}

/** What the replication stage hands commits to. Every method returns only when its effect is complete in memory. */
export interface CommitSink {
  /** Applies one commit to every live account and fans it out (D12). Called in stream order, never twice for a position. */
  accept(commit: Commit): void;
  /** The stream has passed `position` and nothing before it is outstanding (keepalive, heartbeat). */
  passed(position: Position): void;
  /**
   * The stream broke in a way that leaves the stores unproven: every live account is owed a resync (D14).
   * @param heard what came after it may lack commits; as a rule what was heard last
   */
  resyncAll(reason: string, lost: Lost, heard?: LastHeard): void;
  /**
   * The highest position such that every commit up to it is applied by the store and every live channel, and known to be
   * visible to new snapshots (it has left the unsettled ring). Commits above it must not be acknowledged (ACK-1).
   */
  settledPosition(): Position;
  /** Bytes of commits accepted and still held: in the ring or waiting for a hydration. */
  pendingBytes(): number;
}
export const COMMIT_SINK = Symbol('CommitSink');
