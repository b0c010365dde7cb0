/** Forks against plain copies: each must show what a copy made at the same moment shows. */
import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { LayeredMap } from './layered-map.js';
import { LayeredMultiMap } from './layered-multi-map.js';

/** What one family member and its plain twin do. */
interface Family<Layered, Plain> {
  readonly make: () => Layered;
  readonly copy: (plain: Plain) => Plain;
  readonly empty: () => Plain;
  readonly change: (layered: Layered, plain: Plain, key: number, value: number, isAdding: boolean) => void;
  readonly check: (layered: Layered, plain: Plain) => void;
}

const KEYS = [0, 1, 2, 3];
const doing = fc.record({
  what: fc.constantFrom('change', 'change', 'change', 'fork', 'release'),
  who: fc.nat(20),
  key: fc.constantFrom(...KEYS),
  value: fc.integer({ min: 1, max: 3 }),
  isAdding: fc.boolean(),
});

function livesLikeCopies<Layered extends { fork(): Layered; release(): void }, Plain>(
  family: Family<Layered, Plain>,
): void {
  let forks = 0;
  fc.assert(
    fc.property(fc.array(doing, { maxLength: 40 }), (history) => {
      const members = [{ layered: family.make(), plain: family.empty(), isGone: false }];
      for (const { what, who, key, value, isAdding } of history) {
        const index = who % members.length;
        const member = members[index];
        if (!member || member.isGone) continue;
        if (what === 'fork') {
          forks += 1;
          members.push({ layered: member.layered.fork(), plain: family.copy(member.plain), isGone: false });
        } else if (what === 'release' && index > 0) {
          member.layered.release();
          member.isGone = true;
        } else family.change(member.layered, member.plain, key, value, isAdding);
        for (const { layered, plain, isGone } of members) if (!isGone) family.check(layered, plain);
      }
    }),
    { numRuns: 1000 },
  );
  expect(forks).toBeGreaterThan(500);
}

describe('LayeredMap', () => {
  it('STORE-3: every fork shows what a copy made at its moment shows, whoever changes what afterwards', () => {
    livesLikeCopies<LayeredMap<number, number>, Map<number, number>>({
      make: () => new LayeredMap(),
      empty: () => new Map(),
      copy: (plain) => new Map(plain),
      change: (layered, plain, key, value, isAdding) => {
        if (isAdding) {
          layered.set(key, value);
          plain.set(key, value);
        } else {
          layered.delete(key);
          plain.delete(key);
        }
      },
      check: (layered, plain) => {
        expect(layered.size).toBe(plain.size);
        expect(KEYS.map((key) => [layered.get(key), layered.has(key)])).toEqual(
          KEYS.map((key) => [plain.get(key), plain.has(key)]),
        );
        expect([...layered.entries()].sort()).toEqual([...plain].sort());
        expect([...layered].sort()).toEqual([...plain.keys()].sort());
        expect([...layered.values()].sort()).toEqual([...plain.values()].sort());
      },
    });
  });
});

describe('LayeredMultiMap', () => {
  it('STORE-3: every fork shows what a copy made at its moment shows, whoever changes what afterwards', () => {
    livesLikeCopies<LayeredMultiMap<number, number>, Map<number, Set<number>>>({
      make: () => new LayeredMultiMap(),
      empty: () => new Map(KEYS.map((key) => [key, new Set()])),
      copy: (plain) => new Map([...plain].map(([key, set]) => [key, new Set(set)])),
      change: (layered, plain, key, value, isAdding) => {
        if (isAdding) {
          layered.add(key, value);
          plain.get(key)?.add(value);
        } else {
          layered.delete(key, value);
          plain.get(key)?.delete(value);
        }
      },
      check: (layered, plain) => {
        for (const key of KEYS) {
          const wanted = plain.get(key) ?? new Set();
          const set = layered.get(key);
          expect([set.size, ...[...set].sort()]).toEqual([wanted.size, ...[...wanted].sort()]);
          expect([1, 2, 3].map((value) => set.has(value))).toEqual([1, 2, 3].map((value) => wanted.has(value)));
        }
      },
    });
  });
});
