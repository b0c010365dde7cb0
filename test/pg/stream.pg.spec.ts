/** The stream on a real server: nothing lost, nothing twice, nothing acknowledged too early. */
import { randomUUID } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import type { AccountId, ActorId } from '../../src/core/model/ids.js';
import { parsePosition } from '../../src/core/model/position.js';
import type { RowChange } from '../../src/core/changes/commit.js';
import type { ChangeLog } from '../../src/core/ports/change-log.js';
import type { RunStatement } from '../../src/replication/heartbeat.js';
import { type AccountIds, insertAccount } from '../support/account-rows.js';
import {
  copyInto,
  HurriedClock,
  RecordingSink,
  runAt,
  session,
  type StreamSetup,
  StreamUnderTest,
  until,
} from '../support/stream-under-test.js';
import { createMigratedDatabase, type TestDatabase } from '../support/test-database.js';

let database: TestDatabase;
let ours: AccountIds;
let running: StreamUnderTest[];

beforeEach(async () => {
  database = await createMigratedDatabase();
  ours = await insertAccount(database);
  running = [];
});

afterEach(async () => {
  for (const stream of running) await stream.stop();
  await database.drop();
});

async function started(setup: StreamSetup = {}): Promise<StreamUnderTest> {
  const stream = new StreamUnderTest(database, setup);
  running.push(stream);
  await stream.start();
  return stream;
}

const insertGroup = (name: string, accountId: AccountId = ours.accountId): string =>
  `INSERT INTO groups (account_id, name) VALUES ('${accountId}', '${name}')`;
const namesOf = (changes: readonly RowChange[]): (string | null | undefined)[] =>
  changes.map((change) => (change.new ?? change.old)?.['name']);
/** Names of the groups that came, commit by commit. */
const groupNames = (stream: StreamUnderTest): (string | null | undefined)[] =>
  namesOf(stream.sink.rowsOf(ours.accountId).filter(({ table }) => table === 'groups'));

describe('the order of commits', () => {
  it('ORD-1, E1: is the order of committing; of two that overlap, the first to write may come last, whole', async () => {
    const stream = await started();
    const [a, b] = [await session(database), await session(database)];
    await a.query('BEGIN');
    await a.query(insertGroup('a1'));
    await b.query('BEGIN');
    await b.query(insertGroup('b1'));
    await a.query(insertGroup('a2'));
    await b.query(insertGroup('b2'));
    await b.query('COMMIT');
    await a.query('COMMIT');
    await stream.caughtUp();
    const commits = stream.rowCommits();
    expect(commits.map(({ byAccount }) => namesOf((byAccount.get(ours.accountId) ?? []) as RowChange[]))).toEqual([
      ['b1', 'b2'],
      ['a1', 'a2'],
    ]);
    expect(commits[0]?.position).toBeLessThan(commits[1]?.position ?? 0n);
    await until(() => stream.memory.entries.length >= 4, 'everything to be recorded');
    expect(stream.memory.entries.map(({ change }) => change.seq)).toEqual([0, 1, 0, 1]);
    await Promise.all([a.end(), b.end()]);
  });

  it('D11, E2: a COPY of 1,000 memberships between two other transactions loses nothing and keeps its order', async () => {
    const actors = Array.from({ length: 1_000 }, () => randomUUID() as ActorId);
    const client = await session(database);
    await copyInto(
      client,
      'actors (account_id, id)',
      actors.map((id) => `${ours.accountId}\t${id}`),
    );
    const stream = await started();
    await client.query(insertGroup('before'));
    const lines = actors.map((id) => `${ours.accountId}\t${id}\t${ours.groupId}`);
    await copyInto(client, 'memberships (account_id, actor_id, group_id)', lines);
    await client.query(insertGroup('after'));
    await stream.caughtUp();
    const [before, copied, after] = stream.rowCommits();
    expect([before?.changeCount, copied?.changeCount, after?.changeCount]).toEqual([1, 1_000, 1]);
    const rows = (copied?.byAccount.get(ours.accountId) ?? []) as RowChange[];
    expect(rows.map((row) => row.new?.['actor_id'])).toEqual(actors);
    expect(rows.map((row) => row.seq)).toEqual(actors.map((_, index) => index));
    await until(() => stream.memory.entries.length === 1_002, 'everything to be recorded');
    await client.end();
  });

  it('E4: a commit has the id of its top-level transaction, whatever savepoints wrote', async () => {
    const stream = await started();
    const client = await session(database);
    await client.query('BEGIN');
    await client.query(`SAVEPOINT one; ${insertGroup('one')}; SAVEPOINT two; ${insertGroup('two')}`);
    const { rows } = await client.query<{ xid: string }>('SELECT pg_current_xact_id()::text AS xid');
    await client.query('COMMIT');
    await stream.caughtUp();
    expect(stream.rowCommits().map(({ xid }) => xid)).toEqual([BigInt(rows[0]?.xid ?? 0)]);
    expect(groupNames(stream)).toEqual(['one', 'two']);
    await client.end();
  });

  it('E5: a prepared transaction comes when it is committed, with the id it was prepared under', async () => {
    const stream = await started();
    const client = await session(database);
    await client.query(`BEGIN; ${insertGroup('prepared')}`);
    const { rows } = await client.query<{ xid: string }>('SELECT pg_current_xact_id()::text AS xid');
    const name = `p_${randomUUID()}`;
    await client.query(`PREPARE TRANSACTION '${name}'`);
    await client.query(insertGroup('meanwhile'));
    await stream.caughtUp();
    expect(groupNames(stream)).toEqual(['meanwhile']);
    await client.query(`COMMIT PREPARED '${name}'`);
    await stream.caughtUp();
    expect(groupNames(stream)).toEqual(['meanwhile', 'prepared']);
    expect(stream.rowCommits()[1]?.xid).toBe(BigInt(rows[0]?.xid ?? 0));
    await client.end();
  });
});

