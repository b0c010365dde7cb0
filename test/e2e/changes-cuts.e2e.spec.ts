/** An operator's hand on the history of flows, and what the peers hear of it (D8a, D20b). */
import { afterAll, afterEach, beforeAll, describe, expect, it, jest } from '@jest/globals';
import { dropSlotInUse } from '../support/drop-slot.js';
import { setPolicy, setResource } from '../support/scene-rows.js';
import { type FlowHistory, rejected, removed, type Scene, shown, Stage } from '../support/scene.js';

jest.setTimeout(30_000);

let stage: Stage;

beforeAll(async () => {
  stage = await Stage.open();
});

afterEach(() => stage.clear());
afterAll(() => stage.close());

describe('a flow row under an operator’s hand', () => {
  it.each([
    ['deleted', deleteOpen],
    ['given revoked_at', closeOpen],
    ['truncated with all others', () => 'TRUNCATE flows'],
  ])('%s: the gateway rejects, then the client makes the resource anew and may ask again', async (_how, statement) => {
    const scene = await stage.withFlow();
    await recorded(scene);
    expect(await scene.hears(statement(scene))).toEqual({
      gateway: [rejected(scene.flow)],
      client: [removed(scene.ids.resourceId), shown(scene)],
    });
    await scene.openFlow();
    await recorded(scene);
  });

  it('deleted together with the policy: one reject, and the resource goes', async () => {
    const scene = await stage.withFlow();
    await recorded(scene);
    const both = `DELETE FROM policies WHERE id = '${scene.ids.policyId}'; DELETE FROM flows ${open(scene)}`;
    expect(await scene.hears(both)).toEqual({
      gateway: [rejected(scene.flow)],
      client: [removed(scene.ids.resourceId)],
    });
  });

  it('deleted while the resource gets another address: one reject, and the client makes the new one anew', async () => {
    const scene = await stage.withFlow();
    await recorded(scene);
    const both = `${setResource(scene, `address = '10.21.0.0/16'`)}; DELETE FROM flows ${open(scene)}`;
    expect(await scene.hears(both)).toEqual({
      gateway: [rejected(scene.flow)],
      client: [removed(scene.ids.resourceId), shown(scene, { address: '10.21.0.0/16' })],
    });
  });

  it('edited in other columns, or closed by us and then deleted: nobody hears of it', async () => {
    const scene = await stage.withFlow();
    await recorded(scene);
    const nothing = { gateway: [], client: [] };
    expect(await scene.hears(`UPDATE flows SET delivered_at = now() ${open(scene)}`)).toEqual(nothing);

    await scene.hears(setPolicy(scene, 'disabled_at = now()'));
    await scene.hears(setPolicy(scene, 'disabled_at = NULL'));
    await scene.openFlow();
    const [old] = await scene.history((rows) => rows.length === 2 && isClosed(rows[0]));
    expect(await scene.hears(`DELETE FROM flows WHERE id = '${old?.id}'`)).toEqual(nothing);
  });

  it('deleted after its expiry: nobody hears of it', async () => {
    const scene = await stage.withFlow();
    await recorded(scene);
    const nothing = { gateway: [], client: [] };
    expect(await scene.hears(`UPDATE flows SET expires_at = now() - interval '1 s' ${open(scene)}`)).toEqual(nothing);
    expect(await scene.hears(`DELETE FROM flows ${open(scene)}`)).toEqual(nothing);
  });
});

describe('what a hand does to a flow row that the stream does not bring, or not whole', () => {
  // One transaction each: the server's next slot begins behind it, and the row is written as its table was then.
  const unheard = (statement: string): string => `${statement}; ${dropSlotInUse(stage.server.db.name)}`;
  const byKeyAlone = (statement: string): string =>
    `ALTER TABLE flows REPLICA IDENTITY DEFAULT; ${statement}; ALTER TABLE flows REPLICA IDENTITY FULL`;

  it.each([
    ['deleted while the replication slot is lost', unheard, deleteOpen],
    ['given revoked_at while the replication slot is lost', unheard, closeOpen],
    ['deleted by its key alone', byKeyAlone, deleteOpen],
    ['given revoked_at, and nothing said of how it was', byKeyAlone, closeOpen],
  ])('%s: rejected as soon as the account is read again', async (_how, within, statement) => {
    const scene = await stage.withFlow();
    await recorded(scene);
    expect(await scene.hears(within(statement(scene)))).toEqual({
      gateway: [rejected(scene.flow)],
      client: [removed(scene.ids.resourceId), shown(scene)],
    });
    const [row] = await scene.history(([first]) => first?.revoked_reason != null);
    expect(row?.revoked_reason).toBe('cut-by-hand');
  });
});

