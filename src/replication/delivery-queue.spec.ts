import { describe, expect, it, jest } from '@jest/globals';
import { ManualClock } from '../../test/support/manual-clock.js';
import { DeliveryQueue } from './delivery-queue.js';

function aQueue() {
  const clock = new ManualClock();
  const turns: (() => void)[] = [];
  const onIdle = jest.fn();
  const queue = new DeliveryQueue(clock, { nextTurn: (task) => turns.push(task), elapsedMs: () => 0 }, onIdle);
  const delivered: number[] = [];
  /** An item that takes `ms` of the loop. */
  const push = (id: number, ms: number): void => {
    queue.push({
      bytes: 1,
      deliver: () => {
        delivered.push(id);
        clock.advance(ms);
      },
    });
  };
  const turn = (): void => {
    for (const task of turns.splice(0)) task();
  };
  return { queue, push, turn, delivered, onIdle, turns };
}

describe('DeliveryQueue', () => {
  it('delivers at once while the slice lasts', () => {
    const { queue, push, delivered } = aQueue();
    push(1, 4);
    push(2, 4);
    expect(delivered).toEqual([1, 2]);
    expect(queue.isBehind).toBe(false);
  });

  it('keeps the rest for later turns of the loop, a slice each, in order, and says when it has caught up', () => {
    const { queue, push, turn, delivered, onIdle } = aQueue();
    for (const id of [1, 2, 3, 4]) push(id, 6);
    expect(delivered).toEqual([1, 2]);
    expect([queue.isBehind, queue.bytes]).toEqual([true, 2]);
    push(5, 1); // would fit, but not before the others
    turn();
    expect(delivered).toEqual([1, 2, 3, 4]);
    expect(onIdle).not.toHaveBeenCalled();
    turn();
    expect(delivered).toEqual([1, 2, 3, 4, 5]);
    expect([onIdle.mock.calls.length, queue.bytes, queue.isBehind]).toEqual([1, 0, false]);
  });

  it('begins a new slice with a new turn', () => {
    const { push, turn, delivered, turns } = aQueue();
    push(1, 20);
    turn();
    push(2, 1);
    expect(delivered).toEqual([1, 2]);
    expect(turns).toHaveLength(1);
  });

  it('delivers nothing of what was cleared', () => {
    const { queue, push, turn, delivered } = aQueue();
    push(1, 20);
    push(2, 1);
    queue.clear();
    turn();
    push(3, 1);
    expect(delivered).toEqual([1, 3]);
  });
});
