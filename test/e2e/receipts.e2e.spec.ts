/**
 * Delivery receipts (G4, ACK-2, D22): a gateway proves by a ping that it has read its rejections. Until then the commit
 * is not acknowledged; without proof the socket is cut off; what was not proven is told again at each join.
 */
import { afterAll, afterEach, beforeAll, describe, expect, it, jest } from '@jest/globals';
import { randomUUID } from 'node:crypto';
import { NIL_UUID } from '../../src/core/model/ids.js';
import { aTestAccount } from '../support/demo-account.js';
import { eventually } from '../support/eventually.js';
import { launchOn, type ServerOnDatabase } from '../support/launched-server.js';
import { runCommand } from '../support/run-command.js';
import { setPolicy } from '../support/scene-rows.js';
import { type OpenFlow, rejected, removed, Scene, shown, Stage } from '../support/scene.js';
import { session } from '../support/stream-under-test.js';
import { createMigratedDatabase, type TestDatabase } from '../support/test-database.js';
import { Transcript } from '../support/transcript.js';

jest.setTimeout(60_000);

const SILENT = { answersPings: false };
/** Commits are settled every 250 ms and acknowledged soon after: work for this long gives a broken gate time to pass. */
const LONG_ENOUGH_MS = 2_000;

describe('with receipts', () => {
  let stage: Stage;
  let db: TestDatabase;

  beforeAll(async () => {
    stage = await Stage.open({ RECEIPT_TIMEOUT_MS: '60000' });
    db = stage.server.db;
  });
  afterEach(() => stage.clear());
  afterAll(() => stage.close());

  it('a revocation is on record from the commit to the receipt, and in the metrics', async () => {
    const scene = await recordedFlow(stage);
    const transcript = new Transcript(scene.gateway.ws);
    const before = await receiptsCounted(stage);
    await scene.hears(setPolicy(scene, 'disabled_at = now()'));
    const row = await revoked(db, scene, ({ delivery }) => delivery !== null);
    const commit = await commitOf(db, scene);
    expect(row).toMatchObject({
      ...{ reason: 'unjustified', policy: scene.ids.policyId, delivery: 'receipted' },
      ...{ position: commit.position, committed: commit.at },
    });
    expect(row.pushed).toBeGreaterThanOrEqual(Number(row.decided));
    expect(row.delivered).toBeGreaterThanOrEqual(Number(row.pushed));
    expect(transcript.frames.map(({ kind, text }) => (kind === 'ping' ? text : kind)).slice(-3)).toEqual([
      'text', // the rejection
      '{"topic":"phoenix","event":"phx_error","payload":{},"ref":1}',
      'text', // the answer to the heartbeat by which the test waited
    ]);
    expect(await receiptsCounted(stage)).toEqual(before.map((count) => count + 1));
  });

  it('ACK-2: the slot stays below the commit while a receipt is open, whatever commits after it, and then passes', async () => {
    const scene = await recordedFlow(stage, SILENT);
    await scene.hears(setPolicy(scene, 'disabled_at = now()'));
    const payload = await scene.gateway.ping(1);
    const { position } = await commitOf(db, scene);
    const commits = await staysBelow(db, scene, position);
    await eventually('the last commit to be recorded', async () => (await namesRecorded(db, scene)) === commits);
    expect(await slotPassed(db, position)).toBe(false);

    scene.gateway.ws.pong(payload);
    await eventually('the slot to pass', () => slotPassed(db, position));
    expect(await revoked(db, scene, ({ delivery }) => delivery !== null)).toMatchObject({ delivery: 'receipted' });
  });

  it('ACK-2: a socket that ends holds the slot back no longer', async () => {
    const scene = await recordedFlow(stage, SILENT);
    await scene.hears(setPolicy(scene, 'disabled_at = now()'));
    const { position } = await commitOf(db, scene);
    expect(await slotPassed(db, position)).toBe(false);
    scene.gateway.ws.terminate();
    await eventually('the slot to pass', () => slotPassed(db, position));
    expect(await revoked(db, scene, ({ delivery }) => delivery !== null)).toMatchObject({
      ...{ delivery: 'socket-closed', delivered: null },
    });
  });

  it('ACK-2: a deleted row of a gateway that is away holds the slot back until it is put back', async () => {
    const scene = await recordedFlow(stage);
    await scene.leave('gateway');
    const blocker = await session(db);
    await blocker.query('SELECT pg_advisory_lock(42)');
    await db.sql(`
      CREATE FUNCTION waits() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN PERFORM pg_advisory_xact_lock_shared(42); RETURN NEW; END';
      CREATE TRIGGER waits BEFORE INSERT ON flows FOR EACH ROW EXECUTE FUNCTION waits()`);
    let position: string | undefined;
    try {
      await scene.hears(`DELETE FROM flows ${open(scene)}`);
      await eventually('the cut to be recorded', async () => (position = await cutOf(db, scene)) !== undefined);
      await staysBelow(db, scene, position ?? '');
    } finally {
      await blocker.end();
    }
    await eventually('the slot to pass', () => slotPassed(db, position ?? ''));
    expect(await deliveries(db, scene)).toEqual(['not-connected']);
    await db.sql('DROP TRIGGER waits ON flows; DROP FUNCTION waits()');
  });

  it('one ping serves a whole commit, and what is rejected meanwhile waits for the next', async () => {
    const scene = await recordedFlow(stage, SILENT);
    const others = [await anotherFlow(scene), await anotherFlow(scene), await anotherFlow(scene)];
    await recorded(db, scene, 4);
    const [first, second, third] = others;
    const transcript = new Transcript(scene.gateway.ws);
    const both = `UPDATE policies SET disabled_at = now() WHERE id IN ('${scene.ids.policyId}', '${first?.policyId}')`;
    await scene.hears(both);
    for (const policy of [second, third]) await scene.hears(disable(policy?.policyId));
    const kinds = (): string[] => transcript.frames.flatMap(({ kind, text }) => wordFor(kind, text));
    expect(kinds()).toEqual(['reject', 'reject', 'ping', 'reject', 'reject']);
    expect(await deliveries(db, scene)).toEqual([null, null, null, null]);

    scene.gateway.ws.pong(await scene.gateway.ping(1));
    const next = await scene.gateway.ping(2);
    await eventually('two receipts', async () => (await receipted(db, scene)) === 2);
    scene.gateway.ws.pong(next);
    await eventually('four receipts', async () => (await receipted(db, scene)) === 4);
    expect(kinds()).toEqual(['reject', 'reject', 'ping', 'reject', 'reject', 'ping']);
  });

  it('a pong with any other payload is no receipt, nor is a frame of the same words', async () => {
    const scene = await recordedFlow(stage, SILENT);
    await scene.hears(setPolicy(scene, 'disabled_at = now()'));
    const payload = await scene.gateway.ping(1);
    for (const foreign of ['', 'pong', payload.replace('1}', '2}'), payload.replace('1}', '0}'), `${payload} `]) {
      scene.gateway.ws.pong(foreign);
    }
    const { position } = await commitOf(db, scene);
    scene.gateway.ws.send(payload); // as a text frame: answered like any event that nobody knows
    expect(await scene.gateway.next('phx_reply')).toMatchObject({ status: 'error' });
    await scene.gateway.settled();
    expect(await deliveries(db, scene)).toEqual([null]);
    expect(await slotPassed(db, position)).toBe(false);
    scene.gateway.ws.pong(payload);
    expect(await revoked(db, scene, ({ delivery }) => delivery !== null)).toMatchObject({ delivery: 'receipted' });
  });

  it('D22: a rejection without receipt is told again at each join, and no more once it has one', async () => {
    const scene = await recordedFlow(stage, SILENT);
    const { clientId } = scene.flow;
    const placeholder = { client_id: clientId, resource_id: NIL_UUID, expires_at: expect.any(Number) };
    await scene.hears(setPolicy(scene, 'disabled_at = now()'));
    for (const attempt of ['first', 'second']) {
      await scene.leave('gateway');
      expect([attempt, await revoked(db, scene, ({ delivery }) => delivery !== null)]).toMatchObject([
        attempt,
        { delivery: 'socket-closed', delivered: null },
      ]);
      await scene.join('gateway', 'gateway', SILENT);
      expect(scene.gateway.init['authorizations']).toEqual([placeholder]);
      expect(await scene.heard()).toMatchObject({ gateway: [rejected(scene.flow)] });
      expect(scene.gateway.pings).toHaveLength(1);
    }
    await scene.leave('gateway');
    await scene.join('gateway', 'gateway');
    expect(await scene.heard()).toMatchObject({ gateway: [rejected(scene.flow)] });
    await revoked(db, scene, ({ delivery }) => delivery === 'receipted');

    await scene.leave('gateway');
    await scene.join('gateway', 'gateway');
    expect(scene.gateway.init['authorizations']).toEqual([]);
    expect(await scene.heard()).toMatchObject({ gateway: [] });
    expect(scene.gateway.pings).toEqual([]);
  });

  it('D22: what was revoked while the gateway was away is receipted at its join', async () => {
    const scene = await recordedFlow(stage);
    await scene.leave('gateway');
    await scene.hears(setPolicy(scene, 'disabled_at = now()'));
    expect(await deliveries(db, scene)).toEqual([null]);
    await scene.join('gateway', 'gateway');
    expect(await scene.heard()).toMatchObject({ gateway: [rejected(scene.flow)] });
    expect(await revoked(db, scene, ({ delivery }) => delivery !== null)).toMatchObject({
      ...{ reason: 'unjustified', committed: null, delivery: 'receipted' },
    });
  });

  it.each([
    ['given revoked_at', (scene: Scene) => `UPDATE flows SET revoked_at = now() ${open(scene)}`],
    ['deleted', (scene: Scene) => `DELETE FROM flows ${open(scene)}`],
  ])('D8a: a flow that a hand has %s is receipted like any other, and our marks are no cuts', async (_how, cut) => {
    const scene = await recordedFlow(stage);
    expect(await scene.hears(cut(scene))).toEqual({
      gateway: [rejected(scene.flow)],
      client: [removed(scene.ids.resourceId), shown(scene)],
    });
    const row = await revoked(db, scene, ({ delivery }) => delivery === 'receipted');
    const { rows } = await db.query<{ position: string; at: Date }>(
      `SELECT position, committed_at AS at FROM change_log WHERE table_name = 'flows' AND account_id = $1`,
      [scene.ids.accountId],
    );
    expect(rows).toHaveLength(1); // the hand's; what we wrote about it is not recorded
    expect(row).toMatchObject({
      ...{ reason: 'cut-by-hand', position: rows[0]?.position, committed: rows[0]?.at.getTime() },
    });
    expect(await scene.heard()).toEqual({ gateway: [], client: [] });
    await scene.openFlow();
  });

  it('D8a: a flow that a hand has closed while its gateway was away is receipted at its join', async () => {
    const scene = await recordedFlow(stage);
    await scene.leave('gateway');
    await scene.hears(`UPDATE flows SET revoked_at = now() ${open(scene)}`);
    await scene.join('gateway', 'gateway');
    const row = await revoked(db, scene, ({ delivery }) => delivery === 'receipted');
    expect(row).toMatchObject({ reason: 'cut-by-hand', position: '0/0' });
    expect(await scene.heard()).toMatchObject({ gateway: [rejected(scene.flow)] });
    await scene.leave('gateway');
    await scene.join('gateway', 'gateway');
    expect(await scene.heard()).toMatchObject({ gateway: [] });
  });

  it('D8a: after a TRUNCATE of the history the placeholders are repeated until they are receipted', async () => {
    const scene = await recordedFlow(stage);
    await scene.leave('gateway');
    await scene.hears('TRUNCATE flows');
    const listed = async (gateway: object): Promise<unknown> => {
      await scene.join('gateway', 'gateway', gateway);
      await scene.gateway.settled();
      return scene.gateway.init['authorizations'];
    };
    for (const gateway of [SILENT, SILENT, {}]) {
      expect(await listed(gateway)).toMatchObject([{ client_id: scene.flow.clientId, resource_id: NIL_UUID }]);
      if (gateway !== SILENT) await eventually('the receipt', async () => (await suspects(db, scene)) === 0);
      await scene.leave('gateway');
    }
    expect(await listed({})).toEqual([]);
  });

  it('the command lists what was taken back, as text and as JSON', async () => {
    const scene = await recordedFlow(stage, SILENT);
    const { ids, flow } = scene;
    await db.query(`UPDATE accounts SET slug = 'listed' WHERE id = $1`, [ids.accountId]);
    await scene.heard();
    await scene.hears(setPolicy(scene, 'disabled_at = now()'));
    const of = ['revocations', '--account', 'listed'];
    await revoked(db, scene, ({ decided }) => decided !== null);
    expect((await runCommand(db.url, of)).out).toMatch(/ unjustified \| [0-9A-F]+\/[0-9A-F]+ \| +\| open\n\(1 row\)$/);

    scene.gateway.ws.pong(await scene.gateway.ping(1));
    const row = await revoked(db, scene, ({ delivery }) => delivery === 'receipted');
    const table = await runCommand(db.url, of);
    expect(
      table.out
        .split('\n')[0]
        ?.split('|')
        .map((name) => name.trim()),
    ).toEqual([...['decided', 'account', 'client', 'resource', 'gateway', 'reason', 'commit', 'took', 'delivery']]);
    const took = `${Number(row.delivered) - Number(row.committed)} ms`;
    for (const part of ['listed', 'Unnamed resource', row.position ?? '', took, 'receipted\n(1 row)']) {
      expect(table.out).toContain(part);
    }
    const json = await runCommand(db.url, ['revocations', '--json', '--since', '5m', '--account', ids.accountId]);
    const time = (at: unknown): string => new Date(Number(at)).toISOString();
    expect(JSON.parse(json.out)).toEqual([
      {
        flow_id: row.id,
        account: { id: ids.accountId, slug: 'listed' },
        client: { id: flow.clientId, name: expect.any(String) },
        resource: { id: ids.resourceId, name: 'Unnamed resource' },
        gateway: { id: scene.device('gateway').id, name: expect.any(String) },
        policy_id: ids.policyId,
        ...{ reason: 'unjustified', position: row.position, committed_at: time(row.committed) },
        ...{ decided_at: time(row.decided), pushed_at: time(row.pushed), delivered_at: time(row.delivered) },
        delivery: 'receipted',
      },
    ]);
  });
});

