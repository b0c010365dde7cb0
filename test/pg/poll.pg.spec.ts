/** The stream by polling, on a real server: the same promises over an ordinary connection (events.md B.12). */
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { parsePosition } from '../../src/core/model/position.js';
import { dropSlotInUse } from '../support/drop-slot.js';
import { type AccountIds, insertAccount } from '../support/account-rows.js';
import { RecordingSink, session, type StreamSetup, StreamUnderTest, until } from '../support/stream-under-test.js';
import { createMigratedDatabase, type TestDatabase } from '../support/test-database.js';

let database: TestDatabase;
let ours: AccountIds;
let running: StreamUnderTest[];
/** Commits that came after the sink was told that everything up to them had come; looked at after each test. */
let passedTooEarly: bigint[];

beforeEach(async () => {
  database = await createMigratedDatabase();
  ours = await insertAccount(database);
  running = [];
  passedTooEarly = [];
});

afterEach(async () => {
  for (const stream of running) await stream.stop();
  await database.drop();
  expect(passedTooEarly).toEqual([]);
});

function prepared(setup: StreamSetup = {}): StreamUnderTest {
  const stream = new StreamUnderTest(database, { ...setup, options: { mode: 'poll', ...setup.options } });
  running.push(stream);
  stream.sink.onAccept = ({ position }) => {
    if (position <= stream.sink.passedPosition) passedTooEarly.push(position);
  };
  return stream;
}

async function started(setup: StreamSetup = {}): Promise<StreamUnderTest> {
  const stream = prepared(setup);
  await stream.start();
  return stream;
}

const PASS_ROUNDS = 1_000;

const insertGroup = (name: string): string =>
  `INSERT INTO groups (account_id, name) VALUES ('${ours.accountId}', '${name}')`;
/** Names of the groups that came, commit by commit. */
const groupNames = (stream: StreamUnderTest): (string | null | undefined)[] =>
  stream.sink
    .rowsOf(ours.accountId)
    .filter(({ table }) => table === 'groups')
    .map((change) => (change.new ?? change.old)?.['name']);
const times = (stream: StreamUnderTest, event: string): number =>
  stream.log.events().filter((each) => each === event).length;
const positions = (stream: StreamUnderTest): bigint[] => stream.sink.commits.map(({ position }) => position);

/** The connections that poll; an open one is found by its name. */
async function pollers(): Promise<number[]> {
  const { rows } = await database.query<{ pid: number }>(
    `SELECT pid FROM pg_stat_activity WHERE application_name = 'portcullis stream' AND datname = $1`,
    [database.name],
  );
  return rows.map(({ pid }) => pid);
}

async function confirmed(stream: StreamUnderTest): Promise<bigint> {
  return parsePosition((await stream.slotRow()).confirmed) ?? 0n;
}

/** Each mark moves the log, so that the slot is peeked again. */
async function afterMorePeeks(stream: StreamUnderTest, count: number): Promise<void> {
  for (let n = 0; n < count; n += 1) await stream.caughtUp();
}

const manyGroups = (count: number): string =>
  `INSERT INTO groups (account_id, name) SELECT '${ours.accountId}', 'm' || n FROM generate_series(1, ${count}) n`;

/** Of the lock that keeps other processes from the slot, as a statement takes them. */
async function lockKeys(): Promise<string> {
  const { rows } = await database.query<{ keys: string }>(
    `SELECT classid || ', ' || ('x' || lpad(to_hex(objid::bigint), 8, '0'))::bit(32)::int AS keys FROM pg_locks
     WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = $1)`,
    [database.name],
  );
  return rows[0]?.keys ?? '';
}

