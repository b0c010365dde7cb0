/** One device, two sockets: the newest wins (D23). */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, jest } from '@jest/globals';
import { Client } from 'pg';
import { aTestAccount, aToken, type TestAccount } from '../support/demo-account.js';
import { eventually } from '../support/eventually.js';
import { RawPeer } from '../support/raw-peer.js';
import { Scene } from '../support/scene.js';
import { startTestServer, type TestServer } from '../support/test-server.js';

jest.setTimeout(30_000);

let server: TestServer;
let ids: TestAccount;
let scene: Scene;

beforeAll(async () => {
  server = await startTestServer();
});

beforeEach(async () => {
  ids = await aTestAccount(server.db);
  scene = new Scene(server, ids);
  await scene.join('gateway', 'gateway');
  await scene.join('client', 'client');
});

afterEach(() => scene.leaveAll());

afterAll(() => server.close());

/** Ended so that a real peer simply stays away or comes again: 1000, no reason, no `disconnect`, nothing else either. */
async function expectPushedOut(peer: RawPeer): Promise<void> {
  expect(await peer.closed()).toBe(1000);
  expect(peer.closeReason).toBe('');
  expect(peer.drain()).toEqual([]);
}

describe('a second connection of', () => {
  it('a client ends the first, and the flows go on', async () => {
    const { client: first } = scene;
    const flow = await scene.openFlow();
    await scene.join('client', 'client');
    await expectPushedOut(first);
    expect(scene.client.init['resources']).toHaveLength(1);
    await scene.gateway.settled();
    expect(scene.gateway.drain()).toEqual([]);
    expect(await scene.openFlow()).toEqual(flow);
  });

  it('a gateway ends the first, which takes no flow with it', async () => {
    const { gateway: first } = scene;
    const { clientId, resourceId, expiresAt } = await scene.openFlow();
    await scene.join('gateway', 'gateway');
    await expectPushedOut(first);
    expect(scene.gateway.init['authorizations']).toEqual([
      { client_id: clientId, resource_id: resourceId, expires_at: expiresAt },
    ]);
    await scene.client.settled();
    expect(scene.client.drain()).toEqual([]);
    expect(await scene.gateway.next('resource_updated')).toMatchObject({ id: resourceId });

    await server.db.query('DELETE FROM policies WHERE id = $1', [ids.policyId]);
    expect(await scene.gateway.next('reject_access')).toEqual({ client_id: clientId, resource_id: resourceId });
  });

  it('a gateway finds a flow whose row was still waiting to be written (D22)', async () => {
    const holder = new Client({ connectionString: server.db.url });
    await holder.connect();
    await holder.query('BEGIN');
    await holder.query('LOCK TABLE flows IN SHARE MODE'); // reading is free, writing is not
    const { gateway: first } = scene;
    const { clientId, resourceId, expiresAt } = await scene.openFlow();
    const joining = scene.join('gateway', 'gateway');
    await expectPushedOut(first);
    await holder.query('COMMIT');
    await holder.end();
    await joining;
    expect(scene.gateway.init['authorizations']).toEqual([
      { client_id: clientId, resource_id: resourceId, expires_at: expiresAt },
    ]);
  });

  it('a gateway is asked for the next flow, the first is not', async () => {
    await scene.join('gateway', 'gateway');
    await scene.openFlow();
  });

  it('a device that never joins leaves the joined one alone', async () => {
    const options = { token: ids.clientToken, externalId: 'client' };
    const lurker = await RawPeer.connect('client', server.wsUrl, options);
    await lurker.settled();
    await scene.openFlow();
    await lurker.close();
    expect(scene.client.isClosed).toBe(false);
  });

  it('a device that joins late, after a newer one, gives way to it', async () => {
    for (const role of ['client', 'gateway'] as const) {
      const token = role === 'client' ? ids.clientToken : ids.gatewayToken;
      const late = await RawPeer.connect(role, server.wsUrl, { token, externalId: role });
      await scene.join(role, role);
      late.send('phx_join', null);
      expect(await late.next('phx_reply')).toEqual({ status: 'ok', response: {} });
      await expectPushedOut(late);
      expect(scene.device(role).peer.isClosed).toBe(false);
    }
    await scene.gateway.settled();
    scene.gateway.drain();
    await scene.openFlow();
  });

  it('a device racing with others leaves exactly one', async () => {
    for (const role of ['client', 'gateway'] as const) {
      const token = role === 'client' ? ids.clientToken : ids.gatewayToken;
      const peers = await Promise.all(
        Array.from({ length: 8 }, () => RawPeer.connect(role, server.wsUrl, { token, externalId: role })),
      );
      for (const peer of peers) peer.send('phx_join', null);
      await eventually('one to be left', async () => {
        await Promise.all(peers.map((peer) => peer.settled().catch(() => undefined)));
        return peers.filter(({ isClosed }) => !isClosed).length === 1;
      });
      const [winner] = peers.filter(({ isClosed }) => !isClosed);
      await winner?.until('init');
      for (const peer of peers) if (peer !== winner) expect(peer.closeCode).toBe(1000);
      expect(await scene.device(role).peer.closed()).toBe(1000);
      await winner?.close();
    }
  });
});

describe('another device', () => {
  it('with the same external id, but of another person or account, is another device', async () => {
    const other = await aTestAccount(server.db);
    const actor = await server.db.query<{ id: string }>('INSERT INTO actors (account_id) VALUES ($1) RETURNING id', [
      ids.accountId,
    ]);
    const token = await aToken(server.db, 'client', { accountId: ids.accountId, actorId: actor.rows[0]?.id ?? '' });
    const colleague = await RawPeer.joined('client', server.wsUrl, {
      token: token.text,
      externalId: 'client',
      publicKey: Buffer.alloc(32, 21).toString('base64'),
    });
    const stranger = await RawPeer.joined('client', server.wsUrl, { token: other.clientToken, externalId: 'client' });
    await scene.openFlow();
    for (const peer of [colleague, stranger]) {
      await peer.settled();
      expect(peer.drain()).toEqual([]);
      await peer.close();
    }
  });

  it('on another token of the same person is the same one', async () => {
    const token = await aToken(server.db, 'client', { accountId: ids.accountId, actorId: ids.actorId });
    const { client: first } = scene;
    const { clientId } = await scene.openFlow();
    await scene.join('client', 'client', { token: token.text });
    await expectPushedOut(first);
    expect(scene.device('client').id).toBe(clientId);
    // The flow now rests on the token it connected with last: the end of the first one is nothing to it (D13, D17).
    await scene.gateway.settled();
    scene.gateway.drain();
    await server.db.query('DELETE FROM tokens WHERE id = $1', [ids.clientTokenId]);
    await scene.applied();
    await scene.gateway.settled();
    await scene.client.settled();
    expect([scene.gateway.drain(), scene.client.drain()]).toEqual([[], []]);
  });
});
