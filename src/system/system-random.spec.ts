import { describe, it, expect } from '@jest/globals';
import { SystemRandom } from './system-random.js';

describe('SystemRandom', () => {
  it('makes version 4 uuids in lower case, bytes of the length asked, and fractions below 1', () => {
    const random = new SystemRandom();
    expect(random.uuid()).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
    expect(random.bytes(32)).toHaveLength(32);
    expect(random.bytes(32)).not.toEqual(random.bytes(32));
    const fractions = Array.from({ length: 1000 }, () => random.fraction());
    expect(Math.min(...fractions)).toBeGreaterThanOrEqual(0);
    expect(Math.max(...fractions)).toBeLessThan(1);
    expect(Math.max(...fractions)).toBeGreaterThan(0.9);
  });

  it('no byte is handed out twice, however many are asked for at a time', () => {
    const random = new SystemRandom();
    const taken = [5_000, ...Array.from({ length: 2_000 }, () => 24)].map((length) => random.bytes(length));
    expect(new Set(taken.map((bytes) => Buffer.from(bytes).toString('hex'))).size).toBe(taken.length);
    expect(taken.every((bytes) => new Set(bytes).size > 8)).toBe(true);
  });
});
