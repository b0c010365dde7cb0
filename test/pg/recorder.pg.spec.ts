/** The stream into the real event store, `change_log`. */
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { formatPosition } from '../../src/core/model/position.js';
import { type Database, openDatabase } from '../../src/db/open-database.js';
import { PostgresChangeLog } from '../../src/db/postgres-change-log.js';
import { type AccountIds, insertAccount } from '../support/account-rows.js';
import { RecordingSink, type StreamSetup, StreamUnderTest, until } from '../support/stream-under-test.js';
import { createMigratedDatabase, type TestDatabase } from '../support/test-database.js';

let database: TestDatabase;
let store: Database;
let ours: AccountIds;
let running: StreamUnderTest[];

beforeEach(async () => {
  database = await createMigratedDatabase();
  store = openDatabase(database.url, { max: 2 });
  ours = await insertAccount(database);
  running = [];
});

afterEach(async () => {
  for (const stream of running) await stream.stop();
  await store.close();
  await database.drop();
});

async function started(setup: StreamSetup = {}): Promise<StreamUnderTest> {
  const stream = new StreamUnderTest(database, { changeLog: new PostgresChangeLog(store), ...setup });
  running.push(stream);
  await stream.start();
  return stream;
}

interface LoggedRow {
  readonly position: string;
  readonly seq: number;
  readonly account_id: string | null;
  readonly table_name: string;
  readonly op: string;
  readonly old_row: Record<string, unknown> | null;
  readonly new_row: Record<string, unknown> | null;
}

async function logged(atLeast: number): Promise<LoggedRow[]> {
  let rows: LoggedRow[] = [];
  await until(async () => {
    ({ rows } = await database.query<LoggedRow & Record<string, unknown>>(
      'SELECT position::text, seq, account_id, table_name, op, old_row, new_row FROM change_log ORDER BY change_log.position, seq',
    ));
    return rows.length >= atLeast;
  }, `${atLeast} recorded changes`);
  return rows;
}

describe('D10: the event store', () => {
  it('has every change of a commit under its position and place, as raw column text', async () => {
    const stream = await started();
    await database.sql(`
      UPDATE policies SET disabled_at = '2026-01-05 09:00:00.5+00';
      INSERT INTO groups (account_id, name) VALUES ('${ours.accountId}', 'Zürich');
      TRUNCATE flows;
      INSERT INTO tokens (kind) VALUES ('relay')`);
    await stream.caughtUp();
    const position = formatPosition(stream.rowCommits()[0]?.position ?? 0n);
    const rows = await logged(4);
    expect(rows.map((row) => [row.position, row.seq, row.account_id, row.table_name, row.op])).toEqual([
      [position, 0, ours.accountId, 'policies', 'update'],
      [position, 1, ours.accountId, 'groups', 'insert'],
      [position, 2, null, 'flows', 'truncate'],
      [position, 3, null, 'tokens', 'insert'],
    ]);
    expect(rows[0]?.old_row).toMatchObject({ id: ours.policyId, disabled_at: null });
    expect(rows[0]?.new_row).toMatchObject({ id: ours.policyId, disabled_at: '2026-01-05 09:00:00.5+00' });
    expect(rows[1]?.new_row).toMatchObject({ name: 'Zürich' });
    expect(rows[3]?.new_row).toMatchObject({ account_id: null, kind: 'relay' });
  });

  it.each([
    ['stream', 2], // that connection is broken too; a poll reads for a moment only
    ['poll', 1],
  ] as const)(
    'has every row of a commit too large to be held, whatever breaks in the middle: %s',
    async (mode, broken) => {
      const stream = await started({
        options: { mode, maxTxChanges: 500, maxPendingBytes: 400_000, maxTxBytes: 300_000 },
      });
      const insertMany = (name: string): Promise<unknown> =>
        database.query(`INSERT INTO groups (account_id, name) SELECT $1, $2 || n FROM generate_series(1, 20000) n`, [
          ours.accountId,
          name,
        ]);
      await insertMany('first ');
      const half = insertMany('second ');
      await until(async () => {
        const { rows } = await database.query<{ pid: number }>(
          `SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name LIKE $1 || '%' AND active
           AND EXISTS (SELECT FROM pg_replication_slots WHERE slot_name LIKE $1 || '_again_%')`,
          [stream.slot],
        );
        return rows.length >= broken;
      }, 'the connections to be broken in the middle');
      await half;
      await database.sql(`INSERT INTO groups (account_id, name) VALUES ('${ours.accountId}', 'after')`);
      await stream.caughtUp();
      const rows = await logged(40_001);
      const positions = stream.rowCommits().map(({ position }) => formatPosition(position));
      expect(positions).toHaveLength(3);
      const counts = positions.map((at) => rows.filter(({ position }) => position === at).length);
      expect(counts).toEqual([20_000, 20_000, 1]);
      expect(new Set(rows.map(({ new_row: row }) => row?.['name'])).size).toBe(40_001);
      expect(rows.slice(0, 20_000).map(({ seq }) => seq)).toEqual(Array.from({ length: 20_000 }, (_, seq) => seq));
      const { rows: slots } = await database.query('SELECT slot_name FROM pg_replication_slots WHERE database = $1', [
        database.name,
      ]);
      expect(slots).toEqual([{ slot_name: stream.slot }]);
    },
  );

  it('keeps one copy of a commit that is read twice', async () => {
    const sink = new RecordingSink();
    sink.settleUpTo = 0n; // nothing is acknowledged, so a restart reads all of it again
    const first = await started({ sink });
    await database.query(`INSERT INTO groups (account_id, name) SELECT $1, 'g' || n FROM generate_series(1, 2500) n`, [
      ours.accountId,
    ]);
    await first.caughtUp();
    const rows = await logged(2_500);
    await first.stop();
    const second = await started();
    await second.caughtUp();
    await second.stop();
    expect(second.rowCommits()[0]?.changeCount).toBe(2_500);
    expect(await logged(2_500)).toEqual(rows);
  });

  it('ACK-1: keeps the slot back while the event store cannot be written, and loses nothing over a restart', async () => {
    await database.sql('ALTER TABLE change_log RENAME TO change_log_away');
    const first = await started();
    await database.sql(`INSERT INTO groups (account_id, name) VALUES ('${ours.accountId}', 'unrecorded')`);
    await first.caughtUp();
    await until(() => first.log.events('warn').includes('recorder.append-failed'), 'the failure');
    await first.stop();
    await database.sql('ALTER TABLE change_log_away RENAME TO change_log');
    await started();
    expect((await logged(1)).map((row) => row.new_row)).toMatchObject([{ name: 'unrecorded' }]);
  });

  it('does not follow itself: writing the store makes no commits to record', async () => {
    const stream = await started();
    await database.sql(`INSERT INTO groups (account_id, name) VALUES ('${ours.accountId}', 'one')`);
    await logged(1);
    await stream.caughtUp();
    expect(stream.rowCommits()).toHaveLength(1);
    expect(await logged(1)).toHaveLength(1);
  });
});
