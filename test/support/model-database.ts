/**
 * A PostgreSQL of a few rows, in memory, whose transactions, snapshots and stream a test moves one step at a time. It
 * keeps apart what real servers keep apart (events.md B.3): a transaction gets its id when it begins, its place in the
 * stream when its commit record is written, and is visible to new snapshots some time after. A row is locked from its
 * writing until then.
 */
import type { Change, Commit, RawRow, RowChange, StreamTable } from '../../src/core/changes/commit.js';
import { OWN_REASONS } from '../../src/core/model/flow.js';
import type { AccountId, FlowId } from '../../src/core/model/ids.js';
import type { Position } from '../../src/core/model/position.js';
import { ACCOUNT_TABLES, type AccountTable } from '../../src/core/model/rows.js';
import type { AccountSnapshot, HydrationReader, XidSnapshot } from '../../src/core/ports/hydration-reader.js';

type Rows = Map<string, { readonly table: StreamTable; readonly row: RawRow }>;

export class ModelTransaction {
  readonly changes: Change[] = [];
  readonly writes = new Map<string, { readonly table: StreamTable; readonly row: RawRow } | undefined>();
  /** Accounts whose changes the stream cannot bring: the commit owes them a resync. */
  readonly unreadable = new Set<AccountId>();
  hiddenCuts: Commit['hiddenCuts'] = new Set();
  position: Position | undefined;

  constructor(
    readonly xid: bigint,
    private readonly base: Rows,
  ) {}

  /** Inserts or updates. */
  set(table: StreamTable, row: RawRow): this {
    const key = keyOf(table, row);
    const old = this.#now(key);
    this.#add({ kind: old ? 'update' : 'insert', table, old: old ?? null, new: row });
    this.writes.set(key, { table, row });
    return this;
  }

  remove(table: StreamTable, row: RawRow): this {
    const key = keyOf(table, row);
    const old = this.#now(key);
    if (!old) return this;
    this.#add({ kind: 'delete', table, old, new: null });
    this.writes.set(key, undefined);
    return this;
  }

  truncate(...tables: StreamTable[]): this {
    this.changes.push({ kind: 'truncate', tables, seq: this.changes.length });
    for (const [key, { table }] of this.base) if (tables.includes(table)) this.writes.set(key, undefined);
    return this;
  }

  #now(key: string): RawRow | undefined {
    return (this.writes.has(key) ? this.writes.get(key) : this.base.get(key))?.row;
  }

  #add(change: Omit<RowChange, 'seq'>): void {
    this.changes.push({ ...change, seq: this.changes.length });
  }
}

interface Read {
  readonly accountId: AccountId;
  readonly flowIds: readonly FlowId[];
  taken: AccountSnapshot | undefined;
  resolve(read: AccountSnapshot): void;
  reject(error: unknown): void;
}

export class ModelDatabase implements HydrationReader {
  /** Visible rows. */
  readonly #rows: Rows = new Map();
  readonly #running = new Set<ModelTransaction>();
  readonly #wal: Commit[] = [];
  readonly #reads: Read[] = [];
  #nextXid = 100n;
  #end: Position = 1000n;
  #streamed = 0;

  // ---- transactions ----------------------------------------------------------------------------------------------

