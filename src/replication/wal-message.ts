/** What one pgoutput message says, protocol version 1, text format. Rows are column text by column name. */
import type { RawRow } from '../core/changes/commit.js';
import type { Position } from '../core/model/position.js';
import type { EpochMs } from '../core/model/time.js';

export type WalMessage =
  | BeginMessage
  | CommitMessage
  | RelationMessage
  | InsertMessage
  | UpdateMessage
  | DeleteMessage
  | TruncateMessage
  | LogicalWalMessage
  | TypeMessage
  | OriginMessage;

export interface BeginMessage {
  readonly kind: 'begin';
  /** LSN of the commit record; only good for matching the Commit message. */
  readonly commitLsn: Position;
  readonly committedAt: EpochMs;
  /** Low 32 bits of the top-level transaction id. */
  readonly xid32: number;
}

export interface CommitMessage {
  readonly kind: 'commit';
  readonly commitLsn: Position;
  /** END LSN: the commit's position. */
  readonly position: Position;
}

export interface Relation {
  readonly oid: number;
  readonly namespace: string;
  readonly name: string;
  /** d default, n nothing, f full, i index. */
  readonly identity: string;
  readonly columns: readonly RelationColumn[];
}

export interface RelationColumn {
  readonly name: string;
  /** Part of the replica identity. With identity `full` every column is. */
  readonly isKey: boolean;
  readonly typeOid: number;
}

export interface RelationMessage {
  readonly kind: 'relation';
  readonly relation: Relation;
}

export interface InsertMessage {
  readonly kind: 'insert';
  readonly relation: Relation;
  readonly new: RawRow;
  readonly unfilled: readonly string[];
}

export interface UpdateMessage {
  readonly kind: 'update';
  readonly relation: Relation;
  /** Null when the message carried none: identity not full and key unchanged. */
  readonly old: RawRow | null;
  /** False: `old` has the identity's key columns alone. */
  readonly oldIsWhole: boolean;
  /** Unchanged TOASTed values are filled in from `old` where it has them. */
  readonly new: RawRow;
  /** Columns missing from `new` because the old row did not have them either. */
  readonly unfilled: readonly string[];
}

export interface DeleteMessage {
  readonly kind: 'delete';
  readonly relation: Relation;
  readonly old: RawRow;
  readonly oldIsWhole: boolean;
}

export interface TruncateMessage {
  readonly kind: 'truncate';
  readonly relations: readonly Relation[];
}

export interface LogicalWalMessage {
  readonly kind: 'message';
  /** False: arrives outside any transaction, at its own place in the log. */
  readonly transactional: boolean;
  readonly lsn: Position;
  readonly prefix: string;
  readonly content: string;
}

export interface TypeMessage {
  readonly kind: 'type';
  readonly oid: number;
  readonly namespace: string;
  readonly name: string;
}

export interface OriginMessage {
  readonly kind: 'origin';
  readonly commitLsn: Position;
  readonly name: string;
}
