import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { selectSerializer } from './frame.js';
import { parseClientEvent, parseGatewayEvent } from './inbound.js';

/** Frames as peers send them; the fuzz below starts from these. */
const CORPUS = [
  '{"topic":"client","event":"phx_join","payload":null,"ref":0}',
  '{"topic":"phoenix","event":"heartbeat","payload":{},"ref":7}',
  '{"topic":"client","event":"create_flow","payload":{"resource_id":"4f0c1f7e-58b1-4a3e-9d0f-0a2b1c7e9a10","connected_gateway_ids":["5b1d3f77-2c84-4c0e-8a3e-7d2f90c4e102"]},"ref":4}',
  '{"topic":"client","event":"broadcast_ice_candidates","payload":{"gateway_ids":["5b1d3f77-2c84-4c0e-8a3e-7d2f90c4e102"],"candidates":["candidate:1 1 udp 2130706431 192.0.2.10 50712 typ host"]},"ref":5}',
  '{"topic":"gateway","event":"flow_authorized","payload":{"ref":"v1.opaque"},"ref":12}',
  '["3","4","client","create_flow",{"resource_id":"4f0c1f7e-58b1-4a3e-9d0f-0a2b1c7e9a10","connected_gateway_ids":[]}]',
  '["3","4","gateway","broadcast_ice_candidates",{"client_ids":[],"candidates":[]}]',
];

/** Pieces that break parsers. */
const DICTIONARY = [
  '"__proto__"',
  '"constructor":',
  'null',
  '[[[[',
  '{}',
  '1e400',
  '-0',
  '\u0000',
  '\ud800',
  '"\\u0000"',
  '"\\ud800"',
  '\u202e',
  '😀',
  ',',
  '"',
  '}',
  'phx_reply',
  '"payload":',
  'true',
  '""',
];

const aMutant = fc
  .record({
    seed: fc.constantFrom(...CORPUS),
    edits: fc.array(
      fc.record({
        at: fc.double({ min: 0, max: 1, noNaN: true }),
        cut: fc.nat({ max: 20 }),
        put: fc.oneof(fc.constantFrom(...DICTIONARY), fc.string({ unit: 'binary', maxLength: 4 })),
      }),
      { maxLength: 4 },
    ),
  })
  .map(({ seed, edits }) =>
    edits.reduce((text, { at, cut, put }) => {
      const start = Math.floor(at * text.length);
      return text.slice(0, start) + put + text.slice(start + cut);
    }, seed),
  );

function survives(text: string): void {
  for (const serializer of [selectSerializer('1.0.0'), selectSerializer('2.0.0')]) {
    const decoded = serializer?.decode(text);
    if (!serializer || !decoded?.ok) continue;
    const { frame } = decoded;
    expect(typeof frame.topic).toBe('string');
    expect(typeof frame.event).toBe('string');
    parseClientEvent(frame.event, frame.payload);
    parseGatewayEvent(frame.event, frame.payload);
    // Whatever we took in, our answer is JSON and has the same ref.
    const answer: unknown = JSON.parse(serializer.encodeError(frame, 'unknown_message'));
    const ref = Object.is(frame.ref, -0) ? 0 : frame.ref;
    expect(Array.isArray(answer) ? answer[1] : (answer as { ref: unknown }).ref).toEqual(ref);
  }
}

describe('decoding what peers send (B1)', () => {
  it('never throws on mutated frames, and always has an answer', () => {
    fc.assert(fc.property(aMutant, survives), { numRuns: 5_000 });
  });

  it('never throws on any text or any JSON', () => {
    fc.assert(fc.property(fc.string({ unit: 'binary', maxLength: 200 }), survives), { numRuns: 1_000 });
    fc.assert(fc.property(fc.json(), survives), { numRuns: 1_000 });
  });

  it('leaves Object.prototype as it was (B5)', () => {
    const before = Object.getOwnPropertyNames(Object.prototype);
    fc.assert(fc.property(aMutant, survives), { numRuns: 500 });
    survives('{"topic":"client","event":"create_flow","payload":{"__proto__":{"polluted":1}},"ref":1}');
    expect(Object.getOwnPropertyNames(Object.prototype)).toEqual(before);
    expect(({} as Record<string, unknown>)['polluted']).toBeUndefined();
  });
});
