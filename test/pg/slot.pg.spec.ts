/** The slot's life: made, held by another, lost, spoilt by its publication, on another server. */
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, connect, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { Slot } from '../../src/replication/slot.js';
import { type EmbeddedPostgres, startEmbedded } from '../../src/embedded/start-embedded.js';
import { type AccountIds, insertAccount } from '../support/account-rows.js';
import {
  RememberingLog,
  runAt,
  session,
  type StreamSetup,
  StreamUnderTest,
  until,
} from '../support/stream-under-test.js';
import { startOwnPostgres } from '../support/own-postgres.js';
import { createMigratedDatabase, createTestDatabase, type TestDatabase } from '../support/test-database.js';

let database: TestDatabase;
let ours: AccountIds;
let running: StreamUnderTest[];
let proxies: Proxy[];

beforeEach(() => {
  running = [];
  proxies = [];
});

afterEach(async () => {
  for (const stream of running) await stream.stop();
  for (const proxy of proxies) proxy.close();
});

const MODES = ['stream', 'poll'] as const;

/** Server processes of our connections, by the name they give themselves. */
async function backends(): Promise<number[]> {
  const { rows } = await database.query<{ pid: number }>(
    `SELECT pid FROM pg_stat_activity WHERE application_name = 'portcullis stream' AND datname = $1`,
    [database.name],
  );
  return rows.map(({ pid }) => pid);
}

async function migrated(): Promise<void> {
  database = await createMigratedDatabase();
  ours = await insertAccount(database);
}

function prepared(setup: StreamSetup = {}): StreamUnderTest {
  const stream = new StreamUnderTest(database, setup);
  running.push(stream);
  return stream;
}

async function started(setup: StreamSetup = {}): Promise<StreamUnderTest> {
  const stream = prepared(setup);
  await stream.start();
  return stream;
}

const insertGroup = (name: string): Promise<void> =>
  database.sql(`INSERT INTO groups (account_id, name) VALUES ('${ours.accountId}', '${name}')`);
const groupNames = (stream: StreamUnderTest): (string | null | undefined)[] =>
  stream.sink.rowsOf(ours.accountId).map((row) => row.new?.['name']);