describe('a gateway that never answers', () => {
  let stage: Stage;

  beforeAll(async () => {
    stage = await Stage.open({ RECEIPT_TIMEOUT_MS: '1000' });
  });
  afterEach(() => stage.clear());
  afterAll(() => stage.close());

  it('G4: is cut off in time, its commit is then acknowledged, and it hears of the rejection when it is back', async () => {
    const { db } = stage.server;
    const scene = await recordedFlow(stage, SILENT);
    const { gateway } = scene;
    await db.sql(setPolicy(scene, 'disabled_at = now()'));
    await gateway.next('reject_access');
    const pushedAt = gateway.received.at(-1)?.at ?? 0;
    const { position } = await commitOf(db, scene);
    expect(await slotPassed(db, position)).toBe(false);
    expect(await gateway.closed()).toBe(1006); // no close frame
    const tookMs = performance.now() - pushedAt;
    expect(tookMs).toBeGreaterThan(900); // its clock began when it heard, ours when we pushed
    expect(tookMs).toBeLessThan(3_000);
    await eventually('the slot to pass', () => slotPassed(db, position));
    expect(await revoked(db, scene, ({ delivery }) => delivery !== null)).toMatchObject({
      ...{ delivery: 'no-receipt', delivered: null },
    });
    const metrics = await (await fetch(`${stage.server.ops}/metrics`)).text();
    expect(metrics).toContain('portcullis_sockets_closed_total{role="gateway",why="no-receipt"} 1');

    await scene.leave('gateway');
    await scene.join('gateway', 'gateway');
    expect(await scene.heard()).toMatchObject({ gateway: [rejected(scene.flow)] });
    await revoked(db, scene, ({ delivery }) => delivery === 'receipted');
  });

  it('is left alone while it is owed nothing', async () => {
    const scene = await recordedFlow(stage, SILENT);
    const until = performance.now() + 1_500;
    while (performance.now() < until) await scene.gateway.settled();
    expect([scene.gateway.isClosed, scene.gateway.pings]).toEqual([false, []]);
  });
});

