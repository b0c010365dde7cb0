/** A database of its own for each test file, on the server of the test run, dropped with its slots afterwards. */
import { randomBytes } from 'node:crypto';
import { Client, Pool, type QueryResult, type QueryResultRow } from 'pg';

export interface TestDatabase {
  readonly url: string;
  readonly name: string;
  /** One statement with parameters. */
  query<Row extends QueryResultRow = Record<string, unknown>>(
    sql: string,
    params?: readonly unknown[],
  ): Promise<QueryResult<Row>>;
  /** Several statements in one string, in one implicit transaction. */
  sql(text: string): Promise<void>;
  /** Ends every session of this database, drops its slots, then the database itself. */
  drop(): Promise<void>;
}

/** Empty: nothing is migrated. */
export function createTestDatabase(): Promise<TestDatabase> {
  return createFrom('template1');
}

/**
 * Migrated to the newest schema, publications included (they are part of a database, slots are not). The first caller of
 * a test run pays for the migrations; all others copy its result.
 */
export async function createMigratedDatabase(): Promise<TestDatabase> {
  return createFrom(await migratedTemplate());
}

/** Serializes the making of the template among the workers of a run; any constant that no product lock uses. */
const TEMPLATE_LOCK = 7_309_443;

function serverUrl(): string {
  const url = process.env['PORTCULLIS_TEST_POSTGRES_URL'];
  if (url === undefined) throw new Error('no test server: run this file in the jest project with globalSetup');
  return url;
}

async function createFrom(template: string): Promise<TestDatabase> {
  const name = `portcullis_test_${randomBytes(6).toString('hex')}`;
  await onServer((server) => server.query(`CREATE DATABASE ${name} TEMPLATE ${template}`));
  const url = urlOf(name);
  const pool = new Pool({ connectionString: url, max: 4 });
  // An idle connection that the server ends is an 'error' event, which would end the process when nobody listens.
  pool.on('error', () => undefined);
  pool.on('connect', (client) => client.on('error', () => undefined)); // the same while it is lent
  return {
    url,
    name,
    query: (sql, params) => pool.query(sql, params === undefined ? undefined : [...params]),
    sql: async (text) => void (await pool.query(text)),
    drop: async () => {
      await rollBackPrepared(pool);
      await pool.end();
      await onServer((server) => dropDatabase(server, name));
    },
  };
}

/** One per run: two runs on one server, of different versions perhaps, do not share a template. */
export function templateName(): string {
  return `portcullis_template_${process.env['PORTCULLIS_TEST_RUN'] ?? 'single'}`;
}

async function migratedTemplate(): Promise<string> {
  const name = templateName();
  await onServer(async (server) => {
    await server.query('SELECT pg_advisory_lock($1)', [TEMPLATE_LOCK]);
    const { rowCount } = await server.query('SELECT FROM pg_database WHERE datname = $1', [name]);
    if (rowCount === 0) await makeTemplate(server, name);
  });
  return name;
}

async function makeTemplate(server: Client, name: string): Promise<void> {
  const draft = `${name}_draft`;
  await server.query(`DROP DATABASE IF EXISTS ${draft} WITH (FORCE)`);
  await server.query(`CREATE DATABASE ${draft}`);
  const { migrateToLatest } = await import('../../src/db/migrate.js');
  await migrateToLatest(urlOf(draft));
  await endSessions(server, draft);
  await server.query(`ALTER DATABASE ${draft} RENAME TO ${name}`);
}

async function dropDatabase(server: Client, name: string): Promise<void> {
  await endSessions(server, name);
  await server.query('SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = $1', [
    name,
  ]);
  await server.query(`DROP DATABASE IF EXISTS ${name} WITH (FORCE)`);
}

/** Returns when they are gone: a slot cannot be dropped, nor a database copied, while a session ends. */
async function endSessions(server: Client, name: string): Promise<void> {
  await server.query('SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = $1', [name]);
}

/** A test that failed half-way may leave one, and a prepared transaction keeps its database from being dropped. */
async function rollBackPrepared(pool: Pool): Promise<void> {
  const { rows } = await pool.query<{ gid: string }>(
    'SELECT gid FROM pg_prepared_xacts WHERE database = current_database()',
  );
  for (const { gid } of rows) await pool.query(`ROLLBACK PREPARED '${gid.replaceAll("'", "''")}'`);
}

async function onServer<Result>(work: (server: Client) => Promise<Result>): Promise<Result> {
  const server = new Client({ connectionString: serverUrl() });
  server.on('error', () => undefined);
  await server.connect();
  try {
    return await work(server);
  } finally {
    await server.end();
  }
}

function urlOf(database: string): string {
  const url = new URL(serverUrl());
  url.pathname = `/${database}`;
  return url.href;
}