describe('a slot', () => {
  const TAKE = 'ALTER PUBLICATION portcullis_changes DROP TABLE groups';
  const GIVE = 'ALTER PUBLICATION portcullis_changes ADD TABLE groups';
  const ALTERED = 'replication slot: publication-altered';
  const isReplaced = (stream: StreamUnderTest) =>
    until(() => stream.log.events().filter((event) => event === 'replication.streaming').length > 1, 'the next stream');

  beforeEach(migrated);
  afterEach(async () => {
    for (const stream of running) await stream.stop();
    await database.drop();
  });

  it('D13: is made with what was visible at its start, and every store is owed a resync before its first commit', async () => {
    const client = await session(database);
    const { rows } = await client.query<{ xid: string }>('SELECT pg_current_xact_id()::text AS xid');
    const before = BigInt(rows[0]?.xid ?? 0);
    const stream = await started();
    const snapshot = stream.replication.startSnapshot();
    expect(snapshot && before < snapshot.xmax && !snapshot.running.has(before)).toBe(true);
    await insertGroup('first');
    await stream.caughtUp();
    expect(stream.rowCommits()[0]?.xid).toBeGreaterThanOrEqual(snapshot?.xmax ?? 0n);
    expect(stream.sink.calls[0]).toBe('replication slot: absent');
    await client.end();
  });

  it('is used again as it stands, without a start snapshot or a resync', async () => {
    const first = await started();
    await first.stop();
    const second = await started();
    expect(second.replication.startSnapshot()).toBeUndefined();
    expect(second.sink.resyncs).toEqual([]);
  });

  it('D10: follows failovers where the server can let it: when it is made, and when an older one is found', async () => {
    const { rows } = await database.query<{ can: boolean }>(
      `SELECT current_setting('server_version_num')::int >= 170000 AS can`,
    );
    const can = rows[0]?.can ?? false;
    const followsFailovers = async (slot: string): Promise<boolean> => {
      const { rows: slots } = await database.query<{ failover: string | null }>(
        `SELECT to_jsonb(s) ->> 'failover' AS failover FROM pg_replication_slots s WHERE slot_name = $1`,
        [slot],
      );
      return slots[0]?.failover === 'true';
    };
    const first = await started();
    expect(await followsFailovers(first.slot)).toBe(can);
    await first.stop();

    await database.query('SELECT pg_drop_replication_slot($1)', [first.slot]);
    await database.query(`SELECT pg_create_logical_replication_slot($1, 'pgoutput')`, [first.slot]);
    await insertGroup('kept');
    expect(await followsFailovers(first.slot)).toBe(false);
    const second = await started();
    expect(await followsFailovers(second.slot)).toBe(can);
    await second.caughtUp();
    expect(groupNames(second)).toEqual(['kept']);
    expect(second.sink.resyncs).toEqual([]);
  });

  it('held by another process is waited for, and nobody is thrown out', async () => {
    const holder = await started();
    const waiting = prepared();
    waiting.replication.start();
    await until(() => waiting.log.events('warn').includes('replication.slot-held'), 'the second to find it held');
    await insertGroup('for the holder');
    await holder.caughtUp();
    expect(groupNames(holder)).toEqual(['for the holder']);
    expect((await holder.slotRow()).active).toBe(true);
    await holder.stop();
    await until(() => waiting.log.events().includes('replication.streaming'), 'the second to take over');
    await insertGroup('for the second');
    await waiting.caughtUp();
    expect(groupNames(waiting)).toContain('for the second');
  });

  it('that another process reads is shown as in use, by whom, and nobody else’s state is shown', async () => {
    const holder = await started({ options: { heartbeatIntervalMs: 20 } });
    await until(() => holder.replication.slotStatus()?.state === 'reserved', 'the holder to see its slot');
    expect(holder.replication.slotProblem()).toBeUndefined();
    const waiting = prepared({ options: { heartbeatIntervalMs: 20 } });
    waiting.replication.start();
    await until(() => waiting.replication.slotStatus()?.state === 'in-use', 'the second to see it in use');
    const { active_pid: pid } = await holder.slotRow();
    expect(waiting.replication.slotProblem()).toContain(`(server process ${String(pid)})`);
    await holder.stop();
    await until(() => waiting.replication.slotStatus()?.state === 'reserved', 'the second to have it');
    expect(waiting.replication.slotProblem()).toBeUndefined();
  });

  it('F8: while a transaction that is open keeps it from being made, the problem says so; it is made right after', async () => {
    const writer = await session(database);
    await writer.query('BEGIN');
    await writer.query('SELECT pg_current_xact_id()');
    const stream = prepared({ options: { heartbeatIntervalMs: 20 } });
    stream.replication.start();
    await until(
      async () =>
        (
          await database.query(`SELECT FROM pg_stat_activity WHERE datname = current_database()
          AND query LIKE 'CREATE_REPLICATION_SLOT%' AND wait_event = 'transactionid'`)
        ).rowCount === 1,
      'the making to wait',
    );
    const begun = Date.now();
    await until(() => stream.replication.slotProblem() !== undefined, 'the problem');
    expect(stream.replication.slotProblem()).toMatch(/^there is no replication slot/);
    expect(stream.log.events('warn')).not.toContain('replication.broken');
    await writer.query('COMMIT');
    await writer.end();
    await until(() => stream.log.events().includes('replication.streaming'), 'the stream', 2_000);
    expect(Date.now() - begun).toBeLessThan(5_000);
    expect(stream.sink.resyncs).toEqual(['replication slot: absent']);
  });

  it('of another database or plugin is left alone and named', async () => {
    const other = await createTestDatabase();
    const stream = prepared();
    await other.query(`SELECT pg_create_logical_replication_slot($1, 'pgoutput')`, [stream.slot]);
    stream.replication.start();
    await until(() => stream.log.events('warn').includes('replication.broken'), 'the refusal');
    const [refusal] = stream.log.lines.filter(({ event }) => event === 'replication.broken');
    expect(String(refusal?.fields['error'])).toContain(`"${stream.slot}" belongs to another database`);
    const { rows } = await other.query('SELECT FROM pg_replication_slots WHERE slot_name = $1', [stream.slot]);
    expect(rows).toHaveLength(1);
    await stream.stop();
    await other.drop();
  });

  it('dropped by a person is made again, and every store is owed a resync', async () => {
    const stream = await started();
    await insertGroup('before');
    await stream.caughtUp();
    const { active_pid: pid } = await stream.slotRow();
    await database.query('SELECT pg_terminate_backend($1, 5000)', [pid]);
    // The stream may be quicker to come back; then the drop is refused and tried again.
    await until(async () => {
      try {
        await database.query('SELECT pg_drop_replication_slot($1)', [stream.slot]);
        return true;
      } catch {
        const { active_pid: again } = await stream.slotRow();
        await database.query('SELECT pg_terminate_backend($1, 5000)', [again]);
        return false;
      }
    }, 'the slot to be dropped');
    await until(() => stream.sink.resyncs.length === 2, 'the resync');
    await insertGroup('after');
    await stream.caughtUp();
    expect(groupNames(stream).filter((name) => name !== 'before')).toEqual(['after']);
  });

  it('refuses a name that would have to be quoted', () => {
    for (const name of ['', 'Upper', 'a b', "a'b", 'a"b', 'x'.repeat(64)]) {
      expect(() => new Slot(name, new RememberingLog(), async () => undefined)).toThrow(RangeError);
    }
  });

  it('D7, E10: is replaced when a publication is dropped under the stream, even where that is no error', async () => {
    const stream = await started();
    await insertGroup('before');
    await stream.caughtUp();
    await database.sql('DROP PUBLICATION portcullis_changes');
    await insertGroup('unseen');
    await until(() => stream.sink.resyncs.includes(ALTERED), 'the new slot');
    await until(() => stream.log.events().filter((event) => event === 'replication.streaming').length > 1, 'streaming');
    await insertGroup('after');
    await stream.caughtUp();
    expect(groupNames(stream)).toEqual(['before', 'after']);
    const { rows } = await database.query('SELECT FROM pg_publication WHERE pubname LIKE $1', ['portcullis%']);
    expect(rows).toHaveLength(2);
  });

  it('E10: is replaced at the start when the publication has to be made', async () => {
    const first = await started();
    await first.stop();
    await database.sql('DROP PUBLICATION portcullis_flow_edits');
    await insertGroup('unseen');
    const second = await started();
    expect(second.sink.resyncs).toEqual([ALTERED]);
    await insertGroup('after');
    await second.caughtUp();
    expect(groupNames(second)).toEqual(['after']);
  });

  it.each([
    ['altered', TAKE],
    ['altered and put right', `${TAKE}; ${GIVE}`],
  ])('ORD-6: is replaced when a publication was %s while nobody looked', async (_how, statements) => {
    const first = await started();
    await first.stop();
    await database.sql(statements);
    const second = await started();
    expect(second.sink.resyncs).toEqual([ALTERED]);
    await insertGroup('after');
    await second.caughtUp();
    expect(groupNames(second)).toEqual(['after']);
    await second.stop();
    expect((await started()).sink.resyncs).toEqual([]);
  });

  it.each([
    ['a publication is altered', () => TAKE],
    ['a publication is altered and put right', () => `${TAKE}; ${GIVE}`],
    [
      'another table takes the name of one that is published',
      () => `ALTER TABLE groups RENAME TO former_groups; CREATE TABLE groups (LIKE former_groups INCLUDING ALL);
        ALTER TABLE groups REPLICA IDENTITY FULL`,
    ],
  ])('F7, ORD-6: is replaced when %s under the stream', async (_how, statements) => {
    const stream = await started();
    await database.sql(statements());
    await insertGroup('perhaps left out');
    await isReplaced(stream);
    expect(stream.sink.resyncs).toEqual(['replication slot: absent', ALTERED]);
    await insertGroup('after');
    await stream.caughtUp();
    expect(groupNames(stream).at(-1)).toBe('after');
  });

  it('ORD-6: proves nothing from the noticing on, and begins behind a transaction that was open across the alteration', async () => {
    let goOn = (): void => undefined;
    let mayGoOn = Promise.resolve();
    const stream = await started({
      reconcile: async (real) => {
        await mayGoOn;
        return real();
      },
    });
    mayGoOn = new Promise((resolve) => (goOn = resolve));
    await until(() => stream.replication.freshness.isFresh(), 'a heartbeat');
    await database.sql(TAKE);
    const open = await session(database);
    try {
      await open.query('BEGIN');
      await open.query('INSERT INTO groups (account_id, name) VALUES ($1, $2)', [ours.accountId, 'across']);
      await until(() => !stream.replication.freshness.isFresh(), 'the alteration to be noticed');
      goOn();
      await until(() => stream.replication.slotProblem() !== undefined, 'the new slot to wait for it');
      expect(stream.sink.resyncs).toEqual(['replication slot: absent']);
      expect(stream.replication.freshness.isFresh()).toBe(false);
      await open.query('COMMIT');
      await isReplaced(stream);
      expect(stream.sink.resyncs).toEqual(['replication slot: absent', ALTERED]);
      await until(() => stream.replication.freshness.isFresh(), 'a heartbeat');
    } finally {
      await open.end();
    }
  });

  it('ORD-6: an alteration between the putting right and the streaming is noticed by the first heartbeat', async () => {
    let calls = 0;
    const stream = await started({
      reconcile: async (real) => {
        calls += 1;
        const wasWrong = await real();
        if (calls === 1) await database.sql(TAKE);
        return wasWrong;
      },
    });
    await isReplaced(stream);
    expect(stream.sink.resyncs).toEqual(['replication slot: absent', ALTERED]);
  });

  it('ORD-6: what an answer says that was begun during an earlier connection concerns that one', async () => {
    let hold: Promise<void> | undefined;
    let release = (): void => undefined;
    const stream = await started({
      run: async (sql, values) => {
        const rows = await runAt(database.url, sql, values);
        await hold;
        return rows;
      },
    });
    await until(() => stream.replication.freshness.isFresh(), 'a heartbeat');
    hold = new Promise((resolve) => (release = resolve));
    await new Promise((resolve) => setTimeout(resolve, 250)); // a beat is under way
    await database.sql(`${TAKE}; ${GIVE}`);
    for (const pid of await backends()) await database.query('SELECT pg_terminate_backend($1)', [pid]);
    await isReplaced(stream);
    hold = undefined;
    release();
    await until(() => stream.replication.freshness.isFresh(), 'a heartbeat');
    await insertGroup('after');
    await stream.caughtUp();
    expect(stream.log.events().filter((event) => event === 'replication.streaming')).toHaveLength(2);
  });

  it('ORD-6: is not missing because it was before the present connection', async () => {
    let hold: Promise<void> | undefined;
    let isAsked = false;
    let release = (): void => undefined;
    const stream = await started({
      readSlot: async (real) => {
        if (!hold) return real();
        isAsked = true;
        await hold;
        return undefined;
      },
    });
    hold = new Promise((resolve) => (release = resolve));
    await until(() => isAsked, 'a look at the slot');
    for (const pid of await backends()) await database.query('SELECT pg_terminate_backend($1)', [pid]);
    await isReplaced(stream);
    hold = undefined;
    release();
    await until(() => stream.replication.slotStatus()?.state === 'reserved', 'the next look');
    await insertGroup('after');
    await stream.caughtUp();
    expect(stream.log.events().filter((event) => event === 'replication.streaming')).toHaveLength(2);
  });

  it('ORD-6: is not judged, and nothing altered, by a process that only waits for it', async () => {
    const holder = await started();
    let calls = 0;
    const waiting = prepared({
      reconcile: async (real) => {
        calls += 1;
        return real();
      },
    });
    waiting.replication.start();
    const tries = () => waiting.log.events().filter((event) => event === 'replication.slot-held').length;
    await until(() => tries() > 2, 'the second to wait');
    expect(calls).toBe(0);
    await holder.stop();
    await until(() => waiting.log.events().includes('replication.streaming'), 'the second to stream');
    expect([calls, waiting.sink.resyncs]).toEqual([1, []]);
  });

  it('ORD-6: is not made a second time when it cannot be kept under which publications it was made', async () => {
    let failures = 0;
    const stream = await started({
      keep: async (real) => {
        failures += 1;
        if (failures < 3) throw new Error('cannot be written');
        await real();
      },
    });
    expect([failures, stream.sink.resyncs]).toEqual([3, ['replication slot: absent']]);
    await stream.stop();
    expect((await started()).sink.resyncs).toEqual([]);
  });

  it('CUT-1: what must be known of a gap is written before there is a slot that hides it', async () => {
    const slots = async (): Promise<number> => {
      const { rows } = await database.query('SELECT FROM pg_replication_slots WHERE database = current_database()');
      return rows.length;
    };
    const seen: number[] = [];
    await started({
      beforeGap: async () => {
        seen.push(await slots());
        if (seen.length < 3) throw new Error('cannot be written');
      },
    });
    expect(seen).toEqual([0, 0, 0]);
    expect(await slots()).toBe(1);
  });

  it('CUT-1: what an altered publication left out began when it was last right, not when that was noticed', async () => {
    const stream = await started();
    await insertGroup('heard');
    await stream.caughtUp();
    await database.sql(TAKE);
    await insertGroup('left out');
    await database.sql(`UPDATE policies SET description = 'heard'`);
    await until(() => stream.rowCommits().length === 2, 'the stream to go on');
    await database.query('SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = $1', [
      stream.slot,
    ]);
    await until(() => stream.sink.resyncs.includes(ALTERED), 'the alteration to be noticed');
    const last = stream.sink.heard.at(-1);
    expect(last?.upTo).toBeLessThan(stream.rowCommits()[0]?.position ?? 0n);
  });
});

