/** What a change of a resource or of its sites makes the peers hear, exactly and in order. */
import { afterAll, afterEach, beforeAll, describe, expect, it, jest } from '@jest/globals';
import { aSite, setResource } from '../support/scene-rows.js';
import { type Push, rejected, removed, type Scene, shown, Stage } from '../support/scene.js';

jest.setTimeout(30_000);

let stage: Stage;

beforeAll(async () => {
  stage = await Stage.open();
});

afterEach(() => stage.clear());
afterAll(() => stage.close());

describe('a resource whose shape changes', () => {
  it('another address rejects the flow; the client replaces the resource by itself, so it is told once (D20)', async () => {
    const scene = await stage.withFlow();
    expect(await scene.hears(setResource(scene, `address = '10.21.0.0/16'`))).toEqual({
      gateway: [rejected(scene.flow)],
      client: [shown(scene, { address: '10.21.0.0/16' })],
    });
    await scene.openFlow();
  });

  it('the same network typed differently is told to nobody', async () => {
    const scene = await stage.withFlow();
    expect(await scene.hears(setResource(scene, `address = '10.20.3.4/16'`))).toEqual({ gateway: [], client: [] });
  });

  it('another ip stack of a dns resource rejects the flow, and the client is told once', async () => {
    const scene = await stage.joined();
    const dns = { type: 'dns', address: 'git.corp.example' };
    expect(await scene.hears(setResource(scene, `type = 'dns', address = 'git.corp.example'`))).toEqual({
      gateway: [],
      client: [removed(scene.ids.resourceId), shown(scene, { ...dns, ip_stack: 'dual' })],
    });
    const flow = await scene.openFlow();
    expect(await scene.hears(setResource(scene, `ip_stack = 'ipv4_only'`))).toEqual({
      gateway: [rejected(flow)],
      client: [shown(scene, { ...dns, ip_stack: 'ipv4_only' })],
    });
  });

  it('another type rejects the flow, and the client is told to make the resource anew', async () => {
    const scene = await stage.withFlow();
    expect(await scene.hears(setResource(scene, `type = 'ip', address = '10.20.0.1'`))).toEqual({
      gateway: [rejected(scene.flow)],
      client: [removed(scene.ids.resourceId), shown(scene, { address: '10.20.0.1/32' })],
    });
  });

  it('a deleted resource is rejected and removed', async () => {
    const scene = await stage.withFlow();
    expect(await scene.hears(`DELETE FROM resources WHERE id = '${scene.ids.resourceId}'`)).toEqual({
      gateway: [rejected(scene.flow)],
      client: [removed(scene.ids.resourceId)],
    });
  });
});

describe('a resource whose looks change', () => {
  it('other filters or another name go to the gateway that has a flow and to the client, without a reject', async () => {
    const scene = await stage.withFlow();
    const filters = [{ protocol: 'tcp', port_range_start: 80, port_range_end: 90 }, { protocol: 'icmp' }];
    const typed = `[{"protocol":"tcp","ports":["80 - 90"]},{"protocol":"icmp"}]`;
    expect(await scene.hears(setResource(scene, `filters = '${typed}'`))).toEqual({
      gateway: [updated(scene, { filters })],
      client: [shown(scene, { filters })],
    });
    expect(await scene.hears(setResource(scene, `name = 'Office'`))).toEqual({
      gateway: [updated(scene, { filters, name: 'Office' })],
      client: [shown(scene, { filters, name: 'Office' })],
    });
  });

  it('another description goes to the client alone: gateways have none', async () => {
    const scene = await stage.withFlow();
    expect(await scene.hears(setResource(scene, `address_description = 'the wiki'`))).toEqual({
      gateway: [],
      client: [shown(scene, { address_description: 'the wiki' })],
    });
  });

  it('a gateway without a flow hears of none of it', async () => {
    const scene = await stage.joined();
    expect(await scene.hears(setResource(scene, `name = 'Office'`))).toEqual({
      gateway: [],
      client: [shown(scene, { name: 'Office' })],
    });
  });

  it('filters that cannot be read take the resource away until they are mended (D15)', async () => {
    const scene = await stage.withFlow();
    expect(await scene.hears(setResource(scene, `filters = '[{"protocol":"sctp"}]'`))).toEqual({
      gateway: [rejected(scene.flow)],
      client: [removed(scene.ids.resourceId)],
    });
    expect(await scene.hears(setResource(scene, `filters = '[]'`))).toEqual({ gateway: [], client: [shown(scene)] });
  });
});

