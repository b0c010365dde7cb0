import { describe, expect, it } from '@jest/globals';
import { ManualClock } from '../../test/support/manual-clock.js';
import { BackOff } from './back-off.js';

describe('BackOff', () => {
  it('F3: waits longer each time, a second at most, and anew after a success', async () => {
    const clock = new ManualClock();
    const backOff = new BackOff(clock, {
      uuid: () => '',
      bytes: (length) => new Uint8Array(length),
      fraction: () => 1,
    });
    const waits: number[] = [];
    const wait = async (): Promise<void> => {
      const waiting = backOff.wait();
      const begun = clock.now();
      while (clock.pending > 0) clock.advance(50);
      await waiting;
      waits.push(clock.now() - begun);
    };
    for (let n = 0; n < 7; n += 1) await wait();
    backOff.succeeded();
    await wait();
    expect(waits).toEqual([100, 200, 400, 800, 1_000, 1_000, 1_000, 100]);
  });
});
