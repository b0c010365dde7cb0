/**
 * Every message of wire-protocol.md Appendix A, once, in the smallest situation in which it is sent: all of its members
 * with their values. Frames are judged by the strict checker and by docs/asyncapi.yaml as well (RawPeer).
 */
import { randomBytes, randomUUID } from 'node:crypto';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, jest } from '@jest/globals';
import { aToken } from '../support/demo-account.js';
import { presharedKeyOf, relayEntries, relayIdOf, RELAYS_UNTIL } from '../support/derivations.js';
import { PlainSocket } from '../support/plain-socket.js';
import { type Json, keyOf, type PeerOptions, RawPeer } from '../support/raw-peer.js';
import { joinRelay, type TestRelay } from '../support/relays.js';
import { removed, type Scene, Stage } from '../support/scene.js';
import { condition } from '../support/scene-rows.js';
import type { PeerRole } from '../support/strict-peer.js';
import { Transcript } from '../support/transcript.js';

jest.setTimeout(30_000);

const ROLES: readonly PeerRole[] = ['client', 'gateway', 'relay'];
const DEVICES = ['client', 'gateway'] as const;
const DEBOUNCE_MS = 300;
const OK = { status: 'ok', response: {} };
const CANDIDATES = ['candidate:1 1 udp 2130706431 192.0.2.10 50712 typ host', 'candidate:2 1 udp 1 198.51.100.4 52625'];
const KINDS_OF_CANDIDATES = [
  ['broadcast_ice_candidates', 'ice_candidates'],
  ['broadcast_invalidated_ice_candidates', 'invalidate_ice_candidates'],
] as const;

const refusal = (reason: string, more: Json = {}): Json => ({ status: 'error', response: { reason, ...more } });

let stage: Stage;
let scene: Scene;
let house: House;

beforeAll(async () => {
  // Each account brings its own relay, of which the test knows everything.
  stage = await Stage.open({ RELAYS_DEBOUNCE_MS: `${DEBOUNCE_MS}`, RELAYS_REQUIRED: 'true' });
});

beforeEach(async () => {
  scene = await stage.account();
  house = await furnish(scene);
});

afterEach(async () => {
  await stage.clear();
  for (const { peer } of relays.splice(0)) if (!peer.isClosed) await peer.close();
});

afterAll(() => stage.close());

// ---- any topic -----------------------------------------------------------------------------------------------------

