/** The npm `phoenix` client, unmodified, with vsn 2.0.0 (D2): everything it does with a channel. */
import { afterAll, beforeAll, beforeEach, describe, expect, it, jest } from '@jest/globals';
import { aTestAccount, type TestAccount } from '../support/demo-account.js';
import { PhoenixPeer } from '../support/phoenix-peer.js';
import type { Json } from '../support/raw-peer.js';
import { Scene } from '../support/scene.js';
import { startTestServer, type TestServer } from '../support/test-server.js';

jest.setTimeout(30_000);

let server: TestServer;
let account: TestAccount;

beforeAll(async () => {
  server = await startTestServer();
});

beforeEach(async () => {
  account = await aTestAccount(server.db);
});

afterAll(() => server.close());

function joined(role: 'client' | 'gateway', externalId: string, heartbeatIntervalMs?: number): Promise<PhoenixPeer> {
  const token = role === 'client' ? account.clientToken : account.gatewayToken;
  const options = heartbeatIntervalMs === undefined ? {} : { heartbeatIntervalMs };
  return PhoenixPeer.joined(role, server.wsUrl, { token, externalId, ...options });
}

/** Asks, lets the gateway agree, and resolves with what each side was told. */
async function openFlow(client: PhoenixPeer, gateway: PhoenixPeer): Promise<{ asked: Json; created: Json }> {
  client.send('create_flow', { resource_id: account.resourceId, connected_gateway_ids: [] });
  const asked = await gateway.next('authorize_flow');
  expect(await gateway.request('flow_authorized', { ref: asked['ref'] })).toEqual({});
  return { asked, created: await client.next('flow_created') };
}

describe('the npm phoenix client', () => {
  it('as client and as gateway joins, opens a flow and loses it to a commit', async () => {
    const gateway = await joined('gateway', 'gw');
    const client = await joined('client', 'c');
    const { asked, created } = await openFlow(client, gateway);
    const told = asked['client'] as Json;
    expect(created['preshared_key']).toBe(told['preshared_key']);

    await server.db.query('DELETE FROM policies WHERE id = $1', [account.policyId]);
    expect(await gateway.next('reject_access')).toEqual({ client_id: told['id'], resource_id: account.resourceId });
    expect(await client.next('resource_deleted')).toBe(account.resourceId);
    await client.close();
    await gateway.close();
  });

  it('leaves with an ok and a phx_close, hears nothing more, and joins again on the same socket', async () => {
    const gateway = await joined('gateway', 'gw');
    const client = await joined('client', 'c');
    await client.leave();
    await gateway.leave();
    await server.db.query('UPDATE resources SET name = $1 WHERE id = $2', ['while away', account.resourceId]);
    await new Scene(server, account).applied();

    gateway.newChannel();
    expect((await gateway.join())['authorizations']).toEqual([]);
    client.newChannel();
    const { resources } = (await client.join()) as { resources: Json[] };
    expect(resources.map((resource) => resource['name'])).toEqual(['while away']);
    expect(client.drain()).toEqual([]);
    expect(client.opened).toBe(1);

    await openFlow(client, gateway);
    await client.close();
    await gateway.close();
  });

  it('gets its heartbeats answered', async () => {
    const client = await joined('client', 'c', 20);
    await client.until(() => client.heartbeats >= 5, 'five heartbeats');
    expect(client.opened).toBe(1);
    await client.close();
  });

  it('connects and joins again by itself after the server closed the socket', async () => {
    const gateway = await joined('gateway', 'gw');
    const client = await joined('client', 'c');
    // A deleted device is closed without `disconnect`: it comes back as a new one (decisions section 5).
    await server.db.query('DELETE FROM clients WHERE account_id = $1', [account.accountId]);
    await client.next('init');
    expect(client.opened).toBe(2);
    const { rows } = await server.db.query('SELECT FROM clients WHERE account_id = $1', [account.accountId]);
    expect(rows).toHaveLength(1);
    await openFlow(client, gateway);
    await client.close();
    await gateway.close();
  });

  it('finds its flows again when its connection was cut', async () => {
    const gateway = await joined('gateway', 'gw');
    const client = await joined('client', 'c');
    const { asked } = await openFlow(client, gateway);
    gateway.cut();
    const { authorizations } = (await gateway.next('init')) as { authorizations: Json[] };
    expect(authorizations).toEqual([
      { client_id: (asked['client'] as Json)['id'], resource_id: account.resourceId, expires_at: asked['expires_at'] },
    ]);
    await client.close();
    await gateway.close();
  });

  it('is told of an event that nobody knows and of a topic that is not served, and goes on', async () => {
    const client = await joined('client', 'c');
    await expect(client.request('no_such_event', {})).rejects.toThrow('"reason":"unknown_message"');
    const other = client.socket.channel('room:1');
    const refused = new Promise((resolve) => other.join().receive('error', resolve));
    expect(await refused).toEqual({ reason: 'unmatched topic' });
    other.leave();
    expect(client.channel.state).toBe('joined');
    await client.close();
  });
});