describe('RECEIPTS=off', () => {
  let stage: Stage;

  beforeAll(async () => {
    stage = await Stage.open({ RECEIPTS: 'off', RECEIPT_TIMEOUT_MS: '500' });
  });
  afterEach(() => stage.clear());
  afterAll(() => stage.close());

  it('pings nobody, holds nothing back, cuts nobody off, and tells each join', async () => {
    const { db } = stage.server;
    const scene = await recordedFlow(stage, SILENT);
    await scene.hears(setPolicy(scene, 'disabled_at = now()'));
    const { position } = await commitOf(db, scene);
    await eventually('the slot to pass', () => slotPassed(db, position));
    expect(await revoked(db, scene, ({ delivery }) => delivery !== null)).toMatchObject({
      ...{ delivery: 'unreceipted', delivered: null },
    });
    const until = performance.now() + 1_000;
    while (performance.now() < until) await scene.gateway.settled();
    expect([scene.gateway.isClosed, scene.gateway.pings]).toEqual([false, []]);
    for (let joins = 0; joins < 2; joins += 1) {
      await scene.leave('gateway');
      await scene.join('gateway', 'gateway', SILENT);
      expect(await scene.heard()).toMatchObject({ gateway: [rejected(scene.flow)] });
      expect(scene.gateway.pings).toEqual([]);
    }
  });
});

