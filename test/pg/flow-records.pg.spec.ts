import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import type { FlowRecord, PushEnd } from '../../src/core/model/flow.js';
import type { ClientId, FlowId, GatewayId, MembershipId } from '../../src/core/model/ids.js';
import { parsePosition } from '../../src/core/model/position.js';
import type { Cause } from '../../src/core/ports/account-streams.js';
import type { Logger } from '../../src/core/support/logger.js';
import { BatchedFlowRecords } from '../../src/db/batched-flow-records.js';
import type { Database } from '../../src/db/open-database.js';
import { openDatabase } from '../../src/db/open-database.js';
import { PostgresChangeLog } from '../../src/db/postgres-change-log.js';
import { deleteExpiredFlows, deleteOldChangeLog } from '../../src/db/retention.js';
import { insertAccount } from '../support/account-rows.js';
import type { AccountIds } from '../support/account-rows.js';
import { ManualClock } from '../support/manual-clock.js';
import { createMigratedDatabase } from '../support/test-database.js';
import type { TestDatabase } from '../support/test-database.js';

const NOW = Date.UTC(2026, 0, 5, 9);
const HOUR = 3_600_000;
const QUIET: Logger = { error: () => {}, warn: () => {}, info: () => {}, debug: () => {} };

let test: TestDatabase;
let database: Database;
let ours: AccountIds;
let clock: ManualClock;
let records: BatchedFlowRecords;

/** A commit, as it is stored and as the stream names it. */
const CAUSE: Cause = { position: 0x16_b374d848n, committedAt: NOW - 3 };

const asked: string[] = [];

beforeAll(async () => {
  test = await createMigratedDatabase();
  database = openDatabase(test.url, { max: 4, onQuery: (question) => asked.push(question) });
  ours = await insertAccount(test);
});

beforeEach(() => {
  clock = new ManualClock(NOW);
  records = new BatchedFlowRecords(database, clock, QUIET);
  asked.length = 0;
});

afterAll(async () => {
  await database.close();
  await test.drop();
});

describe('writing flows', () => {
  it('D21: what was added in one moment goes out as one statement, no later than 100 ms after', async () => {
    const flows = Array.from({ length: 3 }, () => aFlow());
    const outcomes = flows.map((flow) => addAndWait(flow));
    expect(asked).toEqual([]);
    clock.advance(100);
    expect(await Promise.all(outcomes)).toEqual(['written', 'written', 'written']);
    expect(asked).toEqual(['insert-flows']);
  });

  it('D21: a full batch of 500 does not wait', async () => {
    const outcomes = Array.from({ length: 500 }, () => addAndWait(aFlow()));
    expect(new Set(await Promise.all(outcomes))).toEqual(new Set(['written']));
    expect(asked).toEqual(['insert-flows']);
  });

  it('reads back what was written, closed or not, and nothing that has expired', async () => {
    const gatewayId = randomUUID() as GatewayId;
    const open = aFlow({ gatewayId, createdAt: NOW - 2, clientRemoteIp: '2001:db8::1', gatewayRemoteIp: null });
    const closed = aFlow({ gatewayId, createdAt: NOW - 1 });
    const expired = aFlow({ gatewayId, expiresAt: NOW });
    for (const flow of [open, closed, expired, aFlow()]) void addAndWait(flow);
    records.close({
      accountId: ours.accountId,
      flowId: closed.id,
      reason: 'replaced',
      at: NOW,
      cause: null,
      pushedAt: null,
    });
    await records.flush();
    const end = await test.query<{ lsn: string }>('SELECT pg_current_wal_insert_lsn()::text AS lsn');
    const { rows, upperBound } = await records.unexpired(ours.accountId, gatewayId, NOW);
    expect(upperBound).toBeGreaterThanOrEqual(parsePosition(end.rows[0]?.lsn ?? '') ?? NaN);
    expect(rows).toEqual([
      { ...open, revokedAt: null, isCutByHand: false, pushedAt: null, deliveredAt: null },
      { ...closed, revokedAt: NOW, isCutByHand: false, pushedAt: null, deliveredAt: null },
    ]);
  });

  it('D21: one poisoned row is unwritable, the rest of its batch is written', async () => {
    const poisoned = aFlow({ clientRemoteIp: 'not an address' });
    const flows = [aFlow(), poisoned, aFlow({ accountId: (await insertAndDeleteAccount()).accountId }), aFlow()];
    const outcomes = flows.map((flow) => addAndWait(flow));
    await records.flush();
    expect(await Promise.all(outcomes)).toEqual(['written', '22P02', '23503', 'written']);
    expect(await stored(flows)).toEqual([flows[0]?.id, flows[3]?.id].sort());
  });

  it('a channel that throws at the news of its row does not stop the others', async () => {
    records.add(aFlow(), {
      written: () => {
        throw new Error('a channel’s fault');
      },
      unwritable: () => {},
    });
    const other = addAndWait(aFlow());
    await records.flush();
    expect(await other).toBe('written');
  });

  it('sends the same batch again, in order, when the database fails for now', async () => {
    const flow = aFlow();
    const failing = failingTimes(2);
    records = new BatchedFlowRecords(failing.database, clock, QUIET);
    const outcome = addAndWait(flow);
    records.close({
      accountId: ours.accountId,
      flowId: flow.id,
      reason: 'moved',
      at: NOW,
      cause: null,
      pushedAt: null,
    });
    const flushed = records.flush();
    for (let i = 0; i < 2; i += 1) {
      await failing.failed(i + 1);
      clock.advance(5_000);
    }
    await flushed;
    expect(await outcome).toBe('written');
    expect((await closingOf(flow)).revoked_reason).toBe('moved');
  });

  it('a batch that was written but not confirmed is written once', async () => {
    const flow = aFlow();
    await Promise.all([addAndWait(flow), addAndWait(flow), records.flush()]);
    expect(await stored([flow])).toEqual([flow.id]);
  });
});

