/**
 * Compares live stores with the database, one at a time, for as long as there are any (events.md B.9). Nothing is ever
 * expected to differ: what does is a defect, counted, named in the log without its values, and put right.
 */
import type { AccountId } from '../core/model/ids.js';
import type { Position } from '../core/model/position.js';
import { ACCOUNT_TABLES } from '../core/model/rows.js';
import { keyOf } from '../core/changes/parse-row.js';
import type { Commit, RowChange } from '../core/changes/commit.js';
import { AccountState } from '../core/authorizer/account-state.js';
import type { StateDelta } from '../core/authorizer/state-delta.js';
import type { AccountSnapshot } from '../core/ports/hydration-reader.js';
import type { Metrics } from '../core/ports/metrics.js';
import type { Clock, Random } from '../core/support/clock.js';
import type { Logger } from '../core/support/logger.js';
import { sameValue } from '../core/support/same-value.js';
import type { Scheduler } from '../core/support/scheduler.js';
import type { AccountStore } from './account-store.js';

export interface DriftAuditDependencies {
  /** Stores that are live now and owe nothing. */
  readonly stores: () => Iterable<AccountStore>;
  readonly read: (accountId: AccountId) => Promise<AccountSnapshot>;
  /** Commits streamed and perhaps not visible yet. */
  readonly unsettled: () => Iterable<Commit>;
  /** A repair broke off: nobody can say who has heard of it. */
  readonly onBroken: (store: AccountStore, error: unknown) => void;
  readonly clock: Clock;
  readonly random: Random;
  readonly scheduler: Scheduler;
  readonly metrics: Metrics;
  readonly log: Logger;
}

/** The stream passes the end of a read within a heartbeat; one that takes longer is audited another time. */
const PASS_LIMIT_MS = 30_000;
/** Kept meanwhile at most: a commit has its rows, and an audit must not cost memory. */
const MAX_KEPT = 10_000;
/** Rows named in the log; the counter has them all. */
const NAMED_ROWS = 20;
/** Longer: frames and commits wait for an audit. Shorter: more turns of the loop. */
const SLICE_MS = 5;
/** Rows between two looks at the time. */
const ROWS_AT_ONCE = 100;

interface Audit {
  readonly store: AccountStore;
  /** Set while it waits for the stream. */
  waiting: { readonly position: Position; readonly resolve: (isPassed: boolean) => void } | undefined;
}

type Outcome = 'equal' | 'drifted' | 'abandoned';

/**
 * States: resting → pausing → reading → building (a state of its own from the rows) → passing (the stream comes up to the
 * read) → comparing, and again.
 *
 * Compared too early, a commit that the read shows and the stream has not brought would look like drift: the audit would
 * cry wolf under every load. So commits are kept from before the read, as for a resync, until the stream has passed all
 * that the read can contain. Then the rows plus the kept commits they lack are the state at this very position, and the
 * store must equal it (STORE-4). From there on both take every commit, so rows can be compared a few at a time: a large
 * account would hold up the event loop for a second.
 *
 * A resync that becomes owed meanwhile ends the audit: the store is known to be unproven then.
 */
export class DriftAudit {
  /** When each store was compared last, or first met. */
  readonly #auditedAt = new WeakMap<AccountStore, number>();
  #current: Audit | undefined;
  #cancelPause: (() => void) | undefined;
  #isClosed = false;

  /** @param intervalMs each store is compared about so often; 0: never */
  constructor(
    private readonly with_: DriftAuditDependencies,
    private readonly intervalMs: number,
  ) {}

  /** A store has just been read, for the first time or again: its rows are as fresh as an audit would make them. */
  met(store: AccountStore): void {
    this.#auditedAt.set(store, this.with_.clock.now());
    this.#pause();
  }

  /** The stream has passed `position`, and every store has what came before it. */
  passed(position: Position): void {
    const audit = this.#current;
    if (!audit) return;
    if (audit.store.keptCommits > MAX_KEPT) this.#end(audit, 'abandoned');
    else if (audit.waiting && position >= audit.waiting.position) audit.waiting.resolve(true);
  }

