/**
 * One transaction between its Begin and its Commit. Nothing of it is visible before the Commit (D12).
 *
 * Past a limit of rows or bytes it lets its rows go and keeps the set of accounts alone, so that no transaction makes
 * memory grow without bound; those accounts are read again (D14), and what is to be recorded is read again from the log (D10).
 * Dropping the rest of the rows but applying the first ones would be wrong: a policy deleted by a kept row and put back by a
 * dropped one would stay deleted. A cut of a hand is no state: where one may be among the rows, the flows held are looked
 * up as well (CUT-1).
 */
import { mayCut } from '../core/changes/flow-cuts.js';
import type { Change, Commit, LogicalMessage, RowChange, StreamTable, TruncateChange } from '../core/changes/commit.js';
import type { AccountId } from '../core/model/ids.js';
import type { Position } from '../core/model/position.js';
import type { EpochMs } from '../core/model/time.js';

/** One change as the recorder gets it, in stream order. */
export interface RecordableChange {
  /** Null for rows of no account and for TRUNCATE. */
  readonly accountId: AccountId | null;
  readonly change: Change;
}

/** Some changes of a transaction, in stream order, given out before its commit. */
export interface TransactionPart {
  readonly xid: bigint;
  readonly changes: readonly RecordableChange[];
}

/** A commit with what is to be recorded of it: undecodable rows too, our own echoes not (D8a). */
export interface AssembledCommit {
  readonly commit: Commit;
  readonly recordable: readonly RecordableChange[];
  /** Too large to be held: `recordable` is empty, and there is something to be recorded. */
  readonly isLeftOut: boolean;
  /** Size on the wire of what is held in memory. */
  readonly heldBytes: number;
}

export interface TransactionLimits {
  readonly maxChanges: number;
  readonly maxBytes: number;
}

/** Smaller parts: more statements. Larger: more memory while one is written. */
const PART_CHANGES = 1_000;
const PART_BYTES = 1024 * 1024;

export class OpenTransaction {
  #byAccount = new Map<AccountId, Change[]>();
  #global: Change[] = [];
  /** Past the limit: the part that is being filled, if anybody takes parts. */
  #recordable: RecordableChange[] = [];
  #partBytes = 0;
  #isLeftOut = false;
  readonly #truncates: TruncateChange[] = [];
  readonly #messages: LogicalMessage[] = [];
  #resync: Set<AccountId> | 'all' = new Set();
  #hiddenCuts: Set<AccountId> | 'all' = new Set();
  #nextSeq = 0;
  #changeCount = 0;
  #bytes = 0;
  #messageBytes = 0;
  #oversize = false;

  constructor(
    readonly commitLsn: Position,
    readonly xid: bigint,
    readonly committedAt: EpochMs,
    private readonly limits: TransactionLimits,
    /** Takes what is to be recorded, past the limit. Undefined: that is let go like the rest. */
    private readonly onPart: ((part: TransactionPart) => void) | undefined,
  ) {}