describe('what a commit says', () => {
  it('E7: has both rows whole, with an unchanged value kept out of line filled in', async () => {
    await database.sql('ALTER TABLE groups ADD note text; ALTER TABLE groups ALTER note SET STORAGE EXTERNAL');
    const long = 'x'.repeat(5_000);
    await database.query('UPDATE groups SET note = $1', [long]);
    const stream = await started();
    await database.query(`UPDATE groups SET name = 'renamed'`);
    await stream.caughtUp();
    const [change] = stream.sink.rowsOf(ours.accountId);
    expect(change?.old?.['note']).toBe(long);
    expect(change?.new).toMatchObject({ name: 'renamed', note: long });
  });

  it('D14: a row without its old one makes its account owe a resync, and the stream goes on', async () => {
    await database.sql('ALTER TABLE groups REPLICA IDENTITY DEFAULT');
    const stream = await started();
    await database.query(`UPDATE groups SET name = 'half'`);
    await database.sql('ALTER TABLE groups REPLICA IDENTITY FULL');
    await database.query(`UPDATE groups SET name = 'whole'`);
    await stream.caughtUp();
    const [half, whole] = stream.rowCommits();
    expect(half?.resync).toEqual(new Set([ours.accountId]));
    expect(half?.byAccount.size).toBe(0);
    expect(whole?.resync).toEqual(new Set());
    expect(groupNames(stream)).toEqual(['whole']);
    await until(() => stream.memory.entries.length >= 2, 'both to be recorded');
    expect(stream.memory.entries).toHaveLength(2);
  });

  it('E11, D15: needed columns that go make their rows unreadable; back, everything is read again', async () => {
    const stream = await started();
    await database.sql('ALTER TABLE groups RENAME name TO title');
    await database.sql(`INSERT INTO groups (account_id, title) VALUES ('${ours.accountId}', 'nameless')`);
    await database.sql('ALTER TABLE groups RENAME title TO name; ALTER TABLE groups ADD colour text DEFAULT $$red$$');
    await database.sql(insertGroup('named'));
    await stream.caughtUp();
    expect(stream.rowCommits().map(({ resync }) => resync)).toEqual([new Set([ours.accountId]), 'all']);
    expect(stream.sink.rowsOf(ours.accountId)[0]?.new).toMatchObject({ name: 'named', colour: 'red' });
    expect(stream.log.events('error')).toEqual(['replication.row-unreadable']);
  });

  it('F14: a column that gets another type under the stream has everything read again, once, and the stream goes on', async () => {
    const stream = await started();
    await database.sql(insertGroup('before'));
    await database.query(`UPDATE policies SET description = 'before'`);
    await database.sql('ALTER TABLE policies ALTER disabled_at TYPE text; ALTER TABLE policies ADD unknown int');
    await database.query(`UPDATE policies SET description = 'after'`);
    await database.query(`UPDATE policies SET description = 'once more'`);
    await database.sql(insertGroup('after'));
    await stream.caughtUp();
    const once = new Set();
    expect(stream.rowCommits().map(({ resync }) => resync)).toEqual([once, once, 'all', once, once]);
    expect(groupNames(stream).at(-1)).toBe('after');
    expect(stream.log.events('error')).toEqual([]);
  });

  it('E8: has one TRUNCATE, in order, and no deletes', async () => {
    const stream = await started();
    await database.sql(`${insertGroup('before')}; TRUNCATE policies; ${insertGroup('after')}`);
    await stream.caughtUp();
    const [commit] = stream.rowCommits();
    const changes = commit?.byAccount.get(ours.accountId) ?? [];
    expect(changes.map(({ kind }) => kind)).toEqual(['insert', 'truncate', 'insert']);
    expect(commit?.truncates).toEqual([{ kind: 'truncate', tables: ['policies'], seq: 1 }]);
  });

  it('E9: carries transactional messages, in order with nothing else lost; others come at their own place', async () => {
    const stream = await started();
    await database.sql(`${insertGroup('one')}; SELECT pg_logical_emit_message(true, 'portcullis.connect', 'grüezi')`);
    await stream.caughtUp();
    expect(stream.rowCommits()[0]?.messages).toEqual([{ prefix: 'portcullis.connect', content: 'grüezi' }]);
    await until(() => stream.replication.freshness.isFresh(), 'a heartbeat');
  });

  it('prints values as a snapshot does, whatever the database prefers', async () => {
    await database.sql(`ALTER DATABASE ${database.name} SET DateStyle = 'SQL, DMY'`);
    await database.sql(`ALTER DATABASE ${database.name} SET TimeZone = 'Asia/Tokyo'`);
    const stream = await started();
    await database.query(`UPDATE policies SET disabled_at = '2026-01-05 09:00:00.5+00'`);
    await stream.caughtUp();
    expect(stream.sink.rowsOf(ours.accountId)[0]?.new?.['disabled_at']).toBe('2026-01-05 09:00:00.5+00');
  });

  it('G6: an oversize transaction arrives without rows, naming its accounts', async () => {
    const stream = await started({ options: { maxTxChanges: 100 } });
    await database.query(`INSERT INTO groups (account_id, name) SELECT $1, 'g' || n FROM generate_series(1, 5000) n`, [
      ours.accountId,
    ]);
    await database.sql(insertGroup('after'));
    await stream.caughtUp();
    const [huge, after] = stream.rowCommits();
    expect(huge).toMatchObject({ changeCount: 5_000, resync: new Set([ours.accountId]) });
    expect(huge?.byAccount.size).toBe(0);
    expect(after?.byAccount.size).toBe(1);
  });

  it('D8a: hears edits of flows but not their inserts, and records no echo of ours', async () => {
    const stream = await started();
    const columns = 'account_id, client_id, gateway_id, resource_id, policy_id, membership_id, token_id';
    await database.query(
      `INSERT INTO flows (${columns}, resource_shape, expires_at)
       SELECT $1, ${Array(6).fill('gen_random_uuid()').join(', ')},
         '{"type":"ip","address":null,"ip_stack":null}', now() + '1 day' FROM generate_series(1, 2)`,
      [ours.accountId],
    );
    await database.query(`UPDATE flows SET revoked_at = now(), revoked_position = '0/0' WHERE ctid = '(0,1)'`);
    await database.query(`UPDATE flows SET revoked_at = now() WHERE revoked_at IS NULL`);
    await stream.caughtUp();
    await until(() => stream.memory.entries.length > 0, 'the cut to be recorded');
    expect(stream.sink.rowsOf(ours.accountId).map(({ kind, table }) => `${kind} ${table}`)).toEqual([
      'update flows',
      'update flows',
    ]);
    expect(stream.memory.entries).toHaveLength(1);
  });
});

