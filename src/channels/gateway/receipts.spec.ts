import { beforeEach, describe, expect, it, jest } from '@jest/globals';
import { ACCOUNT, GATEWAY, idOf, MONDAY_9 } from '../../../test/support/builders.js';
import { ManualClock } from '../../../test/support/manual-clock.js';
import type { FlowId } from '../../core/model/ids.js';
import type { FlowDelivery } from '../../core/ports/flow-records.js';
import { Receipts } from './receipts.js';

const TIMEOUT_MS = 10_000;

/** Its wall clock can be set while its timers run on. */
class SettableClock extends ManualClock {
  setBy = 0;

  override now(): number {
    return super.now() + this.setBy;
  }
}

/** A gateway's socket that answers when a test says so, and what came of it. */
class Gateway {
  readonly clock = new SettableClock();
  readonly terminated: string[] = [];
  readonly receipted = jest.fn();
  readonly warned = jest.fn();
  readonly deliveries: FlowDelivery[] = [];
  /** Positions that are held back. */
  readonly held: bigint[] = [];
  readonly receipts: Receipts;
  /** Pings sent; the last one is out until `pongs`. */
  pings = 0;
  #passed = (): void => undefined;

  constructor(receiptsAreAsked = true) {
    const ignore = (): void => undefined;
    this.receipts = new Receipts(
      { accountId: ACCOUNT, gatewayId: GATEWAY },
      {
        barrier: (passed) => {
          this.pings += 1;
          this.#passed = passed;
        },
        terminate: (why) => {
          this.terminated.push(why);
          this.receipts.end(); // as the channel does when its socket ends
        },
      },
      {
        clock: this.clock,
        flowRecords: { delivered: (delivery: FlowDelivery) => this.deliveries.push(delivery) } as never,
        limits: { receiptsAreAsked, receiptTimeoutMs: TIMEOUT_MS } as never,
        log: { error: ignore, warn: this.warned, info: ignore, debug: ignore },
        metrics: { receipted: this.receipted } as never,
        receipts: {
          opened: (position) => {
            this.held.push(position);
            return () => this.held.splice(this.held.indexOf(position), 1);
          },
        },
      },
    );
  }

  /** Pushes a rejection of one flow, of a commit made 3 ms ago. */
  rejects(flow: string, position = 7n): void {
    const cause = { position, committedAt: this.clock.now() - 3 };
    this.receipts.pushed({ flowIds: [idOf<FlowId>(flow)], cause });
  }

  pongs(): void {
    this.#passed();
  }

  /** Flows of which the end is known, with how, since the last call. */
  ends(): string[] {
    return this.deliveries.splice(0).map(({ flowId, how }) => `${names.get(flowId)} ${how}`);
  }
}

const names = new Map(['a', 'b', 'c', 'd'].map((name) => [idOf<FlowId>(name), name]));
let gateway: Gateway;

beforeEach(() => {
  gateway = new Gateway();
});

describe('G4: a rejection', () => {
  it('is receipted when the gateway answers the ping that followed it, and its commit is held back until then', () => {
    gateway.rejects('a');
    gateway.receipts.ask();
    gateway.clock.advance(20);
    expect([gateway.pings, gateway.ends(), gateway.held]).toEqual([1, [], [7n]]);
    gateway.pongs();
    expect(gateway.deliveries).toEqual([
      {
        ...{ accountId: ACCOUNT, flowId: idOf<FlowId>('a'), how: 'receipted' },
        ...{ pushedAt: MONDAY_9, at: MONDAY_9 + 20 },
      },
    ]);
    expect(gateway.held).toEqual([]);
    expect(gateway.receipted.mock.calls).toEqual([[20, 23]]);
    expect(gateway.clock.pending).toBe(0);
  });

  it('shares one ping with all of its step', () => {
    gateway.rejects('a');
    gateway.rejects('b');
    gateway.receipts.ask();
    gateway.pongs();
    expect([gateway.pings, gateway.ends()]).toEqual([1, ['a receipted', 'b receipted']]);
  });

  it('that is pushed while a ping is out waits for the next one: the answer to the first says nothing of it', () => {
    gateway.rejects('a');
    gateway.receipts.ask();
    gateway.rejects('b', 8n);
    gateway.receipts.ask();
    gateway.rejects('c', 9n);
    gateway.receipts.ask();
    expect(gateway.pings).toBe(1);
    gateway.pongs();
    expect([gateway.pings, gateway.ends(), gateway.held]).toEqual([2, ['a receipted'], [8n, 9n]]);
    gateway.pongs();
    expect([gateway.pings, gateway.ends(), gateway.held]).toEqual([2, ['b receipted', 'c receipted'], []]);
    expect(gateway.terminated).toEqual([]);
  });

  it('that no commit caused holds nothing back', () => {
    gateway.receipts.pushed({ flowIds: [idOf<FlowId>('a')], cause: null });
    gateway.receipts.ask();
    expect(gateway.held).toEqual([]);
    gateway.pongs();
    expect(gateway.receipted.mock.calls).toEqual([[0, null]]);
  });

  it('of a database whose clock is ahead took no less than nothing', () => {
    gateway.receipts.pushed({ flowIds: [], cause: { position: 7n, committedAt: MONDAY_9 + 500 } });
    gateway.receipts.ask();
    gateway.pongs();
    expect(gateway.receipted.mock.calls).toEqual([[0, 0]]);
  });

  it('tells whoever waits for the receipt, once', () => {
    const onReceipt = jest.fn();
    gateway.receipts.pushed({ flowIds: [], cause: null, onReceipt });
    gateway.receipts.ask();
    expect(onReceipt).not.toHaveBeenCalled();
    gateway.pongs();
    gateway.receipts.end();
    expect(onReceipt).toHaveBeenCalledTimes(1);
  });
});