describe('on any topic', () => {
  it.each(ROLES)(
    'Appendix A: phx_join / phx_reply (both): a %s gets its ref back with {}, and then its init',
    async (role) => {
      const peer = await connect(role);
      const heard = new Transcript(peer.ws);
      const ref = peer.send('phx_join', joinOf(role));
      await peer.until('init');
      expect(heard.messages).toEqual([
        { topic: role, event: 'phx_reply', ref, payload: OK },
        { topic: role, event: 'init', ref: null, payload: peer.init },
      ]);
      await peer.close();
    },
  );

  it('Appendix A: phx_join / phx_reply (both): a join that cannot be is answered with the reason', async () => {
    const client = await connect('client', { userAgent: 'Ubuntu/24.4.0 connlib/banana (x86_64)' });
    client.send('phx_join', null);
    expect(await client.next('phx_reply')).toEqual(refusal('invalid_version'));
    client.send('phx_join', null, 'gateway');
    expect(await client.next('phx_reply')).toEqual(refusal('unmatched topic'));
    const relay = await connect('relay');
    relay.send('phx_join', {});
    expect(await relay.next('phx_reply')).toEqual(refusal('join crashed'));
    await Promise.all([client.close(), relay.close()]);
  });

  it.each(ROLES)(
    'Appendix A: heartbeat (peer -> portal): of a %s is answered on its topic before and after the join',
    async (role) => {
      const peer = await connect(role);
      const heard = new Transcript(peer.ws);
      const first = peer.send('heartbeat', {}, 'phoenix');
      const answer = (ref: number): Json => ({ topic: 'phoenix', event: 'phx_reply', ref, payload: OK });
      expect(await heard.next()).toEqual(answer(first));
      peer.send('phx_join', joinOf(role));
      await peer.until('init');
      const second = peer.send('heartbeat', {}, 'phoenix');
      await peer.next('phx_reply');
      expect(heard.messages.at(-1)).toEqual(answer(second));
      await peer.close();
    },
  );

  it.each(DEVICES)(
    'Appendix A: phx_leave, phx_close (both): a %s of V2 gets ok, then phx_close with the ref of its join, and is gone',
    async (role) => {
      const socket = await PlainSocket.open(role, stage.server.wsUrl, {
        token: tokenOf(role),
        externalId: role,
        query: { vsn: '2.0.0' },
      });
      socket.send(['3', '3', role, 'phx_join', {}]);
      await socket.untilText('"init"');
      socket.send(['3', '4', role, 'phx_leave', {}]);
      expect(JSON.parse(await socket.nextText())).toEqual(['3', '4', role, 'phx_reply', OK]);
      expect(JSON.parse(await socket.nextText())).toEqual(['3', '3', role, 'phx_close', {}]);
      socket.send(['3', '5', role, 'phx_leave', {}]);
      expect(JSON.parse(await socket.nextText())).toEqual(['3', '5', role, 'phx_reply', refusal('unmatched topic')]);
      await socket.close();
    },
  );

  it('Appendix A: phx_leave, phx_close (both): a gateway that left is asked for nothing any more', async () => {
    await scene.join('gateway', 'gateway');
    await scene.join('client', 'client');
    scene.gateway.send('phx_leave', {});
    expect(await scene.gateway.next('phx_reply')).toEqual(OK);
    expect(await scene.gateway.next('phx_close')).toEqual({});
    askForFlow();
    expect(await scene.client.next('flow_creation_failed')).toMatchObject({ reason: 'offline' });
    await scene.gateway.settled();
    expect(scene.gateway.drain()).toEqual([]);
  });

  it('Appendix A: phx_error (portal -> peer): is sent to nobody who was refused, was wrong or left', async () => {
    for (const role of ROLES) {
      const peer = await connect(role);
      const heard = new Transcript(peer.ws);
      const say = async (event: string, payload: unknown, topic: string, reply: Json): Promise<void> => {
        peer.send(event, payload, topic);
        expect(await peer.next('phx_reply')).toEqual(reply);
      };
      await say('phx_join', null, 'room:1', refusal('unmatched topic'));
      if (role === 'relay') await say('phx_join', null, role, refusal('join crashed'));
      await say('phx_join', joinOf(role), role, OK);
      await peer.next('init');
      await say('phx_join', joinOf(role), role, OK); // again: the old channel goes in silence
      await peer.next('init');
      await say('no_such_event', {}, role, refusal('unknown_message'));
      await say('phx_leave', {}, role, OK);
      await peer.next('phx_close');
      await say('phx_leave', {}, role, refusal('unmatched topic'));
      expect(heard.messages.length).toBeGreaterThanOrEqual(9);
      expect(heard.messages).not.toContainEqual(expect.objectContaining({ event: 'phx_error' }));
      await peer.close();
    }
    const old = await connect('client', { userAgent: 'connlib/banana' });
    const heard = new Transcript(old.ws);
    old.send('phx_join', null);
    await old.next('phx_reply');
    await old.settled();
    expect(heard.messages).not.toContainEqual(expect.objectContaining({ event: 'phx_error' }));
    await old.close();
  });

  it.each(ROLES)(
    'Appendix A: disconnect (portal -> peer): a %s whose token is deleted is told why, then closed',
    async (role) => {
      const token = await aToken(stage.server.db, role, ownerOf(role));
      const peer = await connect(role, { token: token.text });
      const heard = new Transcript(peer.ws);
      peer.send('phx_join', joinOf(role));
      await peer.until('init');
      await peer.settled();
      await stage.server.db.query('DELETE FROM tokens WHERE id = $1', [token.id]);
      expect(await peer.next('disconnect')).toEqual({ reason: 'token_expired' });
      expect(await peer.closed()).toBe(1000);
      expect(peer.closeReason).toBe('');
      const push = { topic: role, event: 'disconnect', ref: null, payload: { reason: 'token_expired' } };
      expect(heard.messages.at(-1)).toEqual(push);
    },
  );
});

// ---- to and from clients -------------------------------------------------------------------------------------------