describe('closing flows', () => {
  it('a closing never overtakes the row it closes, also in one batch', async () => {
    const flow = aFlow();
    void addAndWait(flow);
    records.close({
      accountId: ours.accountId,
      flowId: flow.id,
      reason: 'expired',
      at: NOW,
      cause: null,
      pushedAt: null,
    });
    await records.flush();
    expect(await closingOf(flow)).toEqual({ revoked_reason: 'expired', revoked_position: '0/0', at: NOW });
  });

  it('D8: the first closing stands, in the same batch and later', async () => {
    const flow = aFlow();
    void addAndWait(flow);
    const close = (reason: 'unjustified' | 'expired' | 'moved', cause: Cause | null): void =>
      records.close({ accountId: ours.accountId, flowId: flow.id, reason, at: NOW, cause, pushedAt: null });
    close('unjustified', { position: 0x16_b374d848n, committedAt: NOW - 3 });
    close('expired', null);
    await records.flush();
    close('moved', null);
    await records.flush();
    expect(await closingOf(flow)).toEqual({ revoked_reason: 'unjustified', revoked_position: '16/B374D848', at: NOW });
  });

  it('D8a: what the stream shows of a closing carries revoked_position, an operator’s cut does not; inserts are not shown', async () => {
    const [byUs, byHand, byBoth] = [aFlow(), aFlow(), aFlow()];
    await test.query(`SELECT pg_create_logical_replication_slot('flow_echo', 'pgoutput')`);
    void addAndWait(byUs);
    void addAndWait(byHand);
    void addAndWait(byBoth);
    records.close({
      accountId: ours.accountId,
      flowId: byUs.id,
      reason: 'expired',
      at: NOW,
      cause: null,
      pushedAt: null,
    });
    await records.flush();
    await test.query('UPDATE flows SET revoked_at = now() WHERE id = $1', [byHand.id]);
    for (const flow of [byUs, byHand]) {
      deliver(flow, 'receipted');
      await records.flush();
    }
    await test.query('UPDATE flows SET revoked_at = now() WHERE id = $1', [byBoth.id]);
    records.close({
      accountId: ours.accountId,
      flowId: byBoth.id,
      reason: 'cut-by-hand',
      at: NOW,
      cause: null,
      pushedAt: NOW,
    });
    await records.flush();
    await test.query('CHECKPOINT'); // decoding ends where the WAL is flushed
    const { rows } = await test.query<{ kind: string; text: string }>(
      `SELECT chr(get_byte(data, 0)) AS kind, encode(data, 'escape') AS text
       FROM pg_logical_slot_get_binary_changes('flow_echo', NULL, NULL, 'proto_version', '1',
         'publication_names', 'portcullis_changes,portcullis_flow_edits')`,
    );
    const updates = rows.filter((row) => row.kind === 'U');
    expect(rows.map((row) => row.kind)).not.toContain('I');
    expect(updates.map((row) => [idIn(row.text), row.text.includes('0/0')])).toEqual([
      ...[byUs, byHand].map((flow) => [flow.id, flow === byUs]),
      ...[byUs, byHand].map((flow) => [flow.id, true]),
      ...[false, true].map((isOurs) => [byBoth.id, isOurs]),
    ]);
  });

  it('D8a: a row that had ended before it was deleted is put back with its own reason', async () => {
    const flow = aFlow();
    const cut = { at: NOW + 5, cause: CAUSE, reason: 'moved', pushedAt: NOW, isConnected: false };
    records.putBackRevoked(flow, cut, () => undefined);
    await records.flush();
    const { rows } = await records.unexpired(ours.accountId, flow.gatewayId, NOW);
    expect(rows).toMatchObject([{ id: flow.id, revokedAt: NOW + 5, isCutByHand: false, pushedAt: NOW }]);
    expect(await closingOf(flow)).toMatchObject({ revoked_reason: 'moved' });
  });

  it('D8a: a row deleted by hand is put back as revoked', async () => {
    const flow = aFlow();
    void addAndWait(flow);
    await records.flush();
    await test.query('DELETE FROM flows WHERE id = $1', [flow.id]);
    let isDone = false;
    const cut = { at: NOW + 5, cause: CAUSE, reason: 'cut-by-hand', pushedAt: null, isConnected: false };
    records.putBackRevoked(flow, cut, () => (isDone = true));
    expect(isDone).toBe(false);
    await records.flush();
    expect(isDone).toBe(true);
    expect((await records.unexpired(ours.accountId, flow.gatewayId, NOW)).rows).toEqual([
      { ...flow, revokedAt: NOW + 5, isCutByHand: true, pushedAt: null, deliveredAt: null },
    ]);
    expect(await revocationOf(flow)).toEqual({
      ...{ reason: 'cut-by-hand', position: '16/B374D848', committed: NOW - 3, decided: NOW + 5 },
      ...{ pushed: null, delivered: null, delivery: 'not-connected' },
    });
  });
});

