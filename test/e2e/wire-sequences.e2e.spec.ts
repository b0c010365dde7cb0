/** The four sequences of wire-protocol.md section 7, from end to end: every frame each peer hears, in order, whole. */
import { createHash } from 'node:crypto';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, jest } from '@jest/globals';
import { aToken } from '../support/demo-account.js';
import { relayEntries, type RelayEntry, relayIdOf, RELAYS_UNTIL } from '../support/derivations.js';
import { keyOf, RawPeer } from '../support/raw-peer.js';
import { joinRelay, type RelayOptions, type TestRelay } from '../support/relays.js';
import { aGroup, aPolicy, aResource } from '../support/scene-rows.js';
import {
  expiryMoved,
  type OpenFlow,
  type Push,
  rejected,
  removed,
  type Scene,
  shown,
  Stage,
} from '../support/scene.js';
import { windowOf } from '../support/time-window.js';
import { Transcript } from '../support/transcript.js';

jest.setTimeout(30_000);

/** Stands for the 3 s of the product. */
const DEBOUNCE_MS = 600;
const OK = { status: 'ok', response: {} };
const SIGNED_OUT: Push[] = [
  ['disconnect', { reason: 'token_expired' }],
  ['closed', 1000],
];

let stage: Stage;
let scene: Scene;
const relays: TestRelay[] = [];

beforeAll(async () => {
  stage = await Stage.open({ RELAYS_DEBOUNCE_MS: `${DEBOUNCE_MS}`, RELAYS_REQUIRED: 'true' });
});

beforeEach(async () => {
  scene = await stage.account();
});

afterEach(async () => {
  await stage.clear();
  for (const { peer } of relays.splice(0)) if (!peer.isClosed) await peer.close();
});

afterAll(() => stage.close());

interface KnownRelay extends TestRelay {
  readonly addrs: readonly string[];
}

let made = 0;

/** A relay of the account with both addresses; at a place of its own unless told. */
async function aRelay(options: Partial<RelayOptions> & { readonly place?: number } = {}): Promise<KnownRelay> {
  made += 1;
  const place = options.place ?? made;
  const [ipv4, ipv6] = [`203.0.113.${place}`, `2001:db8::${place.toString(16)}`];
  const { text: token } = await aToken(stage.server.db, 'relay', { accountId: scene.ids.accountId });
  const relay = await joinRelay(stage.server.wsUrl, { token, ...options, query: { ipv4, ipv6, port: '3478' } });
  relays.push(relay);
  return { ...relay, addrs: [`${ipv4}:3478`, `[${ipv6}]:3478`] };
}

// ---- 7.1 -----------------------------------------------------------------------------------------------------------