describe('commits', () => {
  it('ORD-1: arrive in the order of committing, whole and once, also those that overlap', async () => {
    const stream = await started();
    const [a, b] = [await session(database), await session(database)];
    await a.query('BEGIN');
    await a.query(insertGroup('a1'));
    await b.query(`BEGIN; ${insertGroup('b1')}`);
    await a.query(insertGroup('a2'));
    await b.query('COMMIT');
    await a.query('COMMIT');
    for (let n = 0; n < 50; n += 1) await a.query(insertGroup(`n${n}`));
    await stream.caughtUp();
    expect(groupNames(stream)).toEqual(['b1', 'a1', 'a2', ...Array.from({ length: 50 }, (_, n) => `n${n}`)]);
    expect(positions(stream)).toEqual([...new Set(positions(stream))].sort((x, y) => (x < y ? -1 : 1)));
    await until(() => stream.memory.entries.length >= 53, 'everything to be recorded');
    expect(stream.memory.entries).toHaveLength(53);
    await Promise.all([a.end(), b.end()]);
  });

  it('B.12: written while the slot is asked are not passed before they came', async () => {
    const stream = await started();
    const client = await session(database);
    for (let n = 0; n < PASS_ROUNDS; n += 1) await client.query(insertGroup(`n${n}`));
    await stream.caughtUp();
    expect(groupNames(stream)).toHaveLength(PASS_ROUNDS);
    await client.end();
  });

  it('that are not acknowledged come again with each peek and are handed on once', async () => {
    const sink = new RecordingSink();
    sink.settleUpTo = 0n;
    const stream = await started({ sink });
    for (let n = 0; n < 5; n += 1) {
      await database.sql(insertGroup(`n${n}`));
      await afterMorePeeks(stream, 1);
    }
    expect(groupNames(stream)).toEqual(['n0', 'n1', 'n2', 'n3', 'n4']);
    expect(new Set(positions(stream)).size).toBe(positions(stream).length);
    // The test is about something: the slot still stands before the first, so each peek began with it.
    expect(await confirmed(stream)).toBeLessThan(stream.rowCommits()[0]?.position ?? 0n);
  });

  it('that are not acknowledged do not hide those behind them, however many they are', async () => {
    const sink = new RecordingSink();
    sink.settleUpTo = 0n;
    const stream = await started({ sink });
    for (let n = 0; n < 3; n += 1) await database.sql(manyGroups(9_000));
    await stream.caughtUp();
    await database.sql(insertGroup('behind them'));
    await stream.caughtUp();
    expect(groupNames(stream)).toHaveLength(27_001);
    expect(groupNames(stream).at(-1)).toBe('behind them');
  });

  it('of a backlog longer than one peek are not passed before they came', async () => {
    await (await started()).stop();
    for (let n = 0; n < 3; n += 1) await database.sql(manyGroups(9_000));
    const stream = await started();
    await stream.caughtUp();
    expect(stream.rowCommits().map(({ changeCount }) => changeCount)).toEqual([9_000, 9_000, 9_000]);
  });

  it.each([5_000, 25_000])('of %i rows arrive whole, and so does the next', async (rows) => {
    const stream = await started();
    await database.sql(manyGroups(rows));
    await database.sql(insertGroup('next'));
    await stream.caughtUp();
    expect(stream.rowCommits().map(({ changeCount }) => changeCount)).toEqual([rows, 1]);
    expect(groupNames(stream).at(-1)).toBe('next');
  });

  it('read again while a column gets another type have everything read again once, not with each peek', async () => {
    const sink = new RecordingSink();
    sink.settleUpTo = 0n;
    const stream = await started({ sink });
    await database.sql(insertGroup('before'));
    await stream.caughtUp();
    const before = sink.commits.length;
    await database.sql('ALTER TABLE groups ALTER COLUMN name TYPE varchar(200)');
    await database.sql(insertGroup('after'));
    await afterMorePeeks(stream, 4);
    expect(groupNames(stream)).toEqual(['before', 'after']);
    const owed = sink.commits.slice(before).filter(({ resync }) => resync === 'all');
    expect(owed).toHaveLength(1);
  });

  it('that the stream has passed are known as such, though nothing published was written', async () => {
    const stream = await started();
    await database.sql('CREATE TABLE unpublished (n int); INSERT INTO unpublished VALUES (1)');
    const { rows } = await database.query<{ lsn: string }>('SELECT pg_current_wal_lsn()::text AS lsn');
    const position = parsePosition(rows[0]?.lsn ?? '') ?? 0n;
    await until(() => stream.sink.passedPosition >= position, 'the position to be passed');
    await until(async () => (await confirmed(stream)) >= position, 'the slot to follow');
    await until(() => stream.replication.freshness.isFresh(), 'a heartbeat');
    expect(stream.rowCommits()).toEqual([]);
  });

  it('prove freshness without the right to write heartbeats, and while nothing can be asked', async () => {
    let isAnswering = true;
    const stream = await started({
      run: async (sql, values) => {
        if (!isAnswering || sql.includes('emit_message')) throw new Error('refused');
        return (await database.query<Record<string, unknown>>(sql, values)).rows;
      },
    });
    await until(() => stream.replication.freshness.isFresh(), 'the end of the log to be passed');
    isAnswering = false;
    const other = prepared({ run: () => Promise.reject(new Error('refused')) });
    await stream.stop();
    await other.start();
    await until(() => other.replication.freshness.isFresh(), 'the keepalive that was asked for');
  });
});

