/** Clients before 1.4 over real sockets (wire-protocol.md 3.6, 3.7 and 4.6): the same flows, records and revocation. */
import { afterAll, beforeAll, beforeEach, describe, expect, it, jest } from '@jest/globals';
import { type Json, keyOf } from '../support/raw-peer.js';
import { rejected, removed, type Scene, Stage } from '../support/scene.js';
import { condition, setPolicy } from '../support/scene-rows.js';

jest.setTimeout(30_000);

const OLD_CLIENT = 'Windows/10.0 connlib/1.3.7';
const OLD_GATEWAY = 'Linux/6.8.0 connlib/1.3.2 (x86_64)';
const PAYLOAD = { ice_parameters: { username: 'user', password: 'pass' }, domain: null };
const PSK = keyOf('a preshared key');

let stage: Stage;
let scene: Scene;

beforeAll(async () => {
  stage = await Stage.open();
});

beforeEach(async () => {
  await stage.clear();
  scene = await stage.account();
});

afterAll(() => stage.close());

async function joined(gatewayAgent = OLD_GATEWAY): Promise<void> {
  await scene.join('gateway', 'gateway', { userAgent: gatewayAgent });
  await scene.join('client', 'client', { userAgent: OLD_CLIENT });
}

/** Asks, and resolves with the reply. */
async function ask(event: string, payload: Json): Promise<Json> {
  scene.client.send(event, { resource_id: scene.ids.resourceId, ...payload });
  return scene.client.next('phx_reply');
}

async function requestConnection(): Promise<{ readonly asked: Json; readonly reply: Json }> {
  const { client, gateway, ids } = scene;
  const { id: gatewayId } = scene.device('gateway');
  const payload = { client_payload: PAYLOAD, client_preshared_key: PSK };
  client.send('request_connection', { resource_id: ids.resourceId, gateway_id: gatewayId, ...payload });
  const asked = await gateway.next('request_connection');
  gateway.send('connection_ready', { ref: asked['ref'], gateway_payload: { ConnectionAccepted: {} } });
  expect(await gateway.next('phx_reply')).toEqual({ status: 'ok', response: {} });
  return { asked, reply: await client.next('phx_reply') };
}