describe('7.1: connect to traffic', () => {
  it('a relay, a gateway and a client join, a flow opens, candidates pass, and each hears this and nothing else', async () => {
    const { wsUrl } = stage.server;
    const { clientToken, gatewayToken, resourceId } = scene.ids;
    const { text: token } = await aToken(stage.server.db, 'relay', { accountId: scene.ids.accountId });
    const stampSecret = '9f3c'.repeat(16);

    const relay = await RawPeer.connect('relay', wsUrl, { token, query: { ipv4: '203.0.113.7', port: '3478' } });
    const relayHeard = new Transcript(relay.ws);
    const relayJoin = relay.send('phx_join', { stamp_secret: stampSecret });
    await relay.until('init');
    await relay.settled();

    const gateway = await RawPeer.connect('gateway', wsUrl, { token: gatewayToken, externalId: 'gateway' });
    const gatewayHeard = new Transcript(gateway.ws);
    const gatewayJoin = gateway.send('phx_join', null);
    await gateway.until('init');

    const client = await RawPeer.connect('client', wsUrl, { token: clientToken, externalId: 'client' });
    const clientHeard = new Transcript(client.ws);
    const clientJoin = client.send('phx_join', null);
    await client.until('init');
    for (const peer of [client, gateway]) mustAllocate(peer.init['relays'], stampSecret);

    // The first packet to the resource.
    client.send('create_flow', { resource_id: resourceId, connected_gateway_ids: [] });
    const asked = await gateway.next('authorize_flow');
    const { id: clientId } = asked['client'] as { id: string };
    // The gateway gathers at once: what it says may reach the client before it knows of the flow.
    gateway.send('broadcast_ice_candidates', { candidates: ['early'], client_ids: [clientId] });
    const { gateway_id: gatewayId } = (await client.next('ice_candidates')) as { gateway_id: string };
    const authorized = gateway.send('flow_authorized', { ref: asked['ref'] });
    await gateway.next('phx_reply');
    await client.next('flow_created');
    client.send('broadcast_ice_candidates', { candidates: ['of the client'], gateway_ids: [gatewayId] });
    await gateway.next('ice_candidates');
    gateway.send('broadcast_ice_candidates', { candidates: ['of the gateway'], client_ids: [clientId] });
    await client.next('ice_candidates');

    expect(relayHeard.messages.slice(0, 2)).toEqual([
      { topic: 'relay', event: 'phx_reply', ref: relayJoin, payload: OK },
      { topic: 'relay', event: 'init', ref: null, payload: {} },
    ]);
    expect(relayHeard.messages).toHaveLength(3); // and the answer to its heartbeat
    const gatewayTold = (event: string, payload: unknown, ref: unknown = null) => ({
      ...{ topic: 'gateway', event, ref, payload },
    });
    expect(gatewayHeard.messages).toEqual([
      gatewayTold('phx_reply', OK, gatewayJoin),
      gatewayTold('init', { ...gateway.init, authorizations: [] }),
      gatewayTold('authorize_flow', asked),
      gatewayTold('phx_reply', OK, authorized),
      gatewayTold('ice_candidates', { client_id: clientId, candidates: ['of the client'] }),
    ]);
    const clientTold = (event: string, payload: unknown, ref: unknown = null) => ({
      ...{ topic: 'client', event, ref, payload },
    });
    expect(clientHeard.messages).toEqual([
      clientTold('phx_reply', OK, clientJoin),
      clientTold('init', { ...client.init, resources: [shown(scene)[1]] }),
      clientTold('ice_candidates', { gateway_id: gatewayId, candidates: ['early'] }),
      clientTold('flow_created', {
        ...{ resource_id: resourceId, gateway_id: gatewayId, gateway_group_id: scene.ids.siteId },
        gateway_public_key: keyOf('gateway'),
        gateway_ipv4: (gateway.init['interface'] as { ipv4: string }).ipv4,
        gateway_ipv6: (gateway.init['interface'] as { ipv6: string }).ipv6,
        preshared_key: (asked['client'] as { preshared_key: string }).preshared_key,
        client_ice_credentials: asked['client_ice_credentials'],
        gateway_ice_credentials: asked['gateway_ice_credentials'],
      }),
      clientTold('ice_candidates', { gateway_id: gatewayId, candidates: ['of the gateway'] }),
    ]);
    await Promise.all([relay, gateway, client].map((peer) => peer.close()));
  });

  /** What a relay does at a TURN allocation: it knows its secret, and reads all else from the username. */
  function mustAllocate(entries: unknown, stampSecret: string): void {
    expect(entries).toHaveLength(1);
    for (const { username, password, addr } of entries as RelayEntry[]) {
      const [expiresAt = '', salt = ''] = username.split(':');
      const expected = createHash('sha256').update(`${expiresAt}:${stampSecret}:${salt}`).digest('base64');
      expect([addr, `${password}=`]).toEqual(['203.0.113.7:3478', expected]);
      expect(Number(expiresAt)).toBeGreaterThan(Date.now() / 1000);
    }
  }
});

// ---- 7.2 -----------------------------------------------------------------------------------------------------------