describe('nothing pushed', () => {
  it('is not asked about', () => {
    gateway.receipts.ask();
    expect([gateway.pings, gateway.clock.pending]).toEqual([0, 0]);
  });
});

describe('a gateway that does not answer', () => {
  it('is cut off ten seconds after the push, and its commits are held back no longer', () => {
    gateway.rejects('a');
    gateway.receipts.ask();
    gateway.clock.advance(TIMEOUT_MS - 1);
    expect([gateway.terminated, gateway.held]).toEqual([[], [7n]]);
    gateway.clock.advance(1);
    expect([gateway.terminated, gateway.held]).toEqual([['no-receipt'], []]);
    expect(gateway.ends()).toEqual(['a no-receipt']);
    expect(gateway.warned.mock.calls).toEqual([
      ['gateway.no-receipt', { accountId: ACCOUNT, gatewayId: GATEWAY, count: 1 }],
    ]);
  });

  it('has ten seconds for each rejection, counted from its push and not from the ping that waits for another', () => {
    gateway.rejects('a');
    gateway.receipts.ask();
    gateway.clock.advance(6_000);
    gateway.rejects('b');
    gateway.receipts.ask();
    gateway.clock.advance(3_000);
    gateway.pongs(); // at 9 s: for a; the ping for b goes out, which was pushed at 6 s
    expect(gateway.ends()).toEqual(['a receipted']);
    gateway.clock.advance(6_999);
    expect(gateway.terminated).toEqual([]);
    gateway.clock.advance(1);
    expect([gateway.terminated, gateway.ends()]).toEqual([['no-receipt'], ['b no-receipt']]);
  });

  it('is cut off although it answered an older ping, when what waits is too old', () => {
    gateway.rejects('a');
    gateway.receipts.ask();
    gateway.rejects('b');
    gateway.receipts.ask();
    gateway.clock.advance(9_999);
    gateway.pongs();
    gateway.clock.advance(1);
    expect([gateway.terminated, gateway.ends()]).toEqual([['no-receipt'], ['a receipted', 'b no-receipt']]);
  });

  it.each([
    ['set back', -3_600_000],
    ['set forward', 3_600_000],
  ])('has its ten seconds also when the wall clock is %s meanwhile', (_how, byMs) => {
    gateway.rejects('a');
    gateway.receipts.ask();
    gateway.rejects('b');
    gateway.clock.setBy = byMs;
    gateway.clock.advance(5_000);
    gateway.pongs();
    expect(gateway.receipted.mock.calls.map(([sincePushMs]) => sincePushMs)).toEqual([Math.max(0, byMs + 5_000)]);
    gateway.clock.advance(4_999);
    expect(gateway.terminated).toEqual([]);
    gateway.clock.advance(1);
    expect([gateway.terminated, gateway.ends()]).toEqual([['no-receipt'], ['a receipted', 'b no-receipt']]);
  });

  it('gives up all it owed at once, also what waited for its turn', () => {
    gateway.rejects('a');
    gateway.receipts.ask();
    gateway.clock.advance(1_000);
    gateway.rejects('b', 8n);
    gateway.clock.advance(9_000);
    expect([gateway.ends(), gateway.held]).toEqual([['a no-receipt', 'b no-receipt'], []]);
  });

  it('is cut off also when the step forgot to ask', () => {
    gateway.rejects('a');
    gateway.clock.advance(TIMEOUT_MS);
    expect([gateway.pings, gateway.terminated]).toEqual([0, ['no-receipt']]);
  });
});

describe('a socket that ends first', () => {
  it('leaves what it owed unreceipted, holds nothing back, and no timer behind', () => {
    gateway.rejects('a');
    gateway.receipts.ask();
    gateway.rejects('b', 8n);
    gateway.receipts.end();
    expect([gateway.ends(), gateway.held]).toEqual([['a socket-closed', 'b socket-closed'], []]);
    expect(gateway.clock.pending).toBe(0);
    gateway.pongs(); // nobody can be told by it any more
    gateway.receipts.end();
    expect([gateway.ends(), gateway.receipted.mock.calls]).toEqual([[], []]);
  });

  it('because the rejection itself was too much for it: the rest of the step is unreceipted too', () => {
    gateway.receipts.end();
    gateway.rejects('a');
    gateway.receipts.ask();
    expect([gateway.ends(), gateway.held, gateway.pings]).toEqual([['a socket-closed'], [], 0]);
    expect(gateway.clock.pending).toBe(0);
  });
});

describe('RECEIPTS=off', () => {
  it('sends no ping, waits for nothing, and claims no receipt', () => {
    gateway = new Gateway(false);
    const onReceipt = jest.fn();
    gateway.rejects('a');
    gateway.receipts.pushed({ flowIds: [], cause: null, onReceipt });
    gateway.receipts.ask();
    expect([gateway.ends(), gateway.pings, gateway.held]).toEqual([['a unreceipted'], 0, []]);
    expect(onReceipt).toHaveBeenCalledTimes(1);
    expect([gateway.receipted.mock.calls, gateway.clock.pending]).toEqual([[], 0]);
    gateway.receipts.end();
    expect(gateway.ends()).toEqual([]);
  });
});