describe('a client before 1.4', () => {
  it('Appendix A: prepare_connection, request_connection and connection_ready open a flow, and a commit takes it', async () => {
    await joined();
    const { id: clientId } = scene.device('client');
    const { id: gatewayId } = scene.device('gateway');
    expect(await ask('prepare_connection', {})).toEqual({
      status: 'ok',
      response: {
        resource_id: scene.ids.resourceId,
        gateway_group_id: scene.ids.siteId,
        gateway_id: gatewayId,
        gateway_remote_ip: '127.0.0.1',
      },
    });
    const { asked, reply } = await requestConnection();
    expect(asked).toMatchObject({
      resource: { id: scene.ids.resourceId, type: 'cidr', address: '10.20.0.0/16' },
      client: {
        id: clientId,
        payload: PAYLOAD,
        peer: { persistent_keepalive: 25, public_key: keyOf('client'), preshared_key: PSK },
      },
    });
    expect(reply).toEqual({
      status: 'ok',
      response: {
        resource_id: scene.ids.resourceId,
        persistent_keepalive: 25,
        gateway_public_key: keyOf('gateway'),
        gateway_payload: { ConnectionAccepted: {} },
      },
    });
    const flow = { clientId, resourceId: scene.ids.resourceId };
    expect(await scene.hears(setPolicy(scene, 'disabled_at = now()'))).toEqual({
      gateway: [rejected(flow)],
      client: [removed(flow.resourceId)],
    });
    await scene.history((rows) => rows.length === 1 && rows[0]?.revoked_reason === 'unjustified');
  });

  it('Appendix A: reuse_connection lets it use its connection for one resource more', async () => {
    await joined('Linux/6.8.0 connlib/1.4.16 (x86_64)');
    scene.client.send('reuse_connection', {
      resource_id: scene.ids.resourceId,
      gateway_id: scene.device('gateway').id,
      payload: null,
    });
    expect(await scene.gateway.next('allow_access')).toMatchObject({
      client_id: scene.device('client').id,
      resource: { id: scene.ids.resourceId },
      payload: null,
      client_ipv4: expect.stringMatching(/^100\./),
      client_ipv6: expect.stringMatching(/^fd00:/),
    });
    await scene.client.settled();
    expect(scene.client.drain()).toEqual([]);
    await scene.history((rows) => rows.length === 1);
  });

  it('may exchange ICE candidates while it connects, and not before', async () => {
    await joined();
    const candidates = ['candidate:1 1 udp 1 192.0.2.1 1 typ host'];
    const [clientId, gatewayId] = [scene.device('client').id, scene.device('gateway').id];
    scene.client.send('broadcast_ice_candidates', { candidates, gateway_ids: [gatewayId] });
    await scene.client.settled();
    expect(scene.gateway.drain()).toEqual([]);
    const payload = { client_payload: PAYLOAD, client_preshared_key: PSK };
    scene.client.send('request_connection', { resource_id: scene.ids.resourceId, gateway_id: gatewayId, ...payload });
    scene.client.send('broadcast_ice_candidates', { candidates, gateway_ids: [gatewayId] });
    await scene.gateway.next('request_connection');
    expect(await scene.gateway.next('ice_candidates')).toEqual({ client_id: clientId, candidates });
    scene.gateway.send('broadcast_ice_candidates', { candidates, client_ids: [clientId] });
    expect(await scene.client.next('ice_candidates')).toEqual({ gateway_id: gatewayId, candidates });
  });

  it('is refused with error replies', async () => {
    await joined();
    const error = (reason: string, more: Json = {}): Json => ({ status: 'error', response: { reason, ...more } });
    const nobody = '00000000-0000-4000-8000-000000000001';
    expect(await ask('prepare_connection', { resource_id: nobody })).toEqual(error('not_found'));
    const payload = { client_payload: PAYLOAD, client_preshared_key: PSK };
    expect(await ask('request_connection', { gateway_id: nobody, ...payload })).toEqual(error('not_found'));
    const conditions = condition('remote_ip_location_region', 'is_in', 'US');
    await scene.server.db.sql(setPolicy(scene, `conditions = '${conditions}'`));
    await scene.heard();
    const forbidden = error('forbidden', { violated_properties: ['remote_ip_location_region'] });
    expect(await ask('prepare_connection', {})).toEqual(forbidden);
    await scene.server.db.sql(setPolicy(scene, `conditions = '[]'`));
    await scene.heard();
    const gatewayId = scene.device('gateway').id;
    await scene.leave('gateway');
    expect(await ask('reuse_connection', { gateway_id: gatewayId })).toEqual(error('offline'));
  });

  it('3.7: is told of resources in the wildcards of its time, and the gateway in those of its own', async () => {
    await scene.server.db.sql(`UPDATE resources SET type = 'dns', address = '**.corp.example', ip_stack = 'dual'
      WHERE id = '${scene.ids.resourceId}'`);
    await scene.join('gateway', 'gateway', { userAgent: 'Linux/6.8.0 connlib/1.1.5 (x86_64)' });
    const { peer } = await scene.join('client', 'client', { userAgent: 'Windows/10.0 connlib/1.1.6' });
    expect(peer.init['resources']).toMatchObject([{ address: '*.corp.example' }]);
    const { asked } = await requestConnection();
    expect(asked).toMatchObject({ resource: { address: '*.corp.example' } });
    const heard = await scene.hears(`UPDATE resources SET name = 'New' WHERE id = '${scene.ids.resourceId}'`);
    expect(heard).toMatchObject({
      gateway: [['resource_updated', { address: '*.corp.example', name: 'New' }]],
      client: [['resource_created_or_updated', { address: '*.corp.example', name: 'New' }]],
    });
  });

  it('3.7: a resource that its gateway could not serve makes no gateway eligible', async () => {
    await scene.server.db.sql(`UPDATE resources SET type = 'dns', address = 'a.*.example', ip_stack = 'dual'
      WHERE id = '${scene.ids.resourceId}'`);
    await scene.join('gateway', 'gateway', { userAgent: 'Linux/6.8.0 connlib/1.1.5 (x86_64)' });
    await scene.join('client', 'client', { userAgent: OLD_CLIENT });
    expect(await ask('prepare_connection', {})).toEqual({ status: 'error', response: { reason: 'offline' } });
  });
});