describe('7.2: policy deleted', () => {
  const deletePolicy = (): string => `DELETE FROM policies WHERE id = '${scene.ids.policyId}'`;

  async function withFlow(): Promise<OpenFlow> {
    await aRelay();
    await scene.join('gateway', 'gateway');
    await scene.join('client', 'client');
    const flow = await scene.openFlow();
    await scene.history((rows) => rows.length === 1);
    return flow;
  }

  it('that was the only one: the gateway rejects, the client loses the resource, and the flow is on record as closed', async () => {
    const flow = await withFlow();
    expect(await scene.hears(deletePolicy())).toEqual({
      gateway: [rejected(flow)],
      client: [removed(flow.resourceId)],
    });
    await scene.history(([row]) => row !== undefined && row.revoked_reason !== null);
  });

  it('while another grants the same for as long: nobody hears of it, and the record moves to the other', async () => {
    await withFlow();
    const other = aPolicy(scene, { groupId: await aGroup(scene, 'with-actor') });
    expect(await scene.hears(other.sql)).toEqual({ gateway: [], client: [] });
    expect(await scene.hears(deletePolicy())).toEqual({ gateway: [], client: [] });
    const [first, second] = await scene.history((rows) => rows.length === 2 && rows[0]?.revoked_reason !== null);
    expect([first?.policy_id, second?.policy_id]).toEqual([scene.ids.policyId, other.id]);
    expect(second?.revoked_reason).toBeNull();
  });

  it('while another grants the same for less long: the gateway hears the new expiry, the client nothing', async () => {
    const flow = await withFlow();
    const window = windowOf([-60, 900]);
    const groupId = await aGroup(scene, 'with-actor');
    expect(await scene.hears(aPolicy(scene, { groupId, conditions: window.conditions }).sql)).toEqual({
      gateway: [],
      client: [],
    });
    expect(await scene.hears(deletePolicy())).toEqual({ gateway: [expiryMoved(flow, window.endsAt)], client: [] });
  });

  it('while the client is offline: the gateway rejects all the same', async () => {
    const flow = await withFlow();
    await scene.leave('client');
    expect(await scene.heard()).toEqual({ gateway: [] });
    expect(await scene.hears(deletePolicy())).toEqual({ gateway: [rejected(flow)] });
  });

  it('that several clients used through several gateways: each pair is rejected, and flows to other resources stay', async () => {
    await withFlow();
    await scene.join('gateway', 'second');
    await scene.join('client', 'colleague');
    const resource = await aResource(scene);
    await scene.hears(aPolicy(scene, { resourceId: resource }).sql);
    for (const name of ['client', 'colleague']) {
      for (const through of ['gateway', 'second']) await scene.openFlow(scene.ids.resourceId, name, through);
      await scene.openFlow(resource, name);
    }
    const { resourceId } = scene.ids;
    const clientIds = [scene.device('client').id, scene.device('colleague').id].sort();
    const rejects = clientIds.map((clientId) => rejected({ clientId, resourceId }));
    expect(await scene.hears(deletePolicy())).toEqual({
      gateway: rejects,
      second: rejects,
      client: [removed(resourceId)],
      colleague: [removed(resourceId)],
    });
    await scene.openFlow(resource);
  });
});

// ---- 7.3 -----------------------------------------------------------------------------------------------------------

