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

/** What one barrier serves. Its time runs from its first push, on a timer: the wall clock may be set meanwhile. */
interface Group {
  readonly pushes: Open[];
  readonly cancelTimeout: () => void;
}

type Services = Pick<ChannelServices, 'clock' | 'flowRecords' | 'limits' | 'log' | 'metrics' | 'receipts'>;

export class Receipts {
  #asked: Group | undefined;
  /** Pushed after the barrier that is out. */
  #waiting: Group | undefined;
  #hasEnded = false;

  constructor(
    private readonly peer: Pick<ConnectedGateway, 'accountId' | 'gatewayId'>,
    private readonly socket: Pick<GatewaySocket, 'barrier' | 'terminate'>,
    private readonly with_: Services,
  ) {}

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
      this.#waiting ??= this.#newGroup();
      this.#waiting.pushes.push({ ...pushed, at, release });
    }
  }

  /** Sends the barrier, unless nothing waits for one or one is out. */
  ask(): void {
    if (this.#asked || !this.#waiting) return;
    this.#asked = this.#waiting;
    this.#waiting = undefined;
    this.socket.barrier(() => {
      this.#passed();
    });
  }

  /** The channel is gone. */
  end(how: Exclude<PushEnd, 'receipted'> = 'socket-closed'): void {
    if (this.#hasEnded) return;
    this.#hasEnded = true;
    const now = this.with_.clock.now();
    for (const group of [this.#asked, this.#waiting]) {
      group?.cancelTimeout();
      for (const open of group?.pushes ?? []) this.#record(open, how, now);
    }
    this.#asked = this.#waiting = undefined;
  }

  #newGroup(): Group {
    const cancelTimeout = this.with_.clock.after(this.with_.limits.receiptTimeoutMs, () => {
      this.#cutOff();
    });
    return { pushes: [], cancelTimeout };
  }

  #passed(): void {
    const passed = this.#asked;
    if (!passed) return;
    this.#asked = undefined;
    passed.cancelTimeout();
    const now = this.with_.clock.now();
    for (const open of passed.pushes) {
      this.#record(open, 'receipted', now);
      const committedAt = open.cause?.committedAt ?? null;
      // The database's clock may be ahead, and ours may have been set back.
      const since = (at: EpochMs): number => Math.max(0, now - at);
      this.with_.metrics.receipted(since(open.at), committedAt === null ? null : since(committedAt));
      open.onReceipt?.();
    }
    this.ask();
  }

  /** It may be gone, or cut off from us, or hold what we took: closed, it comes back to the whole truth. */
  #cutOff(): void {
    const { accountId, gatewayId } = this.peer;
    const count = (this.#asked?.pushes.length ?? 0) + (this.#waiting?.pushes.length ?? 0);
    this.with_.log.warn('gateway.no-receipt', { accountId, gatewayId, count });
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