describe('on servers of its own', () => {
  let servers: OwnServer[];
  let shared: string | undefined;
  let ownServer: TestDatabase | undefined;

  beforeAll(async () => {
    shared = process.env['PORTCULLIS_TEST_POSTGRES_URL'];
    servers = await Promise.all([OwnServer.start(), OwnServer.start()]);
  });

  afterEach(async () => {
    for (const stream of running) await stream.stop();
    await ownServer?.drop();
    ownServer = undefined;
    process.env['PORTCULLIS_TEST_POSTGRES_URL'] = shared;
  });

  afterAll(async () => {
    for (const server of servers) await server.stop();
  });

  /** Databases made from here on are this server's. */
  function use(index: number): OwnServer {
    const server = servers[index];
    if (!server) throw new Error('no such server');
    process.env['PORTCULLIS_TEST_POSTGRES_URL'] = server.url;
    return server;
  }

  it.each(MODES)(
    'D14, E12: a slot that lost its log is replaced, loudly, and every store is owed a resync (%s)',
    async (mode) => {
      use(0);
      await migrated();
      const first = await started({ options: { mode } });
      await first.stop();
      await insertGroup('lost');
      await database.sql('CREATE TABLE bulk (t text)');
      for (let n = 0; n < 5; n += 1) {
        await database.query(`INSERT INTO bulk SELECT repeat('x', 1000) FROM generate_series(1, 10000)`);
        await database.query('SELECT pg_switch_wal()');
      }
      await database.query('CHECKPOINT');
      expect((await first.slotRow()).wal_status).toBe('lost');

      const second = await started({ options: { mode } });
      await insertGroup('after');
      await second.caughtUp();
      expect(groupNames(second)).toEqual(['after']);
      expect(second.sink.calls[0]).toBe('replication slot: lost');
      expect(second.log.events('error')).toEqual(['replication.slot-replaced']);
      await second.stop();
      await database.drop();
    },
  );

  it('F6, D10: an operator sees reserved, extended, unreserved and lost; lost under a running stream leads to a new slot', async () => {
    const own = (ownServer = await startOwnPostgres({
      wal_level: 'logical',
      max_slot_wal_keep_size: '128MB',
      checkpoint_timeout: '1h',
    }));
    const { migrateToLatest } = await import('../../src/db/migrate.js');
    await migrateToLatest(own.url);
    database = own;
    ours = await insertAccount(own);
    const stream = await started({ options: { heartbeatIntervalMs: 20 } });
    const seen = (): string[] =>
      stream.log.lines
        .filter(({ event, fields }) => event === 'replication.slot-state' && fields['state'] !== 'missing')
        .map(({ fields }) => String(fields['state']));
    /** Nothing is acknowledged from here on; each time a whole segment of the log is used up. */
    stream.sink.settleUpTo = 1n;
    await insertGroup('held');
    const fill = async (segments: number): Promise<void> => {
      for (let n = 0; n < segments; n += 1) {
        await own.query(`SELECT pg_logical_emit_message(false, 'test', 'x')`);
        await own.query('SELECT pg_switch_wal()');
      }
    };
    const say = (state: string): Promise<void> => until(() => seen().at(-1) === state, state);
    await say('reserved');
    await fill(6);
    const setWalSize = async (size: string): Promise<void> => {
      await own.query(`ALTER SYSTEM SET max_wal_size = '${size}'`);
      await own.query('SELECT pg_reload_conf()');
    };
    await setWalSize('32MB');
    await say('extended');
    await setWalSize('1GB');
    await say('reserved');
    await fill(4);
    await say('unreserved');
    const status = stream.replication.slotStatus();
    expect(status?.retainedBytes).toBeGreaterThan(128 * 1024 * 1024);
    expect(status?.safeWalBytes).toBeLessThanOrEqual(0);
    expect(stream.sink.resyncs).toEqual(['replication slot: absent']);

    await own.query('CHECKPOINT');
    await until(() => stream.sink.resyncs.length === 2, 'the resync');
    stream.sink.settleUpTo = undefined;
    await insertGroup('after');
    await stream.caughtUp();
    await say('reserved');
    expect(stream.sink.resyncs).toEqual(['replication slot: absent', 'replication slot: lost']);
    expect(groupNames(stream)).toEqual(['held', 'after']);
    expect(stream.log.events('error')).toEqual(['replication.slot-replaced']);
  });

  it.each(MODES)(
    'a connection that vanished without a word is followed by a new one, which ends the old backend (%s)',
    async (mode) => {
      const proxy = await Proxy.to(use(0).url);
      proxies.push(proxy);
      await migrated();
      const stream = await started({ options: { mode, databaseUrl: proxy.urlOf(database) } });
      const [former] = await backends();
      await insertGroup('before');
      await stream.caughtUp();
      proxy.cutOurSide();
      await until(
        () => stream.log.events().includes('replication.former-backend-ended'),
        'the old backend to be ended',
      );
      await insertGroup('after');
      await stream.caughtUp();
      expect(groupNames(stream)).toEqual(['before', 'after']);
      expect(await backends()).not.toContain(former);
      expect(stream.sink.resyncs).toEqual(['replication slot: absent']);
      await stream.stop();
      await database.drop();
    },
  );

  it('a slot dropped while our connection hears nothing is noticed by looking, long before the silence is', async () => {
    const proxy = await Proxy.to(use(0).url);
    proxies.push(proxy);
    await migrated();
    const options = { databaseUrl: proxy.urlOf(database), heartbeatIntervalMs: 20 };
    const stream = await started({ options, ordinaryUrl: database.url }); // an answer swallowed would be waited for
    await until(() => stream.replication.slotStatus()?.state === 'reserved', 'the slot to be seen');
    const { active_pid: pid } = await stream.slotRow();
    proxy.swallow();
    await database.query('SELECT pg_terminate_backend($1, 5000)', [pid]);
    await database.query('SELECT pg_drop_replication_slot($1)', [stream.slot]);
    await until(() => stream.sink.resyncs.length === 2, 'the new slot', 5_000);
    await insertGroup('after');
    await stream.caughtUp();
    expect(groupNames(stream)).toEqual(['after']);
    await stream.stop();
    await database.drop();
  });

  it.each(MODES)(
    'B.9: behind the same address another server begins: its lower positions count, and every store is read again (%s)',
    async (mode) => {
      const proxy = await Proxy.to(use(0).url);
      proxies.push(proxy);
      await migrated();
      // The same database on the second server, which is far less advanced.
      await database.query('SELECT pg_switch_wal()');
      await servers[1]?.make(database.name);

      const stream = await started({ options: { mode, databaseUrl: proxy.urlOf(database) } });
      await insertGroup('on the first');
      await stream.caughtUp();
      const high = stream.rowCommits()[0]?.position ?? 0n;

      proxy.redirect(servers[1]?.url ?? '');
      proxy.cutOurSide();
      await until(() => stream.sink.resyncs.includes('another timeline or system'), 'the other server to be noticed');
      await until(
        () => stream.log.events().filter((event) => event === 'replication.streaming').length > 1,
        'streaming',
      );
      await servers[1]?.sql(
        database.name,
        `INSERT INTO accounts (id) VALUES ('${ours.accountId}');
       INSERT INTO groups (account_id, name) VALUES ('${ours.accountId}', 'on the second')`,
      );
      await until(() => groupNames(stream).includes('on the second'), 'its commit');
      expect(stream.rowCommits().at(-1)?.position).toBeLessThan(high);
      await stream.stop();
      await database.drop();
    },
  );

  it('ORD-6: what another process reads of a branch that is new to one that waits is owed to that one', async () => {
    const proxy = await Proxy.to(use(0).url);
    proxies.push(proxy);
    await migrated();
    await servers[1]?.make(database.name);
    const other = await started({ options: { databaseUrl: withDatabase(servers[1]?.url ?? '', database.name) } });
    const stream = await started({ options: { databaseUrl: proxy.urlOf(database) } });

    proxy.redirect(servers[1]?.url ?? '');
    proxy.cutOurSide();
    await until(() => stream.log.events().includes('replication.slot-held'), 'the waiting');
    await servers[1]?.sql(
      database.name,
      `INSERT INTO accounts (id) VALUES ('${ours.accountId}');
       INSERT INTO groups (account_id, name) VALUES ('${ours.accountId}', 'heard by the other')`,
    );
    await until(() => groupNames(other).includes('heard by the other'), 'its commit');
    await other.stop();
    await until(() => stream.log.events().filter((event) => event === 'replication.streaming').length > 1, 'streaming');
    expect(stream.sink.resyncs.at(-1)).toBe('another process has read the replication slot meanwhile');
    await stream.stop();
    await database.drop();
  });
});

