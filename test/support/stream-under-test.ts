/** The replication stage on a real database, with a sink and an event store that a test can look into and hold up. */
import { Client } from 'pg';
import type { Change, Commit, RowChange } from '../../src/core/changes/commit.js';
import type { AccountId } from '../../src/core/model/ids.js';
import type { Position } from '../../src/core/model/position.js';
import type { ChangeLog, ChangeLogEntry } from '../../src/core/ports/change-log.js';
import type { CommitSink, LastHeard, Lost } from '../../src/core/ports/commit-sink.js';
import type { Metrics } from '../../src/core/ports/metrics.js';
import type { SlotFacts } from '../../src/core/ports/slot-status.js';
import type { Clock } from '../../src/core/support/clock.js';
import type { LogFields, Logger } from '../../src/core/support/logger.js';
import { type Database, openDatabase } from '../../src/db/open-database.js';
import { reconcilePublications } from '../../src/db/publications.js';
import { OpenReceipts } from '../../src/replication/open-receipts.js';
import { slotPublications } from '../../src/db/slot-publications.js';
import { slotState } from '../../src/db/slot-state.js';
import type { RunStatement } from '../../src/replication/heartbeat.js';
import { buildReplication, type Replication, type ReplicationOptions } from '../../src/replication/replication.js';
import { SystemClock } from '../../src/system/system-clock.js';
import { SystemRandom } from '../../src/system/system-random.js';
import { SystemScheduler } from '../../src/system/system-scheduler.js';
import type { TestDatabase } from './test-database.js';

const TEST_SLOT_PREFIX = 'stream_';

/** Remembers everything, in order. By default every commit is settled at once. */
export class RecordingSink implements CommitSink {
  readonly commits: Commit[] = [];
  readonly resyncs: string[] = [];
  /** What was said with each of them about what had been heard. */
  readonly heard: (LastHeard | undefined)[] = [];
  /** Both kinds as they came: a commit's position, or why all were read again. */
  readonly calls: (Position | string)[] = [];
  passedPosition: Position = 0n;
  /** Set: nothing above it counts as settled. */
  settleUpTo: Position | undefined;
  held = 0;
  /** Called with each commit, before it is remembered. */
  onAccept: (commit: Commit) => void = () => undefined;

  accept(commit: Commit): void {
    this.onAccept(commit);
    this.commits.push(commit);
    this.calls.push(commit.position);
  }

  passed(position: Position): void {
    this.passedPosition = position;
  }

  resyncAll(reason: string, _lost: Lost, heard?: LastHeard): void {
    this.resyncs.push(reason);
    this.heard.push(heard);
    this.calls.push(reason);
  }

  settledPosition(): Position {
    const last = this.commits.at(-1)?.position ?? 0n;
    return this.settleUpTo === undefined || this.settleUpTo > last ? last : this.settleUpTo;
  }

  pendingBytes(): number {
    return this.held;
  }

  /** Row changes of an account, over all commits, in order. */
  rowsOf(accountId: AccountId): RowChange[] {
    return this.commits.flatMap((commit) => (commit.byAccount.get(accountId) ?? []).filter(isRow));
  }
}

function isRow(change: Change): change is RowChange {
  return change.kind !== 'truncate';
}

/** An event store in memory. */
class MemoryChangeLog implements ChangeLog {
  readonly entries: ChangeLogEntry[] = [];
  failWith: Error | undefined;
  timelineChanges = false;

  async append(entries: readonly ChangeLogEntry[]): Promise<void> {
    if (this.failWith) throw this.failWith;
    this.entries.push(...entries);
  }

  async enterTimeline(): Promise<boolean> {
    return this.timelineChanges;
  }
}

export class RememberingLog implements Logger {
  readonly lines: { readonly level: string; readonly event: string; readonly fields: LogFields }[] = [];
  readonly error = this.#at('error');
  readonly warn = this.#at('warn');
  readonly info = this.#at('info');
  readonly debug = this.#at('debug');