describe('what became of a flow that was taken back', () => {
  it('says which commit did it, when it was decided, when the gateway was told, and when it had read that', async () => {
    const flow = aFlow();
    void addAndWait(flow);
    close(flow);
    deliver(flow, 'receipted', NOW + 7);
    await records.flush();
    expect(asked).toEqual(['insert-flows', 'close-flows', 'deliver-flows']);
    expect(await revocationOf(flow)).toEqual({
      ...{ reason: 'unjustified', position: '16/B374D848', committed: NOW - 3, decided: NOW },
      ...{ pushed: NOW, delivered: NOW + 7, delivery: 'receipted' },
    });
    expect((await records.unexpired(ours.accountId, flow.gatewayId, NOW)).rows).toEqual([
      { ...flow, revokedAt: NOW, isCutByHand: false, pushedAt: NOW, deliveredAt: NOW + 7 },
    ]);
  });

  it('D22: is not delivered while no receipt says so; the last push counts, and a receipt stands', async () => {
    const flow = aFlow();
    void addAndWait(flow);
    close(flow);
    deliver(flow, 'no-receipt', NOW + 10_000);
    await records.flush();
    expect(await revocationOf(flow)).toMatchObject({ pushed: NOW, delivered: null, delivery: 'no-receipt' });
    deliver(flow, 'socket-closed', NOW + 20_000);
    deliver(flow, 'receipted', NOW + 30_000); // in one batch: the former socket's end, and the next one's receipt
    await records.flush();
    expect(await revocationOf(flow)).toMatchObject({ delivered: NOW + 30_000, delivery: 'receipted' });
    deliver(flow, 'socket-closed', NOW + 40_000);
    await records.flush();
    expect(await revocationOf(flow)).toMatchObject({ delivered: NOW + 30_000, delivery: 'receipted' });
  });

  it('D8a: keeps what a hand wrote, and fills in the rest', async () => {
    const flow = aFlow();
    void addAndWait(flow);
    await records.flush();
    await test.query(`UPDATE flows SET revoked_at = $2, revoked_reason = 'left us' WHERE id = $1`, [
      flow.id,
      new Date(NOW - HOUR),
    ]);
    close(flow);
    await records.flush();
    expect(await revocationOf(flow)).toEqual({
      ...{ reason: 'left us', position: '16/B374D848', committed: NOW - 3, decided: NOW - HOUR },
      ...{ pushed: NOW, delivered: null, delivery: null },
    });
  });

  it('D8a: a row that a hand closed without a reason is known as cut by hand, whatever we close it for later', async () => {
    const flow = aFlow();
    void addAndWait(flow);
    await records.flush();
    await test.query('UPDATE flows SET revoked_at = $2 WHERE id = $1', [flow.id, new Date(NOW - HOUR)]);
    close(flow);
    await records.flush();
    expect(await revocationOf(flow)).toMatchObject({ reason: 'cut-by-hand', decided: NOW - HOUR });
  });

  it('D8a: a history that is gone twice, before that is written, is forgotten once', async () => {
    let done = 0;
    records.historyGone(null, () => (done += 1));
    records.historyGone(null, () => (done += 1));
    await records.flush();
    const forgets = () => asked.filter((question) => question === 'forget-flow-history').length;
    expect([done, forgets()]).toEqual([2, 1]);

    // What a gateway was told is not what went later.
    records.historyGone(null, () => (done += 1));
    records.uncleanEpochsTold(ours.accountId, aFlow().gatewayId);
    records.historyGone(null, () => (done += 1));
    await records.flush();
    expect([done, forgets()]).toEqual([4, 3]);
  });

  it('a flow that nobody closed is never delivered', async () => {
    const flow = aFlow();
    void addAndWait(flow);
    deliver(flow, 'receipted');
    await records.flush();
    expect(await revocationOf(flow)).toMatchObject({ decided: null, delivered: null, delivery: null });
  });
});