describe('ACK-1: what is acknowledged', () => {
  /** Whether the server may have forgotten what ends at `position`. */
  async function isAcknowledged(stream: StreamUnderTest, position: bigint): Promise<boolean> {
    return (parsePosition((await stream.slotRow()).confirmed) ?? 0n) >= position;
  }

  it('a recorder that fails keeps the acknowledgement back, not the fan-out', async () => {
    const stream = await started({ clock: new HurriedClock(10) });
    stream.memory.failWith = new Error('no event store');
    await database.sql(insertGroup('one'));
    await stream.caughtUp();
    const position = stream.rowCommits()[0]?.position ?? 0n;
    expect(groupNames(stream)).toEqual(['one']);
    // Keepalives after the commit must not acknowledge it either.
    await until(() => stream.sink.passedPosition > position, 'the stream to pass it');
    const passed = stream.sink.passedPosition;
    await until(() => stream.sink.passedPosition > passed, 'the stream to go on');
    await until(() => stream.log.events('error').includes('recorder.append-failed'), 'the failure to be reported');
    expect(await isAcknowledged(stream, position)).toBe(false);
    stream.memory.failWith = undefined;
    await until(() => isAcknowledged(stream, position), 'the acknowledgement');
  });

  it('a commit that has not settled is not acknowledged, nor any after it', async () => {
    const stream = await started({ clock: new HurriedClock(10) });
    await database.sql(insertGroup('settled'));
    await stream.caughtUp();
    const first = stream.rowCommits()[0]?.position ?? 0n;
    stream.sink.settleUpTo = first;
    await database.sql(insertGroup('unsettled'));
    await stream.caughtUp();
    const second = stream.rowCommits()[1]?.position ?? 0n;
    const passed = stream.sink.passedPosition;
    await until(() => stream.sink.passedPosition > passed, 'the stream to go on');
    await until(() => isAcknowledged(stream, first), 'the first acknowledgement');
    expect(await isAcknowledged(stream, second)).toBe(false);
    stream.sink.settleUpTo = undefined;
    await until(() => isAcknowledged(stream, second), 'the second acknowledgement');
  });

  it('E16: the slot follows what is not published, so it keeps no log for it', async () => {
    const stream = await started({ clock: new HurriedClock(10) });
    await database.sql('CREATE TABLE noise (n int); INSERT INTO noise SELECT generate_series(1, 1000)');
    const { rows } = await database.query<{ lsn: string }>('SELECT pg_current_wal_lsn()::text AS lsn');
    const position = parsePosition(rows[0]?.lsn ?? '') ?? 0n;
    await until(() => isAcknowledged(stream, position), 'the slot to follow');
    expect(stream.rowCommits()).toEqual([]);
  });

  it('E13: a clean stop frees the slot and keeps it; a restart brings exactly what was not acknowledged', async () => {
    const sink = new RecordingSink();
    sink.settleUpTo = 0n;
    const first = await started({ sink });
    for (const name of ['one', 'two', 'three']) await database.sql(insertGroup(name));
    await first.caughtUp();
    sink.settleUpTo = first.rowCommits()[1]?.position;
    await first.stop();
    expect(await first.slotRow()).toMatchObject({ active: false, active_pid: null });
    await database.sql(insertGroup('while away'));
    const second = await started();
    await second.caughtUp();
    expect(groupNames(second)).toEqual(['three', 'while away']);
    expect(second.sink.resyncs).toEqual([]);
  });
});