  events(level?: string): string[] {
    return this.lines.filter((line) => level === undefined || line.level === level).map((line) => line.event);
  }

  #at(level: string): (event: string, fields?: LogFields) => void {
    return (event, fields = {}) => void this.lines.push({ level, event, fields });
  }
}

/** Real time, but every wait is `factor` times shorter: what happens each ten seconds happens in a test. */
export class HurriedClock implements Clock {
  readonly #clock = new SystemClock();

  constructor(private readonly factor: number) {}

  now(): number {
    return this.#clock.now();
  }

  after(delayMs: number, task: () => void): () => void {
    return this.#clock.after(delayMs / this.factor, task);
  }

  at(instant: number, task: () => void): () => void {
    return this.after(instant - this.now(), task);
  }
}

const IGNORED = (): void => undefined;
const NO_METRICS: Metrics = {
  ...{ commitApplied: IGNORED, replicationLag: IGNORED, replicationState: IGNORED, changeLogBacklog: IGNORED },
  ...{ rowUnreadable: IGNORED, channelOpened: IGNORED, channelClosed: IGNORED, pushed: IGNORED, decided: IGNORED },
  ...{ upgradeAnswered: IGNORED, frameRefused: IGNORED, throttled: IGNORED, receipted: IGNORED, queried: IGNORED },
  ...{ slot: IGNORED, storeDrifted: IGNORED, storeAudited: IGNORED },
};

export interface StreamSetup {
  readonly options?: Partial<ReplicationOptions>;
  readonly sink?: RecordingSink;
  readonly changeLog?: ChangeLog;
  readonly clock?: Clock;
  readonly run?: RunStatement;
  /** Of ordinary connections; as a rule that of the stream. */
  readonly ordinaryUrl?: string;
  /** @param real what is done without it */
  readonly reconcile?: (real: () => Promise<boolean>) => Promise<boolean>;
  readonly readSlot?: (real: () => Promise<SlotFacts | undefined>) => Promise<SlotFacts | undefined>;
  readonly beforeGap?: () => Promise<void>;
  readonly keep?: (real: () => Promise<void>) => Promise<void>;
}

export class StreamUnderTest {
  readonly sink: RecordingSink;
  readonly receipts = new OpenReceipts();
  readonly memory = new MemoryChangeLog();
  readonly log = new RememberingLog();
  readonly slot: string;
  readonly replication: Replication;

  constructor(
    private readonly database: TestDatabase,
    setup: StreamSetup = {},
  ) {
    this.sink = setup.sink ?? new RecordingSink();
    const url = setup.ordinaryUrl ?? setup.options?.databaseUrl ?? database.url;
    this.slot = `${TEST_SLOT_PREFIX}${database.name.slice(-12)}`;
    this.replication = buildReplication(
      {
        mode: 'stream',
        databaseUrl: database.url,
        slot: this.slot,
        publications: ['portcullis_changes', 'portcullis_flow_edits'],
        messagePrefix: 'portcullis',
        heartbeatIntervalMs: 200,
        staleAfterMs: 30_000,
        maxLagMs: 300_000,
        maxPendingBytes: 64 * 1024 * 1024,
        maxTxChanges: 50_000,
        maxTxBytes: 64 * 1024 * 1024,
        ...setup.options,
      },
      {
        sink: this.sink,
        changeLog: setup.changeLog ?? this.memory,
        receipts: this.receipts,
        run: setup.run ?? ((sql, values) => runAt(url, sql, values)),
        readSlot: () => (setup.readSlot ?? ((real) => real()))(() => onDatabase(url, (db) => slotState(db, this.slot))),
        reconcilePublications: () => (setup.reconcile ?? ((real) => real()))(() => reconcile(url)),
        slotPublications: {
          read: () => onDatabase(url, (db) => slotPublications(db, this.slot).read()),
          keep: (version) =>
            (setup.keep ?? ((real) => real()))(() =>
              onDatabase(url, (db) => slotPublications(db, this.slot).keep(version)),
            ),
        },
        beforeGap: setup.beforeGap ?? (async () => undefined),
        clock: setup.clock ?? new SystemClock(),
        scheduler: new SystemScheduler(),
        random: new SystemRandom(),
        metrics: NO_METRICS,
        log: this.log,
      },
    );
  }

