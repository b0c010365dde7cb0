import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { randomUUID } from 'node:crypto';
import { Client } from 'pg';
import { COLUMNS } from '../../src/core/changes/columns.js';
import { parseRow } from '../../src/core/changes/parse-row.js';
import type { AccountId, FlowId } from '../../src/core/model/ids.js';
import { ACCOUNT_TABLES } from '../../src/core/model/rows.js';
import { contains } from '../../src/core/ports/hydration-reader.js';
import type { Database } from '../../src/db/open-database.js';
import { openDatabase } from '../../src/db/open-database.js';
import { PostgresHydrationReader } from '../../src/db/postgres-hydration-reader.js';
import { insertFlows } from '../../src/db/write-flows.js';
import { insertAccount } from '../support/account-rows.js';
import type { AccountIds } from '../support/account-rows.js';
import { aFlowRecord } from '../support/builders.js';
import { createMigratedDatabase } from '../support/test-database.js';
import type { TestDatabase } from '../support/test-database.js';

let test: TestDatabase;
let database: Database;
let reader: PostgresHydrationReader;
let ours: AccountIds;

const asked: string[] = [];

beforeAll(async () => {
  test = await createMigratedDatabase();
  // Whatever the role's own settings are, we print what the stream prints.
  await test.sql(
    `ALTER DATABASE ${test.name} SET DateStyle = 'SQL, DMY'; ALTER DATABASE ${test.name} SET TimeZone = 'Asia/Tokyo'`,
  );
  database = openDatabase(test.url, { max: 3, onQuery: (question) => asked.push(question) });
  reader = new PostgresHydrationReader(database);
  ours = await insertAccount(test);
});

afterAll(async () => {
  await database.close();
  await test.drop();
});

describe('the text of a hydrated row', () => {
  it('D13: is what pgoutput prints for the same row, column by column, in every table', async () => {
    const ids = await insertAccount(test);
    await fillEveryColumn(test, ids);
    await test.query(`SELECT pg_create_logical_replication_slot('hydration_text', 'pgoutput')`);
    // The same values written again: each row comes down the stream whole.
    for (const table of ACCOUNT_TABLES) {
      const key = table === 'accounts' ? 'id' : 'account_id';
      await test.query(`UPDATE ${table} SET created_at = created_at WHERE ${key} = $1`, [ids.accountId]);
    }
    const streamed = await rowsInStream(test.url, 'hydration_text');
    const { rows } = await reader.readAccount(ids.accountId);

    for (const table of ACCOUNT_TABLES) {
      const picked = (streamed.get(table) ?? []).map((row) =>
        Object.fromEntries(COLUMNS[table].map((c) => [c, row[c]])),
      );
      const byText = (a: unknown, b: unknown): number => JSON.stringify(a).localeCompare(JSON.stringify(b));
      const hydrated = [...(rows.get(table) ?? [])];
      expect(hydrated.length).toBeGreaterThan(0);
      expect([table, hydrated.sort(byText)]).toEqual([table, picked.sort(byText)]);
    }
  });

  it('D15: parses without a fault when a row was made with defaults', async () => {
    const { rows } = await reader.readAccount(ours.accountId);
    for (const table of ACCOUNT_TABLES) {
      for (const raw of rows.get(table) ?? []) {
        expect([table, parseRow(table, raw).faults]).toEqual([table, []]);
      }
    }
  });

  it('an account that does not exist has no rows', async () => {
    const { rows } = await reader.readAccount('11111111-1111-4111-8111-111111111111' as AccountId);
    expect([...rows.values()].flat()).toEqual([]);
  });

  it('holds the account asked for and no other', async () => {
    await insertAccount(test);
    const { rows } = await reader.readAccount(ours.accountId);
    expect(rows.get('accounts')).toHaveLength(1);
    for (const [table, held] of rows) {
      const key = table === 'accounts' ? 'id' : 'account_id';
      expect(held.filter((row) => row[key] !== ours.accountId)).toEqual([]);
    }
  });
});

