/**
 * Wrong types: each inbound event × each of its members × each kind of value, over real sockets, judged by what
 * `docs/asyncapi.yaml` accepts (reliability.md 4, B6). A member or an event more makes more cases by itself.
 */
import { afterAll, beforeAll, describe, expect, it, jest } from '@jest/globals';
import { BluntSocket } from '../support/blunt-socket.js';
import { aTestAccount, aToken } from '../support/demo-account.js';
import { type Json, keyOf } from '../support/raw-peer.js';
import { PlainSocket } from '../support/plain-socket.js';
import { Scene } from '../support/scene.js';
import type { PeerRole } from '../support/strict-peer.js';
import { startTestServer, type TestServer } from '../support/test-server.js';
import { frameValidator, wireDocument } from '../support/wire-document.js';

jest.setTimeout(60_000);

type DeviceRole = Exclude<PeerRole, 'relay'>;
type Vsn = '1.0.0' | '2.0.0';

const MISSING = Symbol('the member is left out');
const ID = '5b1d3f77-2c84-4c0e-8a3e-7d2f90c4e102'; // of nobody
const KEY = keyOf('a preshared key');

/** A valid value of every member there is: what is wrong with a frame is then the one member that was changed. */
const GOOD: Readonly<Record<string, unknown>> = {
  ...{ resource_id: ID, gateway_id: ID, connected_gateway_ids: [ID], gateway_ids: [ID], client_ids: [ID] },
  ...{ candidates: ['candidate:1'], ref: 'v1.ref', payload: null, client_payload: {}, gateway_payload: {} },
  ...{ client_preshared_key: KEY, stamp_secret: 'a3'.repeat(32) },
};

/** Of each kind that B6 names, those that some reader takes for something else. */
const VALUES: Readonly<Record<string, readonly unknown[]>> = {
  missing: [MISSING],
  null: [null],
  number: [0, -0, 1, -1, 1.5, 1e21, 2 ** 53, 4_294_967_295],
  string: ['', ' ', 'x', '0', 'null', 'true', '[]', '{}', `["${ID}"]`, ID, ` ${ID}`, ID.replaceAll('-', ''), `{${ID}}`],
  'string with what no column holds': ['\0', `${ID}\0`, '\ud800', `${ID}\n`],
  key: [KEY, KEY.slice(0, 43), `${KEY}=`, KEY.replace('=', 'A'), keyOf('x').replaceAll('C', '_')],
  'huge string': ['x'.repeat(2049), 'x'.repeat(60_000), ID.repeat(1000)],
  array: [
    [],
    [null],
    [0],
    [''],
    [ID],
    [ID, 1],
    [[ID]],
    [{}],
    Array(100).fill(ID),
    Array(101).fill(ID),
    ['x'.repeat(1025)],
  ],
  object: [{}, { 0: ID, length: 1 }, { toString: ID }, { [ID]: ID }, JSON.parse('{"__proto__":[]}')],
  bool: [true, false],
  NaN: ['NaN', 'Infinity', '-Infinity', 'undefined'],
};
const CASES = Object.entries(VALUES).flatMap(([kind, values]) => values.map((value) => [kind, value] as const));

interface Schema {
  readonly properties?: Readonly<Record<string, Schema>>;
}

/** The members of the payload of everything that a role may send, as the document has them. */
function documentedEvents(role: PeerRole): (readonly [event: string, members: readonly string[]])[] {
  const messages = wireDocument.channels[role]?.messages ?? {};
  return Object.entries(messages).flatMap(([name, { payload }]) => {
    if (!name.endsWith('.request')) return [];
    const members = Object.keys((payload as Schema).properties?.['payload']?.properties ?? {});
    return members.length === 0 ? [] : [[name.replace('.request', ''), members] as const];
  });
}

