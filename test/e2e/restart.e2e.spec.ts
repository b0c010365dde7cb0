/** What survives a crash and a stop: nothing revoked meanwhile, nothing recorded twice, nothing granted and forgotten. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, jest } from '@jest/globals';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { NIL_UUID } from '../../src/core/model/ids.js';
import { aTestAccount, aToken, type TestAccount } from '../support/demo-account.js';
import { RawPeer } from '../support/raw-peer.js';
import { Scene } from '../support/scene.js';
import { LaunchedServer, launchOn, type ServerOnDatabase } from '../support/launched-server.js';
import { session, until } from '../support/stream-under-test.js';
import { createMigratedDatabase, type TestDatabase } from '../support/test-database.js';
import { settingsFor, type Settings } from '../support/test-server.js';

jest.setTimeout(30_000);

let db: TestDatabase;
let ids: TestAccount;
let running: ServerOnDatabase | undefined;

beforeAll(async () => {
  db = await createMigratedDatabase();
});

beforeEach(async () => {
  ids = await aTestAccount(db);
});

afterEach(async () => {
  await running?.process.kill();
  running = undefined;
});

afterAll(() => db.drop());

async function start(settings?: Settings): Promise<Scene> {
  running = await launchOn(db, settings);
  return new Scene(running, ids);
}

async function kill(scene: Scene): Promise<void> {
  await running?.process.kill();
  await Promise.all(['gateway', 'client'].map((name) => scene.device(name).peer.closed()));
}

/** The init of a gateway that comes again, and all it hears right after. */
async function rejoin(scene: Scene): Promise<{ init: unknown; heard: unknown }> {
  await scene.join('gateway', 'gateway');
  const { gateway } = scene;
  await gateway.settled();
  return { init: gateway.init['authorizations'], heard: gateway.drain() };
}

async function aResource(address: string): Promise<{ readonly id: string; readonly policyId: string }> {
  const [id, policyId] = [randomUUID(), randomUUID()];
  await db.sql(`
    INSERT INTO resources (account_id, id, type, address) VALUES ('${ids.accountId}', '${id}', 'cidr', '${address}');
    INSERT INTO resource_sites VALUES ('${ids.accountId}', '${id}', '${ids.siteId}');
    INSERT INTO policies (account_id, id, group_id, resource_id)
      VALUES ('${ids.accountId}', '${policyId}', '${ids.groupId}', '${id}')`);
  return { id, policyId };
}

/** Another member of the account's group. */
async function aMember(): Promise<{ readonly actorId: string; readonly token: string }> {
  const actorId = randomUUID();
  await db.sql(`
    INSERT INTO actors (account_id, id) VALUES ('${ids.accountId}', '${actorId}');
    INSERT INTO memberships (account_id, actor_id, group_id) VALUES ('${ids.accountId}', '${actorId}', '${ids.groupId}')`);
  const { text } = await aToken(db, 'client', { accountId: ids.accountId, actorId });
  return { actorId, token: text };
}

async function flowRows(): Promise<number> {
  const { rows } = await db.query('SELECT FROM flows WHERE account_id = $1', [ids.accountId]);
  return rows.length;
}

/** Changes of a table in the event store, oldest first, one word each. */
async function recorded(table: string): Promise<string[]> {
  const { rows } = await db.query<{ op: string }>(
    'SELECT op FROM change_log WHERE account_id = $1 AND table_name = $2 ORDER BY timeline_epoch, position, seq',
    [ids.accountId, table],
  );
  return rows.map(({ op }) => op);
}