describe('to a client', () => {
  it('Appendix A: init (portal -> client)', async () => {
    const { peer: client } = await scene.join('client', 'client');
    const { resources, ...others } = client.init as { resources: Json[] };
    expect(others).toEqual({
      interface: {
        ...(await addressesOf('client')),
        upstream_dns: [
          { protocol: 'ip_port', address: '9.9.9.9:53' },
          { protocol: 'ip_port', address: '[2620:fe::fe]:53' },
          { protocol: 'ip_port', address: '8.8.8.8:5353' },
        ],
        search_domain: 'corp.example',
      },
      relays: house.relayEntries('client'),
    });
    // No order is promised for the resources of an init.
    expect(byId(resources)).toEqual(byId([house.git, house.lan, house.internet]));
  });

  it('Appendix A: resource_created_or_updated (portal -> client)', async () => {
    await scene.join('client', 'client');
    const renamed = `UPDATE resources SET name = 'Git of all', filters = '[]' ${house.row(house.git['id'])}`;
    expect(await scene.hears(renamed)).toEqual({
      client: [['resource_created_or_updated', { ...house.git, name: 'Git of all', filters: [] }]],
    });
    await scene.hears(`UPDATE policies SET disabled_at = now() WHERE resource_id = '${house.lan['id'] as string}'`);
    const enabled = `UPDATE policies SET disabled_at = NULL WHERE resource_id = '${house.lan['id'] as string}'`;
    expect(await scene.hears(enabled)).toEqual({ client: [['resource_created_or_updated', house.lan]] });
  });

  it('Appendix A: resource_deleted (portal -> client): is the bare id', async () => {
    const { peer: client } = await scene.join('client', 'client');
    const heard = new Transcript(client.ws);
    const { id } = house.git as { id: string };
    expect(await scene.hears(`DELETE FROM resources ${house.row(id)}`)).toEqual({ client: [['resource_deleted', id]] });
    expect(heard.messages).toContainEqual({ topic: 'client', event: 'resource_deleted', ref: null, payload: id });
  });

  it('Appendix A: config_changed (portal -> client): is the whole interface', async () => {
    await scene.join('client', 'client');
    const config = `{"clients_upstream_dns":[{"protocol":"ip_port","address":"[2620:fe::9]:5353"}]}`;
    expect(await scene.hears(`UPDATE accounts SET config = '${config}' WHERE id = '${scene.ids.accountId}'`)).toEqual({
      client: [
        [
          'config_changed',
          {
            interface: {
              ...(await addressesOf('client')),
              upstream_dns: [{ protocol: 'ip_port', address: '[2620:fe::9]:5353' }],
              search_domain: null,
            },
          },
        ],
      ],
    });
  });

  it('Appendix A: flow_created (portal -> client)', async () => {
    await scene.join('gateway', 'gateway');
    await scene.join('client', 'client');
    askForFlow();
    const asked = await scene.gateway.next('authorize_flow');
    scene.gateway.send('flow_authorized', { ref: asked['ref'] });
    const { ipv4, ipv6 } = await addressesOf('gateway');
    expect(await scene.client.next('flow_created')).toEqual({
      resource_id: house.git['id'],
      gateway_id: scene.device('gateway').id,
      gateway_group_id: scene.ids.siteId,
      gateway_public_key: keyOf('gateway'),
      gateway_ipv4: ipv4,
      gateway_ipv6: ipv6,
      preshared_key: await pskOfPair(),
      client_ice_credentials: asked['client_ice_credentials'],
      gateway_ice_credentials: asked['gateway_ice_credentials'],
    });
  });

  it('Appendix A: flow_creation_failed (portal -> client): with each of its reasons', async () => {
    await scene.join('client', 'client');
    const failure = async (resourceId: unknown): Promise<Json> => {
      askForFlow(resourceId);
      return scene.client.next('flow_creation_failed');
    };
    const unknown = randomUUID();
    expect(await failure(unknown)).toEqual({ resource_id: unknown, reason: 'not_found' });
    const { id: git } = house.git;
    expect(await failure(git)).toEqual({ resource_id: git, reason: 'offline' });
    const conditions = condition('client_verified', 'is', 'true');
    await scene.hears(`UPDATE policies SET conditions = '${conditions}' WHERE id = '${scene.ids.policyId}'`);
    expect(await failure(git)).toEqual({
      resource_id: git,
      reason: 'forbidden',
      violated_properties: ['client_verified'],
    });
  });
});