describe('a connection that breaks', () => {
  it('loses nothing and applies nothing twice when the walsender is killed again and again under load', async () => {
    const stream = await started();
    const client = await session(database);
    const written: string[] = [];
    let kills = 0;
    const killing = (async () => {
      while (kills < 5) {
        const { active_pid: pid } = await stream.slotRow();
        if (pid !== null && (await database.query('SELECT pg_terminate_backend($1)', [pid])).rowCount === 1) {
          kills += 1;
          await until(async () => (await stream.slotRow()).active_pid !== pid, 'the walsender to go');
        }
        await until(() => stream.log.events().filter((e) => e === 'replication.streaming').length > kills, 'another');
      }
    })();
    for (let n = 0; kills < 5; n += 1) {
      written.push(`g${n}`);
      await client.query(`BEGIN; ${insertGroup(`g${n}`)}; ${insertGroup(`g${n}`)}; COMMIT`);
    }
    await killing;
    await stream.caughtUp();
    expect(groupNames(stream)).toEqual(written.flatMap((name) => [name, name]));
    expect(new Set(stream.sink.commits.map(({ position }) => position)).size).toBe(stream.sink.commits.length);
    expect(stream.sink.resyncs).toHaveLength(1); // the new slot's; a broken connection owes none
    const recorded = stream.memory.entries.map(({ position, seq }) => `${position}/${seq}`);
    expect(new Set(recorded).size).toBe(recorded.length);
    await client.end();
  });

  it('goes on after a sink that throws: every store is owed a resync and the next commit arrives', async () => {
    const stream = await started();
    stream.sink.onAccept = (commit) => {
      if (commit.changeCount > 0) throw new Error('a defect');
    };
    await database.sql(insertGroup('poison'));
    await database.query(`SELECT pg_logical_emit_message(true, 'x', 'y')`);
    await until(() => stream.sink.commits.length > 0, 'the next commit');
    expect(stream.sink.resyncs).toContain('a commit could not be applied');
    expect(stream.log.events('error')).toEqual(['replication.sink-failed']);
  });

  it('G6, E15: a stream with too much pending is paused, keeps its slot by status updates, and goes on below half', async () => {
    const options = { maxPendingBytes: 1_000, heartbeatIntervalMs: 60_000 }; // its time hurries as well
    const stream = await started({ clock: new HurriedClock(50), options });
    stream.sink.held = 2_000;
    // Far more than the sockets' buffers hold, so that reading on would be seen.
    const insertMany = `INSERT INTO groups (account_id, name) SELECT '${ours.accountId}', repeat('x', 200) FROM generate_series(1, 1000)`;
    for (let n = 0; n < 60; n += 1) await database.sql(insertMany);
    const replyOf = async (): Promise<string> => {
      const { rows } = await database.query<{ at: string }>(
        `SELECT reply_time::text AS at FROM pg_stat_replication WHERE pid = $1`,
        [(await stream.slotRow()).active_pid],
      );
      return rows[0]?.at ?? '';
    };
    for (let updates = 0; updates < 3; updates += 1) {
      const before = await replyOf();
      await until(async () => (await replyOf()) > before, 'a status update while paused');
    }
    const whenPaused = stream.rowCommits().length;
    expect(whenPaused).toBeLessThan(60);
    stream.sink.held = 600;
    for (let updates = 0; updates < 2; updates += 1) {
      const before = await replyOf();
      await until(async () => (await replyOf()) > before, 'a status update above half');
    }
    expect(stream.rowCommits()).toHaveLength(whenPaused);
    stream.sink.held = 400;
    await until(() => stream.rowCommits().length === 60, 'all of it');
    expect(stream.log.events('warn')).toEqual([]);
  });
});

