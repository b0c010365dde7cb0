import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { TokenBucket } from './token-bucket.js';

describe('TokenBucket', () => {
  it('lets the burst through at once, then one at a time', () => {
    const bucket = new TokenBucket({ burst: 3, perSecond: 2 }, 0);
    expect([0, 0, 0, 0].map((now) => bucket.take(now))).toEqual([0, 0, 0, 500]);
    expect(bucket.take(499)).toBe(1);
    expect(bucket.take(500)).toBe(0);
    expect(bucket.take(500)).toBe(500);
  });

  it('is full again after it has rested, and not fuller', () => {
    const bucket = new TokenBucket({ burst: 2, perSecond: 1 }, 0);
    bucket.take(0);
    expect([bucket.isFull(999), bucket.isFull(1000)]).toEqual([false, true]);
    expect([1, 2, 3].map(() => bucket.take(1_000_000))).toEqual([0, 0, 1000]);
  });

  it('goes into debt when it is spent, and says when that is paid', () => {
    const bucket = new TokenBucket({ burst: 2, perSecond: 10 }, 0);
    expect([1, 2, 3, 4].map(() => bucket.spend(0))).toEqual([0, 0, 100, 200]);
    expect(bucket.spend(200)).toBe(100);
  });

  it('never owes more than a burst', () => {
    const bucket = new TokenBucket({ burst: 2, perSecond: 10 }, 0);
    for (let i = 0; i < 1000; i += 1) bucket.spend(0);
    expect(bucket.spend(0)).toBe(200);
  });

  it('a clock that is set back refills nothing and takes nothing away', () => {
    const bucket = new TokenBucket({ burst: 2, perSecond: 1 }, 10_000);
    bucket.take(10_000);
    expect(bucket.take(0)).toBe(0);
    expect(bucket.take(1)).toBe(999);
  });

  it('never lets more through than its rate, whatever the times', () => {
    const rate = { burst: 5, perSecond: 3 };
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 0, max: 2000 }), { maxLength: 200 }), (gaps) => {
        const bucket = new TokenBucket(rate, 0);
        let now = 0;
        const passed: number[] = [];
        for (const gap of gaps) {
          now += gap;
          if (bucket.take(now) === 0) passed.push(now);
        }
        passed.forEach((from, i) => {
          passed.slice(i).forEach((to, j) => {
            expect(j + 1).toBeLessThanOrEqual(rate.burst + ((to - from) / 1000) * rate.perSecond + 1e-6);
          });
        });
      }),
    );
  });
});
