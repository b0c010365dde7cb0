/**
 * Joins under load on a real server (events.md E17). Every transaction raises the version of one to three pairs of rows
 * by one, both halves of a pair at once, so that whatever a store does wrong shows: a lost commit as a step of two, an
 * older state as a step back, half a transaction as two halves that differ. `JOINS=1000` is the whole experiment,
 * `SECONDS=60` audits for longer.
 *
 * How many joins each broken variant needed until it was found out, eight runs of each on two cores: mean, standard
 * deviation, most. The default is more than three deviations above the largest mean.
 *
 * | broken                                  | commits as usual | commits that wait for a standby |
 * | --------------------------------------- | ---------------- | ------------------------------- |
 * | no fence: a join applies all that comes | 51, 36, 132      | 19, 12, 43                      |
 * | no ring                                 | never in 1,000   | 15, 12, 38                      |
 * | what comes during the read is not kept  | 4, 1, 7          | 5, 2, 8                         |
 *
 * Without a standby the ring has nothing to do that the fence does not: a commit is visible a moment after it is streamed.
 *
 * The variant in which commits wait for a standby that never comes has a server of its own, since there they wait for all.
 */
import { afterAll, afterEach, describe, expect, it, jest } from '@jest/globals';
import { randomUUID } from 'node:crypto';
import { AccountState } from '../../src/core/authorizer/account-state.js';
import type { Commit } from '../../src/core/changes/commit.js';
import type { AccountId } from '../../src/core/model/ids.js';
import { ACCOUNT_TABLES } from '../../src/core/model/rows.js';
import type { AccountHandle } from '../../src/core/ports/account-stores.js';
import { migrateToLatest } from '../../src/db/migrate.js';
import { openDatabase } from '../../src/db/open-database.js';
import { PostgresHydrationReader } from '../../src/db/postgres-hydration-reader.js';
import { SystemClock } from '../../src/system/system-clock.js';
import { SystemScheduler } from '../../src/system/system-scheduler.js';
import { startOwnPostgres } from '../support/own-postgres.js';
import { StoreUnderTest } from '../support/store-under-test.js';
import { RecordingSink, session, StreamUnderTest } from '../support/stream-under-test.js';
import { createMigratedDatabase, type TestDatabase } from '../support/test-database.js';

const JOINS = Number(process.env['JOINS'] ?? 250);
const SECONDS = Number(process.env['SECONDS'] ?? 8);
const WRITERS = 8;
const ACCOUNTS = 3;
const PAIRS = 8;
/** A join takes some 30 ms; the stream must often be later than that. */
const LATE_MS = 150;

/** Three accounts are joined and left in turn; beside others on two cores a join takes half of this. */
const MS_PER_JOIN = 250;

jest.setTimeout(60_000 + SECONDS * 3_000 + JOINS * MS_PER_JOIN);

const databases: TestDatabase[] = [];
const endings: (() => Promise<unknown>)[] = [];

afterEach(async () => {
  for (const end of endings.splice(0).reverse()) await end();
});

afterAll(async () => {
  for (const database of databases.splice(0)) await database.drop();
});

describe('joins at random moments, 8 writers at work', () => {
  it('E17, G1, G2: no store loses a commit, shows half of one, or goes back', async () => {
    const database = await createMigratedDatabase();
    databases.push(database);
    const load = await Load.on(database);
    await load.run(JOINS);
    await load.mustMatchTheDatabase();
  });

  it('E3, E17: nor when commits are streamed long before they are visible, as with a standby that is away', async () => {
    const database = await startOwnPostgres({ synchronous_standby_names: 'nobody' });
    databases.push(database);
    await migrateToLatest(database.url);
    const load = await Load.on(database, { writerSetting: 'SET synchronous_commit = on' });
    const standIn = letGoAtRandom(database, () => load.isOver);
    await load.run(JOINS);
    await standIn;
    await load.mustMatchTheDatabase();
  });
});

