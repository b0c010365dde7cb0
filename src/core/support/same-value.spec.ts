import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { sameValue } from './same-value.js';

describe('sameValue', () => {
  it.each<[unknown, unknown]>([
    [null, undefined],
    [null, {}],
    [0, false],
    ['', []],
    [[], {}],
    [
      [1, 2],
      [2, 1],
    ],
    [[1], [1, undefined]],
    [{ a: 1 }, { a: 1, b: undefined }],
    [{ a: undefined }, { b: undefined }],
    [{ a: [1, { b: 2 }] }, { a: [1, { b: 3 }] }],
    [{ length: 0 }, []],
    [{ constructor: Object }, {}],
  ])('tells %j from %j', (a, b) => {
    expect([sameValue(a, b), sameValue(b, a)]).toEqual([false, false]);
  });

  it('ignores the order of keys', () => {
    expect(sameValue({ a: 1, b: [2] }, { b: [2], a: 1 })).toBe(true);
  });

  it('a copy is the same, and another value is so only when jest says so too', () => {
    const value = fc.jsonValue({ maxDepth: 3 });
    fc.assert(
      fc.property(value, value, (a, b) => {
        expect(sameValue(a, structuredClone(a))).toBe(true);
        let equal = true;
        try {
          expect(a).toStrictEqual(b);
        } catch {
          equal = false;
        }
        expect(sameValue(a, b)).toBe(equal);
      }),
    );
  });
});
