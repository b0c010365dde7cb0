/** Several gateways: who hears of a commit first, who may serve at all, and what becomes of one that moves. */
import { afterAll, afterEach, beforeAll, describe, expect, it, jest } from '@jest/globals';
import { aSite } from '../support/scene-rows.js';
import { type Push, rejected, removed, type Scene, shown, Stage } from '../support/scene.js';

jest.setTimeout(30_000);

let stage: Stage;

beforeAll(async () => {
  stage = await Stage.open();
});

afterEach(() => stage.clear());
afterAll(() => stage.close());

describe('one commit that concerns several gateways and clients', () => {
  it.each([
    ['policies truncated', () => 'TRUNCATE policies', 'resource_deleted'],
    ['flows truncated', () => 'TRUNCATE flows', 'toggle'],
    ['tokens deleted', ({ ids }: Scene) => `DELETE FROM tokens WHERE id = '${ids.clientTokenId}'`, 'disconnect'],
  ])('reaches every gateway, pairs in order of client id, before any client: %s (ORD-4)', async (_what, sql, end) => {
    const scene = await stage.account();
    const gateways = ['gateway-1', 'gateway-2', 'gateway-3'];
    const clients = ['client-1', 'client-2', 'client-3', 'client-4'];
    for (const name of gateways) await scene.join('gateway', name);
    for (const name of clients) await scene.join('client', name);
    const flows = [];
    for (const name of clients) {
      for (const through of gateways) flows.push(await scene.openFlow(scene.ids.resourceId, name, through));
    }
    await scene.history((rows) => rows.length === flows.length);

    const { resourceId } = scene.ids;
    const rejects = clients
      .map((name) => scene.device(name).id)
      .sort()
      .map((clientId) => rejected({ clientId, resourceId }));
    const ends: Record<string, Push[]> = {
      resource_deleted: [removed(resourceId)],
      toggle: [removed(resourceId), shown(scene)],
      disconnect: [
        ['disconnect', { reason: 'token_expired' }],
        ['closed', 1000],
      ],
    };
    expect(await scene.hears(sql(scene))).toEqual({
      ...Object.fromEntries(gateways.map((name) => [name, rejects])),
      ...Object.fromEntries(clients.map((name) => [name, ends[end]])),
    });
  });
});

describe('a gateway', () => {
  it('older than the client’s generation serves nothing: the client hears offline (D33)', async () => {
    const scene = await stage.account();
    await scene.join('gateway', 'gateway', { userAgent: 'Linux/6.8.0 connlib/1.3.9 (x86_64)' });
    await scene.join('client', 'client');
    scene.client.send('create_flow', { resource_id: scene.ids.resourceId, connected_gateway_ids: [] });
    await scene.client.awaits('flow_creation_failed');
    expect(await scene.heard()).toEqual({
      gateway: [],
      client: [['flow_creation_failed', { resource_id: scene.ids.resourceId, reason: 'offline' }]],
    });
    await scene.join('gateway', 'gateway-2');
    await scene.openFlow(scene.ids.resourceId, 'client', 'gateway-2');
  });

  it('moved to another site loses its pairs; the client may ask for another gateway (D20, D20b)', async () => {
    const scene = await stage.withFlow();
    const other = await aSite(scene);
    const move = `UPDATE gateways SET site_id = '${other}' WHERE id = '${scene.device('gateway').id}'`;
    expect(await scene.hears(move)).toEqual({
      gateway: [rejected(scene.flow)],
      client: [removed(scene.ids.resourceId), shown(scene)],
    });
    await scene.join('gateway', 'gateway-2');
    await scene.openFlow(scene.ids.resourceId, 'client', 'gateway-2');
  });
});