describe('kill -9 and a restart on the same database and slot', () => {
  it('S1, D22: a gateway is given exactly what is justified, and told to reject all that was revoked meanwhile', async () => {
    const [policyGone, cut, moved] = [
      await aResource('10.31.0.0/16'),
      await aResource('10.32.0.0/16'),
      await aResource('10.33.0.0/16'),
    ];
    const member = await aMember();
    const before = await start();
    await before.join('gateway', 'gateway');
    const { id: clientId } = await before.join('client', 'client');
    const { id: memberClientId } = await before.join('client', 'member', { token: member.token });
    const kept = await before.openFlow();
    for (const { id } of [policyGone, cut, moved]) await before.openFlow(id);
    await before.openFlow(ids.resourceId, 'member');
    await until(async () => (await flowRows()) === 5, 'the flows to be on record');
    await kill(before);

    await db.query('DELETE FROM policies WHERE id = $1', [policyGone.policyId]);
    await db.query('DELETE FROM flows WHERE resource_id = $1', [cut.id]);
    await db.query(`UPDATE resources SET address = '10.34.0.0/16' WHERE id = $1`, [moved.id]);
    await db.query('DELETE FROM memberships WHERE actor_id = $1', [member.actorId]);

    const after = await start();
    const { init, heard } = await rejoin(after);
    expect(init).toEqual([
      { client_id: clientId, resource_id: ids.resourceId, expires_at: kept.expiresAt },
      { client_id: memberClientId, resource_id: NIL_UUID, expires_at: expect.any(Number) },
    ]);
    const rejects = [
      ...[policyGone, cut, moved].map(({ id }) => ({ client_id: clientId, resource_id: id })),
      { client_id: memberClientId, resource_id: ids.resourceId },
    ];
    const pairOf = (pair: { client_id: string; resource_id: string }): string => pair.client_id + pair.resource_id;
    expect(heard).toEqual([
      ...rejects.sort((a, b) => (pairOf(a) < pairOf(b) ? -1 : 1)).map((pair) => ['reject_access', pair]),
      ['resource_updated', expect.objectContaining({ id: ids.resourceId })],
    ]);
  });

  it('D10: what was committed before, while and after it was down is in the event store, each once', async () => {
    const before = await start();
    await before.join('gateway', 'gateway');
    await before.join('client', 'client');
    const rename = (name: string) => db.query('UPDATE groups SET name = $1 WHERE id = $2', [name, ids.groupId]);
    await rename('just before');
    await before.applied();
    await kill(before);
    await rename('while down');
    await db.query('DELETE FROM policies WHERE id = $1', [ids.policyId]);
    const after = await start();
    await rename('after');
    await after.applied();
    await until(async () => (await recorded('groups')).length >= 4, 'the last change to be recorded');
    expect(await recorded('groups')).toEqual(['insert', 'update', 'update', 'update']);
    expect(await recorded('policies')).toEqual(['insert', 'delete']);
    const { rows } = await db.query<{ name: string }>(
      `SELECT new_row->>'name' AS name FROM change_log WHERE table_name = 'groups' AND account_id = $1 ORDER BY position`,
      [ids.accountId],
    );
    expect(rows.map(({ name }) => name).slice(1)).toEqual(['just before', 'while down', 'after']);
  });

  it('D22: a client whose flow was granted and never written is listed, so that its gateway prunes it', async () => {
    const before = await start();
    await before.join('gateway', 'gateway');
    const { id: clientId } = await before.join('client', 'client');
    // Rows of flows can be read and not written: the batch is with the database when the process dies.
    const blocker = await session(db);
    await blocker.query('BEGIN; LOCK TABLE flows IN SHARE MODE');
    await before.openFlow();
    await until(async () => (await waitingWriters()).length === 1, 'the batch to be under way');
    await kill(before);
    for (const pid of await waitingWriters()) await db.query('SELECT pg_terminate_backend($1, 5000)', [pid]);
    await blocker.query('COMMIT');
    await blocker.end();
    expect(await flowRows()).toBe(0);

    const { init, heard } = await rejoin(await start());
    expect(init).toEqual([{ client_id: clientId, resource_id: NIL_UUID, expires_at: expect.any(Number) }]);
    expect(heard).toEqual([]);
  });
});

async function waitingWriters(): Promise<number[]> {
  const { rows } = await db.query<{ pid: number }>(
    `SELECT pid FROM pg_locks WHERE NOT granted AND relation = 'flows'::regclass`,
  );
  return rows.map(({ pid }) => pid);
}

describe('a fleet that comes back at once', () => {
  it('is let in by the system before the server has time for it: nobody’s connection is dropped and tried again later', async () => {
    await start();
    const most = Number(readFileSync('/proc/sys/net/core/somaxconn', 'utf8'));
    const port = Number(new URL(running?.api ?? '').port);
    running?.process.signal('SIGSTOP'); // as if all of them came in one turn of its event loop
    const sockets = Array.from({ length: Math.min(1_500, most) }, () => connect(port, '127.0.0.1'));
    try {
      // A dropped SYN is sent again after a second.
      await Promise.all(sockets.map((socket) => once(socket, 'connect', { signal: AbortSignal.timeout(900) })));
    } finally {
      for (const socket of sockets) socket.destroy();
      running?.process.signal('SIGCONT');
    }
  });
});

