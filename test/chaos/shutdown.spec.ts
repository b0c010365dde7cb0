/** A database that shuts down is not held up by the server that reads its stream. */
import { afterEach, beforeEach, expect, it, jest } from '@jest/globals';
import { migrateToLatest } from '../../src/db/migrate.js';
import { LaunchedServer } from '../support/launched-server.js';
import { ChaosPostgres } from './chaos-postgres.js';
import { within } from './pause.js';

jest.setTimeout(60_000);

let postgres: ChaosPostgres;
let server: LaunchedServer;

beforeEach(async () => {
  postgres = await ChaosPostgres.start();
  await migrateToLatest(postgres.url);
  server = LaunchedServer.start({ DATABASE_URL: postgres.url, API_PORT: '0', OPS_PORT: '0', LOG_FORMAT: 'json' });
  await server.ready();
});

afterEach(async () => {
  await server.kill();
  await postgres.remove();
});

it('F4: a fast shutdown ends by itself although a commit is not on record yet, and the commit is recorded after it', async () => {
  const sql = await postgres.connect();
  await sql.query('BEGIN; LOCK TABLE change_log IN SHARE MODE');
  const other = await postgres.connect();
  await other.query(`INSERT INTO accounts (slug) VALUES ('unrecorded')`);
  const isWaiting = async (): Promise<boolean> => {
    const { rowCount } = await other.query(
      `SELECT FROM pg_locks WHERE NOT granted AND relation = 'change_log'::regclass`,
    );
    return rowCount === 1;
  };
  expect(await within(10_000, isWaiting)).toBe(true);

  expect(await postgres.restart('fast')).toBe(true);

  const after = await postgres.connect();
  const isRecorded = async (): Promise<boolean> => {
    const { rowCount } = await after.query(`SELECT FROM change_log WHERE new_row->>'slug' = 'unrecorded'`);
    return rowCount === 1;
  };
  expect(await within(20_000, isRecorded)).toBe(true);
  expect(server.hasEnded).toBe(false);
  await after.end();
});
