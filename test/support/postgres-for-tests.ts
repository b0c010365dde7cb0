/** The one PostgreSQL server of a test run: our embedded one on a throw-away folder, or the one TEST_DATABASE_URL names. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Client } from 'pg';
import { type EmbeddedPostgres, startEmbedded } from '../../src/embedded/start-embedded.js';
import type { Logger } from '../../src/core/support/logger.js';
import { templateName } from './test-database.js';

export interface PostgresForTests {
  /** A superuser's, to a database from which others can be made. */
  readonly url: string;
  stop(): Promise<void>;
}

const SILENT: Logger = { error: () => {}, warn: () => {}, info: () => {}, debug: () => {} };

/**
 * Plenty of slots, since one is held by each test file that reads the stream; no fsync, since nothing is kept. Commits
 * are synchronous all the same: an asynchronous one is streamed only when the WAL writer wakes, up to 200 ms later.
 */
const SETTINGS = {
  fsync: 'off',
  synchronous_commit: 'on',
  full_page_writes: 'off',
  wal_level: 'logical',
  max_replication_slots: '60',
  max_wal_senders: '60',
  max_connections: '200',
  max_prepared_transactions: '10',
};

export async function startPostgresForTests(): Promise<PostgresForTests> {
  const given = process.env['TEST_DATABASE_URL'];
  if (given !== undefined && given !== '') {
    await mustBeUsable(given);
    return { url: given, stop: () => dropTemplate(given) };
  }
  const dataDir = mkdtempSync(join(tmpdir(), 'portcullis-test-'));
  const server = await startEmbedded({ dataDir, settings: SETTINGS, authentication: 'trust', log: SILENT });
  const killAndRemove = (): void => {
    server.killSync('SIGQUIT');
    removeFolder(dataDir);
  };
  process.once('exit', killAndRemove);
  return { url: server.url, stop: () => stop(server, dataDir, killAndRemove) };
}

async function stop(server: EmbeddedPostgres, dataDir: string, killAndRemove: () => void): Promise<void> {
  server.killSync('SIGQUIT');
  await server.stop();
  process.removeListener('exit', killAndRemove);
  removeFolder(dataDir);
}

/** The server may still be writing its last files when it was only just told to end. */
function removeFolder(dataDir: string): void {
  rmSync(dataDir, { recursive: true, force: true, maxRetries: 20, retryDelay: 25 });
}

async function mustBeUsable(url: string): Promise<void> {
  await onServer(url, async (client) => {
    const { rows } = await client.query<{ version: number; level: string }>(
      `SELECT current_setting('server_version_num')::int AS version, current_setting('wal_level') AS level`,
    );
    const { version = 0, level = '' } = rows[0] ?? {};
    if (version < 150_000 || version >= 190_000) throw new Error('TEST_DATABASE_URL must name a PostgreSQL 15 to 18');
    if (level !== 'logical') throw new Error('the server of TEST_DATABASE_URL needs wal_level = logical');
  });
}

/** Ours goes with its folder; a server that stays must not collect templates. */
function dropTemplate(url: string): Promise<void> {
  return onServer(url, async (client) => void (await client.query(`DROP DATABASE IF EXISTS ${templateName()}`)));
}

async function onServer(url: string, work: (client: Client) => Promise<void>): Promise<void> {
  const client = new Client({ connectionString: url });
  await client.connect();
  try {
    await work(client);
  } finally {
    await client.end();
  }
}
