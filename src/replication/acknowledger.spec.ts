import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { Acknowledger } from './acknowledger.js';

/** An acknowledger over two gates that the test moves. */
function withGates() {
  const gates = { recorded: 0n, settled: 0n };
  const acknowledger = new Acknowledger([() => gates.recorded, () => gates.settled]);
  return { gates, acknowledger };
}

describe('ACK-1: Acknowledger', () => {
  it('acknowledges what the slowest gate has done', () => {
    const { gates, acknowledger } = withGates();
    for (const position of [10n, 20n, 30n]) acknowledger.received(position);
    gates.recorded = 30n;
    expect(acknowledger.acknowledgedPosition()).toBe(0n);
    gates.settled = 20n;
    expect(acknowledger.acknowledgedPosition()).toBe(20n);
    gates.settled = 30n;
    expect(acknowledger.acknowledgedPosition()).toBe(30n);
  });

  it('acknowledges a keepalive only when no received commit is outstanding', () => {
    const { gates, acknowledger } = withGates();
    acknowledger.received(10n);
    gates.settled = 10n;
    acknowledger.passed(50n);
    expect(acknowledger.acknowledgedPosition()).toBe(0n);
    expect(acknowledger.isOutstanding()).toBe(true);
    gates.recorded = 10n;
    expect(acknowledger.isOutstanding()).toBe(false);
    expect(acknowledger.acknowledgedPosition()).toBe(50n);
  });

  it('acknowledges keepalives when nothing was ever received', () => {
    const { acknowledger } = withGates();
    acknowledger.passed(50n);
    expect(acknowledger.acknowledgedPosition()).toBe(50n);
  });

  it('never acknowledges a position that was not received, however far ahead the gates are', () => {
    const { gates, acknowledger } = withGates();
    acknowledger.received(10n);
    gates.recorded = 15n;
    gates.settled = 99n;
    expect(acknowledger.acknowledgedPosition()).toBe(10n);
  });

  it('starts where the slot stands', () => {
    const { acknowledger } = withGates();
    acknowledger.startAt(70n);
    acknowledger.received(80n);
    expect(acknowledger.acknowledgedPosition()).toBe(70n);
  });

  it('never goes back, and never passes an unfinished commit, whatever happens in whatever order', () => {
    const step = fc.record({
      what: fc.constantFrom('receive', 'record', 'settle', 'pass', 'ask' as const),
      by: fc.bigInt(1n, 5n),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const { gates, acknowledger } = withGates();
        const received: bigint[] = [];
        let end = 0n;
        let last = 0n;
        for (const { what, by } of steps) {
          const newest = received.at(-1) ?? 0n;
          if (what === 'receive') acknowledger.received((received.push((end += by)), end));
          if (what === 'record') gates.recorded = received.find((position) => position > gates.recorded) ?? newest;
          if (what === 'settle') gates.settled = received.find((position) => position > gates.settled) ?? newest;
          if (what === 'pass') acknowledger.passed((end += by));
          const acknowledged = acknowledger.acknowledgedPosition();
          expect(acknowledged).toBeGreaterThanOrEqual(last);
          last = acknowledged;
          const unfinished = received.find((position) => position > gates.recorded || position > gates.settled);
          if (unfinished !== undefined) expect(acknowledged).toBeLessThan(unfinished);
        }
      }),
    );
  });
});