describe('the acknowledgement', () => {
  it('ACK-1: never passes a commit that has not settled; a restart brings exactly what was not acknowledged', async () => {
    const sink = new RecordingSink();
    sink.settleUpTo = 0n;
    const first = await started({ sink });
    for (const name of ['one', 'two', 'three']) await database.sql(insertGroup(name));
    await first.caughtUp();
    const [, two, three] = first.rowCommits();
    await afterMorePeeks(first, 3);
    expect(await confirmed(first)).toBeLessThan(first.rowCommits()[0]?.position ?? 0n);
    sink.settleUpTo = two?.position;
    await until(async () => (await confirmed(first)) >= (two?.position ?? 0n), 'the second to be acknowledged');
    await afterMorePeeks(first, 3);
    await first.stop();
    expect(await confirmed(first)).toBeLessThan(three?.position ?? 0n);
    expect(await first.slotRow()).toMatchObject({ active: false, active_pid: null });
    await database.sql(insertGroup('while away'));
    const second = await started();
    await second.caughtUp();
    expect(groupNames(second)).toEqual(['three', 'while away']);
    expect(second.sink.resyncs).toEqual([]);
  });

  it('is made for the last commits at a stop, which frees the slot for another process', async () => {
    const first = await started();
    await database.sql(insertGroup('last'));
    await first.caughtUp();
    await first.stop();
    expect(await confirmed(first)).toBeGreaterThanOrEqual(first.sink.commits.at(-1)?.position ?? 0n);
    expect(await pollers()).toEqual([]);
    const second = await started();
    await second.caughtUp();
    expect(groupNames(second)).toEqual([]);
  });
});

describe('a connection', () => {
  it('that is killed again and again under load loses nothing and applies nothing twice', async () => {
    const sink = new RecordingSink();
    sink.settleUpTo = 0n; // so that each connection begins with all that the former ones have brought
    const stream = await started({ sink });
    const client = await session(database);
    const written: string[] = [];
    let kills = 0;
    const killing = (async () => {
      while (kills < 5) {
        const [pid] = await pollers();
        if (pid !== undefined && (await database.query('SELECT pg_terminate_backend($1)', [pid])).rowCount === 1) {
          kills += 1;
        }
        await until(() => times(stream, 'replication.streaming') > kills, 'another connection');
      }
    })();
    for (let n = 0; kills < 5; n += 1) {
      written.push(`g${n}`);
      await client.query(`BEGIN; ${insertGroup(`g${n}`)}; ${insertGroup(`g${n}`)}; COMMIT`);
    }
    await killing;
    await stream.caughtUp();
    expect(groupNames(stream)).toEqual(written.flatMap((name) => [name, name]));
    expect(new Set(positions(stream)).size).toBe(positions(stream).length);
    expect(stream.sink.resyncs).toHaveLength(1); // the new slot's; a broken connection owes none
    await client.end();
  });

  it('with too much pending makes no new peek, goes on acknowledging, and peeks again below half', async () => {
    const sink = new RecordingSink();
    sink.settleUpTo = 0n;
    const stream = await started({ sink, options: { maxPendingBytes: 1_000 } });
    await database.sql(insertGroup('one'));
    await stream.caughtUp();
    const one = stream.rowCommits()[0]?.position ?? 0n;
    let timesTooMuch = 0;
    sink.pendingBytes = () => {
      timesTooMuch += 1;
      return 2_000;
    };
    await until(() => timesTooMuch > 0, 'the next peek to find too much pending');
    await database.sql(insertGroup('two'));
    sink.settleUpTo = undefined;
    await until(async () => (await confirmed(stream)) >= one, 'the first to be acknowledged');
    const before = timesTooMuch;
    await until(() => timesTooMuch > before + 10, 'it to have looked again and again');
    expect(groupNames(stream)).toEqual(['one']);
    sink.pendingBytes = () => 0;
    await stream.caughtUp();
    expect(groupNames(stream)).toEqual(['one', 'two']);
    expect(times(stream, 'replication.broken')).toBe(0);
  });

  it('of a second process is refused by the lock, nobody is thrown out, and it takes over when the first stops', async () => {
    const holder = await started();
    const waiting = prepared();
    waiting.replication.start();
    await until(() => times(waiting, 'replication.slot-held') > 1, 'the second to find it held, twice');
    await database.sql(insertGroup('for the holder'));
    await holder.caughtUp();
    expect(groupNames(holder)).toEqual(['for the holder']);
    expect(times(waiting, 'replication.streaming')).toBe(0);
    expect(times(holder, 'replication.broken')).toBe(0);
    await holder.stop();
    await until(() => times(waiting, 'replication.streaming') > 0, 'the second to take over');
    await database.sql(insertGroup('for the second'));
    await waiting.caughtUp();
    expect(groupNames(waiting)).toEqual(['for the second']);
  });
});