describe('after kill -9', () => {
  let db: TestDatabase;
  let running: ServerOnDatabase | undefined;

  beforeAll(async () => {
    db = await createMigratedDatabase();
  });
  afterEach(async () => {
    await running?.process.kill();
    running = undefined;
  });
  afterAll(() => db.drop());

  const start = async (before?: Scene): Promise<Scene> => {
    running = await launchOn(db);
    return new Scene(running, before?.ids ?? (await aTestAccount(db)));
  };
  const kill = async (scene: Scene, ...names: string[]): Promise<void> => {
    await running?.process.kill();
    await Promise.all(names.map((name) => scene.device(name).peer.closed()));
  };

  it('D22: a rejection that was pushed and not receipted is told at the next join, and receipted then', async () => {
    const before = await start();
    await before.join('gateway', 'gateway', SILENT);
    await before.join('client', 'client');
    const flow = await before.openFlow();
    await recorded(db, before, 1);
    await before.hears(setPolicy(before, 'disabled_at = now()'));
    await before.gateway.ping(1);
    await revoked(db, before, ({ pushed }) => pushed !== null);
    await kill(before, 'gateway', 'client');
    expect(await deliveries(db, before)).toEqual([null]);

    const after = await start(before);
    await after.join('gateway', 'gateway');
    expect(await after.heard()).toMatchObject({ gateway: [rejected(flow)] });
    expect(await revoked(db, after, ({ delivery }) => delivery !== null)).toMatchObject({ delivery: 'receipted' });
  });

  it('D22: the placeholder of a client whose flow was never written is repeated, over a clean restart too, until it is receipted', async () => {
    const before = await start();
    await before.join('gateway', 'gateway');
    const { id: clientId } = await before.join('client', 'client');
    const blocker = await session(db);
    await blocker.query('BEGIN; LOCK TABLE flows IN SHARE MODE');
    await before.openFlow();
    await eventually('the batch to be under way', async () => (await waitingWriters(db)).length === 1);
    await kill(before, 'gateway', 'client');
    for (const pid of await waitingWriters(db)) await db.query('SELECT pg_terminate_backend($1, 5000)', [pid]);
    await blocker.query('COMMIT');
    await blocker.end();
    const placeholder = { client_id: clientId, resource_id: NIL_UUID, expires_at: expect.any(Number) };

    const silent = await start(before);
    for (let joins = 0; joins < 2; joins += 1) {
      await silent.join('gateway', 'gateway', SILENT);
      expect(silent.gateway.init['authorizations']).toEqual([placeholder]);
      await silent.gateway.ping(1);
      await silent.leave('gateway');
    }
    await stopCleanly();

    const answering = await start(before);
    await answering.join('gateway', 'gateway');
    expect(answering.gateway.init['authorizations']).toEqual([placeholder]);
    await answering.gateway.ping(1);
    await eventually('the gateway’s session to be settled', async () => (await suspects(db, before)) === 0);
    await answering.leave('gateway');
    await answering.join('gateway', 'gateway');
    expect(answering.gateway.init['authorizations']).toEqual([]);
    await answering.leave('gateway');
    await stopCleanly();

    const last = await start(before);
    await last.join('gateway', 'gateway');
    expect([last.gateway.init['authorizations'], last.gateway.pings]).toEqual([[], []]);
  });

  async function stopCleanly(): Promise<void> {
    running?.process.signal('SIGTERM');
    expect(await running?.process.end()).toEqual({ code: 0, signal: null });
  }
});