describe('from a client', () => {
  it('Appendix A: create_flow (client -> portal): asks the gateway and has no reply', async () => {
    await scene.join('gateway', 'gateway');
    const { peer: client } = await scene.join('client', 'client');
    const ref = askForFlow();
    await scene.gateway.next('authorize_flow');
    await client.settled();
    expect(client.drain()).toEqual([]);
    expect(client.received.map((frame) => frame.ref)).not.toContain(ref);
    client.send('create_flow', { resource_id: house.git['id'] });
    expect(await client.next('phx_reply')).toEqual(refusal('unknown_message'));
  });

  it.each([
    ['prepare_connection', {}],
    ['reuse_connection', { gateway_id: randomUUID(), payload: null }],
    ['request_connection', { gateway_id: randomUUID(), client_payload: {}, client_preshared_key: keyOf('psk') }],
  ])('Appendix A: %s (client -> portal): not_found is an error reply', async (event, payload) => {
    await joinedOf('1.3.9', '1.3.9');
    expect(await replyTo(event, { resource_id: randomUUID(), ...payload })).toEqual(refusal('not_found'));
  });

  it('Appendix A: prepare_connection (client -> portal): is answered with the gateway to use', async () => {
    await joinedOf('1.3.9', '1.3.9');
    const { id } = house.git;
    expect(await replyTo('prepare_connection', { resource_id: id })).toEqual({
      status: 'ok',
      response: {
        resource_id: id,
        gateway_group_id: scene.ids.siteId,
        gateway_id: scene.device('gateway').id,
        gateway_remote_ip: '127.0.0.1',
      },
    });
    await scene.leave('gateway');
    expect(await replyTo('prepare_connection', { resource_id: id })).toEqual(refusal('offline'));
    const conditions = condition('remote_ip', 'is_in_cidr', '192.0.2.0/24');
    await scene.hears(`UPDATE policies SET conditions = '${conditions}' WHERE id = '${scene.ids.policyId}'`);
    const forbidden = refusal('forbidden', { violated_properties: ['remote_ip'] });
    expect(await replyTo('prepare_connection', { resource_id: id })).toEqual(forbidden);
  });

  it('Appendix A: reuse_connection (client -> portal): is answered only if the gateway answers', async () => {
    await joinedOf('1.3.9', '1.4.16');
    const gatewayId = scene.device('gateway').id;
    const asked = { resource_id: house.git['id'], gateway_id: gatewayId, payload: CLIENT_PAYLOAD };
    const ref = scene.client.send('reuse_connection', asked);
    const { ref: sealed } = await scene.gateway.next('allow_access');
    await scene.client.settled();
    expect(scene.client.drain()).toEqual([]);
    scene.gateway.send('connection_ready', { ref: sealed, gateway_payload: GATEWAY_PAYLOAD });
    expect(await scene.client.next('phx_reply')).toEqual(readyReply());
    expect(scene.client.received.at(-1)?.ref).toBe(ref);
    await scene.gateway.next('phx_reply');
    await scene.leave('gateway');
    expect(await replyTo('reuse_connection', asked)).toEqual(refusal('offline'));
  });

  it('Appendix A: request_connection (client -> portal): is answered once the gateway is ready', async () => {
    await joinedOf('1.3.9', '1.3.9');
    const ref = requestConnection();
    const asked = await scene.gateway.next('request_connection');
    await scene.client.settled();
    expect(scene.client.drain()).toEqual([]);
    scene.gateway.send('connection_ready', { ref: asked['ref'], gateway_payload: GATEWAY_PAYLOAD });
    expect(await scene.client.next('phx_reply')).toEqual(readyReply());
    expect(scene.client.received.at(-1)?.ref).toBe(ref);
  });
});

// ---- to clients and gateways ---------------------------------------------------------------------------------------