describe('the slot', () => {
  it('is made with a snapshot that nothing open at its start is part of, and owes every store a resync', async () => {
    const stream = await started();
    expect(stream.replication.startSnapshot()?.running.size).toBe(0);
    expect(stream.sink.calls[0]).toBe('replication slot: absent');
    await stream.stop();
    const second = await started();
    await second.caughtUp();
    expect(second.replication.startSnapshot()).toBeUndefined();
    expect(second.sink.resyncs).toEqual([]);
  });

  it('D14: dropped under the stream is made again, and every store is owed a resync', async () => {
    const stream = await started();
    await database.sql(dropSlotInUse(stream.slot));
    await until(() => stream.sink.resyncs.length === 2, 'the second resync');
    expect(stream.sink.resyncs[1]).toMatch(/absent|publication/);
    await database.sql(insertGroup('afterwards'));
    await stream.caughtUp();
    expect(groupNames(stream)).toEqual(['afterwards']);
  });

  it('D7: is replaced when a publication is dropped under the stream', async () => {
    const stream = await started();
    await database.sql('DROP PUBLICATION portcullis_changes');
    await database.sql(insertGroup('meanwhile'));
    await until(() => stream.sink.resyncs.length >= 2, 'a resync');
    await stream.caughtUp();
    await database.sql(insertGroup('afterwards'));
    await stream.caughtUp();
    expect(stream.sink.resyncs.slice(0, 2)).toEqual([
      'replication slot: absent',
      'replication slot: publication-altered',
    ]);
    expect(groupNames(stream).at(-1)).toBe('afterwards');
  });

  it('D14: that somebody else has moved on has every store read again', async () => {
    const stream = await started();
    await stream.caughtUp();
    const other = await session(database);
    const keys = await lockKeys();
    const [pid] = await pollers();
    await other.query(`SELECT pg_terminate_backend(${pid}); SELECT pg_advisory_lock(${keys})`);
    await database.sql(insertGroup('taken by another'));
    await other.query(`SELECT pg_replication_slot_advance('${stream.slot}', pg_current_wal_flush_lsn())`);
    await other.end();
    await until(() => times(stream, 'replication.streaming') === 2, 'the stream to go on');
    expect(stream.sink.resyncs).toEqual([
      'replication slot: absent',
      'another process has read the replication slot meanwhile',
    ]);
  });

  it('can be polled only by a role with REPLICATION: the functions demand it as a replication connection does', async () => {
    const role = `poller_${database.name.slice(-12)}`;
    await database.sql(`CREATE ROLE ${role} LOGIN; GRANT SELECT ON ALL TABLES IN SCHEMA public TO ${role}`);
    const client = await session(database);
    await client.query(`SET ROLE ${role}`);
    const create = `SELECT pg_create_logical_replication_slot('refused_${role}', 'pgoutput')`;
    await expect(client.query(create)).rejects.toMatchObject({ code: '42501' });
    await client.query(`RESET ROLE; ALTER ROLE ${role} REPLICATION; SET ROLE ${role}`);
    await expect(client.query(`SELECT system_identifier FROM pg_control_system()`)).resolves.toBeDefined();
    const made = `SELECT pg_create_logical_replication_slot('s_${role}', 'pgoutput', true)`;
    await expect(client.query(made)).resolves.toBeDefined();
    await client.end();
    await database.sql(`DROP OWNED BY ${role}; DROP ROLE ${role}`);
  });
});
