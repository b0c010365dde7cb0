/**
 * Proof that one gateway has read its rejections (G4, events.md B.8.2). What was pushed waits for a barrier: a ping on the
 * same socket, whose answer can come only when everything before it was read.
 *
 * States: *quiet* (nothing waits), *asked* (one barrier is out; what is pushed meanwhile waits for the next one), *ended*
 * (the channel is gone: what had no receipt has none, and its flows are told again at the next join, D22).
 *
 * One ping for each rejection would be as true and cost a round trip of both processes for each pair of a large commit.
 */
import type { FlowId } from '../../core/model/ids.js';
import type { PushEnd } from '../../core/model/flow.js';
import type { EpochMs } from '../../core/model/time.js';
import type { Cause } from '../../core/ports/account-streams.js';
import { Alarm } from '../alarm.js';
import type { GatewaySocket } from '../channel.js';
import type { ChannelServices } from '../channel-services.js';
import type { ConnectedGateway } from '../connected-peer.js';

export interface Pushed {
  /** Rows of `flows` that this rejection ended; none for an `init` that names clients without a row. */
  readonly flowIds: readonly FlowId[];
  /** Null: no commit is held back by it. */
  readonly cause: Cause | null;
  /** Called once the gateway has read it, or at once when nobody asks for receipts. */
  readonly onReceipt?: () => void;
}

interface Open extends Pushed {
  readonly at: EpochMs;
  /** The commit need not wait for this any more (ACK-2). */
  readonly release: () => void;
}

type Services = Pick<ChannelServices, 'clock' | 'flowRecords' | 'limits' | 'log' | 'metrics' | 'receipts'>;

export class Receipts {
  /** Oldest first, as in `#asked`, which is older. */
  readonly #waiting: Open[] = [];
  #asked: Open[] = [];
  #hasEnded = false;
  readonly #tooLate: Alarm;

  constructor(
    private readonly peer: Pick<ConnectedGateway, 'accountId' | 'gatewayId'>,
    private readonly socket: Pick<GatewaySocket, 'barrier' | 'terminate'>,
    private readonly with_: Services,
  ) {
    this.#tooLate = new Alarm(with_.clock, () => {
      this.#cutOff();
    });
  }

  /** Just pushed on the socket. Call `ask` when the step has pushed all it has, so that one barrier serves all of it. */
  pushed(pushed: Pushed): void {
    const at = this.with_.clock.now();
    if (!this.with_.limits.receiptsAreAsked) {
      this.#record({ ...pushed, at, release: NOTHING }, 'unreceipted', at);
      pushed.onReceipt?.();
    } else if (this.#hasEnded) {
      this.#record({ ...pushed, at, release: NOTHING }, 'socket-closed', at); // the push itself was too much for the socket
    } else {
      const release = pushed.cause ? this.with_.receipts.opened(pushed.cause.position) : NOTHING;
      this.#waiting.push({ ...pushed, at, release });
      this.#tooLate.setEarlier(at + this.with_.limits.receiptTimeoutMs);
    }
  }

  /** Sends the barrier, unless nothing waits for one or one is out. */
  ask(): void {
    if (this.#asked.length > 0 || this.#waiting.length === 0) return;
    this.#asked = this.#waiting.splice(0);
    this.socket.barrier(() => {
      this.#passed();
    });
  }

  /** The channel is gone. */
  end(how: Exclude<PushEnd, 'receipted'> = 'socket-closed'): void {
    if (this.#hasEnded) return;
    this.#hasEnded = true;
    this.#tooLate.set(null);
    const now = this.with_.clock.now();
    for (const open of [...this.#asked.splice(0), ...this.#waiting.splice(0)]) this.#record(open, how, now);
  }

  #passed(): void {
    if (this.#hasEnded) return;
    const now = this.with_.clock.now();
    for (const open of this.#asked.splice(0)) {
      this.#record(open, 'receipted', now);
      const committedAt = open.cause?.committedAt ?? null;
      // Two clocks: the database's may be ahead.
      this.with_.metrics.receipted(now - open.at, committedAt === null ? null : Math.max(0, now - committedAt));
      open.onReceipt?.();
    }
    this.ask();
    const [oldest] = this.#asked;
    this.#tooLate.set(oldest ? oldest.at + this.with_.limits.receiptTimeoutMs : null);
  }

  /** It may be gone, or cut off from us, or hold what we took: closed, it comes back to the whole truth. */
  #cutOff(): void {
    const { accountId, gatewayId } = this.peer;
    const unreceipted = this.#asked.length + this.#waiting.length;
    this.with_.log.warn('gateway.no-receipt', { accountId, gatewayId, count: unreceipted });
    this.end('no-receipt');
    this.socket.terminate('no-receipt');
  }

  #record({ flowIds, at: pushedAt, release }: Open, how: PushEnd, at: EpochMs): void {
    const { accountId } = this.peer;
    for (const flowId of flowIds) this.with_.flowRecords.delivered({ accountId, flowId, how, pushedAt, at });
    release();
  }
}

const NOTHING = (): void => undefined;
