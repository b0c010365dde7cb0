import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import type { ProviderId } from '../model/ids.js';
import { parseConditions } from '../changes/parse-conditions.js';
import type { ConditionSource } from '../model/rows.js';
import {
  addViolations,
  compileConditions,
  conditionInput,
  conformsUntil,
  nextTransition,
  type ConditionInput,
  type ConditionProperty,
} from './conditions.js';

const PROVIDER = 'a0000000-0000-4000-8000-00000000000a';
const PROPERTIES = [
  'remote_ip_location_region',
  'remote_ip',
  'provider_id',
  'current_utc_datetime',
  'client_verified',
] as const;
const OPERATORS = ['is_in', 'is_not_in', 'is_in_cidr', 'is_not_in_cidr', 'is_in_day_of_week_time_ranges', 'is'];
/** Every pair that means something; any other pair is garbage. */
const KNOWN_PAIRS = new Set([
  'remote_ip_location_region is_in',
  'remote_ip_location_region is_not_in',
  'remote_ip is_in_cidr',
  'remote_ip is_not_in_cidr',
  'provider_id is_in',
  'provider_id is_not_in',
  'current_utc_datetime is_in_day_of_week_time_ranges',
  'client_verified is',
]);

const word = fc.oneof(fc.string({ unit: 'binary' }), fc.constantFrom('__proto__', 'constructor', 'toString', ''));
const goodValue = fc.constantFrom('US', '10.0.0.0/8', PROVIDER, 'F/true/UTC', 'true');
/** Text that is no country, network, uuid, window or boolean. */
const badValue = fc.constantFrom('', 'usa', '10.0.0.0/33', '10.0.0', 'F/22-6/UTC', 'F/9-10', 'yes', '\0', '__proto__');

const garbage: fc.Arbitrary<ConditionSource> = fc.oneof(
  fc
    .record({
      property: fc.oneof(fc.constantFrom(...PROPERTIES), word),
      operator: fc.oneof(fc.constantFrom(...OPERATORS), word),
      values: fc.array(fc.oneof(goodValue, word)),
    })
    .filter(({ property, operator }) => !KNOWN_PAIRS.has(`${property} ${operator}`)),
  fc.record({ pair: fc.constantFrom(...KNOWN_PAIRS), good: fc.array(goodValue), bad: badValue }).map((drawn) => {
    const [property = '', operator = ''] = drawn.pair.split(' ');
    return { property, operator, values: [...drawn.good, drawn.bad] };
  }),
);

const harmless: fc.Arbitrary<ConditionSource> = fc.constantFrom(
  { property: 'client_verified', operator: 'is', values: ['false'] },
  { property: 'remote_ip', operator: 'is_not_in_cidr', values: [] },
  { property: 'current_utc_datetime', operator: 'is_in_day_of_week_time_ranges', values: ['F/true/UTC', 'S/true/UTC'] },
);

const client: fc.Arbitrary<ConditionInput> = fc
  .record({
    region: fc.constantFrom(null, 'US', 'DE', 'xx', ''),
    remoteIp: fc.oneof(fc.constantFrom(null, '', 'rubbish', '10.1.2.3', '::ffff:10.1.2.3'), fc.ipV4(), fc.ipV6()),
    providerId: fc.constantFrom(null, PROVIDER as ProviderId),
    verifiedAt: fc.constantFrom(null, 0),
  })
  .map((facts) => conditionInput(facts, facts.providerId, facts.verifiedAt));
const instant = fc.integer({ min: Date.parse('2025-01-01'), max: Date.parse('2027-01-01') });

describe('garbage conditions', () => {
  it('S9: never allow, among whatever else, and are reported to their author', () => {
    const lists = fc.tuple(fc.array(harmless), garbage, fc.array(harmless)).map(([a, bad, b]) => [...a, bad, ...b]);
    fc.assert(
      fc.property(lists, client, instant, (list, input, now) => {
        const compiled = compileConditions(list);
        expect(conformsUntil(compiled, input, now)).toBeUndefined();
        const violated: ConditionProperty[] = [];
        addViolations(violated, compiled, input, now);
        expect(PROPERTIES).toEqual(expect.arrayContaining([...violated]));
        expect(new Set(violated).size).toBe(violated.length);
        expect(compiled.faults).not.toEqual([]);
        expect(nextTransition(compiled, now)).toBeUndefined();
      }),
      { numRuns: 3_000 },
    );
  });

  it('S9: any JSON that is no non-empty list of conditions allows nothing', () => {
    fc.assert(
      fc.property(fc.json({ maxDepth: 4 }), client, instant, (json, input, now) => {
        fc.pre(json.trim() !== '[]');
        expect(conformsUntil(compileConditions(parseConditions(json)), input, now)).toBeUndefined();
      }),
      { numRuns: 1_000 },
    );
  });
});

describe('the next transition of a list', () => {
  it('D18: up to one millisecond before it, evaluation says the same of every client', () => {
    const range = fc
      .tuple(fc.nat(1439), fc.nat(1439))
      .map((ends) => ends.sort((a, b) => a - b).map((m) => `${Math.floor(m / 60)}:${m % 60}`))
      .map(([from, to]) => `${from}-${to}`);
    const timeCondition = fc
      .array(
        fc
          .tuple(fc.constantFrom(...'MTWRFSU'), range, fc.constantFrom('UTC', 'Europe/Berlin', 'Australia/Lord_Howe'))
          .map((parts) => parts.join('/')),
        { minLength: 1, maxLength: 4 },
      )
      .map((values) => ({
        property: 'current_utc_datetime',
        operator: 'is_in_day_of_week_time_ranges',
        values,
      }));
    const cases = fc.record({
      list: fc.array(fc.oneof(timeCondition, harmless), { minLength: 1, maxLength: 3 }),
      now: instant,
      samples: fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { minLength: 6, maxLength: 6 }),
    });
    fc.assert(
      fc.property(cases, client, ({ list, now, samples }, input) => {
        const compiled = compileConditions(list);
        const until = conformsUntil(compiled, input, now);
        const change = nextTransition(compiled, now) ?? now + 30 * 86_400_000;
        expect(change).toBeGreaterThan(now);
        for (const fraction of [...samples, 1]) {
          const t = now + Math.floor((change - 1 - now) * fraction);
          expect(conformsUntil(compileConditions(list), input, t)).toBe(until);
        }
      }),
      { numRuns: 300 },
    );
  });
});
