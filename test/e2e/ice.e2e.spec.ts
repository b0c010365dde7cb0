/** ICE candidates: between the two ends of a flow, and nobody else (D32, wire-protocol.md 3.4, 4.5, B13). */
import { randomUUID } from 'node:crypto';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, jest } from '@jest/globals';
import { aTestAccount } from '../support/demo-account.js';
import { Scene } from '../support/scene.js';
import { startTestServer, type TestServer } from '../support/test-server.js';

jest.setTimeout(30_000);

let server: TestServer;
let scene: Scene;
let clientId: string;
let gatewayId: string;

beforeAll(async () => {
  server = await startTestServer({ MAX_UNANSWERED_FLOWS: '1' });
});

beforeEach(async () => {
  scene = new Scene(server, await aTestAccount(server.db));
  gatewayId = (await scene.join('gateway', 'gateway')).id;
  clientId = (await scene.join('client', 'client')).id;
});

afterEach(() => scene.leaveAll());

afterAll(() => server.close());

const KINDS = [
  ['broadcast_ice_candidates', 'ice_candidates'],
  ['broadcast_invalidated_ice_candidates', 'invalidate_ice_candidates'],
] as const;
type Sent = (typeof KINDS)[number][0];

function fromClient(
  candidates: readonly string[],
  to: readonly string[] = [gatewayId],
  event: Sent = KINDS[0][0],
): void {
  scene.client.send(event, { candidates, gateway_ids: to });
}

function fromGateway(
  candidates: readonly string[],
  to: readonly string[] = [clientId],
  event: Sent = KINDS[0][0],
): void {
  scene.gateway.send(event, { candidates, client_ids: to });
}

/** Asks for the flow and leaves it at that: the gateway has not answered. */
async function askForFlow(): Promise<unknown> {
  scene.client.send('create_flow', { resource_id: scene.ids.resourceId, connected_gateway_ids: [gatewayId] });
  return (await scene.gateway.next('authorize_flow'))['ref'];
}

/** Everything sent before is where it goes; what each of them has heard since. */
async function heard(...names: readonly string[]): Promise<unknown[]> {
  const peers = names.map((name) => scene.device(name).peer);
  for (const times of [1, 2]) for (const peer of peers) if (times > 0) await peer.settled();
  return peers.map((peer) => peer.drain());
}

describe('candidates', () => {
  it.each(KINDS)('sent as %s pass both ways, unchanged and in order', async (sent, received) => {
    await scene.openFlow();
    const candidates = ['candidate:1 1 udp 2130706431 192.0.2.10 50712 typ host', '', 'ünïcode "quoted"\n', '\u0000'];
    for (const candidate of candidates) fromClient([candidate, 'and another'], [gatewayId], sent);
    for (const candidate of candidates) fromGateway([candidate, 'and another'], [clientId], sent);
    const told = (id: object) => candidates.map((one) => [received, { ...id, candidates: [one, 'and another'] }]);
    expect(await heard('client', 'gateway')).toEqual([told({ gateway_id: gatewayId }), told({ client_id: clientId })]);
  });

  it('pass as soon as the client has asked, before flow_created', async () => {
    const ref = await askForFlow();
    fromGateway(['from the gateway']);
    expect(await scene.client.next('ice_candidates')).toEqual({
      gateway_id: gatewayId,
      candidates: ['from the gateway'],
    });
    fromClient(['from the client']);
    expect(await scene.gateway.next('ice_candidates')).toEqual({
      client_id: clientId,
      candidates: ['from the client'],
    });
    fromGateway(['right before']);
    scene.gateway.send('flow_authorized', { ref });
    expect(await scene.client.next('ice_candidates')).toMatchObject({ candidates: ['right before'] });
    await scene.client.next('flow_created');
    await scene.gateway.next('phx_reply');
  });

  it('pass while the request still waits for its turn at the gateway (D34)', async () => {
    await scene.join('client', 'second');
    await askForFlow();
    scene.device('second').peer.send('create_flow', { resource_id: scene.ids.resourceId, connected_gateway_ids: [] });
    await scene.device('second').peer.settled();
    fromGateway(['early'], [scene.device('second').id]);
    expect(await heard('second', 'gateway')).toEqual([
      [['ice_candidates', { gateway_id: gatewayId, candidates: ['early'] }]],
      [],
    ]);
  });

  it('pass for a flow that is older than the connection of the gateway', async () => {
    await scene.openFlow();
    await scene.join('gateway', 'gateway');
    await heard('gateway');
    fromGateway(['again']);
    fromClient(['back']);
    expect(await heard('client', 'gateway')).toEqual([
      [['ice_candidates', { gateway_id: gatewayId, candidates: ['again'] }]],
      [['ice_candidates', { client_id: clientId, candidates: ['back'] }]],
    ]);
  });

  it('do not pass without a flow, open or asked for', async () => {
    fromClient(['to a stranger']);
    fromGateway(['to a stranger']);
    expect(await heard('client', 'gateway')).toEqual([[], []]);
  });

  it('do not pass any more when the flow was taken back', async () => {
    const { resourceId } = await scene.openFlow();
    await server.db.query('DELETE FROM policies WHERE resource_id = $1', [resourceId]);
    await scene.gateway.next('reject_access');
    await scene.client.next('resource_deleted');
    fromClient(['too late']);
    fromGateway(['too late']);
    expect(await heard('client', 'gateway')).toEqual([[], []]);
  });

  it('go only to those of a list that share a flow, whoever else is named (B13)', async () => {
    const foreign = new Scene(server, await aTestAccount(server.db));
    const stranger = await foreign.join('client', 'client');
    const strangeGateway = await foreign.join('gateway', 'gateway');
    await foreign.openFlow();
    const neighbour = await scene.join('client', 'neighbour');
    const otherGateway = await scene.join('gateway', 'other-gateway');
    await scene.openFlow();

    const noise = [randomUUID(), scene.ids.accountId, scene.ids.resourceId];
    fromGateway(['c'], [stranger.id, neighbour.id, otherGateway.id, ...noise, clientId]);
    fromClient(['c'], [strangeGateway.id, otherGateway.id, neighbour.id, ...noise, gatewayId]);
    expect(await heard('client', 'gateway', 'neighbour', 'other-gateway')).toEqual([
      [['ice_candidates', { gateway_id: gatewayId, candidates: ['c'] }]],
      [['ice_candidates', { client_id: clientId, candidates: ['c'] }]],
      [],
      [],
    ]);
    for (const { peer } of [stranger, strangeGateway]) {
      await peer.settled();
      expect(peer.drain()).toEqual([]);
    }
    await foreign.leaveAll();
  });

  it('to nobody, and to somebody who has left, do nothing', async () => {
    await scene.openFlow();
    fromClient([], []);
    fromClient(['c'], []);
    fromGateway(['c'], []);
    await scene.leave('client');
    fromGateway(['c']);
    expect(await heard('gateway')).toEqual([[]]);
  });
});