  /** The store is read again for another reason, or is no longer kept: what was read of it here proves nothing. */
  forget(store: AccountStore): void {
    if (this.#current?.store === store) this.#end(this.#current, 'abandoned', true);
  }

  close(): void {
    this.#isClosed = true;
    this.#cancelPause?.();
    this.#current?.waiting?.resolve(false);
    this.#current = undefined;
  }

  /** Stores take turns: with many of them the pauses are short, so that each is compared about once in the interval. */
  #pause(): void {
    if (this.intervalMs === 0 || this.#isClosed || this.#cancelPause || this.#current) return;
    const { stores, random, clock } = this.with_;
    const count = [...stores()].length;
    if (count === 0) return; // the next store to be met begins again
    this.#cancelPause = clock.after((this.intervalMs / count) * (0.5 + random.fraction()), () => {
      this.#cancelPause = undefined;
      const store = this.#longestUnaudited();
      if (store) void this.#audit(store);
      else this.#pause();
    });
  }

  #longestUnaudited(): AccountStore | undefined {
    let longest: AccountStore | undefined;
    for (const store of this.with_.stores()) {
      if (longest === undefined || this.#lastOf(store) < this.#lastOf(longest)) longest = store;
    }
    return longest;
  }

  #lastOf(store: AccountStore): number {
    return this.#auditedAt.get(store) ?? 0;
  }

  async #audit(store: AccountStore): Promise<void> {
    const audit: Audit = { store, waiting: undefined };
    this.#current = audit;
    const now = this.with_.clock.now();
    this.#auditedAt.set(store, now);
    store.beginRead(this.with_.unsettled());
    try {
      const outcome = await this.#outcomeOf(audit);
      if (this.#current === audit) this.#end(audit, outcome);
    } catch (error) {
      if (this.#current !== audit) return;
      this.#end(audit, 'abandoned');
      this.with_.log.warn('store.audit-failed', { accountId: store.accountId, error });
    }
  }

  /** Whoever comes back from an `await` looks whether the audit is still wanted before it touches the store. */
  async #outcomeOf(audit: Audit): Promise<Outcome> {
    const { store } = audit;
    const read = await this.with_.read(store.accountId);
    const fresh = new AccountState();
    const slice = new Slice(this.with_.scheduler);
    for (const changes of insertsOf(read)) {
      await slice.yieldWhenLong();
      if (this.#current !== audit) return 'abandoned';
      fresh.apply(changes);
    }
    if (!(await this.#hasPassed(audit, read.upperBound)) || this.#current !== audit) return 'abandoned';

    store.bringUpToDate(fresh, read.snapshot);
    for (const isEqual of comparison(store.state, fresh)) {
      if (!isEqual) return this.#repair(store, fresh);
      await slice.yieldWhenLong();
      if (this.#current !== audit) return 'abandoned';
      store.bringUpToDate(fresh, read.snapshot);
    }
    return 'equal';
  }

  /** False when the stream does not come so far in time. */
  #hasPassed(audit: Audit, position: Position): Promise<boolean> {
    if (audit.store.position >= position) return Promise.resolve(true);
    return new Promise((resolve) => {
      const cancelLimit = this.with_.clock.after(PASS_LIMIT_MS, () => {
        audit.waiting?.resolve(false);
      });
      audit.waiting = {
        position,
        resolve: (isPassed) => {
          cancelLimit();
          audit.waiting = undefined;
          resolve(isPassed);
        },
      };
    });
  }

  #repair(store: AccountStore, fresh: AccountState): Outcome {
    try {
      this.#report(store, store.repair(fresh, this.with_.clock.now()));
    } catch (error) {
      this.with_.onBroken(store, error);
    }
    return 'drifted';
  }

  #report(store: AccountStore, drift: StateDelta): void {
    const named: string[] = [];
    let count = 0;
    for (const table of ACCOUNT_TABLES) {
      const deltas = drift[table];
      count += deltas.length;
      if (deltas.length > 0) this.with_.metrics.storeDrifted(table, deltas.length);
      for (const { before, after } of deltas) {
        const row = after ?? before;
        if (row && named.length < NAMED_ROWS) named.push(`${table}/${keyOf(table, row)}`);
      }
    }
    this.with_.log.error('store.drift', { accountId: store.accountId, count, rows: named });
  }

  /** @param isTaken somebody else reads the store now and keeps its commits */
  #end(audit: Audit, outcome: Outcome, isTaken = false): void {
    audit.waiting?.resolve(false);
    if (!isTaken) audit.store.endRead();
    this.#current = undefined;
    this.with_.metrics.storeAudited(outcome);
    this.#pause();
  }
}

/** Lets the event loop go on when it has been held for so long. */
class Slice {
  #begunAt: number;

  constructor(private readonly scheduler: Scheduler) {
    this.#begunAt = scheduler.elapsedMs();
  }

  async yieldWhenLong(): Promise<void> {
    if (this.scheduler.elapsedMs() - this.#begunAt < SLICE_MS) return;
    await new Promise<void>((resume) => {
      this.scheduler.nextTurn(resume);
    });
    this.#begunAt = this.scheduler.elapsedMs();
  }
}

function* insertsOf({ rows }: AccountSnapshot): Iterable<RowChange[]> {
  for (const table of ACCOUNT_TABLES) {
    const all = rows.get(table) ?? [];
    for (let from = 0; from < all.length; from += ROWS_AT_ONCE) {
      const some = all.slice(from, from + ROWS_AT_ONCE);
      yield some.map((row, i) => ({ kind: 'insert', table, seq: from + i, old: null, new: row }));
    }
  }
}

/**
 * Says of a few rows at a time whether both states have them alike. Both may move on in between, together: a row is
 * looked at as it is when its turn comes, and one that is new by then may be passed over.
 */
function* comparison(held: AccountState, fresh: AccountState): Iterable<boolean> {
  let count = 0;
  for (const table of ACCOUNT_TABLES) {
    for (const row of fresh.rows(table)) {
      if (!sameValue(held.row(table, keyOf(table, row)), row)) yield false;
      if (++count % ROWS_AT_ONCE === 0) yield true;
    }
    for (const row of held.rows(table)) {
      if (fresh.row(table, keyOf(table, row)) === undefined) yield false;
      if (++count % ROWS_AT_ONCE === 0) yield true;
    }
  }
}