describe('7.3: relay disappears', () => {
  async function joined(): Promise<void> {
    await scene.join('gateway', 'gateway');
    await scene.join('client', 'client');
  }

  /** The push as the client, or the gateway, must be told it. */
  function presence(name: 'client' | 'gateway', gone: readonly KnownRelay[], toUse: readonly KnownRelay[]): Push {
    return [
      'relays_presence',
      {
        disconnected_ids: gone.map(({ stampSecret }) => relayIdOf(stampSecret)),
        connected: toUse.flatMap((relay) => relayEntries(relay, keyOf(name), RELAYS_UNTIL)),
      },
    ];
  }

  /** Both are told just this and nothing else. */
  async function expectTold(gone: readonly KnownRelay[], toUse: readonly KnownRelay[]): Promise<void> {
    for (const name of ['gateway', 'client'] as const) await scene[name].awaits('relays_presence');
    expect(await scene.heard()).toEqual({
      gateway: [presence('gateway', gone, toUse)],
      client: [presence('client', gone, toUse)],
    });
  }

  /** Nothing comes, for longer than the delay: there is nothing to await. */
  async function expectSilence(): Promise<void> {
    await new Promise((resolve) => setTimeout(resolve, DEBOUNCE_MS + 200));
    expect(await scene.heard()).toEqual({ gateway: [], client: [] });
  }

  function lasts(from: number): number {
    return performance.now() - from;
  }

  it('and is back within the delay with its secret: nothing is sent, and its credentials stay', async () => {
    const relay = await aRelay({ place: 1 });
    await joined();
    const { relays: before } = scene.client.init;
    await relay.peer.close();
    await aRelay({ place: 1, stampSecret: relay.stampSecret });
    await expectSilence();
    await scene.join('client', 'client');
    expect(scene.client.init['relays']).toEqual(before);
  });

  it('and stays away: after the delay it is gone, and what is left is to be used', async () => {
    const [lost, left] = [await aRelay(), await aRelay()];
    await joined();
    const goneAt = performance.now();
    await lost.peer.close();
    await expectTold([lost], [left]);
    expect(lasts(goneAt)).toBeGreaterThanOrEqual(DEBOUNCE_MS - 5); // two clocks
    await expectSilence();
  });

  it.each([
    ['after it was seen to leave', true],
    ['before anybody saw it leave', false],
  ])('and is back with another secret %s: at once it is gone and to be used anew', async (_when, isSeenToLeave) => {
    const other = await aRelay();
    const old = await aRelay({ place: 200 });
    await joined();
    if (isSeenToLeave) await old.peer.close();
    const backAt = performance.now();
    const anew = await aRelay({ place: 200 });
    for (const name of ['gateway', 'client'] as const) {
      const push = await scene[name].next('relays_presence');
      expect(lasts(backAt)).toBeLessThan(DEBOUNCE_MS);
      expect(push['disconnected_ids']).toEqual([relayIdOf(old.stampSecret)]);
      // The selection has no order but that the entries of a relay stand together (the strict checker).
      const connected = push['connected'] as RelayEntry[];
      expect([...connected].sort(byAddr)).toEqual(
        [...relayEntries(anew, keyOf(name), RELAYS_UNTIL), ...relayEntries(other, keyOf(name), RELAYS_UNTIL)].sort(
          byAddr,
        ),
      );
    }
    await expectSilence();
  });

  it('and none is left: first it is gone, with nothing to use; the next one that joins is told at once, both addresses', async () => {
    const last = await aRelay();
    await joined();
    const goneAt = performance.now();
    await last.peer.close();
    await expectTold([last], []);
    expect(lasts(goneAt)).toBeGreaterThanOrEqual(DEBOUNCE_MS - 5);
    const joinedAt = performance.now();
    const next = await aRelay();
    await expectTold([], [next]);
    expect(lasts(joinedAt)).toBeLessThan(DEBOUNCE_MS);
    await expectSilence();
    await scene.openFlow();
  });

  it('and none is left, and it comes back itself long after: it is told like any other', async () => {
    const last = await aRelay({ place: 210 });
    await joined();
    await last.peer.close();
    await expectTold([last], []);
    const back = await aRelay({ place: 210, stampSecret: last.stampSecret });
    await expectTold([], [back]);
  });
});

// ---- 7.4 -----------------------------------------------------------------------------------------------------------

