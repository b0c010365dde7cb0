import { describe, expect, it } from '@jest/globals';
import { isControlEvent, parseClientEvent, parseGatewayEvent, parseRelayJoin } from './inbound.js';

const RESOURCE_ID = '4f0c1f7e-58b1-4a3e-9d0f-0a2b1c7e9a10';
const GATEWAY_ID = '5b1d3f77-2c84-4c0e-8a3e-7d2f90c4e102';
const CLIENT_ID = '0c8f2b0e-6f0a-4a55-9d5c-2f4f7a1b9c01';
const KEY = 'AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=';
const CANDIDATE = 'candidate:1 1 udp 2130706431 192.0.2.10 50712 typ host';

const PARSE = { client: parseClientEvent, gateway: parseGatewayEvent };

/** Every event with members: who sends it, a good payload, and what it means. */
const EVENTS: readonly ['client' | 'gateway', string, Readonly<Record<string, unknown>>, unknown][] = [
  [
    'client',
    'create_flow',
    { resource_id: RESOURCE_ID, connected_gateway_ids: [GATEWAY_ID] },
    { kind: 'create-flow', resourceId: RESOURCE_ID, connectedGatewayIds: [GATEWAY_ID] },
  ],
  [
    'client',
    'broadcast_ice_candidates',
    { candidates: [CANDIDATE], gateway_ids: [GATEWAY_ID] },
    { kind: 'ice-candidates', candidates: [CANDIDATE], gatewayIds: [GATEWAY_ID] },
  ],
  [
    'client',
    'broadcast_invalidated_ice_candidates',
    { candidates: [CANDIDATE], gateway_ids: [GATEWAY_ID] },
    { kind: 'invalidated-ice-candidates', candidates: [CANDIDATE], gatewayIds: [GATEWAY_ID] },
  ],
  [
    'client',
    'prepare_connection',
    { resource_id: RESOURCE_ID },
    { kind: 'prepare-connection', resourceId: RESOURCE_ID, connectedGatewayIds: [] },
  ],
  [
    'client',
    'request_connection',
    { resource_id: RESOURCE_ID, gateway_id: GATEWAY_ID, client_payload: { a: [1] }, client_preshared_key: KEY },
    {
      kind: 'request-connection',
      resourceId: RESOURCE_ID,
      gatewayId: GATEWAY_ID,
      payload: { a: [1] },
      presharedKey: KEY,
    },
  ],
  [
    'client',
    'reuse_connection',
    { resource_id: RESOURCE_ID, gateway_id: GATEWAY_ID },
    { kind: 'reuse-connection', resourceId: RESOURCE_ID, gatewayId: GATEWAY_ID, payload: null },
  ],
  [
    'gateway',
    'connection_ready',
    { ref: 'v1.opaque', gateway_payload: { ConnectionAccepted: {} } },
    { kind: 'connection-ready', ref: 'v1.opaque', payload: { ConnectionAccepted: {} } },
  ],
  ['gateway', 'flow_authorized', { ref: 'v1.opaque' }, { kind: 'flow-authorized', ref: 'v1.opaque' }],
  [
    'gateway',
    'broadcast_ice_candidates',
    { candidates: [CANDIDATE], client_ids: [CLIENT_ID] },
    { kind: 'ice-candidates', candidates: [CANDIDATE], clientIds: [CLIENT_ID] },
  ],
  [
    'gateway',
    'broadcast_invalidated_ice_candidates',
    { candidates: [CANDIDATE], client_ids: [CLIENT_ID] },
    { kind: 'invalidated-ice-candidates', candidates: [CANDIDATE], clientIds: [CLIENT_ID] },
  ],
];

const WRONG = [
  undefined,
  null,
  0,
  1e300,
  true,
  '',
  'NaN',
  'x'.repeat(70_000),
  {},
  { length: 1 },
  [null],
  [1],
  [[]],
  [{}],
];
const WRONG_OBJECT = WRONG.filter((value) => typeof value !== 'object' || value === null || Array.isArray(value));
/** Wrong for a string, a list of strings or a list of ids, whichever the member is. */
const WRONG_FOR: Readonly<Record<string, readonly unknown[]>> = {
  resource_id: [...WRONG, [], RESOURCE_ID.replaceAll('-', ''), `{${RESOURCE_ID}}`, `${RESOURCE_ID}\n`, '__proto__'],
  connected_gateway_ids: [...WRONG, ['x'], ['__proto__'], Array.from({ length: 101 }, () => GATEWAY_ID)],
  gateway_ids: [...WRONG, ['x'], GATEWAY_ID, Array.from({ length: 101 }, () => GATEWAY_ID)],
  client_ids: [...WRONG, ['x'], CLIENT_ID, Array.from({ length: 101 }, () => CLIENT_ID)],
  candidates: [...WRONG, ['x'.repeat(1025)], CANDIDATE, Array.from({ length: 101 }, () => CANDIDATE)],
  gateway_id: [...WRONG, [], GATEWAY_ID.slice(1)],
  client_payload: WRONG_OBJECT,
  gateway_payload: WRONG_OBJECT,
  client_preshared_key: [...WRONG, [], KEY.slice(4), KEY.replace('=', 'B'), KEY.replace('E=', 'F=')],
  ref: [...WRONG.filter((value) => value !== '' && value !== 'NaN'), [], 'x'.repeat(2049)],
};