function payloadWith(members: readonly string[], changed: string, value: unknown): Json {
  const entries = members.map((name) => [name, name === changed ? value : GOOD[name]] as const);
  return Object.fromEntries(entries.filter(([, given]) => given !== MISSING));
}

function isDocumented(role: PeerRole, event: string, payload: unknown): boolean {
  // As it arrives: what JSON cannot write is not sent.
  return (
    frameValidator(role, event, 'fromPeer')?.(JSON.parse(JSON.stringify({ topic: role, event, payload, ref: 1 }))) ??
    false
  );
}

let server: TestServer;
let scene: Scene;

beforeAll(async () => {
  server = await startTestServer({
    ...{ CLIENT_FRAMES_PER_SECOND: '1000000', GATEWAY_FRAMES_PER_SECOND: '1000000' },
    RELAY_FRAMES_PER_SECOND: '1000000',
  });
  scene = new Scene(server, await aTestAccount(server.db));
  // Whoever could be harmed: both know each other and share a flow.
  await scene.join('gateway', 'gateway');
  await scene.join('client', 'client');
  await scene.openFlow();
});

afterAll(async () => {
  await scene.leaveAll();
  await server.close();
});

async function joined(role: DeviceRole, vsn: Vsn): Promise<PlainSocket> {
  const token = role === 'client' ? scene.ids.clientToken : scene.ids.gatewayToken;
  const socket = await PlainSocket.open(role, server.wsUrl, { token, externalId: `typed-${role}`, query: { vsn } });
  socket.sendText(encoded(vsn, role, 'phx_join', null, 'join'));
  await socket.untilText('"init"');
  return socket;
}

function encoded(vsn: Vsn, topic: string, event: string, payload: unknown, ref: string): string {
  return JSON.stringify(vsn === '2.0.0' ? ['1', ref, topic, event, payload] : { topic, event, payload, ref });
}

/** What is said of the frame with this ref, and of none other, before a heartbeat sent after it is answered. */
async function answersTo(
  socket: PlainSocket,
  vsn: Vsn,
  role: DeviceRole,
  event: string,
  payload: unknown,
): Promise<Answer[]> {
  socket.sendText(encoded(vsn, role, event, payload, 'asked'));
  socket.sendText(encoded(vsn, 'phoenix', 'heartbeat', {}, 'beat'));
  const answers: Answer[] = [];
  for (;;) {
    const answer = answerIn(await socket.nextText());
    if (answer.ref === 'beat') return answers;
    answers.push(answer);
  }
}

interface Answer {
  readonly ref: unknown;
  readonly event: string;
  readonly status: unknown;
  readonly reason: unknown;
}

function answerIn(text: string): Answer {
  const frame = JSON.parse(text) as unknown;
  const [ref, event, payload] = Array.isArray(frame)
    ? [frame[1] as unknown, frame[3] as string, frame[4] as Json]
    : [(frame as Json)['ref'], (frame as Json)['event'] as string, (frame as Json)['payload'] as Json];
  const response = payload['response'] as Json | undefined;
  return { ref, event, status: payload['status'], reason: response?.['reason'] ?? payload['reason'] };
}

const UNKNOWN: Answer = { ref: 'asked', event: 'phx_reply', status: 'error', reason: 'unknown_message' };
/** What an acceptable request may be told that leads nowhere: its ids are nobody's. */
const LEADS_NOWHERE = new Set(['not_found', 'invalid_ref', 'offline', undefined]);

/** Everything that a frame could change. */
async function everything(): Promise<unknown> {
  const tables = [
    'clients',
    'gateways',
    'flows',
    'resources',
    'policies',
    'tokens',
    'actors',
    'sites',
    'device_secrets',
  ];
  const texts = tables.map(
    (table) => `SELECT '${table}' AS of, md5(string_agg(t::text, ',' ORDER BY t::text)) FROM ${table} t`,
  );
  return (await server.db.query(texts.join(' UNION ALL '))).rows;
}

let done = 0;
let refused = 0;

