import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { Acknowledger } from './acknowledger.js';
import { OpenReceipts } from './open-receipts.js';

/** An acknowledger that waits for receipts alone. */
function withReceipts() {
  const receipts = new OpenReceipts();
  return { receipts, acknowledger: new Acknowledger([() => receipts.receiptedPosition()]) };
}

describe('ACK-2: OpenReceipts', () => {
  it('holds a commit back, and every later one, until its receipt', () => {
    const { receipts, acknowledger } = withReceipts();
    acknowledger.received(10n);
    const closed = receipts.opened(20n);
    acknowledger.received(20n);
    acknowledger.received(30n);
    expect(acknowledger.acknowledgedPosition()).toBe(19n);
    expect(acknowledger.isOutstanding()).toBe(true);
    closed();
    expect(acknowledger.acknowledgedPosition()).toBe(30n);
    expect(acknowledger.isOutstanding()).toBe(false);
  });

  it('holds back nothing when nothing is open, keepalives included', () => {
    const { acknowledger } = withReceipts();
    acknowledger.received(10n);
    acknowledger.passed(50n);
    expect(acknowledger.acknowledgedPosition()).toBe(50n);
  });

  it('waits for every gateway that a commit concerned', () => {
    const { receipts, acknowledger } = withReceipts();
    const [first, second] = [receipts.opened(20n), receipts.opened(20n)];
    acknowledger.received(20n);
    first();
    first(); // a socket that ends after its receipt closes nothing that is another's
    expect(acknowledger.acknowledgedPosition()).toBe(19n);
    second();
    expect(acknowledger.acknowledgedPosition()).toBe(20n);
  });

  it('takes nothing back of what is acknowledged already: a join may speak for an old position', () => {
    const { receipts, acknowledger } = withReceipts();
    acknowledger.received(20n);
    expect(acknowledger.acknowledgedPosition()).toBe(20n);
    receipts.opened(5n);
    expect(acknowledger.acknowledgedPosition()).toBe(20n);
  });

  it('forgets another branch of history, and what it opened there closes nothing here', () => {
    const { receipts } = withReceipts();
    const former = receipts.opened(20n);
    receipts.forget();
    expect(receipts.receiptedPosition()).toBeGreaterThan(20n);
    receipts.opened(20n);
    former();
    expect(receipts.receiptedPosition()).toBe(19n);
  });

  it('is one below the lowest that is open, whatever opens and closes in whatever order', () => {
    const step = fc.oneof(
      fc.record({ open: fc.bigInt(1n, 12n) }),
      fc.record({ close: fc.nat(11) }, { requiredKeys: ['close'] }),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const receipts = new OpenReceipts();
        const open: { readonly position: bigint; readonly close: () => void }[] = [];
        for (const each of steps) {
          if ('open' in each) open.push({ position: each.open, close: receipts.opened(each.open) });
          else open.splice(each.close % Math.max(open.length, 1), 1)[0]?.close();
          const held = open.map(({ position }) => position).sort((a, b) => (a < b ? -1 : 1));
          if (held[0] === undefined) expect(receipts.receiptedPosition()).toBeGreaterThan(12n);
          else expect(receipts.receiptedPosition()).toBe(held[0] - 1n);
        }
      }),
    );
  });
});