  begin(): ModelTransaction {
    const transaction = new ModelTransaction(this.#nextXid, this.#rows);
    this.#nextXid += 1n;
    this.#running.add(transaction);
    return transaction;
  }

  /** Writes the commit record: from here on it may be streamed. */
  commit(transaction: ModelTransaction): Position {
    this.#end += 10n;
    transaction.position = this.#end;
    this.#wal.push(commitOf(transaction, this.#end));
    return this.#end;
  }

  /** Lets new snapshots see it. */
  show(transaction: ModelTransaction): void {
    this.#running.delete(transaction);
    for (const [key, written] of transaction.writes) {
      if (written) this.#rows.set(key, written);
      else this.#rows.delete(key);
    }
  }

  /** All of it at once: what most tests mean by a commit. */
  run(write: (transaction: ModelTransaction) => void): Position {
    const transaction = this.begin();
    write(transaction);
    const position = this.commit(transaction);
    this.show(transaction);
    return position;
  }

  /** The next commit of the stream, or undefined at its end. */
  nextCommit(): Commit | undefined {
    const commit = this.#wal[this.#streamed];
    if (commit) this.#streamed += 1;
    return commit;
  }

  get end(): Position {
    return this.#end;
  }

  /** Visible rows of one account's table, by key. */
  rowsOf(accountId: AccountId, table: AccountTable): ReadonlyMap<string, RawRow> {
    const rows = new Map<string, RawRow>();
    for (const [key, entry] of this.#rows) {
      if (entry.table === table && accountOf(table, entry.row) === accountId) rows.set(key, entry.row);
    }
    return rows;
  }

  // ---- reads -----------------------------------------------------------------------------------------------------

  get waitingReads(): number {
    return this.#reads.length;
  }

  readAccount(accountId: AccountId, flowIds: readonly FlowId[] = []): Promise<AccountSnapshot> {
    return new Promise((resolve, reject) => {
      this.#reads.push({ accountId, flowIds, taken: undefined, resolve, reject });
    });
  }

  readSnapshot(): Promise<XidSnapshot> {
    return Promise.resolve(this.snapshot());
  }

  snapshot(): XidSnapshot {
    return { xmax: this.#nextXid, running: new Set([...this.#running].map(({ xid }) => xid)) };
  }

  /** The account as a new snapshot shows it. */
  read(accountId: AccountId, flowIds: readonly FlowId[] = []): AccountSnapshot {
    return {
      rows: new Map(ACCOUNT_TABLES.map((table) => [table, [...this.rowsOf(accountId, table).values()]])),
      connections: [],
      snapshot: this.snapshot(),
      upperBound: this.#end,
      cutFlows: new Set(flowIds.filter((id) => this.#isCut(id))),
    };
  }

  #isCut(flowId: FlowId): boolean {
    const row = this.#rows.get(keyOf('flows', { id: flowId }))?.row;
    if (!row) return true;
    return row['revoked_at'] != null && !OWN_REASONS.some((reason) => reason === row['revoked_reason']);
  }

  /** The oldest read that has none takes its snapshot. False when none waits for one. */
  takeSnapshot(): boolean {
    const read = this.#reads.find(({ taken }) => !taken);
    if (read) read.taken = this.read(read.accountId, read.flowIds);
    return read !== undefined;
  }

  /** The oldest read gets its rows. False when none has taken its snapshot. */
  answer(): boolean {
    const [read] = this.#reads;
    if (!read?.taken) return false;
    this.#reads.shift();
    read.resolve(read.taken);
    return true;
  }

  /** The oldest read fails. */
  fail(error: unknown): void {
    this.#reads.shift()?.reject(error);
  }
}

function commitOf({ xid, changes, unreadable, hiddenCuts }: ModelTransaction, position: Position): Commit {
  const byAccount = new Map<AccountId, Change[]>();
  const truncates = changes.filter((change) => change.kind === 'truncate');
  const rows = changes.filter((change) => change.kind !== 'truncate');
  for (const { table, old, new: now } of rows) {
    const accountId = accountOf(table, now ?? old ?? {});
    if (accountId && !unreadable.has(accountId)) byAccount.set(accountId, []);
  }
  for (const change of changes) {
    for (const [accountId, list] of byAccount) {
      if (change.kind === 'truncate' || accountOf(change.table, change.new ?? change.old ?? {}) === accountId)
        list.push(change);
    }
  }
  const what = { byAccount, global: [], truncates, messages: [], resync: unreadable, hiddenCuts };
  return { position, xid, committedAt: 0, changeCount: rows.length, ...what };
}

function accountOf(table: StreamTable, row: RawRow): AccountId | undefined {
  return (row[table === 'accounts' ? 'id' : 'account_id'] ?? undefined) as AccountId | undefined;
}

function keyOf(table: StreamTable, row: RawRow): string {
  return `${table}/${row['id'] ?? `${row['resource_id'] ?? ''}/${row['site_id'] ?? ''}`}`;
}