  /** Returns when commits are streaming. */
  async start(): Promise<void> {
    this.replication.start();
    await until(() => this.log.events().includes('replication.streaming'), 'the stream to start');
  }

  stop(): Promise<void> {
    return this.replication.stop();
  }

  /** Returns when everything committed before the call has been handed on. */
  async caughtUp(): Promise<void> {
    const mark = `mark ${Math.random()}`;
    await this.database.query(`SELECT pg_logical_emit_message(true, 'test.mark', $1)`, [mark]);
    await until(
      () => this.sink.commits.some(({ messages }) => messages.some(({ content }) => content === mark)),
      'the stream to catch up',
    );
  }

  /** Commits with rows: without marks. */
  rowCommits(): Commit[] {
    return this.sink.commits.filter(({ changeCount, truncates }) => changeCount > 0 || truncates.length > 0);
  }

  async slotRow(): Promise<{ active: boolean; active_pid: number | null; confirmed: string; wal_status: string }> {
    const { rows } = await this.database.query<{
      active: boolean;
      active_pid: number | null;
      confirmed: string;
      wal_status: string;
    }>(
      `SELECT active, active_pid, confirmed_flush_lsn::text AS confirmed, wal_status
       FROM pg_replication_slots WHERE slot_name = $1`,
      [this.slot],
    );
    const [row] = rows;
    if (!row) throw new Error('no slot');
    return row;
  }
}

function reconcile(url: string): Promise<boolean> {
  return onDatabase(url, async (database) => (await reconcilePublications(database, 'portcullis')).length > 0);
}

async function onDatabase<Result>(url: string, ask: (database: Database) => Promise<Result>): Promise<Result> {
  const database = openDatabase(url, { max: 1 });
  try {
    return await ask(database);
  } finally {
    await database.close();
  }
}

/** On a connection of its own, so that it goes where the stream goes when the address leads elsewhere. */
export async function runAt(url: string, sql: string, values: readonly unknown[]): Promise<Record<string, unknown>[]> {
  const client = await session({ url });
  try {
    return (await client.query<Record<string, unknown>>(sql, [...values])).rows;
  } finally {
    await client.end();
  }
}

/** Looks every few milliseconds; fails with what it waited for. */
export async function until(
  condition: () => boolean | Promise<boolean>,
  what: string,
  limitMs = 15_000,
): Promise<void> {
  const deadline = Date.now() + limitMs;
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`waited ${limitMs} ms for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** A session of its own, for transactions that overlap. */
export async function session(database: Pick<TestDatabase, 'url'>): Promise<Client> {
  const client = new Client({ connectionString: database.url });
  client.on('error', () => undefined);
  await client.connect();
  return client;
}

/** COPY … FROM STDIN with these lines. */
export function copyInto(client: Client, target: string, lines: readonly string[]): Promise<void> {
  return new Promise((resolve, reject) => {
    let failure: Error | undefined;
    const copy = {
      submit: (connection: { query(text: string): void }) => {
        connection.query(`COPY ${target} FROM STDIN`);
      },
      handleCopyInResponse: (connection: { sendCopyFromChunk(chunk: Buffer): void; endCopyFrom(): void }) => {
        connection.sendCopyFromChunk(Buffer.from(lines.map((line) => `${line}\n`).join('')));
        connection.endCopyFrom();
      },
      handleCommandComplete: () => undefined,
      handleError: (error: Error) => {
        failure = error;
        reject(error);
      },
      handleReadyForQuery: () => {
        if (!failure) resolve();
      },
    };
    client.query(copy as never);
  });
}