describe('to clients and gateways', () => {
  it('Appendix A: relays_presence (portal -> client, gateway): names the lost relay and those to use', async () => {
    const stays = await aRelay();
    await scene.join('gateway', 'gateway');
    await scene.join('client', 'client');
    await house.relay.peer.close();
    for (const [name, expiresAt] of [['gateway', RELAYS_UNTIL] as const, ['client', house.expiresAt] as const]) {
      expect(await scene.device(name).peer.next('relays_presence')).toEqual({
        disconnected_ids: [relayIdOf(house.relay.stampSecret)],
        connected: relayEntries(stays, keyOf(name), expiresAt),
      });
    }
  });

  it.each([KINDS_OF_CANDIDATES[0]])(
    'Appendix A: ice_candidates (portal -> client, gateway): both ways, unchanged and in order',
    (sent, received) => expectBothWays(sent, received),
  );

  it.each([KINDS_OF_CANDIDATES[1]])(
    'Appendix A: invalidate_ice_candidates (portal -> client, gateway): both ways, unchanged and in order',
    (sent, received) => expectBothWays(sent, received),
  );

  it.each([KINDS_OF_CANDIDATES[0]])(
    'Appendix A: broadcast_ice_candidates (client, gateway -> portal): has no reply and goes to those named',
    (sent, received) => expectOnlyNamed(sent, received),
  );

  it.each([KINDS_OF_CANDIDATES[1]])(
    'Appendix A: broadcast_invalidated_ice_candidates (client, gateway -> portal): has no reply and goes to those named',
    (sent, received) => expectOnlyNamed(sent, received),
  );

  async function expectBothWays(sent: string, received: string): Promise<void> {
    const [gateway, client] = [await scene.join('gateway', 'gateway'), await scene.join('client', 'client')];
    await scene.openFlow();
    client.peer.send(sent, { candidates: CANDIDATES, gateway_ids: [gateway.id] });
    expect(await gateway.peer.next(received)).toEqual({ client_id: client.id, candidates: CANDIDATES });
    gateway.peer.send(sent, { candidates: CANDIDATES, client_ids: [client.id] });
    expect(await client.peer.next(received)).toEqual({ gateway_id: gateway.id, candidates: CANDIDATES });
  }

  async function expectOnlyNamed(sent: string, received: string): Promise<void> {
    const [gateway, client] = [await scene.join('gateway', 'gateway'), await scene.join('client', 'client')];
    await scene.openFlow();
    client.peer.send(sent, { candidates: CANDIDATES, gateway_ids: [] });
    gateway.peer.send(sent, { candidates: CANDIDATES, client_ids: [] });
    client.peer.send(sent, { candidates: ['for the gateway'], gateway_ids: [randomUUID(), gateway.id] });
    gateway.peer.send(sent, { candidates: ['for the client'], client_ids: [randomUUID(), client.id] });
    await gateway.peer.awaits(received);
    await client.peer.awaits(received);
    expect(await scene.heard()).toEqual({
      client: [[received, { gateway_id: gateway.id, candidates: ['for the client'] }]],
      gateway: [[received, { client_id: client.id, candidates: ['for the gateway'] }]],
    });
    client.peer.send(sent, { candidates: CANDIDATES });
    expect(await client.peer.next('phx_reply')).toEqual(refusal('unknown_message'));
  }
});

// ---- to and from gateways ------------------------------------------------------------------------------------------

