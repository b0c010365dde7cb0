/** Framing: what every frame is answered with, and that no frame harms anybody but its sender (wire-protocol.md 2, B1 to B6). */
import { afterAll, beforeAll, beforeEach, describe, expect, it, jest } from '@jest/globals';
import { aTestAccount, aToken, type TestAccount } from '../support/demo-account.js';
import { PlainSocket } from '../support/plain-socket.js';
import { type Json, RawPeer } from '../support/raw-peer.js';
import { Scene } from '../support/scene.js';
import { startTestServer, type TestServer } from '../support/test-server.js';

jest.setTimeout(120_000);

let server: TestServer;
let account: TestAccount;

beforeAll(async () => {
  server = await startTestServer();
});

beforeEach(async () => {
  account = await aTestAccount(server.db);
});

afterAll(() => server.close());

type Role = 'client' | 'gateway';

function tokenOf(role: Role): string {
  return role === 'client' ? account.clientToken : account.gatewayToken;
}

function open(role: Role = 'client', vsn?: '1.0.0' | '2.0.0'): Promise<PlainSocket> {
  const query = vsn === undefined ? {} : { vsn };
  return PlainSocket.open(role, server.wsUrl, { token: tokenOf(role), externalId: `plain-${role}`, query });
}

function joined(role: Role): Promise<RawPeer> {
  return RawPeer.joined(role, server.wsUrl, { token: tokenOf(role), externalId: `raw-${role}` });
}

/** What the next frame says. */
async function heard(socket: PlainSocket): Promise<unknown> {
  return JSON.parse(await socket.nextText()) as unknown;
}

const OK = { status: 'ok', response: {} };
const refusal = (reason: string) => ({ status: 'error', response: { reason } });

describe('a reply', () => {
  it.each([0, 57, '9', null, true, 1.5, -1, ''])(
    'repeats the ref %j with its type, and an ok has no member',
    async (ref) => {
      const socket = await open();
      socket.send({ topic: 'phoenix', event: 'heartbeat', payload: {}, ref });
      expect(await heard(socket)).toEqual({ topic: 'phoenix', event: 'phx_reply', ref, payload: OK });
      socket.send({ topic: 'client', event: 'phx_join', payload: null, ref });
      expect(await heard(socket)).toEqual({ topic: 'client', event: 'phx_reply', ref, payload: OK });
      expect(await heard(socket)).toMatchObject({ topic: 'client', event: 'init', ref: null });
      socket.send({ topic: 'client', event: 'no_such_event', ref });
      expect(await heard(socket)).toMatchObject({ ref, payload: refusal('unknown_message') });
      await socket.close();
    },
  );

  it('to a frame without ref has null, and a join_ref in it is accepted and left out', async () => {
    const socket = await open();
    socket.send({ topic: 'phoenix', event: 'heartbeat', join_ref: 7, more: [1] });
    expect(await heard(socket)).toEqual({ topic: 'phoenix', event: 'phx_reply', ref: null, payload: OK });
    await socket.close();
  });

  it('in V2 repeats both refs, and pushes carry that of the join', async () => {
    const socket = await open('client', '2.0.0');
    socket.send(['3', '4', 'client', 'phx_join', {}]);
    expect(await heard(socket)).toEqual(['3', '4', 'client', 'phx_reply', OK]);
    expect(await heard(socket)).toEqual(['3', null, 'client', 'init', expect.any(Object)]);
    socket.send([null, '5', 'phoenix', 'heartbeat', {}]);
    expect(await heard(socket)).toEqual([null, '5', 'phoenix', 'phx_reply', OK]);
    await socket.close();
  });
});