// ---- helpers -------------------------------------------------------------------------------------------------------

/** A scene with one flow whose row is written. */
async function recordedFlow(stage: Stage, gateway = {}): Promise<Scene & { readonly flow: OpenFlow }> {
  const scene = await stage.account();
  await scene.join('gateway', 'gateway', gateway);
  await scene.join('client', 'client');
  const flow = await scene.openFlow();
  await recorded(stage.server.db, scene, 1);
  return Object.assign(scene, { flow });
}

/** To a resource of its own, by a policy of its own. */
async function anotherFlow(scene: Scene): Promise<OpenFlow & { readonly policyId: string }> {
  const { accountId, groupId, siteId } = scene.ids;
  const [id, policyId] = [randomUUID(), randomUUID()];
  await scene.hears(`
    INSERT INTO resources (account_id, id, type, address) VALUES ('${accountId}', '${id}', 'cidr', '10.31.0.0/16');
    INSERT INTO resource_sites VALUES ('${accountId}', '${id}', '${siteId}');
    INSERT INTO policies (account_id, id, group_id, resource_id)
      VALUES ('${accountId}', '${policyId}', '${groupId}', '${id}')`);
  return { ...(await scene.openFlow(id)), policyId };
}

function disable(policyId: string | undefined): string {
  return `UPDATE policies SET disabled_at = now() WHERE id = '${policyId}'`;
}