describe('what hands did to rows of flows', () => {
  it('D8a: a row that is gone or that a hand closed is cut, one that is open or that we closed is not', async () => {
    const ids = await insertAccount(test);
    const rows = [
      ['open', null, null],
      ['ours', 'now()', 'moved'],
      ['by hand', 'now()', null],
      ['by hand, with a reason', 'now()', 'left us'],
      ['by hand, then filled in', 'now()', 'cut-by-hand'],
    ] as const;
    const flowIds = new Map<string, FlowId>();
    for (const [name, revokedAt, reason] of rows) {
      const record = aFlowRecord({ ...ids, id: randomUUID() as FlowId });
      flowIds.set(name, record.id);
      await insertFlows(database, [{ record, cut: null }]);
      if (revokedAt)
        await test.query(`UPDATE flows SET revoked_at = ${revokedAt}, revoked_reason = $2 WHERE id = $1`, [
          record.id,
          reason,
        ]);
    }
    const gone = randomUUID() as FlowId;
    const { cutFlows } = await reader.readAccount(ids.accountId, [...flowIds.values(), gone]);
    const ofHands = [...flowIds].flatMap(([name, id]) => (name.startsWith('by hand') ? [id] : []));
    expect([...cutFlows].sort()).toEqual([...ofHands, gone].sort());
  });
});

describe('the snapshot of a hydration', () => {
  it('contains a committed transaction and not one that is under way; the upper bound is past the first', async () => {
    const other = new Client({ connectionString: test.url });
    await other.connect();
    try {
      const xid = `pg_current_xact_id()::text AS xid`;
      const committed = (await other.query<{ xid: string }>(`SELECT ${xid}`)).rows[0]?.xid ?? '';
      const before = (await other.query<{ lsn: string }>('SELECT pg_current_wal_insert_lsn()::text AS lsn')).rows[0]
        ?.lsn;
      await other.query('BEGIN');
      const running = (await other.query<{ xid: string }>(`SELECT ${xid}`)).rows[0]?.xid ?? '';
      await other.query(`INSERT INTO groups (account_id, name) VALUES ($1, 'under way')`, [ours.accountId]);

      const read = await reader.readAccount(ours.accountId);

      expect(contains(read.snapshot, BigInt(committed))).toBe(true);
      expect(contains(read.snapshot, BigInt(running))).toBe(false);
      expect(read.rows.get('groups')?.some((row) => row['name'] === 'under way')).toBe(false);
      expect(read.upperBound >= lsn(before)).toBe(true);
      expect(contains(await reader.readSnapshot(), BigInt(running))).toBe(false);
    } finally {
      await other.query('ROLLBACK');
      await other.end();
    }
  });

  it('is one for all tables: what commits between two of its statements is in none', async () => {
    await database.inSnapshot('test', async (query) => {
      const count = async (): Promise<unknown> =>
        (await query('SELECT count(*) FROM sites WHERE account_id = $1', [ours.accountId]))[0]?.['count'];
      const before = await count();
      await test.query('INSERT INTO sites (account_id) VALUES ($1)', [ours.accountId]);
      expect(await count()).toBe(before);
    });
  });

  it('asks one named question', async () => {
    asked.length = 0;
    await reader.readAccount(ours.accountId);
    expect(asked).toEqual(['hydrate-account']);
  });
});

function lsn(text: string | undefined): bigint {
  const [high = '', low = ''] = (text ?? '').split('/');
  return (BigInt(`0x${high}`) << 32n) | BigInt(`0x${low}`);
}

