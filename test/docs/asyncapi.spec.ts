/** `docs/asyncapi.yaml` is what the server speaks: made from its schemas, valid, and of the same mind about every payload. */
import { readFileSync } from 'node:fs';
import { describe, expect, it } from '@jest/globals';
import asyncApiSpecs from '@asyncapi/specs';
import { Ajv } from 'ajv';
import fc from 'fast-check';
import { asyncApiDocument } from '../../src/protocol/asyncapi-document.js';
import { parseClientEvent, parseGatewayEvent, parseRelayJoin } from '../../src/protocol/inbound.js';
import { frameValidator, wireDocument } from '../support/wire-document.js';

const packageJson = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
  version: string;
};

describe('docs/asyncapi.yaml', () => {
  it('is made from the schemas: run `npm run asyncapi` after a change of the wire', () => {
    expect(wireDocument).toEqual(asyncApiDocument(packageJson.version));
  });

  it('is valid AsyncAPI 3.0', () => {
    const ajv = new Ajv({ strict: false, allErrors: true, validateFormats: false, meta: false }); // it brings its own
    const validate = ajv.compile(asyncApiSpecs.schemas['3.0.0'] as object);
    validate(wireDocument);
    expect(validate.errors ?? []).toEqual([]);
  });
});

const ID = '4f0c1f7e-58b1-4a3e-9d0f-0a2b1c7e9a10';
const KEY = 'AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=';
const INBOUND = {
  client: parseClientEvent,
  gateway: parseGatewayEvent,
  relay: (event: string, payload: unknown) => (event === 'phx_join' ? parseRelayJoin(payload) : undefined),
};
const EVENTS: readonly [keyof typeof INBOUND, string][] = [
  ...['create_flow', 'prepare_connection', 'request_connection', 'reuse_connection'].map(
    (event) => ['client', event] as ['client', string],
  ),
  ...['flow_authorized', 'connection_ready'].map((event) => ['gateway', event] as ['gateway', string]),
  ...(['client', 'gateway'] as const).flatMap((role) =>
    ['broadcast_ice_candidates', 'broadcast_invalidated_ice_candidates'].map(
      (event) => [role, event] as [typeof role, string],
    ),
  ),
  ['relay', 'phx_join'],
];

/** Good and bad values for any member. */
const value = fc.oneof(
  fc.constantFrom(
    ID,
    ID.toUpperCase(),
    ID.slice(1),
    KEY,
    KEY.replace('E=', 'F='),
    `${KEY}=`,
    '',
    'v1.ref',
    'x'.repeat(257),
  ),
  fc.constantFrom(null, 0, true, {}, { a: 1 }, [], 'x'.repeat(2049)),
  fc.array(fc.constantFrom(ID, ID.slice(2), 'candidate:1', 'x'.repeat(1025), 7), { maxLength: 3 }),
  fc.constantFrom(Array(100).fill(ID), Array(101).fill(ID)),
  fc.jsonValue(),
);
const MEMBERS = [
  ...[
    'resource_id',
    'gateway_id',
    'connected_gateway_ids',
    'gateway_ids',
    'client_ids',
    'candidates',
    'ref',
    'payload',
  ],
  ...['client_payload', 'gateway_payload', 'client_preshared_key', 'stamp_secret', 'more', '__proto__'],
];
/** Good values come often, so that both verdicts do. */
const GOOD: Readonly<Record<string, unknown>> = {
  ...{ resource_id: ID, gateway_id: ID, connected_gateway_ids: [ID], gateway_ids: [ID], client_ids: [ID] },
  ...{ candidates: ['candidate:1'], ref: 'v1.ref', payload: null, client_payload: {}, gateway_payload: {} },
  ...{ client_preshared_key: KEY, stamp_secret: 'a3' },
};
const payload = fc.oneof(
  { weight: 1, arbitrary: fc.jsonValue() },
  {
    weight: 9,
    arbitrary: fc
      .tuple(fc.dictionary(fc.constantFrom(...MEMBERS), value, { maxKeys: 3 }), fc.subarray(MEMBERS, { maxLength: 2 }))
      .map(([changed, left]) =>
        Object.fromEntries(Object.entries({ ...GOOD, ...changed }).filter(([name]) => !left.includes(name))),
      ),
  },
);

describe('the document and the server', () => {
  it.each(EVENTS)('%s %s: agree about every payload', (role, event) => {
    const validate = frameValidator(role, event, 'fromPeer');
    let accepted = 0;
    let refused = 0;
    fc.assert(
      fc.property(payload, (given) => {
        const isRead = INBOUND[role](event, given) !== undefined;
        const isDocumented = validate?.({ topic: role, event, ref: 1, payload: given }) ?? false;
        expect({ given, isDocumented }).toEqual({ given, isDocumented: isRead });
        if (isRead) accepted += 1;
        else refused += 1;
      }),
      { numRuns: 500 },
    );
    expect(Math.min(accepted, refused)).toBeGreaterThan(20);
  });
});