describe('7.4: client token expires or is revoked', () => {
  /** Two resources through two gateways, and a neighbour with a token of its own that must not notice. */
  async function withFlows(token?: string): Promise<Record<'gateway' | 'second', Push[]>> {
    await aRelay();
    await scene.join('gateway', 'gateway');
    await scene.join('gateway', 'second');
    await scene.join('client', 'client', token === undefined ? {} : { token });
    const { accountId, actorId } = scene.ids;
    const neighbours = await aToken(stage.server.db, 'client', { accountId, actorId });
    await scene.join('client', 'neighbour', { token: neighbours.text });
    const other = await aResource(scene);
    await scene.hears(aPolicy(scene, { resourceId: other }).sql);
    await scene.openFlow(scene.ids.resourceId, 'neighbour');
    const [first, second] = [await scene.openFlow(), await scene.openFlow(other)];
    const through = await scene.openFlow(other, 'client', 'second');
    await scene.history((rows) => rows.length === 4);
    const pairs = [first, second].sort((a, b) => (a.resourceId < b.resourceId ? -1 : 1));
    return { gateway: pairs.map(rejected), second: [rejected(through)] };
  }

  async function expectEnded(): Promise<void> {
    const rows = await scene.history((all) => all.filter((row) => row.revoked_reason !== null).length === 3);
    expect(rows).toHaveLength(4); // the neighbour's is open
    await scene.openFlow(scene.ids.resourceId, 'neighbour');
  }

  it('deleted: the gateways reject each pair, then the client is told why, then closed; coming again is a 401', async () => {
    const { clientTokenId, clientToken } = scene.ids;
    const rejects = await withFlows();
    expect(await scene.hears(`DELETE FROM tokens WHERE id = '${clientTokenId}'`)).toEqual({
      ...rejects,
      client: SIGNED_OUT,
      neighbour: [],
    });
    await expectEnded();
    const again = RawPeer.connect('client', stage.server.wsUrl, { token: clientToken, externalId: 'client' });
    await expect(again).rejects.toMatchObject({ status: 401 });
  });

  it('expired: at that second the same happens by itself', async () => {
    const endsAt = Math.ceil(Date.now() / 1000) + 3;
    const { accountId, actorId } = scene.ids;
    const token = await aToken(stage.server.db, 'client', { accountId, actorId, expiresAt: new Date(endsAt * 1000) });
    const rejects = await withFlows(token.text);
    const { client } = scene;
    expect(Date.now()).toBeLessThan(endsAt * 1000); // else the machine was too slow for this test
    const { at } = await client.awaits('disconnect');
    const cameAt = (Date.now() - performance.now() + at) / 1000;
    expect(cameAt).toBeGreaterThan(endsAt - 0.01); // two clocks
    expect(cameAt).toBeLessThan(endsAt + 1);
    await client.closed();
    await Promise.all(['gateway', 'second'].map((name) => scene.device(name).peer.awaits('reject_access')));
    const heard = await scene.heard();
    // Each pair ends by a timer of its own: they come in any order.
    heard['gateway']?.sort((a, b) => (resourceOf(a) < resourceOf(b) ? -1 : 1));
    expect(heard).toEqual({ ...rejects, client: SIGNED_OUT, neighbour: [] });
    await expectEnded();
  });

  it('expired before the join: the join is answered with ok, then it is told why, then closed', async () => {
    const endsAt = Math.floor(Date.now() / 1000) + 2;
    const { accountId, actorId } = scene.ids;
    const token = await aToken(stage.server.db, 'client', { accountId, actorId, expiresAt: new Date(endsAt * 1000) });
    const late = await RawPeer.connect('client', stage.server.wsUrl, { token: token.text, externalId: 'late' });
    while (Date.now() < endsAt * 1000) await late.settled();
    late.send('phx_join', null);
    expect(await late.next('phx_reply')).toEqual(OK);
    expect(await late.next('disconnect')).toEqual({ reason: 'token_expired' });
    expect(await late.closed()).toBe(1000);
    expect(late.drain()).toEqual([]);
  });
});

function resourceOf([, payload]: Push): string {
  return (payload as { resource_id: string }).resource_id;
}

function byAddr(a: RelayEntry, b: RelayEntry): number {
  return a.addr < b.addr ? -1 : 1;
}
