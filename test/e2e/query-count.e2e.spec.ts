/**
 * What needs no database: counted by the server, not assumed. A backend reports what it has scanned when it ends, so
 * before each count ours are ended; they come back by themselves.
 */
import { afterAll, afterEach, beforeAll, describe, expect, it, jest } from '@jest/globals';
import type { Client } from 'pg';
import { ACCOUNT_TABLES } from '../../src/core/model/rows.js';
import { rejected, removed, Stage, type Scene } from '../support/scene.js';
import { session, until } from '../support/stream-under-test.js';

jest.setTimeout(30_000);

type Scans = Readonly<Record<string, number>>;

const NONE: Scans = Object.fromEntries(ACCOUNT_TABLES.map((table) => [table, 0]));

let stage: Stage;
let other: Client | undefined;

beforeAll(async () => {
  stage = await Stage.open();
});

afterEach(async () => {
  await other?.end();
  other = undefined;
  await stage.clear();
});

afterAll(() => stage.close());

/** Scans of each access table so far, by index or not, by the server and by the test's idle sessions. */
async function scans(): Promise<Scans> {
  const { db } = stage.server;
  await db.query(`SELECT pg_terminate_backend(pid, 5000), pg_stat_force_next_flush() FROM pg_stat_activity
    WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()
      AND (application_name = 'portcullis' OR state = 'idle')`);
  return countIn(db, 'pg_stat_user_tables');
}

async function countIn(db: Pick<Client, 'query'> | Stage['server']['db'], view: string): Promise<Scans> {
  const { rows } = await (db as Client).query<{ relname: string; scans: string }>(
    `SELECT relname, coalesce(seq_scan, 0) + coalesce(idx_scan, 0) AS scans FROM ${view} WHERE relname = ANY ($1)`,
    [ACCOUNT_TABLES],
  );
  return Object.fromEntries(rows.map((row) => [row.relname, Number(row.scans)]));
}

function since(before: Scans, now: Scans): Scans {
  return Object.fromEntries(ACCOUNT_TABLES.map((table) => [table, (now[table] ?? 0) - (before[table] ?? 0)]));
}

async function hold(statement: string): Promise<Client> {
  other = await session(stage.server.db);
  await other.query(`BEGIN; ${statement}`);
  return other;
}

describe('access tables', () => {
  it('are not read by create_flow', async () => {
    const scene = await stage.joined();
    // Its row waits: PostgreSQL itself looks at the account when it is written, which is later and not ours.
    await hold('LOCK TABLE flows IN SHARE MODE');
    const before = await scans();
    await scene.openFlow();
    await scene.openFlow();
    expect(since(before, await scans())).toEqual(NONE);
  });

  it('are not read by a commit that removes 10,000 memberships', async () => {
    const scene = await stage.withFlow();
    await manyMembers(scene, 10_000);
    await scene.heard();
    const writer = await session(scene.server.db);
    await writer.query('BEGIN');
    const { rowCount } = await writer.query('DELETE FROM memberships WHERE account_id = $1', [scene.ids.accountId]);
    expect(rowCount).toBe(10_001);
    const own = await countIn(writer, 'pg_stat_xact_user_tables');
    const before = await scans();
    await writer.query('COMMIT');
    await writer.end();
    expect(await scene.heard()).toEqual({
      gateway: [rejected(scene.flow)],
      client: [removed(scene.ids.resourceId)],
    });
    await recorded(scene, 10_001);
    expect(since(before, await scans())).toEqual({ ...NONE, ...since(NONE, own) });
  });

  it('are read by a join, which proves that this way of counting sees what we read', async () => {
    const before = await scans();
    await stage.joined();
    const read = since(before, await scans());
    expect(ACCOUNT_TABLES.filter((table) => read[table] === 0)).toEqual([]);
  });

  it('are not read by a second join of the account, but for what the connect itself stores', async () => {
    const scene = await stage.joined();
    const before = await scans();
    await scene.join('client', 'another');
    const { clients, tokens, accounts, actors, identities, auth_providers, ...rest } = since(before, await scans());
    expect(clients).toBeGreaterThan(0);
    expect([tokens, accounts, actors, identities, auth_providers].every((count) => (count ?? 0) < 10)).toBe(true);
    expect(Object.values(rest).every((count) => count === 0)).toBe(true);
  });
});

describe('between frame and push', () => {
  it('D21: no statement is awaited: with every table locked the flow opens all the same', async () => {
    const scene = await stage.joined();
    const { rows } = await scene.server.db.query<{ name: string }>(
      `SELECT string_agg(quote_ident(tablename), ', ') AS name FROM pg_tables WHERE schemaname = 'public'`,
    );
    await hold(`LOCK TABLE ${rows[0]?.name} IN ACCESS EXCLUSIVE MODE`);
    const flow = await scene.openFlow();
    expect(flow.resourceId).toBe(scene.ids.resourceId);
    await other?.query('COMMIT');
    await scene.history((written) => written.length === 1);
  });
});

async function manyMembers({ server, ids }: Scene, count: number): Promise<void> {
  await server.db.sql(`
    INSERT INTO actors (account_id) SELECT '${ids.accountId}' FROM generate_series(1, ${count});
    INSERT INTO memberships (account_id, actor_id, group_id)
      SELECT account_id, id, '${ids.groupId}' FROM actors WHERE account_id = '${ids.accountId}' AND id <> '${ids.actorId}'`);
}

/** The event store has them: whatever the commit made us ask has been asked. */
async function recorded({ server, ids }: Scene, count: number): Promise<void> {
  await until(async () => {
    const { rows } = await server.db.query<{ count: string }>(
      `SELECT count(*) FROM change_log WHERE account_id = $1 AND table_name = 'memberships' AND op = 'delete'`,
      [ids.accountId],
    );
    return Number(rows[0]?.count) === count;
  }, 'the commit to be recorded');
}
