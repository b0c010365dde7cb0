/**
 * The one place where SQL leaves the process. Every question has a name and is timed under it.
 *
 * Every connection prints values as the stream does (`DateStyle=ISO`, `TimeZone=UTC`), whatever the server's or the
 * user's defaults are, and looks names up where nobody can plant others.
 */
import { Kysely, PostgresDialect } from 'kysely';
import type { Transaction } from 'kysely';
import { Pool } from 'pg';
import type { ClientBase, CustomTypesConfig } from 'pg';
import type { RawRow } from '../core/changes/commit.js';
import type { Tables } from './database-tables.js';

export interface DatabaseOptions {
  /** Most connections held. More lets more connects and hydrations run at once; each costs the server a process. */
  readonly max?: number;
  /** Shown in `pg_stat_activity`. */
  readonly applicationName?: string;
  /** Hears of every question asked, with its duration, failed ones included. */
  readonly onQuery?: (question: string, ms: number) => void;
}

export type Queries = Kysely<Tables>;

/** Runs one statement; every value comes back as PostgreSQL printed it. */
export type RawQuery = (sql: string, values?: readonly unknown[]) => Promise<readonly RawRow[]>;

export interface Database {
  ask<Result>(question: string, ask: (db: Queries) => Promise<Result>): Promise<Result>;
  /** READ COMMITTED; commits when `work` resolves, rolls back when it rejects. */
  inTransaction<Result>(question: string, work: (db: Transaction<Tables>) => Promise<Result>): Promise<Result>;
  /**
   * One connection, values as text, one snapshot for all that `work` reads: REPEATABLE READ READ ONLY.
   * What it selects without a cast reads exactly as `pgoutput` prints it.
   */
  inSnapshot<Result>(question: string, work: (query: RawQuery) => Promise<Result>): Promise<Result>;
  close(): Promise<void>;
}

/** Connects lazily: a wrong URL shows at the first question. */
export function openDatabase(url: string, options: DatabaseOptions = {}): Database {
  const pool = new Pool({
    connectionString: url,
    max: options.max ?? DEFAULT_CONNECTIONS,
    application_name: options.applicationName ?? 'portcullis',
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    keepAlive: true,
    onConnect: prepareSession,
  });
  // An idle connection that the server ends is an 'error' event, which would end the process when nobody listens. The
  // pool has dropped the connection by then; whoever asks next gets a new one or the reason.
  pool.on('error', () => undefined);
  const db = new Kysely<Tables>({ dialect: new PostgresDialect({ pool }) });
  const timed = timedBy(options.onQuery);
  return {
    ask: (question, ask) => timed(question, () => ask(db)),
    inTransaction: (question, work) => timed(question, () => db.transaction().execute(work)),
    inSnapshot: (question, work) => timed(question, () => readInSnapshot(pool, work)),
    close: () => db.destroy(),
  };
}

const DEFAULT_CONNECTIONS = 10;
/** Shorter than the time an upgrade may take (5 s, wire-protocol.md 1.5), so that a peer hears why it waited. */
const CONNECT_TIMEOUT_MS = 4_000;

/** As statements, not as start-up options: those a `?options=` in the URL would replace. */
const SESSION = `SET DateStyle = 'ISO, MDY'; SET TimeZone = 'UTC'; SET IntervalStyle = 'postgres';
  SET bytea_output = 'hex'; SET search_path = public, pg_temp`;

/** pg waits for the promise before it lends the connection; the type of its option does not say so. */
function prepareSession(client: ClientBase): void {
  // The pool listens while a connection is idle; one that breaks between two statements of a transaction has only this.
  client.on('error', () => undefined);
  return client.query(SESSION) as unknown as void;
}

const AS_PRINTED = { getTypeParser: () => (value: string) => value } as unknown as CustomTypesConfig;

async function readInSnapshot<Result>(pool: Pool, work: (query: RawQuery) => Promise<Result>): Promise<Result> {
  const client = await pool.connect();
  let failure: Error | undefined;
  try {
    await client.query('BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY');
    const result = await work(
      async (text, values = []) => (await client.query<RawRow>({ text, values: [...values], types: AS_PRINTED })).rows,
    );
    await client.query('COMMIT');
    return result;
  } catch (error) {
    failure = error instanceof Error ? error : new Error(String(error));
    throw error;
  } finally {
    // A connection in an unknown state is closed, not reused.
    client.release(failure);
  }
}

type Timed = <Result>(question: string, task: () => Promise<Result>) => Promise<Result>;

function timedBy(onQuery: DatabaseOptions['onQuery']): Timed {
  if (!onQuery) return (_question, task) => task();
  return async (question, task) => {
    const startedAt = process.hrtime.bigint();
    try {
      return await task();
    } finally {
      onQuery(question, Number(process.hrtime.bigint() - startedAt) / 1e6);
    }
  };
}
