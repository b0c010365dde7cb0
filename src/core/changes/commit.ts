/**
 * One PostgreSQL transaction as it came off the write-ahead log, rows still as column text.
 * Made by replication, recorded as it is, and applied as a whole by the store of each account it touches (D12).
 */
import type { AccountId } from '../model/ids.js';
import type { Position } from '../model/position.js';
import type { AccountTable } from '../model/rows.js';
import type { EpochMs } from '../model/time.js';

/** Column name → text as PostgreSQL printed it with `DateStyle=ISO` and `TimeZone=UTC`; null is SQL NULL. */
export type RawRow = Readonly<Record<string, string | null>>;

export type StreamTable = AccountTable | 'flows';

export interface RowChange {
  readonly kind: 'insert' | 'update' | 'delete';
  readonly table: StreamTable;
  /** Place inside the commit, from 0. With the position it is the change's identity (D11). */
  readonly seq: number;
  /** Whole old row (REPLICA IDENTITY FULL); null on insert. */
  readonly old: RawRow | null;
  /** Null on delete. Unchanged TOASTed values are already filled in from the old row. */
  readonly new: RawRow | null;
}

export interface TruncateChange {
  readonly kind: 'truncate';
  readonly tables: readonly StreamTable[];
  readonly seq: number;
}

export type Change = RowChange | TruncateChange;

export interface LogicalMessage {
  readonly prefix: string;
  readonly content: string;
}

export interface Commit {
  /** END LSN. */
  readonly position: Position;
  /** 64-bit id of the top-level transaction. */
  readonly xid: bigint;
  readonly committedAt: EpochMs;
  /**
   * Changes of each account in stream order. A TRUNCATE stands in every account's list that the commit names, at its
   * place; accounts not named here get `truncates` alone. A row that moved between accounts is a delete in one and an
   * insert in the other.
   */
  readonly byAccount: ReadonlyMap<AccountId, readonly Change[]>;
  /** Rows that belong to no account: relay tokens of the installation. */
  readonly global: readonly Change[];
  readonly truncates: readonly TruncateChange[];
  /** Transactional logical messages, in order. */
  readonly messages: readonly LogicalMessage[];
  /** Accounts whose changes could not be kept (oversize commit) or read: their stores must be read again (D14). */
  readonly resync: ReadonlySet<AccountId> | 'all';
  /** Those of which a hand may have cut flows by such rows; each of them is in `resync` too (CUT-1). */
  readonly hiddenCuts: ReadonlySet<AccountId> | 'all';
  /** Rows in the commit, kept or not. */
  readonly changeCount: number;
}

/** What one account gets of a commit. */
export function changesOf(commit: Commit, accountId: AccountId): readonly Change[] {
  return commit.byAccount.get(accountId) ?? commit.truncates;
}

export function mustResync(commit: Commit, accountId: AccountId): boolean {
  return commit.resync === 'all' || commit.resync.has(accountId);
}

export function mayHideCuts(commit: Commit, accountId: AccountId): boolean {
  return commit.hiddenCuts === 'all' || commit.hiddenCuts.has(accountId);
}