describe('audits at work, 4 writers at work', () => {
  it('STORE-4: find no drift in stores that the stream keeps, while commits are late, early and many', async () => {
    const database = await createMigratedDatabase();
    databases.push(database);
    const load = await Load.on(database, { writers: 4, auditIntervalMs: 60 });
    await load.audit(SECONDS * 300);
    expect([load.drift, load.audits.filter((outcome) => outcome !== 'equal')]).toEqual([[], []]);
    expect(load.audits.length).toBeGreaterThan(SECONDS);
    await load.mustMatchTheDatabase();
  });

  it('STORE-4: nor when commits are streamed long before they are visible', async () => {
    const database = await startOwnPostgres({ synchronous_standby_names: 'nobody' });
    databases.push(database);
    await migrateToLatest(database.url);
    const writerSetting = 'SET synchronous_commit = on';
    const load = await Load.on(database, { writers: 4, auditIntervalMs: 60, writerSetting });
    const standIn = letGoAtRandom(database, () => load.isOver);
    await load.audit(SECONDS * 300);
    await standIn;
    expect(load.drift).toEqual([]);
    expect(load.audits.filter((outcome) => outcome === 'equal').length).toBeGreaterThan(SECONDS / 2);
  });

  it('STORE-4: find the row that was changed in memory by hand, and put it right', async () => {
    const database = await createMigratedDatabase();
    databases.push(database);
    const load = await Load.on(database, { writers: 4, auditIntervalMs: 60 });
    await load.audit(SECONDS * 200, (state) => {
      // A row of no transaction: the writers would mend one of theirs before the audit comes to it.
      const row = { account_id: state.account?.id ?? '', id: randomUUID(), name: '0' };
      state.apply([{ kind: 'insert', table: 'groups', seq: 0, old: null, new: row }]);
    });
    expect(load.drift).toEqual([['groups', 1]]);
    expect(load.audits.filter((outcome) => outcome === 'drifted')).toHaveLength(1);
    await load.mustMatchTheDatabase();
  });
});

/** Commits wait for the standby until an operator cancels the waiting; they are streamed meanwhile. */
async function letGoAtRandom(database: TestDatabase, isOver: () => boolean): Promise<void> {
  while (!isOver()) {
    await database.query(`SELECT pg_cancel_backend(pid) FROM pg_stat_activity
      WHERE datname = current_database() AND wait_event = 'SyncRep' AND random() < 0.2`);
  }
}

interface LoadOptions {
  readonly writers: number;
  /** What each writer says first. */
  readonly writerSetting: string;
  /** 0: no audits. */
  readonly auditIntervalMs: number;
}

class Load {
  #joins = 0;
  #isWriting = true;
  #writing = 0;
  readonly #watched = new Map<AccountHandle, Map<number, number>>();
  #fault: Error | undefined;

  private constructor(
    private readonly test: StoreUnderTest,
    private readonly reader: PostgresHydrationReader,
    private readonly stream: StreamUnderTest,
    private readonly accounts: readonly Account[],
    private readonly database: TestDatabase,
    private readonly how: LoadOptions,
  ) {}

  static async on(database: TestDatabase, options: Partial<LoadOptions> = {}): Promise<Load> {
    const how = { writers: WRITERS, writerSetting: '', auditIntervalMs: 0, ...options };
    const accounts = [];
    for (let i = 0; i < ACCOUNTS; i += 1) accounts.push(await anAccount(database));
    const db = openDatabase(database.url, { max: 6 });
    const reader = new PostgresHydrationReader(db);
    const sink = new LateSink();
    const stream = new StreamUnderTest(database, { sink });
    const test = new StoreUnderTest(
      { idleTtlMs: 0, auditIntervalMs: how.auditIntervalMs },
      {
        reader,
        clock: new SystemClock(),
        scheduler: new SystemScheduler(),
        startSnapshot: () => stream.replication.startSnapshot(),
      },
    );
    const load = new Load(test, reader, stream, accounts, database, how);
    sink.onCommit = (commit) => {
      test.registry.accept(commit);
      load.look();
    };
    sink.onPassed = (position) => test.registry.passed(position);
    endings.push(
      () => db.close(),
      () => stream.stop(),
      async () => test.registry.close(),
    );
    await stream.start();
    return load;
  }

  get isOver(): boolean {
    return !this.#isWriting && this.#writing === 0;
  }