  /** Counts one row message, before what it says is added. */
  countRow(bytes: number): void {
    this.#changeCount += 1;
    this.#bytes += bytes;
    const fits = this.#changeCount <= this.limits.maxChanges && this.#bytes <= this.limits.maxBytes;
    if (!fits && !this.#oversize) this.#letRowsGo();
    if (this.#oversize) this.#partBytes += bytes;
  }

  /** @param accountId null: the row belongs to no account. */
  addRow(accountId: AccountId | null, change: Omit<RowChange, 'seq'>, isRecorded: boolean): void {
    const seq = this.#takeSeq();
    const placed: RowChange = { kind: change.kind, table: change.table, seq, old: change.old, new: change.new };
    if (this.#oversize) {
      this.oweResyncFor(placed, accountId ?? 'all');
      if (isRecorded) this.#record({ accountId, change: placed });
      return;
    }
    if (accountId === null) this.#global.push(placed);
    else this.#listOf(accountId).push(placed);
    if (isRecorded) this.#record({ accountId, change: placed });
  }

  /** A row that could not be read: recorded as far as it goes, applied by nobody. The caller owes the resync. */
  addUnreadable(accountId: AccountId | null, change: Omit<RowChange, 'seq'>): void {
    const seq = this.#takeSeq();
    this.#record({ accountId, change: { ...change, seq } });
  }

  addTruncate(tables: readonly StreamTable[]): void {
    const truncate: TruncateChange = { kind: 'truncate', tables, seq: this.#takeSeq() };
    this.#truncates.push(truncate);
    for (const changes of this.#byAccount.values()) changes.push(truncate);
    this.#record({ accountId: null, change: truncate });
  }

  addMessage(message: LogicalMessage, bytes: number): void {
    this.#messageBytes += bytes;
    if (this.#messageBytes <= this.limits.maxBytes) this.#messages.push(message);
  }

  oweResync(account: AccountId | 'all'): void {
    this.#resync = this.#with(this.#resync, account);
  }

  /** For a row that is not kept or cannot be read. Stores hold no row of `flows`: of those only a hand's cut matters. */
  oweResyncFor(change: Omit<RowChange, 'seq'>, account: AccountId | 'all'): void {
    if (change.table === 'flows') {
      if (!mayCut(change, this.committedAt)) return;
      this.#hiddenCuts = this.#with(this.#hiddenCuts, account);
    }
    this.oweResync(account);
  }

  /** For rows of which not even the table is known. */
  oweEverything(): void {
    this.#resync = 'all';
    this.#hiddenCuts = 'all';
  }

  finish(position: Position): AssembledCommit {
    if (this.#oversize) this.#giveOut();
    return {
      commit: {
        position,
        xid: this.xid,
        committedAt: this.committedAt,
        byAccount: this.#byAccount,
        global: this.#global,
        truncates: this.#truncates,
        messages: this.#messages,
        resync: this.#resync,
        hiddenCuts: this.#hiddenCuts,
        changeCount: this.#changeCount,
      },
      recordable: this.#recordable,
      isLeftOut: this.#isLeftOut,
      heldBytes: (this.#oversize ? 0 : this.#bytes) + Math.min(this.#messageBytes, this.limits.maxBytes),
    };
  }

  /** A list starts with the truncates that came before the account's first row: they hit its older rows. */
  #listOf(accountId: AccountId): Change[] {
    const known = this.#byAccount.get(accountId);
    if (known) return known;
    const started: Change[] = [...this.#truncates];
    this.#byAccount.set(accountId, started);
    return started;
  }

  #letRowsGo(): void {
    this.#oversize = true;
    this.#byAccount = new Map();
    this.#global = [];
    const held = this.#recordable;
    this.#recordable = [];
    for (const recordable of held) {
      const { accountId, change } = recordable;
      if (change.kind !== 'truncate') this.oweResyncFor(change, accountId ?? 'all');
      this.#record(recordable);
    }
  }

  /** The set itself must stay bounded: a transaction over every account of a large installation. */
  #with(accounts: Set<AccountId> | 'all', account: AccountId | 'all'): Set<AccountId> | 'all' {
    if (accounts === 'all' || account === 'all') return 'all';
    accounts.add(account);
    return accounts.size > this.limits.maxChanges ? 'all' : accounts;
  }

  #record(recordable: RecordableChange): void {
    if (!this.#oversize) {
      this.#recordable.push(recordable);
      return;
    }
    this.#isLeftOut = true;
    if (!this.onPart) return;
    this.#recordable.push(recordable);
    if (this.#recordable.length >= PART_CHANGES || this.#partBytes >= PART_BYTES) this.#giveOut();
  }

  #giveOut(): void {
    if (this.#recordable.length > 0) this.onPart?.({ xid: this.xid, changes: this.#recordable });
    this.#recordable = [];
    this.#partBytes = 0;
  }

  #takeSeq(): number {
    const seq = this.#nextSeq;
    this.#nextSeq += 1;
    return seq;
  }
}