describe('a stream that is behind', () => {
  const QUICK = { heartbeatIntervalMs: 20, staleAfterMs: 400, maxLagMs: 1_000 };
  const fresh = (stream: StreamUnderTest): boolean => stream.replication.freshness.isFresh();

  it('D14: for longer than the limit begins anew at the end of the log, and every store is read again', async () => {
    const stream = await started({ options: { ...QUICK, maxPendingBytes: 1 } });
    await until(() => fresh(stream), 'the first proof');
    stream.sink.held = 2; // nothing more is read
    await database.sql(insertGroup('last of before'));
    await until(() => !fresh(stream), 'the stream to be stale');
    for (let n = 0; n < 50; n += 1) await database.sql(insertGroup(`backlog ${n}`));
    await until(() => stream.log.events('error').includes('replication.backlog-abandoned'), 'the limit');
    stream.sink.held = 0;
    await until(() => stream.sink.resyncs.includes('replication slot: backlog-abandoned'), 'the new slot');
    await until(() => fresh(stream), 'a new proof');
    await database.sql(insertGroup('after'));
    await stream.caughtUp();
    expect(groupNames(stream).filter((name) => name?.startsWith('backlog'))).toEqual([]);
    expect(groupNames(stream).at(-1)).toBe('after');
    expect(stream.sink.resyncs).toEqual(['replication slot: absent', 'replication slot: backlog-abandoned']);
    await until(async () => {
      const { confirmed } = await stream.slotRow();
      return (parsePosition(confirmed) ?? 0n) >= (stream.sink.commits.at(-1)?.position ?? 0n);
    }, 'the acknowledgement of what came after');
  });

  it('D14: because the event store takes nothing gives up what waits for it, and revocations go on', async () => {
    const never = (): Promise<never> => new Promise(() => undefined);
    const changeLog: ChangeLog = { append: never, enterTimeline: async () => false };
    const stream = await started({ options: { ...QUICK, maxPendingBytes: 100_000, maxTxBytes: 90_000 }, changeLog });
    for (let n = 0; n < 12; n += 1) {
      await database.query(
        `INSERT INTO groups (account_id, name) SELECT $1, $2 || ' ' || n FROM generate_series(1, 200) n`,
        [ours.accountId, `backlog ${n}`],
      );
    }
    await until(() => stream.log.events('error').includes('replication.backlog-abandoned'), 'the limit');
    await until(() => stream.log.events('warn').includes('recorder.backlog-abandoned'), 'the backlog to be given up');
    await until(() => fresh(stream), 'a new proof');
    await database.sql(insertGroup('after'));
    await stream.caughtUp();
    expect(groupNames(stream).at(-1)).toBe('after');
  });

  it('D14: is fresh without the right to write heartbeats, and while nothing can be asked; not while nothing is heard', async () => {
    let may: 'write' | 'read' | 'nothing' = 'write';
    const run: RunStatement = (text, values) => {
      const isRefused = may === 'nothing' || (may === 'read' && text.includes('pg_logical_emit_message'));
      return isRefused ? Promise.reject(new Error('refused')) : runAt(database.url, text, values);
    };
    const stream = await started({ options: QUICK, run });
    await until(() => fresh(stream), 'the first proof');
    for (const next of ['read', 'nothing'] as const) {
      may = next;
      await until(() => stream.log.events().includes('replication.heartbeat-failed'), 'the refusal');
      await mustStayFresh(stream, 3 * QUICK.staleAfterMs);
    }
    expect(stream.sink.resyncs).toEqual(['replication slot: absent']);
    stream.sink.held = Infinity;
    await database.sql(insertGroup('unheard'));
    await until(() => !fresh(stream), 'the stream to be stale', 5_000);
  });

  async function mustStayFresh(stream: StreamUnderTest, forMs: number): Promise<void> {
    const endsAt = performance.now() + forMs;
    while (performance.now() < endsAt) {
      expect(fresh(stream)).toBe(true);
      await database.query('SELECT 1');
    }
  }
});