class OwnServer {
  private constructor(
    private readonly server: EmbeddedPostgres,
    private readonly dataDir: string,
  ) {}

  get url(): string {
    return this.server.url;
  }

  static async start(): Promise<OwnServer> {
    const dataDir = mkdtempSync(join(tmpdir(), 'portcullis-slot-'));
    const settings = { fsync: 'off', wal_level: 'logical', max_slot_wal_keep_size: '16MB', max_wal_size: '64MB' };
    const log = new RememberingLog();
    return new OwnServer(await startEmbedded({ dataDir, settings, authentication: 'trust', log }), dataDir);
  }

  /** A migrated database of this name. */
  async make(name: string): Promise<void> {
    const { migrateToLatest } = await import('../../src/db/migrate.js');
    await this.sql(undefined, `CREATE DATABASE ${name}`);
    await migrateToLatest(withDatabase(this.url, name));
  }

  async sql(name: string | undefined, text: string): Promise<void> {
    const url = name === undefined ? this.url : withDatabase(this.url, name);
    const client = await session({ url });
    await client.query(text);
    await client.end();
  }

  async stop(): Promise<void> {
    this.server.killSync('SIGQUIT');
    await this.server.stop();
    rmSync(this.dataDir, { recursive: true, force: true, maxRetries: 20, retryDelay: 25 });
  }
}