describe('SIGTERM (D40)', () => {
  it('waits for the rows of its flows, marks the epoch clean and ends with 0: the next start has no suspects', async () => {
    const second = await aResource('10.31.0.0/16');
    const before = await start();
    await before.join('gateway', 'gateway');
    await before.join('client', 'client');
    const blocker = await session(db);
    await blocker.query('BEGIN; LOCK TABLE flows IN SHARE MODE');
    const flows = [await before.openFlow()];
    await until(async () => (await waitingWriters()).length === 1, 'a batch to be under way');
    flows.push(await before.openFlow(second.id)); // waits behind it
    running?.process.signal('SIGTERM');
    await until(async () => !(await isStreaming()), 'the stream to be stopped');
    // Sockets are closed after the rows: each round trip says that it has not come to that.
    for (let i = 0; i < 50; i += 1) await before.gateway.settled();
    await blocker.query('COMMIT');
    await blocker.end();
    expect(await running?.process.end()).toEqual({ code: 0, signal: null });
    expect(await flowRows()).toBe(2);
    const { rows } = await db.query('SELECT clean_at IS NOT NULL AS clean FROM epochs ORDER BY id DESC LIMIT 1');
    expect(rows).toEqual([{ clean: true }]);

    const { init } = await rejoin(await start());
    const listed = flows.map((flow) => ({
      ...{ client_id: flow.clientId, resource_id: flow.resourceId, expires_at: flow.expiresAt },
    }));
    expect(init).toEqual(listed.sort((a, b) => (a.resource_id < b.resource_id ? -1 : 1)));
  });

  it('closes the sockets one by one over the drain, grants nothing new and accepts nobody', async () => {
    const scene = await start({ DRAIN_SECONDS: '2' });
    await scene.join('gateway', 'gateway');
    await scene.join('client', 'client');
    running?.process.signal('SIGTERM');
    await until(async () => (await fetch(`${scene.server.ops}/readyz`)).status === 503, 'the drain to begin');
    scene.client.send('create_flow', { resource_id: ids.resourceId, connected_gateway_ids: [] });
    const other = RawPeer.connect('client', scene.server.wsUrl, { token: ids.clientToken, externalId: 'other' });
    await expect(other).rejects.toMatchObject({ status: 503 });
    expect(await scene.client.closed()).toBe(1001);
    expect(await scene.gateway.closed()).toBe(1001);
    expect(scene.gateway.received.map(({ event }) => event)).not.toContain('authorize_flow');
    expect(await running?.process.end()).toEqual({ code: 0, signal: null });
  });

  it('twice at once is one: the drain is not cut short', async () => {
    const scene = await start({ DRAIN_SECONDS: '1' });
    await scene.join('gateway', 'gateway');
    running?.process.signal('SIGTERM');
    running?.process.signal('SIGINT');
    expect(await scene.gateway.closed()).toBe(1001);
    expect(await running?.process.end()).toEqual({ code: 0, signal: null });
  });

  it('again a second later ends at once', async () => {
    const scene = await start({ DRAIN_SECONDS: '600' });
    await scene.join('gateway', 'gateway');
    const from = performance.now();
    running?.process.signal('SIGTERM');
    const again = setInterval(() => running?.process.signal('SIGTERM'), 1050);
    const { code } = (await running?.process.end()) ?? {};
    clearInterval(again);
    expect(code).not.toBe(0);
    expect(performance.now() - from).toBeLessThan(5_000);
  });

  it('during the start gives the start up, and leaves the slot free', async () => {
    const process = LaunchedServer.start({ ...settingsFor(db), LOG_LEVEL: 'info' });
    await until(() => process.stderr.includes('replication.streaming'), 'the start to be under way');
    process.signal('SIGTERM');
    expect(await process.end()).toEqual({ code: 0, signal: null });
    expect(await isStreaming()).toBe(false);
  });

  it('does not wait for a database that takes nothing: exit 0, and the epoch stays unclean', async () => {
    const scene = await start();
    await scene.join('gateway', 'gateway');
    await scene.join('client', 'client');
    const blocker = await session(db);
    await blocker.query('BEGIN; LOCK TABLE flows IN SHARE MODE');
    await scene.openFlow();
    await until(async () => (await waitingWriters()).length === 1, 'a batch to be under way');
    running?.process.signal('SIGTERM');
    expect(await running?.process.end()).toEqual({ code: 0, signal: null });
    await blocker.query('ROLLBACK');
    await blocker.end();
    const { rows } = await db.query('SELECT clean_at IS NOT NULL AS clean FROM epochs ORDER BY id DESC LIMIT 1');
    expect(rows).toEqual([{ clean: false }]);
  });
});

async function isStreaming(): Promise<boolean> {
  const { rows } = await db.query('SELECT FROM pg_replication_slots WHERE slot_name = $1 AND active', [db.name]);
  return rows.length > 0;
}
