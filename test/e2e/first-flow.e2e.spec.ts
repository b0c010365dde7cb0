/** The main job, once from end to end: join, open a flow, lose it to a commit. */
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { aTestAccount, type TestAccount } from '../support/demo-account.js';
import { RawPeer } from '../support/raw-peer.js';
import { startTestServer, type TestServer } from '../support/test-server.js';

let server: TestServer;
let account: TestAccount;

beforeAll(async () => {
  server = await startTestServer();
  account = await aTestAccount(server.db);
});

afterAll(() => server.close());

describe('a client and a gateway that speak V1', () => {
  it('join, open a flow in memory, and lose it the moment the policy is deleted', async () => {
    const gateway = await RawPeer.joined('gateway', server.wsUrl, { token: account.gatewayToken, externalId: 'gw-1' });
    expect(gateway.init['authorizations']).toEqual([]);
    const client = await RawPeer.joined('client', server.wsUrl, { token: account.clientToken, externalId: 'c-1' });
    expect(client.init['resources']).toHaveLength(1);

    client.send('create_flow', { resource_id: account.resourceId, connected_gateway_ids: [] });
    const asked = await gateway.next('authorize_flow');
    gateway.send('flow_authorized', { ref: asked['ref'] });
    await gateway.next('phx_reply');
    const created = await client.next('flow_created');
    expect(created['preshared_key']).toBe((asked['client'] as Record<string, unknown>)['preshared_key']);

    await server.db.query('DELETE FROM policies WHERE id = $1', [account.policyId]);
    expect(await gateway.next('reject_access')).toEqual({
      client_id: (asked['client'] as Record<string, unknown>)['id'],
      resource_id: account.resourceId,
    });
    expect(await client.next('resource_deleted')).toBe(account.resourceId);
    await client.close();
    await gateway.close();
  });
});
