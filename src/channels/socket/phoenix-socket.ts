/**
 * One WebSocket with the one Phoenix topic its peer may join.
 *
 * States: *open* (frames are read; a channel exists from the join on), *closing* (our close frame is out, nothing is
 * read or sent any more; the peer has two seconds to answer it), *closed*. The channel dies with the socket and a socket
 * never outlives a failed channel: a peer would take it for connected (D24).
 */
import type { WebSocket } from 'ws';
import type { EpochMs } from '../../core/model/time.js';
import type { Metrics, PeerRole } from '../../core/ports/metrics.js';
import type { Clock } from '../../core/support/clock.js';
import type { Logger } from '../../core/support/logger.js';
import { encodeBarrier, type Addressed, type Frame, type Ref, type Serializer } from '../../protocol/frame.js';
import { TokenBucket, type Rate } from '../../core/support/token-bucket.js';
import type { Channel, ChannelSocket, CloseCode } from '../channel.js';
import type { SocketEnd } from '../upgrade/connect-guard.js';

export interface SocketLimits {
  /** Without any inbound frame for this long the socket is closed. Unit ms. */
  readonly idleMs: number;
  /** A peer that has not joined by then is closed. Unit ms. */
  readonly joinTimeoutMs: number;
  /** A peer that lets more than this pile up is cut off: it would hold the memory of everybody else. */
  readonly maxOutboundBytes: number;
  /** Frames that are read of a peer; one that says more is read later. */
  readonly frames: Rate;
}

export interface SocketDependencies {
  readonly clock: Clock;
  readonly metrics: Metrics;
  readonly log: Logger;
}

/** How long a peer may take to answer our close frame before the transport is destroyed. */
const CLOSE_TIMEOUT_MS = 2000;

const TEXT_FRAME = { binary: false };

export class PhoenixSocket<Pushes> implements ChannelSocket<Pushes> {
  #channel: Channel | undefined;
  #joinRef: Ref = null;
  #open = true;
  #lastInbound: number;
  readonly #budget: TokenBucket;
  #barriers = 0;
  #barrier: { readonly payload: string; readonly passed: () => void } | undefined;
  #cancelResume: (() => void) | undefined;
  #cancelIdle: () => void;
  #cancelJoin: () => void;

