/** pgoutput messages → one value per committed transaction, its rows sorted by account and otherwise untouched. */
import type { RawRow, RowChange, StreamTable } from '../core/changes/commit.js';
import { parseTimestamp } from '../core/changes/parse-timestamp.js';
import type { AccountId } from '../core/model/ids.js';
import type { Position } from '../core/model/position.js';
import type { EpochMs } from '../core/model/time.js';
import { MalformedWalError } from './malformed-wal-error.js';
import {
  type AssembledCommit,
  OpenTransaction,
  type TransactionLimits,
  type TransactionPart,
} from './open-transaction.js';
import { accountColumn, isStreamTable, neededColumns, STREAM_SCHEMA } from './stream-tables.js';
import type {
  BeginMessage,
  CommitMessage,
  DeleteMessage,
  InsertMessage,
  LogicalWalMessage,
  Relation,
  TruncateMessage,
  UpdateMessage,
  WalMessage,
} from './wal-message.js';
import type { XidEpoch } from './xid-epoch.js';

export type Assembled =
  | { readonly kind: 'commit'; readonly assembled: AssembledCommit }
  /** A non-transactional logical message: everything committed before `lsn` has been streamed. */
  | { readonly kind: 'message'; readonly lsn: Position; readonly prefix: string; readonly content: string };

/** Hears of each row that could not be read, before its commit is handed on. */
export type UnreadableListener = (table: string, why: string) => void;

type RowMessage = InsertMessage | UpdateMessage | DeleteMessage;

interface KnownTable {
  readonly name: StreamTable;
  readonly accountColumn: string;
  /** True: an update without an old row cannot have changed the account. */
  readonly accountIsKey: boolean;
  readonly missing: readonly string[];
}

/**
 * Collects from Begin to Commit; the stream never interleaves two transactions (streaming of unfinished ones is not
 * asked for). An unreadable row makes its account owe a resync, all accounts when even the account is unreadable, and
 * the stream goes on: one row typed by hand must not stop everybody's revocations.
 *
 * The order of changes is the order of messages and their place is `seq`. Ordering by the record's own LSN is wrong: of
 * two overlapping transactions the later commit may hold the lower LSNs, and all rows of a COPY page share one (D11).
 */
export class TransactionAssembler {
  readonly #tables = new Map<number, KnownTable>();
  readonly #tablesWithMissingColumns = new Set<StreamTable>();
  /** Types of each table's columns when it was described last, over all connections. */
  readonly #types = new Map<StreamTable, string>();
  #mustReadAgain = false;
  #open: OpenTransaction | undefined;

  constructor(
    private readonly limits: TransactionLimits,
    private readonly xids: XidEpoch,
    private readonly onUnreadable: UnreadableListener,
    /** Takes parts of transactions past the limits. Undefined: they are let go. */
    private readonly onPart?: (part: TransactionPart) => void,
  ) {}

  get isInTransaction(): boolean {
    return this.#open !== undefined;
  }

  /** The connection is gone: what was open comes again from its Begin, and tables are described again. */
  reset(): void {
    this.#open = undefined;
    this.#tables.clear();
  }

  /** @param bytes size of the message on the wire. */
  take(message: WalMessage, bytes: number): Assembled | undefined {
    switch (message.kind) {
      case 'insert':
      case 'update':
      case 'delete':
        return this.#row(message, bytes);
      case 'begin':
        return this.#begin(message);
      case 'commit':
        return { kind: 'commit', assembled: this.#commit(message) };
      case 'relation':
        return this.#describe(message.relation);
      case 'truncate':
        return this.#truncate(message);
      case 'message':
        return this.#message(message, bytes);
      case 'type':
      case 'origin':
        return undefined;
    }
  }

  #begin(message: BeginMessage): undefined {
    if (this.#open) throw new MalformedWalError('a transaction begins inside another');
    const { commitLsn, committedAt } = message;
    this.#open = new OpenTransaction(commitLsn, this.xids.widen(message.xid32), committedAt, this.limits, this.onPart);
  }

  #commit(message: CommitMessage): AssembledCommit {
    const open = this.#mustBeOpen();
    if (open.commitLsn !== message.commitLsn)
      throw new MalformedWalError('a commit that is not of the open transaction');
    if (this.#mustReadAgain) open.oweResync('all');
    this.#mustReadAgain = false;
    this.#open = undefined;
    return open.finish(message.position);
  }

  /**
   * Columns added with a default, and columns that get another type, make no row events: rows read while one was missing
   * or printed otherwise are read again, once.
   */
  #describe(relation: Relation): undefined {
    if (relation.namespace !== STREAM_SCHEMA || !isStreamTable(relation.name)) {
      this.#tables.delete(relation.oid);
      return;
    }
    const { name } = relation;
    const columns = new Map(relation.columns.map((column) => [column.name, column]));
    const missing = neededColumns(name).filter((column) => !columns.has(column));
    // With identity full every column is marked, and a missing old row is then a riddle.
    const accountIsKey = relation.identity !== 'f' && columns.get(accountColumn(name))?.isKey === true;
    this.#tables.set(relation.oid, { name, accountColumn: accountColumn(name), accountIsKey, missing });

    if (missing.length > 0) this.#tablesWithMissingColumns.add(name);
    else if (this.#tablesWithMissingColumns.delete(name)) this.#mustReadAgain = true;

    const types = neededColumns(name).map((column) => columns.get(column)?.typeOid);
    if (missing.length === 0) this.#compareTypes(name, types.join());
  }

  #compareTypes(table: StreamTable, types: string): void {
    const known = this.#types.get(table);
    this.#types.set(table, types);
    if (known !== undefined && known !== types) this.#mustReadAgain = true;
  }