function withDatabase(url: string, name: string): string {
  const changed = new URL(url);
  changed.pathname = `/${name}`;
  return changed.href;
}

/** Stands between the stream and the server, so that a connection can vanish for one side alone. */
class Proxy {
  readonly #ourSide = new Set<Socket>();
  readonly #serverSide = new Set<Socket>();
  #target: URL;

  private constructor(
    private readonly listener: Server,
    target: string,
  ) {
    this.#target = new URL(target);
  }

  static async to(url: string): Promise<Proxy> {
    const listener = createServer();
    const proxy = new Proxy(listener, url);
    listener.on('connection', (socket) => {
      proxy.#accept(socket);
    });
    await new Promise<void>((resolve) => listener.listen(0, '127.0.0.1', resolve));
    return proxy;
  }

  urlOf(target: TestDatabase): string {
    const url = new URL(target.url);
    const address = this.listener.address();
    url.hostname = '127.0.0.1';
    url.port = String(address !== null && typeof address === 'object' ? address.port : 0);
    return url.href;
  }

  redirect(url: string): void {
    this.#target = new URL(url);
  }

  /** What is connected now stays so and brings nothing any more, not even the server's end. */
  swallow(): void {
    for (const socket of this.#serverSide) {
      socket.removeAllListeners('data');
      socket.removeAllListeners('close');
      socket.resume();
    }
  }

  /** The server hears nothing of it. */
  cutOurSide(): void {
    for (const socket of this.#ourSide) socket.destroy();
    this.#ourSide.clear();
  }

  close(): void {
    this.cutOurSide();
    for (const socket of this.#serverSide) socket.destroy();
    this.listener.close();
  }

  #accept(ours: Socket): void {
    const theirs = connect(Number(this.#target.port), this.#target.hostname);
    this.#ourSide.add(ours);
    this.#serverSide.add(theirs);
    ours.on('data', (bytes) => theirs.write(bytes));
    theirs.on('data', (bytes) => ours.write(bytes));
    theirs.on('close', () => ours.destroy());
    for (const socket of [ours, theirs]) socket.on('error', () => undefined);
  }
}