  /**
   * @param role also the only topic
   * @param join makes the channel, or says why this peer may not join (any join error is fatal to a Rust peer)
   */
  constructor(
    private readonly ws: WebSocket,
    private readonly role: PeerRole,
    private readonly serializer: Serializer,
    private readonly join: (socket: ChannelSocket<Pushes>, payload: unknown) => Channel | { readonly refused: string },
    private readonly limits: SocketLimits,
    private readonly with_: SocketDependencies,
    private readonly onEnd: (end: SocketEnd) => void,
  ) {
    this.#budget = new TokenBucket(limits.frames, with_.clock.now());
    this.#lastInbound = with_.clock.now();
    this.#cancelIdle = this.#watchIdle(limits.idleMs);
    this.#cancelJoin = this.#expectJoin();
    ws.on('message', (data: Buffer, isBinary: boolean) => {
      this.#received(data, isBinary);
    });
    // Control frames cost as much as others, and `ws` answers each ping. An answer to our own ping is not the peer's idea.
    ws.on('ping', () => {
      if (this.#open) this.#count(with_.clock.now());
    });
    ws.on('pong', (data: Buffer) => {
      if (this.#open && !this.#passesBarrier(data)) this.#count(with_.clock.now());
    });
    ws.on('error', (error) => {
      with_.log.debug('socket.error', { role, error }); // ws closes by itself: 1002, 1007, 1009
    });
    ws.on('close', (code) => {
      this.#ended(`peer-closed-${code}`, false);
    });
    with_.metrics.channelOpened(role);
  }

  get isRustPeer(): boolean {
    return this.serializer.version === 1;
  }

  push<Event extends keyof Pushes & string>(event: Event, payload: Pushes[Event]): void {
    if (!this.#open) return;
    this.#send(this.serializer.encodePush(this.role, event, JSON.stringify(payload), this.#joinRef));
    this.with_.metrics.pushed(this.role, event);
  }

  replyOk(to: Addressed): void {
    this.#send(this.serializer.encodeOk(to));
  }

  replyData(to: Addressed, response: Readonly<Record<string, unknown>>): void {
    this.#send(this.serializer.encodeData(to, response));
  }

  replyError(to: Addressed, reason: string, extra?: Readonly<Record<string, unknown>>): void {
    this.#send(this.serializer.encodeError(to, reason, extra));
  }

  close(code: CloseCode, why: string): void {
    if (!this.#open) return;
    this.ws.close(code);
    const cancel = this.with_.clock.after(CLOSE_TIMEOUT_MS, () => {
      this.ws.terminate();
    });
    this.ws.once('close', cancel);
    this.#ended(why, true);
  }

  barrier(passed: () => void): void {
    if (!this.#open) return;
    const payload = encodeBarrier((this.#barriers += 1));
    this.#barrier = { payload, passed };
    this.ws.ping(payload);
  }

  terminate(why: string): void {
    if (!this.#open) return;
    this.ws.terminate();
    this.#ended(why, true);
  }

  crashed(error: unknown): void {
    this.with_.log.error('channel.crashed', { role: this.role, error });
    this.close(1011, 'crashed');
  }

  /** Another payload, also that of an earlier barrier, proves nothing. */
  #passesBarrier(data: Buffer): boolean {
    const barrier = this.#barrier;
    if (barrier?.payload !== data.toString()) return false;
    this.#barrier = undefined;
    try {
      barrier.passed();
    } catch (error) {
      this.crashed(error);
    }
    return true;
  }

  #received(data: Buffer, isBinary: boolean): void {
    if (!this.#open) return;
    this.#lastInbound = this.with_.clock.now();
    this.#count(this.#lastInbound);
    if (isBinary) {
      this.#refuse('binary', 1003);
      return;
    }
    const decoded = this.serializer.decode(data.toString());
    if (!decoded.ok) {
      this.#refuse(decoded.why, 1002);
      return;
    }
    try {
      this.#dispatch(decoded.frame);
    } catch (error) {
      this.crashed(error);
    }
  }

  /**
   * Who says too much is not cut off but read more slowly, and nobody else pays: what is not read waits at the peer. What
   * the WebSocket has read already still comes, so the bucket may be in debt.
   */
  #count(now: EpochMs): void {
    const waitMs = this.#budget.spend(now);
    if (waitMs === 0 || this.#cancelResume) return;
    this.with_.metrics.throttled(this.role);
    this.ws.pause();
    this.#cancelResume = this.with_.clock.after(waitMs, () => {
      this.#cancelResume = undefined;
      this.#lastInbound = this.with_.clock.now(); // the silence was ours
      this.ws.resume();
    });
  }

  #dispatch(frame: Frame): void {
    if (frame.topic === 'phoenix' && frame.event === 'heartbeat') this.replyOk(frame);
    else if (frame.event === 'phx_join') this.#joinTopic(frame);
    else if (frame.topic !== this.role || !this.#channel) this.replyError(frame, 'unmatched topic');
    else if (frame.event === 'phx_leave') this.#leave(frame);
    else this.#channel.receive(frame);
  }

  /** Answered before anything is loaded: seed-era peers never forget a join that got no reply. */
  #joinTopic(frame: Frame): void {
    if (frame.topic !== this.role) {
      this.replyError(frame, 'unmatched topic');
      return;
    }
    // A second join replaces the first. A V1 peer must not see `phx_close`: it would reconnect (wire-protocol.md 2.2).
    this.#dropChannel();
    const joinRef = this.#joinRef;
    if (joinRef !== null) this.#send(this.serializer.encodeClose(this.role, joinRef));
    const channel = this.join(this, frame.payload);
    if ('refused' in channel) {
      this.replyError(frame, channel.refused);
      return;
    }
    this.#cancelJoin();
    this.#joinRef = frame.joinRef;
    this.#channel = channel;
    this.replyOk(frame);
  }

  #leave(frame: Frame): void {
    this.#dropChannel();
    this.replyOk(frame);
    this.#send(this.serializer.encodeClose(this.role, this.serializer.version === 1 ? null : this.#joinRef));
    this.#joinRef = null;
    this.#cancelJoin = this.#expectJoin();
  }

  #dropChannel(): void {
    const channel = this.#channel;
    this.#channel = undefined;
    this.#barrier = undefined;
    channel?.closed();
  }

  #send(text: string): void {
    if (!this.#open) return;
    // What piled up counts, not the frame that comes: an `init` may be larger than the bound, and must not close every join.
    if (this.ws.bufferedAmount > this.limits.maxOutboundBytes) {
      this.terminate('too-slow');
      return;
    }
    // As bytes: ws would encode a string while it writes, in a slower system call (D44).
    this.ws.send(Buffer.from(text), TEXT_FRAME);
  }

  #refuse(why: string, code: CloseCode): void {
    this.with_.metrics.frameRefused(this.role, why);
    this.close(code, why);
  }

  #ended(why: string, byUs: boolean): void {
    if (!this.#open) return;
    this.#open = false;
    this.#cancelIdle();
    this.#cancelJoin();
    if (this.#cancelResume) {
      this.#cancelResume();
      this.ws.resume(); // else the answer to our close frame is never read
    }
    this.onEnd({ why, byUs });
    this.with_.metrics.channelClosed(this.role, why);
    this.with_.log.debug('socket.closed', { role: this.role, why });
    try {
      this.#dropChannel();
    } catch (error) {
      this.with_.log.error('channel.crashed', { role: this.role, error });
    }
  }

  /** One timer per socket, armed again for what is left: a frame costs a clock reading and nothing more. */
  #watchIdle(delayMs: number): () => void {
    return this.with_.clock.after(delayMs, () => {
      const leftMs = this.#lastInbound + this.limits.idleMs - this.with_.clock.now();
      if (leftMs <= 0) this.close(1000, 'idle');
      else this.#cancelIdle = this.#watchIdle(leftMs);
    });
  }

  #expectJoin(): () => void {
    return this.with_.clock.after(this.limits.joinTimeoutMs, () => {
      this.close(1000, 'never-joined');
    });
  }
}