/** Values that a cast, a driver or a session setting would print differently. */
async function fillEveryColumn(on: TestDatabase, ids: AccountIds): Promise<void> {
  const at = `'2026-07-25 13:14:15.123456+02'`;
  await on.sql(`
    UPDATE accounts SET disabled_at = ${at}, config = '{"b": 1.50, "a": "é\\t"}' WHERE id = '${ids.accountId}';
    UPDATE actors SET disabled_at = 'infinity', name = E'tab\\tand "quotes"' WHERE account_id = '${ids.accountId}';
    INSERT INTO auth_providers (account_id, disabled_at) VALUES ('${ids.accountId}', ${at});
    INSERT INTO identities (account_id, actor_id, provider_id, provider_identifier, email)
      SELECT '${ids.accountId}', '${ids.actorId}', id, 'ada', '' FROM auth_providers WHERE account_id = '${ids.accountId}';
    UPDATE resources SET filters = '[{"protocol":"tcp","ports":["80 - 90"]}]' WHERE account_id = '${ids.accountId}';
    INSERT INTO clients (account_id, actor_id, verified_at) VALUES ('${ids.accountId}', '${ids.actorId}', ${at});
    INSERT INTO gateways (account_id, site_id) VALUES ('${ids.accountId}', '${ids.siteId}');
    UPDATE policies SET conditions = '[{"values":["DE"],"operator":"is_in","property":"remote_ip_location_region"}]'
      WHERE account_id = '${ids.accountId}';
    UPDATE tokens SET expires_at = ${at} WHERE account_id = '${ids.accountId}';`);
}

type Row = Record<string, string | null>;

/** The new rows of every UPDATE in the slot, read by a small decoder of its own (PostgreSQL documentation, 55.9). */
async function rowsInStream(url: string, slot: string): Promise<Map<string, Row[]>> {
  const client = new Client({ connectionString: url });
  await client.connect();
  try {
    await client.query(`SET DateStyle = 'ISO'; SET TimeZone = 'UTC'`);
    await client.query('CHECKPOINT'); // decoding ends where the WAL is flushed, and the test server commits asynchronously
    const { rows } = await client.query<{ data: Buffer }>(
      `SELECT data FROM pg_logical_slot_get_binary_changes($1, NULL, NULL,
        'proto_version', '1', 'publication_names', 'portcullis_changes')`,
      [slot],
    );
    const relations = new Map<number, { table: string; columns: string[] }>();
    const found = new Map<string, Row[]>();
    for (const { data } of rows) {
      const kind = String.fromCharCode(data[0] ?? 0);
      const cursor = { at: 1, data };
      if (kind === 'R') relations.set(data.readUInt32BE(1), readRelation(cursor));
      if (kind !== 'U') continue;
      const relation = relations.get(data.readUInt32BE(1));
      if (!relation) throw new Error('an update before its relation');
      cursor.at = 6; // past the 'O' of a full old row
      readTuple(cursor);
      cursor.at += 1; // past the 'N'
      const values = readTuple(cursor);
      const row = Object.fromEntries(relation.columns.map((name, i) => [name, values[i] ?? null]));
      found.set(relation.table, [...(found.get(relation.table) ?? []), row]);
    }
    return found;
  } finally {
    await client.end();
  }
}

interface Cursor {
  at: number;
  readonly data: Buffer;
}

function readRelation(cursor: Cursor): { table: string; columns: string[] } {
  cursor.at = 5;
  readName(cursor); // schema
  const table = readName(cursor);
  const count = cursor.data.readUInt16BE(cursor.at + 1);
  cursor.at += 3;
  const columns = Array.from({ length: count }, () => {
    cursor.at += 1;
    const name = readName(cursor);
    cursor.at += 8;
    return name;
  });
  return { table, columns };
}

function readName(cursor: Cursor): string {
  const end = cursor.data.indexOf(0, cursor.at);
  const name = cursor.data.toString('utf8', cursor.at, end);
  cursor.at = end + 1;
  return name;
}

function readTuple(cursor: Cursor): (string | null)[] {
  const count = cursor.data.readUInt16BE(cursor.at);
  cursor.at += 2;
  return Array.from({ length: count }, () => {
    const kind = String.fromCharCode(cursor.data[cursor.at] ?? 0);
    cursor.at += 1;
    if (kind !== 't') return null;
    const length = cursor.data.readUInt32BE(cursor.at);
    const text = cursor.data.toString('utf8', cursor.at + 4, cursor.at + 4 + length);
    cursor.at += 4 + length;
    return text;
  });
}
