import { Client } from 'pg';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { ACCOUNT_TABLES } from '../../src/core/model/rows.js';
import { checkServer } from '../../src/db/check-server.js';
import { openDatabase } from '../../src/db/open-database.js';
import { insertAccount } from '../support/account-rows.js';
import { migrateToLatest } from '../../src/db/migrate.js';
import { runningFacts } from '../../src/db/running-facts.js';
import { startOwnPostgres } from '../support/own-postgres.js';
import { session, StreamUnderTest, until } from '../support/stream-under-test.js';
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
    expect(out).toMatch(/not read by anybody, .* behind, keeps .*, wal_status reserved/);
    expect(out).toContain(`SELECT pg_drop_replication_slot('slot_${test.name}');`);
  });

  it('says which process reads the slot, and how far behind it is in bytes and seconds', async () => {
    const stream = new StreamUnderTest(test);
    try {
      await stream.start();
      const { active_pid: pid } = await stream.slotRow();
      const { code, out } = await runCommand(test.url, ['doctor'], { REPLICATION_SLOT: stream.slot });
      expect(code).toBe(0);
      expect(out).toMatch(
        new RegExp(`read by a server \\(process ${String(pid)}\\), .* and \\d+\\.\\d s behind, keeps `),
      );
      const { out: json } = await runCommand(test.url, ['doctor', '--json'], { REPLICATION_SLOT: stream.slot });
      expect(JSON.parse(json)).toMatchObject({ ok: true, lag_seconds: expect.any(Number), slot: { active_pid: pid } });
    } finally {
      await stream.stop();
    }
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
      return await checkServer(database, { prefix: 'portcullis', slot: `slot_${test.name}`, mode: 'stream' });
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

interface Told {
  readonly ok: boolean;
  readonly faults: readonly { readonly code: string; readonly severity: string; readonly fix: string }[];
  readonly slot?: Readonly<Record<string, unknown>>;
  readonly lag_seconds: number | null;
  readonly settings: Readonly<Record<string, string>>;
  readonly change_log: { readonly bytes: number };
  readonly unreadable_rows: readonly { readonly table: string }[];
}

describe('portcullis doctor, on a server of its own', () => {
  let own: TestDatabase;
  const SLOT = 'doctored';

  beforeAll(async () => {
    own = await startOwnPostgres({
      ...{
        wal_level: 'logical',
        max_slot_wal_keep_size: '128MB',
        checkpoint_timeout: '1h',
        max_prepared_transactions: '2',
      },
    });
    await migrateToLatest(own.url);
  }, 60_000);

  afterAll(() => own.drop());

  afterEach(async () => {
    await own.query('SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots');
  });

  async function told(env: Readonly<Record<string, string>> = {}): Promise<Told> {
    const { code, out } = await runCommand(own.url, ['doctor', '--json'], { REPLICATION_SLOT: SLOT, ...env });
    const said = JSON.parse(out) as Told;
    expect(code).toBe(said.ok ? 0 : 1);
    return said;
  }

  const codes = ({ faults }: Told): string[] => faults.map(({ severity, code }) => `${severity} ${code}`);

  /** What its own statement says, run as it stands. */
  async function putRight({ faults }: Told): Promise<void> {
    for (const { fix } of faults) for (const one of fix.match(/[^;]+;/g) ?? []) await own.query(one);
  }

  const makeSlot = (options = `'pgoutput', false, false, true`) =>
    own.query(`SELECT pg_create_logical_replication_slot('${SLOT}', ${options})`);

  async function fill(segments: number): Promise<void> {
    for (let n = 0; n < segments; n += 1) {
      await own.query(`SELECT pg_logical_emit_message(false, 'test', 'x')`);
      await own.query('SELECT pg_switch_wal()');
    }
  }

  async function set(name: string, value: string): Promise<void> {
    await own.query(`ALTER SYSTEM SET ${name} = '${value}'`);
    await own.query('SELECT pg_reload_conf()');
    await until(async () => {
      const { rows } = await own.query<{ is: boolean }>(
        `SELECT setting <> boot_val AS is FROM pg_settings WHERE name = $1`,
        [name],
      );
      return rows[0]?.is === true;
    }, 'the setting');
  }

  it('says in JSON what it says in words', async () => {
    await makeSlot();
    const said = await told();
    expect(said).toMatchObject({ ok: true, faults: [], lag_seconds: null, unreadable_rows: [] });
    expect(said.slot).toEqual({
      ...{ active_pid: null, wal_status: 'reserved', invalidation: null, failover: true },
      ...{ retained_bytes: expect.any(Number), lag_bytes: expect.any(Number), safe_wal_bytes: expect.any(Number) },
    });
    expect(said.settings).toMatchObject({ wal_level: 'logical', max_wal_senders: '10', wal_sender_timeout: '1min' });
    expect(said.change_log.bytes).toBeGreaterThan(0);
  });

  it('names a slot that fills up, one that the next checkpoint loses, and one that is lost', async () => {
    await makeSlot();
    await fill(5);
    expect(codes(await told())).toEqual(['warning slot-lag']);
    await fill(5);
    expect(codes(await told())).toEqual(['fault slot-unreserved']);
    await own.query('CHECKPOINT');
    const lost = await told();
    expect(codes(lost)).toEqual(['fault slot-lost']);
    expect(lost.slot).toMatchObject({ wal_status: 'lost', invalidation: 'wal_removed' });
    await putRight(lost);
    expect(codes(await told())).toEqual([]);
  });

  it('names a slot that is not of our kind', async () => {
    await own.query(`SELECT pg_create_physical_replication_slot('${SLOT}', true)`);
    expect(codes(await told())).toEqual(['fault slot-foreign']);
  });

  it('names each way in which a publication can be wrong, and the command that mends it', async () => {
    for (const harm of [
      'ALTER PUBLICATION portcullis_changes DROP TABLE groups',
      'CREATE TABLE IF NOT EXISTS strange (id int PRIMARY KEY); ALTER PUBLICATION portcullis_changes ADD TABLE strange',
      `ALTER PUBLICATION portcullis_flow_edits SET (publish = 'delete')`,
      `ALTER PUBLICATION portcullis_flow_edits SET TABLE flows WHERE (expires_at > '2000-01-01')`,
      'DROP PUBLICATION portcullis_flow_edits; CREATE PUBLICATION portcullis_flow_edits FOR ALL TABLES',
    ]) {
      await own.sql(harm);
      const said = await told();
      expect([harm, codes(said)]).toEqual([harm, ['fault publication-drift']]);
      expect(said.faults[0]?.fix).toBe('portcullis migrate');
      await migrateToLatest(own.url);
      expect([harm, codes(await told())]).toEqual([harm, []]);
    }
  });

  it('names settings that cut the stream off, lose the slot or leave no connection', async () => {
    await set('wal_sender_timeout', '5s');
    await set('idle_replication_slot_timeout', '1h');
    const said = await told();
    expect(codes(said)).toEqual(['warning wal-sender-timeout', 'warning idle-slot-timeout']);
    await putRight(said);
    await until(async () => codes(await told()).length === 0, 'the settings to be right');
    expect(codes(await told({ DATABASE_POOL_SIZE: '100' }))).toEqual(['warning connections']);
  });

  it('names transactions that hold the log and keep a slot from being made, and their statements end them', async () => {
    const writer = await session(own);
    await writer.query(`BEGIN; INSERT INTO accounts DEFAULT VALUES`);
    await own.sql(`BEGIN; INSERT INTO accounts DEFAULT VALUES; PREPARE TRANSACTION 'it''s'`);
    const database = openDatabase(own.url, { max: 1 });
    try {
      const { open } = await runningFacts(database, SLOT, 0);
      expect(open).toEqual([
        {
          pid: expect.any(Number),
          gid: undefined,
          database: own.name,
          user: 'portcullis',
          forSeconds: expect.any(Number),
        },
        { pid: undefined, gid: "it's", database: own.name, user: 'portcullis', forSeconds: expect.any(Number) },
      ]);
      expect((await runningFacts(database, SLOT, 60_000)).open).toEqual([]);
      await own.query(`SELECT pg_terminate_backend(${open[0]?.pid ?? 0}, 5000)`);
      await own.query(`ROLLBACK PREPARED 'it''s'`);
      expect((await runningFacts(database, SLOT, 0)).open).toEqual([]);
    } finally {
      await database.close();
      await writer.end();
    }
  });

  it('names a slot that does not follow failovers, and a standby that the stream may be ahead of', async () => {
    await makeSlot(`'pgoutput'`);
    expect(codes(await told())).toEqual(['warning slot-failover']);
    await own.query('SELECT pg_drop_replication_slot($1)', [SLOT]);
    await makeSlot();
    await own.query(`SELECT pg_create_physical_replication_slot('standby_one', true)`);
    const standby = new Client({ connectionString: own.url, replication: 'true' } as ConstructorParameters<
      typeof Client
    >[0]);
    standby.on('error', () => undefined);
    await standby.connect();
    const { rows } = await own.query<{ at: string }>('SELECT pg_current_wal_flush_lsn()::text AS at');
    const streaming = standby
      .query(`START_REPLICATION SLOT standby_one PHYSICAL ${rows[0]?.at ?? ''}`)
      .catch(() => undefined);
    await until(async () => codes(await told()).includes('warning standby-slots'), 'the standby to be named');
    await putRight(await told());
    await until(async () => codes(await told()).length === 0, 'it to be waited for');
    await own.query(`ALTER SYSTEM RESET synchronized_standby_slots`);
    await own.query('SELECT pg_reload_conf()');
    standby.connection.stream.destroy();
    await streaming;
    await until(async () => {
      const left = await own.query('SELECT FROM pg_replication_slots WHERE active');
      return left.rowCount === 0;
    }, 'the standby to be gone');
  });
});