describe('a peer that leaves', () => {
  it.each(['client', 'gateway', 'relay'] as const)(
    'Appendix A: a %s gets ok and phx_close, is gone, and may join again',
    async (role) => {
      const { text: token } = role === 'relay' ? await aToken(server.db, 'relay', {}) : { text: tokenOf(role) };
      const join = role === 'relay' ? { stamp_secret: 'b2'.repeat(32) } : null;
      const options = role === 'relay' ? { token, query: { ipv4: '203.0.113.9' } } : { token, externalId: 'leaves' };
      const peer = await RawPeer.joined(role, server.wsUrl, { ...options, join });
      const ref = peer.send('phx_leave', {});
      expect(await peer.next('phx_reply')).toEqual(OK);
      expect(peer.received.findLast(({ event }) => event === 'phx_reply')?.ref).toBe(ref);
      expect(await peer.next('phx_close')).toEqual({});
      peer.send('no_such_event', {});
      expect(await peer.next('phx_reply')).toEqual(refusal('unmatched topic'));
      peer.send('phx_join', join);
      expect(await peer.next('phx_reply')).toEqual(OK);
      await peer.next('init');
      await peer.close();
    },
  );
});

describe('a topic', () => {
  it('that is not joined is answered with "unmatched topic", and the socket stays up', async () => {
    for (const role of ['client', 'gateway'] as const) {
      const socket = await open(role);
      for (const [topic, event] of [
        [role, 'create_flow'],
        [role, 'flow_authorized'],
        [role, 'phx_leave'],
        [role === 'client' ? 'gateway' : 'client', 'phx_join'],
        ['room:1', 'phx_join'],
        ['', 'phx_join'],
        ['phoenix', 'phx_join'],
        ['phoenix', 'no_such_event'],
        ['__proto__', 'phx_join'],
        ['constructor', 'x'],
      ] as const) {
        socket.send({ topic, event, payload: {}, ref: 1 });
        expect(await heard(socket)).toMatchObject({ topic, ref: 1, payload: refusal('unmatched topic') });
      }
      socket.send({ topic: role, event: 'phx_join', payload: null, ref: 2 });
      expect(await heard(socket)).toMatchObject({ ref: 2, payload: OK });
      await socket.close();
    }
  });

  it('joined again starts afresh: V1 sees no phx_close, which would make it reconnect', async () => {
    for (const role of ['client', 'gateway'] as const) {
      const peer = await joined(role);
      for (let times = 0; times < 3; times += 1) {
        peer.send('phx_join', null);
        expect(await peer.next('phx_reply')).toEqual(OK);
        await peer.next('init');
      }
      await peer.settled();
      expect(peer.drain()).toEqual([]);
      await peer.close();
    }
  });

  it('joined again by V2 closes the first channel with its own ref', async () => {
    const socket = await open('client', '2.0.0');
    socket.send(['1', '1', 'client', 'phx_join', {}]);
    await socket.untilText('"init"');
    socket.send(['2', '2', 'client', 'phx_join', {}]);
    expect(await heard(socket)).toEqual(['1', '1', 'client', 'phx_close', {}]);
    expect(await heard(socket)).toEqual(['2', '2', 'client', 'phx_reply', OK]);
    expect(await heard(socket)).toMatchObject(['2', null, 'client', 'init', {}]);
    await socket.close();
  });

  it('joined again keeps the flows of the gateway', async () => {
    const scene = new Scene(server, account);
    await scene.join('gateway', 'gateway');
    await scene.join('client', 'client');
    const { clientId, resourceId, expiresAt } = await scene.openFlow();
    scene.gateway.send('phx_join', null);
    await scene.gateway.next('phx_reply');
    const { authorizations } = await scene.gateway.next('init');
    expect(authorizations).toEqual([{ client_id: clientId, resource_id: resourceId, expires_at: expiresAt }]);
    await scene.leaveAll();
  });
});

// ---- wrong content -------------------------------------------------------------------------------------------------

const ID = '5b1d3f77-2c84-4c0e-8a3e-7d2f90c4e102';
const LONG = 'x'.repeat(60_000);
const MISSING = Symbol('the member is left out');