describe('the sites of a resource', () => {
  it('swapped in one commit: the gateway of the old site is rejected, the client makes the resource anew', async () => {
    const scene = await stage.withFlow();
    const other = await aSite(scene);
    expect(await scene.hears(`${unlink(scene, scene.ids.siteId)}; ${link(scene, other)}`)).toEqual({
      gateway: [rejected(scene.flow)],
      client: [removed(scene.ids.resourceId), shown(scene, { gateway_groups: [{ id: other, name: 'Other site' }] })],
    });
  });

  it('one more, or one less while the gateway’s own remains: the flow stays, the client makes the resource anew', async () => {
    const scene = await stage.withFlow();
    const other = await aSite(scene);
    const both = [
      { id: other, name: 'Other site' },
      { id: scene.ids.siteId as string, name: 'Unnamed site' },
    ].sort((a, b) => (a.id < b.id ? -1 : 1));
    expect(await scene.hears(link(scene, other))).toEqual({
      gateway: [],
      client: [removed(scene.ids.resourceId), shown(scene, { gateway_groups: both })],
    });
    expect(await scene.hears(unlink(scene, other))).toEqual({
      gateway: [],
      client: [removed(scene.ids.resourceId), shown(scene)],
    });
  });

  it('the gateway’s own leaves while another remains: reject at once, also though the client still may (D20)', async () => {
    const scene = await stage.joined();
    const other = await aSite(scene);
    await scene.hears(link(scene, other));
    const flow = await scene.openFlow();
    expect(await scene.hears(unlink(scene, scene.ids.siteId))).toEqual({
      gateway: [rejected(flow)],
      client: [removed(scene.ids.resourceId), shown(scene, { gateway_groups: [{ id: other, name: 'Other site' }] })],
    });
  });

  it('the last one leaves: a resource that nobody serves is removed', async () => {
    const scene = await stage.withFlow();
    expect(await scene.hears(unlink(scene, scene.ids.siteId))).toEqual({
      gateway: [rejected(scene.flow)],
      client: [removed(scene.ids.resourceId)],
    });
  });

  it('deleted and linked again in one commit is told to nobody', async () => {
    const scene = await stage.withFlow();
    const { siteId } = scene.ids;
    expect(await scene.hears(`${unlink(scene, siteId)}; ${link(scene, siteId)}`)).toEqual({ gateway: [], client: [] });
  });

  it('a new name of a site goes to the client alone', async () => {
    const scene = await stage.withFlow();
    expect(await scene.hears(`UPDATE sites SET name = 'Frankfurt' WHERE id = '${scene.ids.siteId}'`)).toEqual({
      gateway: [],
      client: [shown(scene, { gateway_groups: [{ id: scene.ids.siteId, name: 'Frankfurt' }] })],
    });
  });
});

// ---- helpers -------------------------------------------------------------------------------------------------------

function updated({ ids }: Scene, changed: Record<string, unknown>): Push {
  const form = { id: ids.resourceId, type: 'cidr', address: '10.20.0.0/16', name: 'Unnamed resource', filters: [] };
  return ['resource_updated', { ...form, ...changed }];
}

function link({ ids }: Scene, siteId: string): string {
  return `INSERT INTO resource_sites (account_id, resource_id, site_id)
    VALUES ('${ids.accountId}', '${ids.resourceId}', '${siteId}')`;
}

function unlink({ ids }: Scene, siteId: string): string {
  return `DELETE FROM resource_sites WHERE resource_id = '${ids.resourceId}' AND site_id = '${siteId}'`;
}
