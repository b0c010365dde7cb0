import { beforeEach, describe, expect, it } from '@jest/globals';
import type { Position } from '../core/model/position.js';
import type { Scheduler } from '../core/support/scheduler.js';
import { ViewScheduler, type Settling } from './view-scheduler.js';

/** Turns and time that pass only when a test says so. */
class ManualScheduler implements Scheduler {
  readonly #turns: (() => void)[] = [];
  elapsed = 0;

  get pending(): number {
    return this.#turns.length;
  }

  nextTurn(task: () => void): void {
    this.#turns.push(task);
  }

  elapsedMs(): number {
    return this.elapsed;
  }

  turn(): void {
    for (const task of this.#turns.splice(0)) task();
  }
}

describe('ViewScheduler', () => {
  let scheduler: ManualScheduler;
  let views: ViewScheduler;
  let settled: string[];

  beforeEach(() => {
    scheduler = new ManualScheduler();
    views = new ViewScheduler(scheduler);
    settled = [];
  });

  /** A channel whose settling takes so long. */
  class View implements Settling {
    #unseen: Position | undefined;

    constructor(
      readonly name: string,
      private readonly costMs = 1,
    ) {}

    mark(position: Position): void {
      if (this.#unseen !== undefined) return;
      this.#unseen = position;
      views.enqueue(this);
    }

    settle(): void {
      if (this.#unseen === undefined) return;
      this.#unseen = undefined;
      scheduler.elapsed += this.costMs;
      settled.push(this.name);
    }

    unseenSince(): Position | undefined {
      return this.#unseen;
    }
  }

  it('settles nobody inside the step that marked them', () => {
    new View('a').mark(1n);
    expect(settled).toEqual([]);
    scheduler.turn();
    expect(settled).toEqual(['a']);
  });

  it('settles in the order of marking', () => {
    for (const name of ['c', 'a', 'b']) new View(name).mark(1n);
    scheduler.turn();
    expect(settled).toEqual(['c', 'a', 'b']);
    expect(scheduler.pending).toBe(0);
  });

  it('D12: a slice ends after 20 ms, and the next begins where it ended', () => {
    const names = Array.from({ length: 10 }, (_, i) => `v${i}`);
    for (const name of names) new View(name, 7).mark(1n);
    scheduler.turn();
    expect(settled).toEqual(names.slice(0, 3));
    expect(scheduler.elapsed).toBeLessThan(20 + 7);
    scheduler.turn();
    expect(settled).toEqual(names.slice(0, 6));
    while (scheduler.pending > 0) scheduler.turn();
    expect(settled).toEqual(names);
  });

  it('what is marked between two slices waits its turn', () => {
    for (const name of ['a', 'b']) new View(name, 30).mark(1n);
    scheduler.turn();
    new View('c').mark(2n);
    scheduler.turn();
    scheduler.turn();
    expect(settled).toEqual(['a', 'b', 'c']);
  });

  it('a channel marked while others settle is settled as well', () => {
    const late = new View('late');
    views.enqueue({
      settle: () => late.mark(2n),
      unseenSince: () => undefined,
    });
    scheduler.turn();
    expect(settled).toEqual(['late']);
  });

  it('names the oldest commit that somebody has not looked at', () => {
    expect(views.oldestPosition()).toBeUndefined();
    const [a, b] = [new View('a'), new View('b')];
    a.mark(5n);
    b.mark(7n);
    expect(views.oldestPosition()).toBe(5n);
    a.settle();
    expect(views.oldestPosition()).toBe(7n);
    scheduler.turn();
    expect(views.oldestPosition()).toBeUndefined();
  });

  it('ACK-1: a channel that settled by itself and was marked again hides nobody behind it', () => {
    const [a, b] = [new View('a'), new View('b')];
    a.mark(5n);
    b.mark(5n);
    a.settle(); // a frame came
    a.mark(7n); // and another commit
    expect(views.oldestPosition()).toBe(5n);
    b.settle();
    expect(views.oldestPosition()).toBe(7n);
  });

  it('serves everybody in turn, also when there is always somebody waiting', () => {
    for (let round = 0; round < 1000; round += 1) {
      new View(`v${round}`, 21).mark(BigInt(round));
      if (round > 2) scheduler.turn();
    }
    while (scheduler.pending > 0) scheduler.turn();
    expect(settled).toEqual(Array.from({ length: 1000 }, (_, round) => `v${round}`));
  });
});