describe('retention', () => {
  it('D8: expired flows leave, others stay', async () => {
    const [old, recent] = [aFlow({ expiresAt: NOW - 2 * HOUR }), aFlow({ expiresAt: NOW })];
    void addAndWait(old);
    void addAndWait(recent);
    await records.flush();
    expect(await deleteExpiredFlows(database, NOW - HOUR)).toBe(1);
    expect(await stored([old, recent])).toEqual([recent.id]);
  });
});

describe('the event store', () => {
  const change = { kind: 'update', table: 'sites', seq: 0, old: { name: 'a "b"' }, new: { name: null } } as const;
  const entry = { position: 0x16_b374d848n, seq: 0, xid: 2n ** 40n, committedAt: NOW, accountId: null, change };

  it('D10: keeps raw column text, once for each place in the stream', async () => {
    const log = new PostgresChangeLog(database);
    await expect(log.append([entry])).rejects.toThrow('enterTimeline');
    expect(await log.enterTimeline('7000000000000000001', 1)).toBe(false);
    const truncate = { ...entry, seq: 1, change: { kind: 'truncate', tables: ['policies', 'flows'], seq: 1 } as const };
    await log.append([entry, truncate]);
    await log.append([entry]);
    const { rows } = await test.query('SELECT * FROM change_log ORDER BY seq');
    expect(rows).toEqual([
      {
        timeline_epoch: 1,
        position: '16/B374D848',
        seq: 0,
        xid: String(2n ** 40n),
        committed_at: new Date(NOW),
        account_id: null,
        table_name: 'sites',
        op: 'update',
        old_row: { name: 'a "b"' },
        new_row: { name: null },
        recorded_at: expect.any(Date),
      },
      expect.objectContaining({ seq: 1, op: 'truncate', table_name: 'policies,flows', old_row: null, new_row: null }),
    ]);
  });

  it('D10: a new timeline or system starts a new epoch, where old positions collide with nothing', async () => {
    const log = new PostgresChangeLog(database);
    expect(await log.enterTimeline('7000000000000000001', 1)).toBe(false);
    expect(await log.enterTimeline('7000000000000000001', 2)).toBe(true);
    expect(await log.enterTimeline('7000000000000000001', 2)).toBe(false);
    await log.append([entry]);
    expect(await log.enterTimeline('7000000000000000002', 2)).toBe(true);
    await log.append([entry]);
    const { rows } = await test.query('SELECT timeline_epoch FROM change_log WHERE seq = 0 ORDER BY 1');
    expect(rows.map((row) => row['timeline_epoch'])).toEqual([1, 2, 3]);
  });

  it('D10: old entries leave when asked to', async () => {
    await test.query(`UPDATE change_log SET recorded_at = '2000-01-01' WHERE timeline_epoch < 3`);
    expect(await deleteOldChangeLog(database, NOW - HOUR)).toBe(3);
    expect((await test.query('SELECT FROM change_log')).rowCount).toBe(1);
  });
});