const notAnId = [MISSING, null, 5, true, [], {}, '', 'NaN', LONG, `${ID} `, `${ID}${ID}`, '__proto__', [ID]];
const notIds = [
  ...[MISSING, null, 5, true, {}, '', ID, LONG, [null], [5], [[ID]], ['']],
  ...[['__proto__'], ['constructor'], [ID, 'x'], { length: 0 }, Array(101).fill(ID)],
];
const notCandidates = [
  ...[MISSING, null, 5, true, {}, 'candidate', [null], [5], [['candidate']]],
  ...[['x'.repeat(1025)], Array(101).fill('candidate')],
];
const notARef = [MISSING, null, 5, true, [], {}, 'x'.repeat(2049)];

/** Every event that a peer may send, with what it takes and, for each member, all that it does not take (B6). */
const EVENTS: readonly [Role, string, Json, Record<string, readonly unknown[]>][] = [
  [
    'client',
    'create_flow',
    { resource_id: ID, connected_gateway_ids: [] },
    { resource_id: notAnId, connected_gateway_ids: notIds },
  ],
  ...['broadcast_ice_candidates', 'broadcast_invalidated_ice_candidates'].flatMap(
    (event): (typeof EVENTS)[number][] => [
      ['client', event, { gateway_ids: [], candidates: [] }, { gateway_ids: notIds, candidates: notCandidates }],
      ['gateway', event, { client_ids: [], candidates: [] }, { client_ids: notIds, candidates: notCandidates }],
    ],
  ),
  ['gateway', 'flow_authorized', { ref: 'x' }, { ref: notARef }],
];

function badPayloads(valid: Json, members: Record<string, readonly unknown[]>): unknown[] {
  const spoiled = Object.entries(members).flatMap(([name, values]) =>
    values.map((value) =>
      value === MISSING
        ? Object.fromEntries(Object.entries(valid).filter(([key]) => key !== name))
        : { ...valid, [name]: value },
    ),
  );
  return [null, 5, 'text', true, [], [valid], {}, ...spoiled];
}

const NOT_OURS = [
  ...['no_such_event', '', 'phx_reply', 'phx_close', 'phx_error', 'init', 'flow_created', 'CREATE_FLOW', LONG],
  ...['__proto__', 'constructor', 'prototype', 'toString', 'hasOwnProperty', 'valueOf'],
];

describe('an event', () => {
  it.each(EVENTS)('of a %s, %s, with a missing or mistyped member is an unknown message (B6)', async (...row) => {
    const [role, event, valid, members] = row;
    const peer = await joined(role);
    for (const payload of badPayloads(valid, members)) {
      const ref = peer.send(event, payload);
      expect([JSON.stringify(payload).slice(0, 80), await peer.next('phx_reply')]).toEqual([
        JSON.stringify(payload).slice(0, 80),
        refusal('unknown_message'),
      ]);
      expect(peer.received.at(-1)?.ref).toBe(ref);
    }
    peer.check();
    await peer.close();
  });

  it('that is none of ours is an unknown message (B5)', async () => {
    for (const role of ['client', 'gateway'] as const) {
      const peer = await joined(role);
      for (const event of NOT_OURS) {
        peer.send(event, { ref: 'x' });
        expect([event, await peer.next('phx_reply')]).toEqual([event, refusal('unknown_message')]);
      }
      await peer.close();
    }
  });

  it('of the other role is an unknown message', async () => {
    const [client, gateway] = [await joined('client'), await joined('gateway')];
    client.send('flow_authorized', { ref: 'x' });
    gateway.send('create_flow', { resource_id: account.resourceId, connected_gateway_ids: [] });
    expect(await client.next('phx_reply')).toEqual(refusal('unknown_message'));
    expect(await gateway.next('phx_reply')).toEqual(refusal('unknown_message'));
    await client.close();
    await gateway.close();
  });

  it('with members that it would inherit has none, and pollutes nothing (B5)', async () => {
    const before = Object.getOwnPropertyNames(Object.prototype);
    const socket = await open();
    socket.send({ topic: 'client', event: 'phx_join', ref: 0 });
    await socket.untilText('"init"');
    const inherited = `{"resource_id":"${account.resourceId}","connected_gateway_ids":[],"polluted":1}`;
    for (const key of ['__proto__', 'constructor', 'prototype']) {
      socket.sendText(`{"topic":"client","event":"create_flow","ref":1,"payload":{"${key}":${inherited}}}`);
      expect(await heard(socket)).toMatchObject({ ref: 1, payload: refusal('unknown_message') });
    }
    socket.send({ topic: 'phoenix', event: 'heartbeat', ref: '__proto__' });
    expect(await heard(socket)).toMatchObject({ ref: '__proto__', payload: OK });
    expect(Object.getOwnPropertyNames(Object.prototype)).toEqual(before);
    expect(({} as Json)['polluted']).toBeUndefined();
    await socket.close();
  });

  it('with a payload nested as deep as is read at all is an unknown message like any other (B3)', async () => {
    const socket = await open();
    socket.send({ topic: 'client', event: 'phx_join', ref: 0 });
    await socket.untilText('"init"');
    const nests = [`${'['.repeat(63)}${']'.repeat(63)}`, `${'{"a":'.repeat(63)}1${'}'.repeat(63)}`];
    for (const nest of nests) {
      socket.sendText(`{"topic":"client","event":"create_flow","ref":1,"payload":${nest}}`);
      expect(await heard(socket)).toMatchObject({ ref: 1, payload: refusal('unknown_message') });
    }
    await socket.close();
  });
});