  async run(joins: number): Promise<void> {
    const writers = Array.from({ length: this.how.writers }, () => this.#write());
    await Promise.all(this.accounts.map((account) => this.#joinAgainAndAgain(account, joins)));
    this.#isWriting = false;
    await Promise.all(writers);
    if (this.#fault) throw this.#fault;
  }

  get audits(): readonly string[] {
    return this.test.audits;
  }

  get drift(): readonly (readonly [table: string, rows: number])[] {
    return this.test.drift;
  }

  /** Every account is live all the time and is audited again and again while writers write. */
  async audit(forMs: number, corrupt?: (state: AccountState) => void): Promise<void> {
    const handles = await Promise.all(this.accounts.map(({ id }) => this.test.registry.open(id)));
    const writers = Array.from({ length: this.how.writers }, () => this.#write());
    await pause(forMs);
    if (handles[0]) corrupt?.(handles[0].state);
    await pause(forMs);
    this.#isWriting = false;
    await Promise.all(writers);
    await this.stream.caughtUp();
  }

  /** All stores are live and the stream has brought everything: then both show the same rows. */
  async mustMatchTheDatabase(): Promise<void> {
    const handles = await Promise.all(this.accounts.map(({ id }) => this.test.registry.open(id)));
    for (const handle of handles) this.#watched.set(handle, new Map());
    await this.stream.caughtUp();
    this.look();
    if (this.#fault) throw this.#fault;
    for (const [i, handle] of handles.entries()) {
      const state = new AccountState();
      state.replaceAll((await this.reader.readAccount(this.accounts[i]?.id as AccountId)).rows);
      expect(rowsOf(handle.state)).toEqual(rowsOf(state));
    }
  }

  /** Called after each commit: the versions a store shows now, beside those it showed before. */
  look(): void {
    for (const [handle, seen] of this.#watched) {
      const { groups } = this.accounts.find(({ id }) => id === handle.state.account?.id) ?? { groups: [] };
      for (const [pair, halves] of groups.entries()) {
        const [a, b] = halves.map((id) => Number(handle.state.row('groups', id)?.name));
        const before = seen.get(pair) ?? a ?? 0;
        if (a === undefined || a !== b) this.#isWrong(`half a transaction: ${a} and ${b}`);
        else if (a < before) this.#isWrong(`an older state: ${a} after ${before}`);
        else if (a > before + 1) this.#isWrong(`a commit was lost: ${a} after ${before}`);
        seen.set(pair, a ?? 0);
      }
    }
  }

  #isWrong(how: string): void {
    this.#fault ??= new Error(`join ${this.#joins}: ${how}`);
  }

  async #joinAgainAndAgain({ id }: Account, joins: number): Promise<void> {
    while (this.#joins < joins && !this.#fault) {
      this.#joins += 1;
      const handle = await this.test.registry.open(id);
      this.#watched.set(handle, new Map());
      this.look();
      await pause(Math.random() * LATE_MS);
      this.#watched.delete(handle);
      handle.release();
      await pause(Math.random() * 5); // the store is forgotten
    }
  }

  async #write(): Promise<void> {
    this.#writing += 1;
    const client = await session(this.database);
    if (this.how.writerSetting !== '') await client.query(this.how.writerSetting);
    while (this.#isWriting) {
      const { groups } = this.accounts[Math.floor(Math.random() * ACCOUNTS)] as Account;
      const first = Math.floor(Math.random() * PAIRS);
      // In one order everywhere, so that writers wait for each other and never in a circle.
      const raised = groups.slice(first, first + 1 + Math.floor(Math.random() * 3)).flat();
      const statements = raised.map((id) => `UPDATE groups SET name = (name::int + 1)::text WHERE id = '${id}'`);
      const batches = Math.random() < 0.5 ? [statements.join(';')] : statements;
      try {
        for (const batch of ['BEGIN', ...batches, 'COMMIT']) await client.query(batch);
      } catch (error) {
        // The operator who lets go a waiting commit can hit its writer's next statement instead: nothing was raised then.
        if (!isCancellation(error)) throw error;
        await client.query('ROLLBACK');
      }
    }
    await client.end();
    this.#writing -= 1;
  }
}

/**
 * Hands on to the registry in bursts, as from a server that is far away: rows are then visible to a join long before the
 * stream brings them, which is what the fence is for.
 */
class LateSink extends RecordingSink {
  onCommit: (commit: Commit) => void = () => undefined;
  onPassed: (position: bigint) => void = () => undefined;
  readonly #waiting: (() => void)[] = [];

  override accept(commit: Commit): void {
    this.#late(() => {
      this.onCommit(commit);
      super.accept(commit);
    });
  }

  override passed(position: bigint): void {
    this.#late(() => {
      this.onPassed(position);
      super.passed(position);
    });
  }

  #late(hand: () => void): void {
    this.#waiting.push(hand);
    if (this.#waiting.length > 1) return;
    setTimeout(() => {
      for (const waiting of this.#waiting.splice(0)) waiting();
    }, Math.random() * LATE_MS);
  }
}

interface Account {
  readonly id: AccountId;
  readonly groups: readonly (readonly string[])[];
}

async function anAccount(database: TestDatabase): Promise<Account> {
  const id = randomUUID() as AccountId;
  const groups = Array.from({ length: PAIRS }, () => [randomUUID(), randomUUID()]);
  await database.query('INSERT INTO accounts (id) VALUES ($1)', [id]);
  await database.query(`INSERT INTO groups (account_id, id, name) SELECT $1, unnest($2::uuid[]), '0'`, [
    id,
    groups.flat(),
  ]);
  return { id, groups };
}

/** SQLSTATE query_canceled. Source: PostgreSQL documentation, appendix A. */
function isCancellation(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === '57014';
}

function rowsOf(state: AccountState): Record<string, unknown> {
  return Object.fromEntries(
    ACCOUNT_TABLES.map((table) => [table, [...state.rows(table)].map((row) => JSON.stringify(row)).sort()]),
  );
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