function open({ ids }: Scene): string {
  return `WHERE account_id = '${ids.accountId}' AND revoked_at IS NULL`;
}

interface RevokedRow {
  readonly id: string;
  readonly policy: string;
  readonly reason: string | null;
  readonly position: string | null;
  readonly delivery: string | null;
  /** Epoch ms, as all times here. */
  readonly committed: number | null;
  readonly decided: number | null;
  readonly pushed: number | null;
  readonly delivered: number | null;
}

async function flowsOf(db: TestDatabase, { ids }: Scene): Promise<RevokedRow[]> {
  const ms = (column: string, name: string): string =>
    `(extract(epoch FROM date_trunc('milliseconds', ${column})) * 1000)::float8 AS ${name}`;
  const { rows } = await db.query<RevokedRow & Record<string, unknown>>(
    `SELECT id, policy_id AS policy, revoked_reason AS reason, revoked_position AS position, delivery,
       ${ms('revoked_committed_at', 'committed')}, ${ms('revoked_at', 'decided')},
       ${ms('pushed_at', 'pushed')}, ${ms('delivered_at', 'delivered')}
     FROM flows WHERE account_id = $1 ORDER BY created_at, id`,
    [ids.accountId],
  );
  return rows;
}

/** The scene's first flow, once its row looks as the test expects: rows are written beside the pushes. */
async function revoked(db: TestDatabase, scene: Scene, isSo: (row: RevokedRow) => boolean): Promise<RevokedRow> {
  let row: RevokedRow | undefined;
  await eventually('the row of the flow', async () => {
    row = (await flowsOf(db, scene)).find(({ decided }) => decided !== null);
    return row !== undefined && isSo(row);
  });
  if (!row) throw new Error('no flow was taken back');
  return row;
}