describe.each(['1.0.0', '2.0.0'] as const)('B6: in serialization %s', (vsn) => {
  const events = (['client', 'gateway'] as const).flatMap((role) =>
    documentedEvents(role).flatMap(([event, members]) =>
      members.map((member) => [role, event, member, members] as const),
    ),
  );

  it.each(events)('B6: %s %s with every kind of value as its %s is refused unless it is documented', async (...row) => {
    const [role, event, member, members] = row;
    const socket = await joined(role, vsn);
    const before = await everything();
    for (const [kind, value] of CASES) {
      const payload = payloadWith(members, member, value);
      const answers = await answersTo(socket, vsn, role, event, payload);
      const what = `${kind} ${JSON.stringify(payload).slice(0, 200)}`;
      if (isDocumented(role, event, payload)) {
        expect([what, answers.filter(({ reason }) => !LEADS_NOWHERE.has(reason as string))]).toEqual([what, []]);
      } else {
        expect([what, answers]).toEqual([what, [UNKNOWN]]);
        refused += 1;
      }
      done += 1;
    }
    expect(socket.isOpen).toBe(true);
    expect(await everything()).toEqual(before);
    await socket.close();
  });

  it.each(
    (['client', 'gateway'] as const).flatMap((role) => documentedEvents(role).map(([event]) => [role, event] as const)),
  )('B6: %s %s with every kind of value as its whole payload is refused', async (role, event) => {
    const socket = await joined(role, vsn);
    for (const [kind, value] of CASES) {
      if (value === MISSING && vsn === '2.0.0') continue; // would be no frame
      const payload = value === MISSING ? undefined : value;
      const answers = await answersTo(socket, vsn, role, event, payload);
      expect([kind, payload, answers]).toEqual([kind, payload, [UNKNOWN]]);
      done += 1;
      refused += 1;
    }
    await socket.close();
  });

  it('B6: relay phx_join with every kind of value as its stamp_secret joins only when it is documented', async () => {
    const { text: token } = await aToken(server.db, 'relay', { accountId: (await aTestAccount(server.db)).accountId });
    const socket = await BluntSocket.open(server.wsUrl, { role: 'relay', token, name: '3999', vsn });
    let replies: Answer[] = [];
    socket.onText = (text) => {
      const answer = answerIn(text);
      if (answer.ref === 'asked') replies.push(answer);
    };
    for (const [kind, value] of CASES) {
      const payload = payloadWith(['stamp_secret'], 'stamp_secret', value);
      replies = [];
      socket.ws.send(encoded(vsn, 'relay', 'phx_join', payload, 'asked'));
      expect(await socket.beat()).toBe(true);
      const isFine = isDocumented('relay', 'phx_join', payload);
      const expected = isFine ? [] : [{ ...UNKNOWN, reason: 'join crashed' }];
      const errors = replies.filter(({ event, status }) => event !== 'phx_close' && status !== 'ok');
      expect([kind, payload, errors]).toEqual([kind, payload, expected]);
      done += 1;
      if (!isFine) refused += 1;
    }
    await socket.drop();
  });
});

describe('B6: in all', () => {
  it('B6: the full product was sent, 3,700 cases, most of them refused, and nobody else heard of any', async () => {
    const events = [...documentedEvents('client'), ...documentedEvents('gateway')];
    const members = events.flatMap(([, names]) => names).length;
    // In both serializations: each member, each whole payload, a relay's secret. A frame of V2 has a payload or is none.
    expect(done).toBe(2 * CASES.length * (members + events.length + 1) - events.length);
    expect(done).toBeGreaterThan(3700);
    expect(refused / done).toBeGreaterThan(0.8);
    await Promise.all([scene.client.settled(), scene.gateway.settled()]);
    expect(scene.client.drain()).toEqual([]);
    expect(scene.gateway.drain()).toEqual([]);
    await scene.openFlow();
  });
});