describe('an answer that a commit has overtaken', () => {
  it('is not told to the client: only its next question is answered (D19, D20b)', async () => {
    const scene = await stage.joined();
    const { resourceId } = scene.ids;
    const ask = { resource_id: resourceId, connected_gateway_ids: [] };
    scene.client.send('create_flow', ask);
    const first = await scene.gateway.next('authorize_flow');
    await recorded(scene);
    const clientId = scene.device('client').id;
    expect(await scene.hears(`DELETE FROM flows ${open(scene)}`)).toEqual({
      gateway: [rejected({ clientId, resourceId })],
      client: [removed(resourceId), shown(scene)],
    });

    scene.client.send('create_flow', ask);
    const second = await scene.gateway.next('authorize_flow');
    scene.gateway.send('flow_authorized', { ref: first['ref'] });
    await scene.gateway.next('phx_reply');
    await scene.client.settled();
    expect(scene.client.drain()).toEqual([]);
    scene.gateway.send('flow_authorized', { ref: second['ref'] });
    await scene.gateway.next('phx_reply');
    expect(await scene.client.next('flow_created')).toMatchObject({ resource_id: resourceId });
  });

  it('is not told to the client when a new address has overtaken it, though the client forgot nothing (D19)', async () => {
    const scene = await stage.joined();
    const { resourceId } = scene.ids;
    scene.client.send('create_flow', { resource_id: resourceId, connected_gateway_ids: [] });
    const asked = await scene.gateway.next('authorize_flow');
    expect(await scene.hears(setResource(scene, `address = '10.21.0.0/16'`))).toEqual({
      gateway: [rejected({ clientId: scene.device('client').id, resourceId })],
      client: [shown(scene, { address: '10.21.0.0/16' })],
    });
    scene.gateway.send('flow_authorized', { ref: asked['ref'] });
    await scene.gateway.next('phx_reply');
    expect(await scene.heard()).toEqual({ gateway: [], client: [] });
    await scene.openFlow();
  });
});

describe('a gateway that is away', () => {
  it('hears at its next join of a flow that was deleted meanwhile; the row is back as revoked', async () => {
    const scene = await stage.withFlow();
    const [row] = await recorded(scene);
    const { clientId, resourceId } = scene.flow;
    await scene.leave('gateway');
    expect(await scene.hears(`DELETE FROM flows ${open(scene)}`)).toEqual({ client: [] });
    expect(await scene.history((rows) => isClosed(rows[0]))).toEqual([{ ...row, revoked_reason: 'cut-by-hand' }]);

    const { peer } = await scene.join('gateway', 'gateway');
    expect(peer.init['authorizations']).toEqual([
      { client_id: clientId, resource_id: '00000000-0000-0000-0000-000000000000', expires_at: expect.any(Number) },
    ]);
    // The client went on sending to it: it is made to ask again (D20b).
    expect(await scene.heard()).toEqual({
      gateway: [rejected(scene.flow)],
      client: [removed(resourceId), shown(scene)],
    });
  });

  it('hears at its next join of a flow that was given revoked_at, and its client is made to ask again', async () => {
    const scene = await stage.withFlow();
    await recorded(scene);
    await scene.leave('gateway');
    expect(await scene.hears(`UPDATE flows SET revoked_at = now() ${open(scene)}`)).toEqual({ client: [] });
    await scene.join('gateway', 'gateway');
    expect(await scene.heard()).toEqual({
      gateway: [rejected(scene.flow)],
      client: [removed(scene.ids.resourceId), shown(scene)],
    });
    await scene.openFlow();
  });

  it('drops at its next join every client whose flow it cannot justify, when the history was truncated (D8a)', async () => {
    const scene = await stage.withFlow();
    await recorded(scene);
    await scene.leave('gateway');
    expect(await scene.hears('TRUNCATE flows')).toEqual({ client: [] });
    const { peer } = await scene.join('gateway', 'gateway');
    expect(peer.init['authorizations']).toEqual([
      {
        client_id: scene.flow.clientId,
        resource_id: '00000000-0000-0000-0000-000000000000',
        expires_at: expect.any(Number),
      },
    ]);
  });

  it('hears at its next join of a flow that lost its policy; the client knew it at once', async () => {
    const scene = await stage.withFlow();
    await recorded(scene);
    await scene.leave('gateway');
    expect(await scene.hears(setPolicy(scene, 'disabled_at = now()'))).toEqual({
      client: [removed(scene.ids.resourceId)],
    });
    await scene.join('gateway', 'gateway');
    expect(await scene.heard()).toEqual({ gateway: [rejected(scene.flow)], client: [] });
  });

  it('keeps a flow that nothing touched', async () => {
    const scene = await stage.withFlow();
    await recorded(scene);
    await scene.leave('gateway');
    const { peer } = await scene.join('gateway', 'gateway');
    const { clientId, resourceId, expiresAt } = scene.flow;
    expect(peer.init['authorizations']).toEqual([
      { client_id: clientId, resource_id: resourceId, expires_at: expiresAt },
    ]);
    expect(await scene.heard()).toMatchObject({ gateway: [['resource_updated', { id: resourceId }]], client: [] });
    expect(await scene.hears(`DELETE FROM flows ${open(scene)}`)).toMatchObject({ gateway: [rejected(scene.flow)] });
  });
});

// ---- helpers -------------------------------------------------------------------------------------------------------

function deleteOpen(scene: Scene): string {
  return `DELETE FROM flows ${open(scene)}`;
}

function closeOpen(scene: Scene): string {
  return `UPDATE flows SET revoked_at = now() ${open(scene)}`;
}

/** The scene's flows that nobody has closed. */
function open({ ids }: Scene): string {
  return `WHERE account_id = '${ids.accountId}' AND revoked_at IS NULL`;
}

function isClosed(row: FlowHistory | undefined): boolean {
  return row !== undefined && row.revoked_reason !== null;
}

/** Rows are written beside the pushes: a hand finds one a moment later. */
function recorded(scene: Scene): Promise<readonly FlowHistory[]> {
  return scene.history((rows) => rows.some((row) => !isClosed(row)));
}