describe('every inbound event', () => {
  it.each(EVENTS)('%s %s is read', (role, event, payload, request) => {
    expect(PARSE[role](event, payload)).toEqual(request);
  });

  it.each(EVENTS)('%s %s may carry members we do not know', (role, event, payload, request) => {
    const withMore = { ...payload, more: 1, account_id: CLIENT_ID };
    expect(PARSE[role](event, withMore)).toEqual(request);
    const polluting = JSON.parse(JSON.stringify(payload).replace('{', '{"__proto__":{"x":1},"constructor":1,'));
    expect(PARSE[role](event, polluting)).toEqual(request);
  });

  it.each(EVENTS)('%s %s is refused when any member is missing or of a wrong type (B6)', (role, event, payload) => {
    for (const member of Object.keys(payload)) {
      const without = Object.fromEntries(Object.entries(payload).filter(([name]) => name !== member));
      expect(PARSE[role](event, without)).toBeUndefined();
      expect(WRONG_FOR[member]?.length).toBeGreaterThan(5);
      for (const wrong of WRONG_FOR[member] ?? [])
        expect(PARSE[role](event, { ...payload, [member]: wrong })).toBeUndefined();
    }
  });

  it.each(EVENTS)('%s %s is refused when its payload is no object (B6)', (role, event) => {
    for (const payload of [undefined, null, 0, 'x', true, [], [{}]])
      expect(PARSE[role](event, payload)).toBeUndefined();
  });

  it('takes a member only from the payload itself (B5)', () => {
    const written = JSON.parse('{"__proto__":{"ref":"v1.opaque"}}') as unknown;
    expect(parseGatewayEvent('flow_authorized', written)).toBeUndefined();
  });
});

describe('ids', () => {
  it('are lower-cased, so that they compare with ours', () => {
    const payload = { resource_id: RESOURCE_ID.toUpperCase(), connected_gateway_ids: [GATEWAY_ID.toUpperCase()] };
    expect(parseClientEvent('create_flow', payload)).toMatchObject({
      resourceId: RESOURCE_ID,
      connectedGatewayIds: [GATEWAY_ID],
    });
  });

  it('may be a hundred, and candidates a KiB', () => {
    const hundred = Array.from({ length: 100 }, () => GATEWAY_ID);
    expect(parseClientEvent('create_flow', { resource_id: RESOURCE_ID, connected_gateway_ids: hundred })).toBeDefined();
    const long = { candidates: ['x'.repeat(1024)], gateway_ids: [] };
    expect(parseClientEvent('broadcast_ice_candidates', long)).toMatchObject({ candidates: long.candidates });
  });
});

describe('members that may be left out', () => {
  it.each([
    ['prepare_connection', 'connected_gateway_ids', { resource_id: RESOURCE_ID }, [GATEWAY_ID]],
    ['reuse_connection', 'payload', { resource_id: RESOURCE_ID, gateway_id: GATEWAY_ID }, { domain: null }],
  ])('%s %s is read when it is there, and refused when it is wrong', (event, member, payload, value) => {
    expect(Object.values(parseClientEvent(event, { ...payload, [member]: value }) ?? {})).toContainEqual(value);
    for (const wrong of [0, 'x', true, [1]])
      expect(parseClientEvent(event, { ...payload, [member]: wrong })).toBeUndefined();
  });
});

describe('unknown events', () => {
  it.each([
    '',
    'connection_ready',
    'flow_authorized',
    'phx_join',
    '__proto__',
    'constructor',
    'toString',
    'hasOwnProperty',
    'get',
    'size',
  ])('a client event %j is not known (B5)', (event) => {
    expect(parseClientEvent(event, { ref: 'v1.opaque' })).toBeUndefined();
  });

  it.each(['create_flow', 'request_connection', '__proto__', 'constructor', 'entries'])(
    'a gateway event %j is not known (B5)',
    (event) => {
      expect(parseGatewayEvent(event, { resource_id: RESOURCE_ID, connected_gateway_ids: [] })).toBeUndefined();
    },
  );

  it('three events belong to the transport', () => {
    expect(['phx_join', 'phx_leave', 'heartbeat'].every(isControlEvent)).toBe(true);
    expect(['phx_reply', 'init', '__proto__', ''].some(isControlEvent)).toBe(false);
  });
});

describe('the join of a relay', () => {
  it('needs a stamp secret', () => {
    expect(parseRelayJoin({ stamp_secret: 'a3'.repeat(32) })).toEqual({ stampSecret: 'a3'.repeat(32) });
    for (const payload of [null, {}, { stamp_secret: '' }, { stamp_secret: 1 }, { stamp_secret: 'x'.repeat(257) }])
      expect(parseRelayJoin(payload)).toBeUndefined();
  });
});
