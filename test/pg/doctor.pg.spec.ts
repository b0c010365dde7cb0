import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { ACCOUNT_TABLES } from '../../src/core/model/rows.js';
import { checkServer } from '../../src/db/check-server.js';
import { openDatabase } from '../../src/db/open-database.js';
import { insertAccount } from '../support/account-rows.js';
import { runCommand } from '../support/run-command.js';
import { createMigratedDatabase, createTestDatabase } from '../support/test-database.js';
import type { TestDatabase } from '../support/test-database.js';

let test: TestDatabase;

beforeEach(async () => {
  test = await createMigratedDatabase();
});

afterEach(() => test.drop());

const doctor = () => runCommand(test.url, ['doctor'], { REPLICATION_SLOT: `slot_${test.name}` });

describe('portcullis doctor', () => {
  it('is content with a database that was just migrated', async () => {
    const { code, out } = await doctor();
    expect(out).toContain('none yet');
    expect({ code, last: out.split('\n').at(-1) }).toEqual({ code: 0, last: 'ok' });
  });

  it('reports the slot: who reads it, how far behind it is and what the server says of its WAL', async () => {
    await test.query('SELECT pg_create_logical_replication_slot($1, $2)', [`slot_${test.name}`, 'pgoutput']);
    const { out } = await doctor();
    expect(out).toMatch(/not read by anybody, .* behind, wal_status reserved/);
    expect(out).toContain(`SELECT pg_drop_replication_slot('slot_${test.name}');`);
  });

  it('D15: names every row whose content does not parse, and how to find it', async () => {
    const { accountId, policyId } = await insertAccount(test);
    await test.sql(`
      UPDATE policies SET conditions = '[17]';
      UPDATE resources SET filters = '[{"protocol": "carrier pigeon"}]';
      UPDATE accounts SET config = '{"search_domain": 5}';`);
    const { code, out } = await doctor();
    expect(code).toBe(1);
    expect(out).toContain('fault: policies.conditions');
    expect(out).toContain(`SELECT * FROM policies WHERE account_id = '${accountId}' AND id = '${policyId}';`);
    expect(out).toContain('fault: resources.filters');
    expect(out).toContain('fault: accounts.');
  });

  it('says how to migrate a database that is not', async () => {
    const empty = await createTestDatabase();
    try {
      const { code, out } = await runCommand(empty.url, ['doctor']);
      expect(code).toBe(1);
      expect(out).toContain('not migrated: 0001_accounts_and_actors');
      expect(out).toContain('fix: portcullis migrate');
    } finally {
      await empty.drop();
    }
  });
});

describe('the check of the server', () => {
  const check = async (url = test.url) => {
    const database = openDatabase(url, { max: 1 });
    try {
      return await checkServer(database, { prefix: 'portcullis', slot: `slot_${test.name}` });
    } finally {
      await database.close();
    }
  };
  const faults = async (url?: string) => (await check(url)).filter((fault) => fault.severity === 'fault');

  it('D6: each published table without whole old rows is a fault, which its own statement puts right', async () => {
    for (const table of [...ACCOUNT_TABLES, 'flows']) {
      await test.sql(`ALTER TABLE ${table} REPLICA IDENTITY DEFAULT`);
      const [found, ...others] = await faults();
      expect([table, found?.code, others]).toEqual([table, 'replica-identity', []]);
      await test.sql(found?.fix ?? '');
      expect(await faults()).toEqual([]);
    }
  });

  it('a role without privileges is told both, and its statements put it right', async () => {
    const role = `role_${test.name}`;
    await test.sql(`CREATE ROLE ${role} LOGIN PASSWORD 'x'; GRANT ALL ON ALL TABLES IN SCHEMA public TO ${role}`);
    try {
      const url = new URL(test.url);
      url.username = role;
      url.password = 'x';
      const found = await faults(url.href);
      expect(found.map((fault) => fault.code)).toEqual(['role-replication', 'role-create']);
      for (const { fix } of found) await test.sql(fix);
      expect(await faults(url.href)).toEqual([]);
    } finally {
      await test.sql(`DROP OWNED BY ${role}; DROP ROLE ${role}`);
    }
  });

  it('a publication that is gone is a fault', async () => {
    await test.sql('DROP PUBLICATION portcullis_flow_edits');
    expect((await faults()).map((fault) => fault.code)).toEqual(['publication']);
  });
});