  #row(message: RowMessage, bytes: number): undefined {
    const open = this.#mustBeOpen();
    const table = this.#tables.get(message.relation.oid);
    if (!table) return this.#strange(open, message.relation);
    open.countRow(bytes);

    const why = unreadableBecause(message, table);
    if (why !== undefined) return this.#unreadableRow(open, table, message, why);
    const oldRow = message.kind === 'insert' ? null : message.old;
    const newRow = message.kind === 'delete' ? null : message.new;
    const isRecorded = !isOwnEcho(table.name, oldRow, newRow, open.committedAt);
    const oldAccount = oldRow && accountOf(table, oldRow);
    const newAccount = newRow && accountOf(table, newRow);
    if (oldRow && newRow && oldAccount !== newAccount) {
      open.addRow(oldAccount, { kind: 'delete', table: table.name, old: oldRow, new: null }, isRecorded);
      open.addRow(newAccount, { kind: 'insert', table: table.name, old: null, new: newRow }, isRecorded);
      return;
    }
    open.addRow(newRow ? newAccount : oldAccount, changeOf(table, message.kind, oldRow, newRow), isRecorded);
  }

  /**
   * Our publications have our tables alone: one of them has another name for a while, or a stranger's was added. Whichever it
   * is, rows of ours may come under it (ORD-6).
   */
  #strange(open: OpenTransaction, { namespace, name }: Relation): undefined {
    this.onUnreadable(`${namespace}.${name}`, 'a table that is none of ours');
    open.oweEverything();
  }

  #unreadableRow(open: OpenTransaction, table: KnownTable, message: RowMessage, why: string): undefined {
    this.onUnreadable(table.name, why);
    const oldRow = message.kind === 'insert' ? null : message.old;
    const newRow = message.kind === 'delete' ? null : message.new;
    const change = changeOf(table, message.kind, oldRow, newRow);
    for (const row of [oldRow, newRow]) {
      if (row) open.oweResyncFor(change, accountOf(table, row) ?? 'all');
    }
    // Without an old row the account it left is unknown, unless the account is part of the key: then it did not change.
    if (message.kind === 'update' && oldRow === null && !table.accountIsKey) open.oweResyncFor(change, 'all');
    open.addUnreadable(accountOf(table, newRow ?? oldRow ?? {}), change);
  }

  #truncate(message: TruncateMessage): undefined {
    const open = this.#mustBeOpen();
    const tables = message.relations.flatMap(({ oid }) => this.#tables.get(oid)?.name ?? []);
    if (tables.length > 0) open.addTruncate(tables);
    for (const relation of message.relations) if (!this.#tables.has(relation.oid)) this.#strange(open, relation);
  }

  #message(message: LogicalWalMessage, bytes: number): Assembled | undefined {
    const { prefix, content, lsn } = message;
    if (!message.transactional) return { kind: 'message', lsn, prefix, content };
    this.#mustBeOpen().addMessage({ prefix, content }, bytes);
    return undefined;
  }

  #mustBeOpen(): OpenTransaction {
    if (!this.#open) throw new MalformedWalError('a change outside any transaction');
    return this.#open;
  }
}

function unreadableBecause(message: RowMessage, table: KnownTable): string | undefined {
  if (table.missing.length > 0) return `missing column ${table.missing.join(', ')}`;
  if (message.kind !== 'delete' && message.unfilled.length > 0)
    return `unknown value of ${message.unfilled.join(', ')}`;
  if (message.kind !== 'insert' && !message.oldIsWhole) return 'no whole old row: replica identity is not full';
  const hasAccount = (row: RawRow): boolean => table.name === 'tokens' || row[table.accountColumn] !== null;
  if (message.kind !== 'insert' && message.old && !hasAccount(message.old)) return 'old row without account';
  if (message.kind !== 'delete' && !hasAccount(message.new)) return 'row without account';
  return undefined;
}

/** Null when the row names none. */
function accountOf(table: KnownTable, row: RawRow): AccountId | null {
  return (row[table.accountColumn] ?? null) as AccountId | null;
}

function changeOf(
  table: KnownTable,
  kind: RowChange['kind'],
  oldRow: RawRow | null,
  newRow: RawRow | null,
): Omit<RowChange, 'seq'> {
  return { kind, table: table.name, old: oldRow, new: newRow };
}

/**
 * Our own writes to `flows` coming back: a closing carries `revoked_position`, and retention deletes what has expired
 * (D8a). Judged by the commit's time, not ours, so that a commit read twice is recorded the same way twice.
 */
function isOwnEcho(table: StreamTable, oldRow: RawRow | null, newRow: RawRow | null, committedAt: EpochMs): boolean {
  if (table !== 'flows') return false;
  if (newRow) return oldRow !== null && newRow['revoked_position'] !== null;
  const expiresAt = parseTimestamp(oldRow?.['expires_at'] ?? '');
  return expiresAt !== undefined && expiresAt <= committedAt;
}
