import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { idOf } from '../../../test/support/builders.js';
import type { GatewayId } from '../model/ids.js';
import type { Random } from '../support/clock.js';
import { chooseGateway, distanceKm, type GatewayCandidate } from './choose-gateway.js';

const KYIV = { latitude: 50.45, longitude: 30.52 };
const BERLIN = { latitude: 52.52, longitude: 13.4 };
const NEW_YORK = { latitude: 40.71, longitude: -74.01 };
const NOWHERE = { latitude: null, longitude: null };

const aCandidate = (name: string, version: string, place: { latitude: number | null; longitude: number | null }) => ({
  gatewayId: idOf<GatewayId>(name),
  version,
  ...place,
});

const A = aCandidate('a', '1.4.3', BERLIN);
const B = aCandidate('b', '1.4.9', NEW_YORK);
const C = aCandidate('c', '1.5.0', NOWHERE);
const D = aCandidate('d', '1.4.10', BERLIN);

function chance(fraction: number): Random {
  return { fraction: () => fraction, uuid: () => '', bytes: (length) => new Uint8Array(length) };
}

const nobody = new Set<string>();

/** Everything that chance may pick. */
function choices(
  candidates: readonly GatewayCandidate[],
  connected: ReadonlySet<string>,
  client: { latitude: number | null; longitude: number | null },
): unknown[] {
  const found = new Set<unknown>();
  for (let i = 0; i < 100; i += 1) found.add(chooseGateway(candidates, connected, client, chance(i / 100)));
  return [...found];
}

describe('chooseGateway', () => {
  it('takes the newest by SemVer at the nearest place (worked example, domain.md 4)', () => {
    expect(distanceKm(KYIV, BERLIN)).toBeCloseTo(1204.6, 1);
    expect(choices([A, B, C, D], nobody, KYIV)).toEqual([D]);
  });

  it('prefers a gateway the client has, however far and old', () => {
    expect(choices([A, B, C, D], new Set([B.gatewayId]), KYIV)).toEqual([B]);
    expect(choices([A, B, C, D], new Set([A.gatewayId, B.gatewayId]), KYIV)).toEqual([A]);
  });

  it('ignores gateways the client has that are no candidates', () => {
    expect(choices([A, D], new Set([B.gatewayId]), KYIV)).toEqual([D]);
  });

  it('takes an unknown place only when there is no known one', () => {
    expect(choices([B, C], nobody, KYIV)).toEqual([B]);
    expect(choices([C], nobody, KYIV)).toEqual([C]);
  });

  it('leaves it to chance for a client at an unknown place', () => {
    expect(new Set(choices([A, B, C, D], nobody, NOWHERE))).toEqual(new Set([A, B, C, D]));
    expect(new Set(choices([A, B], nobody, { latitude: 1, longitude: null }))).toEqual(new Set([A, B]));
  });

  it('leaves it to chance among equals', () => {
    const E = aCandidate('e', '1.4.10', BERLIN);
    expect(new Set(choices([A, D, E], nobody, KYIV))).toEqual(new Set([D, E]));
  });

  it('a release comes after its candidates', () => {
    const candidate = aCandidate('rc', '1.4.10-rc.1', BERLIN);
    expect(choices([candidate, D], nobody, KYIV)).toEqual([D]);
  });

  it('has no answer without candidates', () => {
    expect(chooseGateway([], nobody, KYIV, chance(0))).toBeUndefined();
  });

  it('always answers with a candidate, at the shortest distance there is', () => {
    const coordinate = fc.option(fc.tuple(fc.integer({ min: -90, max: 90 }), fc.integer({ min: -180, max: 180 })));
    const candidates = fc.uniqueArray(fc.tuple(fc.nat(30), fc.nat(20), coordinate), {
      minLength: 1,
      maxLength: 8,
      selector: ([id]) => id,
    });
    const fraction = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true });
    fc.assert(
      fc.property(candidates, fraction, (drawn, draw) => {
        const all = drawn.map(([id, patch, at]) =>
          aCandidate(`g${id}`, `1.4.${patch}`, at ? { latitude: at[0], longitude: at[1] } : NOWHERE),
        );
        const chosen = chooseGateway(all, nobody, KYIV, chance(draw));
        if (!chosen) throw new Error('none chosen');
        expect(all).toContain(chosen);
        for (const other of all) expect(distanceKm(KYIV, chosen)).toBeLessThanOrEqual(distanceKm(KYIV, other));
      }),
    );
  });
});

describe('distanceKm', () => {
  it('is the great circle, also across the date line and between the poles', () => {
    expect(distanceKm({ latitude: 0, longitude: 179.5 }, { latitude: 0, longitude: -179.5 })).toBeCloseTo(111.19, 1);
    expect(distanceKm({ latitude: 90, longitude: 0 }, { latitude: -90, longitude: 77 })).toBeCloseTo(20_015.09, 1);
    expect(distanceKm(KYIV, KYIV)).toBe(0);
  });

  it('is endless to an unknown place', () => {
    expect(distanceKm(KYIV, NOWHERE)).toBe(Infinity);
    expect(distanceKm({ latitude: 1, longitude: null }, KYIV)).toBe(Infinity);
  });
});
