import { describe, it, expect } from '@jest/globals';
import { SystemScheduler } from './system-scheduler.js';

describe('SystemScheduler', () => {
  it('the next turn comes after what is synchronous and after settled promises', async () => {
    const order: string[] = [];
    const turn = new Promise<void>((resolve) =>
      new SystemScheduler().nextTurn(() => {
        order.push('turn');
        resolve();
      }),
    );
    order.push('now');
    await Promise.resolve();
    order.push('promise');
    await turn;
    expect(order).toEqual(['now', 'promise', 'turn']);
  });

  it('elapsed time never goes back', () => {
    const scheduler = new SystemScheduler();
    const before = scheduler.elapsedMs();
    expect(scheduler.elapsedMs()).toBeGreaterThanOrEqual(before);
  });
});