// ---- no frame at all -----------------------------------------------------------------------------------------------

describe('what is no frame closes its socket, without a word of reason', () => {
  const NO_V1_FRAMES = [
    ...['', 'x', '{', 'null', '5', '"text"', '[]', '{}', 'NaN', '{"topic":"client","event":"x"', '{"topic":"client"}'],
    ...['{"event":"x"}', '{"topic":1,"event":"x"}', '{"topic":"client","event":{}}', '{"topic":null,"event":"x"}'],
    ...['{"topic":"phoenix","event":"heartbeat","ref":{}}', '{"topic":"phoenix","event":"heartbeat","ref":[1]}'],
    ...['{"topic":"phoenix","event":"heartbeat","ref":1e400}', '["1","1","client","phx_join",{}]', '\ufeff{}'],
    ...['{"__proto__":{"topic":"client","event":"phx_join"}}', '['.repeat(60_000)],
  ];
  const NO_V2_FRAMES = [
    ...['[]', '{}', '["1","1","client","phx_join"]', '["1","1","client","phx_join",{},1]', '[1,2,3,4,5]'],
    ...['["1","1",null,"phx_join",{}]', '[{},"1","client","phx_join",{}]', '{"topic":"client","event":"phx_join"}'],
  ];

  const named = (texts: readonly string[]) => texts.map((text) => [JSON.stringify(text.slice(0, 50)), text] as const);

  it.each(named(NO_V1_FRAMES))('V1 %s', async (_name, text) => {
    const socket = await open();
    socket.sendText(text);
    expect(await socket.closed()).toEqual({ code: 1002, reason: '' });
    expect(socket.unread).toEqual([]);
  });

  it.each(named(NO_V2_FRAMES))('V2 %s', async (_name, text) => {
    const socket = await open('gateway', '2.0.0');
    socket.sendText(text);
    expect(await socket.closed()).toEqual({ code: 1002, reason: '' });
  });

  it('binary, even when it holds a frame', async () => {
    const socket = await open();
    socket.ws.send(Buffer.from('{"topic":"phoenix","event":"heartbeat","payload":{},"ref":1}'));
    expect(await socket.closed()).toEqual({ code: 1003, reason: '' });
  });

  it('while a joined neighbour on the same account never notices', async () => {
    const scene = new Scene(server, account);
    await scene.join('gateway', 'gateway');
    await scene.join('client', 'client');
    for (const text of NO_V1_FRAMES) {
      const socket = await open();
      socket.sendText(text);
      await socket.closed();
    }
    await scene.openFlow();
    expect(scene.client.drain()).toEqual([]);
    await scene.leaveAll();
  });
});