async function recorded(db: TestDatabase, scene: Scene, count: number): Promise<void> {
  await eventually(`${count} rows of flows`, async () => (await flowsOf(db, scene)).length === count);
}

async function deliveries(db: TestDatabase, scene: Scene): Promise<(string | null)[]> {
  return (await flowsOf(db, scene)).map(({ delivery }) => delivery);
}

async function receipted(db: TestDatabase, scene: Scene): Promise<number> {
  return (await deliveries(db, scene)).filter((delivery) => delivery === 'receipted').length;
}

/** The last commit on the scene's policies, from the event store. */
async function commitOf(db: TestDatabase, { ids }: Scene): Promise<{ position: string; at: number }> {
  let commit: { position: string; at: number } | undefined;
  await eventually('the commit to be recorded', async () => {
    const { rows } = await db.query<{ position: string; at: Date }>(
      `SELECT position, committed_at AS at FROM change_log
       WHERE table_name = 'policies' AND op = 'update' AND account_id = $1 ORDER BY position DESC LIMIT 1`,
      [ids.accountId],
    );
    commit = rows[0] && { position: rows[0].position, at: rows[0].at.getTime() };
    return commit !== undefined;
  });
  if (!commit) throw new Error('no commit');
  return commit;
}

/** Position of the hand's commit on the scene's flows, once it is recorded. */
async function cutOf(db: TestDatabase, { ids }: Scene): Promise<string | undefined> {
  const { rows } = await db.query<{ position: string }>(
    `SELECT position FROM change_log WHERE table_name = 'flows' AND account_id = $1`,
    [ids.accountId],
  );
  return rows[0]?.position;
}

/** Whether the server may have forgotten the commit that ends there. */
async function slotPassed(db: TestDatabase, position: string): Promise<boolean> {
  const { rows } = await db.query<{ passed: boolean }>(
    'SELECT confirmed_flush_lsn >= $1::pg_lsn AS passed FROM pg_replication_slots WHERE slot_name = $2',
    [position, db.name],
  );
  if (!rows[0]) throw new Error('no slot');
  return rows[0].passed;
}

/** Commits for a while, one after the other, and the slot passes the position after none. How many it were. */
async function staysBelow(db: TestDatabase, scene: Scene, position: string): Promise<number> {
  const until = performance.now() + LONG_ENOUGH_MS;
  let commits = 0;
  while (performance.now() < until) {
    await db.query('UPDATE groups SET name = $1 WHERE id = $2', [`name ${(commits += 1)}`, scene.ids.groupId]);
    await scene.applied();
    expect(await slotPassed(db, position)).toBe(false);
  }
  return commits;
}

async function namesRecorded(db: TestDatabase, { ids }: Scene): Promise<number> {
  const { rows } = await db.query(
    `SELECT FROM change_log WHERE table_name = 'groups' AND op = 'update' AND account_id = $1`,
    [ids.accountId],
  );
  return rows.length;
}

/** How many receipts the two histograms have counted. */
async function receiptsCounted({ server }: Stage): Promise<number[]> {
  const text = await (await fetch(`${server.ops}/metrics`)).text();
  return ['receipt', 'revocation'].map((name) => Number(new RegExp(`_${name}_ms_count (\\d+)`).exec(text)?.[1]));
}

function wordFor(kind: string, text: string): string[] {
  if (kind === 'ping') return ['ping'];
  return kind === 'text' && text.includes('"reject_access"') ? ['reject'] : [];
}

async function waitingWriters(db: TestDatabase): Promise<number[]> {
  const { rows } = await db.query<{ pid: number }>(
    `SELECT pid FROM pg_locks WHERE NOT granted AND relation = 'flows'::regclass`,
  );
  return rows.map(({ pid }) => pid);
}

/** Clients that the account's gateway would be told of as of an unclean epoch. */
async function suspects(db: TestDatabase, { ids }: Scene): Promise<number> {
  const { rows } = await db.query(
    `SELECT FROM client_sessions JOIN gateway_sessions USING (account_id)
     WHERE account_id = $1 AND unclean_epoch >= previous_epoch`,
    [ids.accountId],
  );
  return rows.length;
}