function aFlow(parts: Partial<FlowRecord> = {}): FlowRecord {
  return {
    id: randomUUID() as FlowId,
    accountId: ours.accountId,
    gatewayId: randomUUID() as GatewayId,
    clientId: randomUUID() as ClientId,
    resourceId: ours.resourceId,
    policyId: ours.policyId,
    membershipId: randomUUID() as MembershipId,
    tokenId: ours.clientTokenId,
    shape: { type: 'cidr', address: '10.20.0.0/16', ipStack: null },
    clientRemoteIp: '203.0.113.9',
    gatewayRemoteIp: '198.51.100.7',
    createdAt: NOW,
    expiresAt: NOW + HOUR,
    ...parts,
  };
}

/** `written`, or the SQLSTATE of why it never will be. */
function addAndWait(flow: FlowRecord): Promise<string> {
  return new Promise((resolve) => {
    records.add(flow, {
      written: () => resolve('written'),
      unwritable: (error) => resolve((error as { code: string }).code),
    });
  });
}

async function stored(flows: readonly FlowRecord[]): Promise<unknown[]> {
  const { rows } = await test.query('SELECT id FROM flows WHERE id = ANY ($1) ORDER BY id', [
    flows.map((flow) => flow.id),
  ]);
  return rows.map((row) => row['id']);
}

function close({ id: flowId }: FlowRecord): void {
  records.close({ accountId: ours.accountId, flowId, reason: 'unjustified', at: NOW, cause: CAUSE, pushedAt: NOW });
}

function deliver({ id: flowId }: FlowRecord, how: PushEnd, at = NOW + 1): void {
  records.delivered({ accountId: ours.accountId, flowId, how, pushedAt: NOW, at });
}

async function revocationOf({ id }: FlowRecord): Promise<Record<string, unknown>> {
  const { rows } = await test.query<Record<string, unknown>>(
    `SELECT revoked_reason AS reason, revoked_position AS position, delivery,
       revoked_committed_at, revoked_at, pushed_at, delivered_at FROM flows WHERE id = $1`,
    [id],
  );
  const { revoked_committed_at, revoked_at, pushed_at, delivered_at, ...texts } = rows[0] ?? {};
  const ms = (time: unknown): number | null => (time instanceof Date ? time.getTime() : null);
  return {
    ...{ ...texts, committed: ms(revoked_committed_at), decided: ms(revoked_at) },
    ...{ pushed: ms(pushed_at), delivered: ms(delivered_at) },
  };
}

/** The id of the flow in a decoded update: the second value of its old row. */
function idIn(text: string): string {
  return [...text.matchAll(/[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}/g)][1]?.[0] ?? '';
}

async function closingOf(flow: FlowRecord) {
  const { rows } = await test.query<{ revoked_reason: string; revoked_position: string; revoked_at: Date }>(
    'SELECT revoked_reason, revoked_position, revoked_at FROM flows WHERE id = $1',
    [flow.id],
  );
  const [row] = rows;
  if (!row) throw new Error('the flow is not stored');
  return { revoked_reason: row.revoked_reason, revoked_position: row.revoked_position, at: row.revoked_at.getTime() };
}

async function insertAndDeleteAccount(): Promise<AccountIds> {
  const gone = await insertAccount(test);
  await test.query('DELETE FROM accounts WHERE id = $1', [gone.accountId]);
  return gone;
}

/** The real database, whose first questions fail as when the server is restarting. */
function failingTimes(times: number): { database: Database; failed(count: number): Promise<void> } {
  let failures = 0;
  const waiting: { count: number; resolve: () => void }[] = [];
  const fail = async (): Promise<never> => {
    failures += 1;
    // The writer sets its timer when it hears of the failure: tell the test after that.
    setImmediate(() => waiting.filter((wait) => wait.count <= failures).forEach((wait) => wait.resolve()));
    throw Object.assign(new Error('the database system is starting up'), { code: '57P03' });
  };
  return {
    database: { ...database, ask: (question, ask) => (failures < times ? fail() : database.ask(question, ask)) },
    failed: (count) =>
      new Promise((resolve) => {
        if (failures >= count) setImmediate(resolve);
        else waiting.push({ count, resolve });
      }),
  };
}