describe('to a gateway', () => {
  it('Appendix A: init (portal -> gateway)', async () => {
    const first = await scene.join('gateway', 'gateway');
    const expected = {
      account_slug: house.slug,
      interface: await addressesOf('gateway'),
      config: { ipv4_masquerade_enabled: true, ipv6_masquerade_enabled: true },
      relays: house.relayEntries('gateway'),
    };
    expect(first.peer.init).toEqual({ ...expected, authorizations: [] });
    await scene.join('client', 'client');
    const { clientId, resourceId } = await scene.openFlow();
    await scene.leave('gateway');
    const again = await scene.join('gateway', 'gateway');
    const pair = { client_id: clientId, resource_id: resourceId, expires_at: house.expiresAt };
    expect(again.peer.init).toEqual({ ...expected, authorizations: [pair] });
  });

  it('Appendix A: authorize_flow (portal -> gateway)', async () => {
    await scene.join('gateway', 'gateway');
    await scene.join('client', 'client');
    askForFlow();
    const { ref, client_ice_credentials, gateway_ice_credentials, ...asked } =
      await scene.gateway.next('authorize_flow');
    expect(asked).toEqual({
      resource: house.gitForGateway,
      client: {
        id: scene.device('client').id,
        public_key: keyOf('client'),
        preshared_key: await pskOfPair(),
        ...(await addressesOf('client')),
      },
      expires_at: house.expiresAt,
    });
    expect(ref).toMatch(/^[!#-[\]-~]{1,2047}$/);
    const ice = { username: expect.stringMatching(/^[a-z2-7]{4}$/), password: expect.stringMatching(/^[a-z2-7]{22}$/) };
    expect([client_ice_credentials, gateway_ice_credentials]).toEqual([ice, ice]);
    expect(client_ice_credentials).not.toEqual(gateway_ice_credentials);
  });

  it('Appendix A: authorize_flow (portal -> gateway): of an internet resource has its id and type alone', async () => {
    await scene.join('gateway', 'internet', { token: house.internetToken });
    await scene.join('client', 'client');
    askForFlow(house.internet['id']);
    const { resource } = await scene.device('internet').peer.next('authorize_flow');
    expect(resource).toEqual({ id: house.internet['id'], type: 'internet' });
  });

  it('Appendix A: reject_access (portal -> gateway)', async () => {
    const flow = await joinedWithFlow();
    expect(await scene.hears(`DELETE FROM policies WHERE id = '${scene.ids.policyId}'`)).toEqual({
      gateway: [['reject_access', { client_id: flow.clientId, resource_id: flow.resourceId }]],
      client: [removed(flow.resourceId)],
    });
  });

  it('Appendix A: access_authorization_expiry_updated (portal -> gateway): from 1.4.14 on', async () => {
    const { clientId, resourceId } = await joinedWithFlow();
    await scene.join('gateway', 'older', { userAgent: 'Linux/6.8.0 connlib/1.4.13 (x86_64)' });
    await scene.openFlow(resourceId, 'client', 'older');
    const sooner = house.expiresAt - 3600;
    expect(await scene.hears(`UPDATE tokens SET expires_at = to_timestamp(${sooner}) ${house.clientToken}`)).toEqual({
      gateway: [
        ['access_authorization_expiry_updated', { client_id: clientId, resource_id: resourceId, expires_at: sooner }],
      ],
      older: [],
      client: [],
    });
  });

  it('Appendix A: resource_updated (portal -> gateway)', async () => {
    const { resourceId } = await joinedWithFlow();
    const filters = `[{"protocol":"udp"},{"protocol":"tcp","ports":["22","8000 - 8100"]},{"protocol":"icmp"}]`;
    const updated = [
      { protocol: 'udp' },
      { protocol: 'tcp', port_range_start: 22, port_range_end: 22 },
      { protocol: 'tcp', port_range_start: 8000, port_range_end: 8100 },
      { protocol: 'icmp' },
    ];
    expect(await scene.hears(`UPDATE resources SET filters = '${filters}' ${house.row(resourceId)}`)).toEqual({
      gateway: [['resource_updated', { ...house.gitForGateway, filters: updated }]],
      client: [['resource_created_or_updated', { ...house.git, filters: updated }]],
    });
  });

  it('Appendix A: allow_access (portal -> gateway)', async () => {
    await joinedOf('1.3.9', '1.4.16');
    scene.client.send('reuse_connection', {
      ...{ resource_id: house.git['id'], gateway_id: scene.device('gateway').id, payload: CLIENT_PAYLOAD },
    });
    const { ipv4, ipv6 } = await addressesOf('client');
    expect(await scene.gateway.next('allow_access')).toEqual({
      ref: expect.stringMatching(/./),
      client_id: scene.device('client').id,
      resource: house.gitForGateway,
      expires_at: house.expiresAt,
      payload: CLIENT_PAYLOAD,
      client_ipv4: ipv4,
      client_ipv6: ipv6,
    });
  });

  it('Appendix A: request_connection (portal -> gateway)', async () => {
    await joinedOf('1.3.9', '1.3.9');
    requestConnection();
    expect(await scene.gateway.next('request_connection')).toEqual({
      ref: expect.stringMatching(/./),
      resource: house.gitForGateway,
      client: {
        id: scene.device('client').id,
        payload: CLIENT_PAYLOAD,
        peer: {
          persistent_keepalive: 25,
          public_key: keyOf('client'),
          preshared_key: keyOf('psk'),
          ...(await addressesOf('client')),
        },
      },
      expires_at: house.expiresAt,
    });
  });
});

describe('from a gateway', () => {
  it('Appendix A: flow_authorized (gateway -> portal): ok with {}, and invalid_ref for what is no ref', async () => {
    await scene.join('gateway', 'gateway');
    await scene.join('client', 'client');
    askForFlow();
    const { ref: sealed } = await scene.gateway.next('authorize_flow');
    const wrong = scene.gateway.send('flow_authorized', { ref: 'v1.made.up' });
    expect(await scene.gateway.next('phx_reply')).toEqual(refusal('invalid_ref'));
    expect(scene.gateway.received.at(-1)?.ref).toBe(wrong);
    await scene.client.settled();
    expect(scene.client.drain()).toEqual([]);
    const right = scene.gateway.send('flow_authorized', { ref: sealed });
    expect(await scene.gateway.next('phx_reply')).toEqual(OK);
    expect(scene.gateway.received.at(-1)?.ref).toBe(right);
    await scene.client.next('flow_created');
  });

  it('Appendix A: connection_ready (gateway -> portal): ok with {}, and invalid_ref for what is no ref', async () => {
    await joinedOf('1.3.9', '1.3.9');
    requestConnection();
    const { ref: sealed } = await scene.gateway.next('request_connection');
    scene.gateway.send('connection_ready', { ref: 'v1.made.up', gateway_payload: GATEWAY_PAYLOAD });
    expect(await scene.gateway.next('phx_reply')).toEqual(refusal('invalid_ref'));
    await scene.client.settled();
    expect(scene.client.drain()).toEqual([]);
    scene.gateway.send('connection_ready', { ref: sealed, gateway_payload: GATEWAY_PAYLOAD });
    expect(await scene.gateway.next('phx_reply')).toEqual(OK);
    expect(await scene.client.next('phx_reply')).toEqual(readyReply());
  });
});

// ---- to relays -----------------------------------------------------------------------------------------------------

describe('to a relay', () => {
  it('Appendix A: init (portal -> relay): has no member', async () => {
    const relay = await connect('relay');
    relay.send('phx_join', joinOf('relay'));
    expect(await relay.next('phx_reply')).toEqual(OK);
    expect(await relay.next('init')).toEqual({});
    await relay.close();
  });
});

// ---- an account with something of everything -----------------------------------------------------------------------

interface KnownRelay extends TestRelay {
  readonly addrs: readonly string[];
}

interface House {
  readonly slug: string;
  /** Of the client's token, and so of everything it is given; unix seconds. */
  readonly expiresAt: number;
  /** Resources as the client is told of them. */
  readonly git: Json;
  readonly lan: Json;
  readonly internet: Json;
  readonly gitForGateway: Json;
  readonly internetToken: string;
  readonly relay: KnownRelay;
  relayEntries(name: 'client' | 'gateway'): unknown;
  /** The WHERE of a resource of this account. */
  row(id: unknown): string;
  /** The WHERE of the client's token. */
  readonly clientToken: string;
}

/** As in the example of wire-protocol.md 3.2: a dns, a cidr and the internet resource, DNS servers, a relay. */
async function furnish({ ids, server }: Scene): Promise<House> {
  const { accountId, siteId, groupId, resourceId } = ids;
  const [lanId, internetId, internetSite] = [randomUUID(), randomUUID(), randomUUID()];
  const slug = `acme_${accountId.slice(0, 8)}`;
  const expiresAt = Math.floor(Date.now() / 1000) + 30 * 86_400;
  const config = JSON.stringify({
    search_domain: 'corp.example',
    clients_upstream_dns: ['9.9.9.9', '2620:fe::fe', '8.8.8.8:5353'].map((address) => ({
      protocol: 'ip_port',
      address,
    })),
  });
  await server.db.sql(`
    UPDATE accounts SET slug = '${slug}', config = '${config}' WHERE id = '${accountId}';
    UPDATE sites SET name = 'Frankfurt' WHERE id = '${siteId}';
    INSERT INTO sites (account_id, id, name, managed_by) VALUES ('${accountId}', '${internetSite}', 'Internet', 'system');
    UPDATE resources SET type = 'dns', address = '*.git.corp.example', name = 'Git',
      filters = '[{"protocol":"tcp","ports":["443"]},{"protocol":"icmp"}]' WHERE id = '${resourceId}';
    INSERT INTO resources (account_id, id, type, name, address, address_description) VALUES
      ('${accountId}', '${lanId}', 'cidr', 'Office LAN', '10.20.4.7/16', 'https://wiki.corp.example/lan'),
      ('${accountId}', '${internetId}', 'internet', 'Internet', NULL, NULL);
    INSERT INTO resource_sites (account_id, resource_id, site_id) VALUES
      ('${accountId}', '${lanId}', '${siteId}'), ('${accountId}', '${internetId}', '${internetSite}');
    INSERT INTO policies (account_id, group_id, resource_id) VALUES
      ('${accountId}', '${groupId}', '${lanId}'), ('${accountId}', '${groupId}', '${internetId}');
    UPDATE tokens SET expires_at = to_timestamp(${expiresAt}) WHERE id = '${ids.clientTokenId}'`);
  const frankfurt = [{ id: siteId, name: 'Frankfurt' }];
  const filters = [{ protocol: 'tcp', port_range_start: 443, port_range_end: 443 }, { protocol: 'icmp' }];
  const gitForGateway = { id: resourceId, type: 'dns', address: '*.git.corp.example', name: 'Git', filters };
  const relay = await aRelay();
  return {
    ...{ slug, expiresAt, relay, gitForGateway },
    git: { ...gitForGateway, address_description: null, gateway_groups: frankfurt, ip_stack: 'dual' },
    lan: {
      ...{ id: lanId, type: 'cidr', address: '10.20.0.0/16', name: 'Office LAN', filters: [] },
      ...{ address_description: 'https://wiki.corp.example/lan', gateway_groups: frankfurt },
    },
    internet: {
      ...{ id: internetId, type: 'internet', can_be_disabled: true },
      gateway_groups: [{ id: internetSite, name: 'Internet' }],
    },
    internetToken: (await aToken(server.db, 'gateway', { accountId, siteId: internetSite })).text,
    relayEntries: (name) => relayEntries(relay, keyOf(name), name === 'client' ? expiresAt : RELAYS_UNTIL),
    row: (id) => `WHERE account_id = '${accountId}' AND id = '${id as string}'`,
    clientToken: `WHERE id = '${ids.clientTokenId}'`,
  };
}

const relays: TestRelay[] = [];

/** A relay of the scene's account with an address of either family that no other relay of this file has. */
async function aRelay(): Promise<KnownRelay> {
  const { text: token } = await aToken(stage.server.db, 'relay', { accountId: scene.ids.accountId });
  const [v4, v6] = [`203.0.113.${relayCount}`, `2001:db8::${relayCount.toString(16)}`];
  relayCount += 1;
  const relay = await joinRelay(stage.server.wsUrl, { token, query: { ipv4: v4, ipv6: v6, port: '3478' } });
  relays.push(relay);
  return { ...relay, addrs: [`${v4}:3478`, `[${v6}]:3478`] };
}

let relayCount = 1;

function tokenOf(role: 'client' | 'gateway'): string {
  return role === 'client' ? scene.ids.clientToken : scene.ids.gatewayToken;
}

/** Whose a token of this kind is. */
function ownerOf(role: PeerRole): { accountId: string; actorId?: string; siteId?: string } {
  const { accountId, actorId, siteId } = scene.ids;
  return { accountId, ...(role === 'client' && { actorId }), ...(role === 'gateway' && { siteId }) };
}

function joinOf(role: PeerRole): Json | null {
  return role === 'relay' ? { stamp_secret: randomBytes(32).toString('hex') } : null;
}

/** Connected and not joined. */
async function connect(role: PeerRole, options: Partial<PeerOptions> = {}): Promise<RawPeer> {
  const token = options.token ?? (await aToken(stage.server.db, role, ownerOf(role))).text;
  const who = role === 'relay' ? { query: { ipv4: '192.0.2.77' } } : { externalId: `lone-${role}` };
  return RawPeer.connect(role, stage.server.wsUrl, { ...who, ...options, token });
}

async function joinedOf(clientVersion: string, gatewayVersion: string): Promise<void> {
  await scene.join('gateway', 'gateway', { userAgent: `Linux/6.8.0 connlib/${gatewayVersion} (x86_64)` });
  await scene.join('client', 'client', { userAgent: `Windows/10.0 connlib/${clientVersion}` });
}

async function joinedWithFlow(): ReturnType<Scene['openFlow']> {
  await scene.join('gateway', 'gateway');
  await scene.join('client', 'client');
  return scene.openFlow();
}

function askForFlow(resourceId: unknown = house.git['id']): number {
  return scene.client.send('create_flow', { resource_id: resourceId, connected_gateway_ids: [] });
}

async function replyTo(event: string, payload: Json): Promise<Json> {
  scene.client.send(event, payload);
  return scene.client.next('phx_reply');
}

const CLIENT_PAYLOAD = {
  ice_parameters: { username: 'user', password: 'password' },
  domain: { name: 'a.git.corp.example', proxy_ips: ['100.96.0.1'] },
};
const GATEWAY_PAYLOAD = { ConnectionAccepted: { ice_parameters: { username: 'other', password: 'other password' } } };

function requestConnection(): number {
  return scene.client.send('request_connection', {
    ...{ resource_id: house.git['id'], gateway_id: scene.device('gateway').id },
    ...{ client_payload: CLIENT_PAYLOAD, client_preshared_key: keyOf('psk') },
  });
}

/** What an old client is answered when its gateway is ready. */
function readyReply(): Json {
  return {
    status: 'ok',
    response: {
      resource_id: house.git['id'],
      persistent_keepalive: 25,
      gateway_public_key: keyOf('gateway'),
      gateway_payload: GATEWAY_PAYLOAD,
    },
  };
}

async function addressesOf(name: 'client' | 'gateway'): Promise<{ readonly ipv4: string; readonly ipv6: string }> {
  const text = `SELECT host(ipv4) AS ipv4, host(ipv6) AS ipv6 FROM ${name}s WHERE account_id = $1 AND external_id = $2`;
  const { rows } = await stage.server.db.query<{ ipv4: string; ipv6: string }>(text, [scene.ids.accountId, name]);
  return rows[0] ?? { ipv4: '', ipv6: '' };
}

function pskOfPair(): Promise<string> {
  return presharedKeyOf(stage.server.db, {
    accountId: scene.ids.accountId,
    client: { id: scene.device('client').id, publicKey: keyOf('client') },
    gateway: { id: scene.device('gateway').id, publicKey: keyOf('gateway') },
  });
}

function byId(list: readonly Json[]): Json[] {
  return [...list].sort((a, b) => ((a['id'] as string) < (b['id'] as string) ? -1 : 1));
}
