/** What a socket and the channel on it know of each other. */
import type { ClientPushes, GatewayPushes, RelayPushes } from '../protocol/outbound.js';
import type { Addressed, Frame } from '../protocol/frame.js';

/** One joined topic. Made when the peer joins; gone when it leaves or the socket closes. Never outlives the socket (D24). */
export interface Channel {
  /** A frame on the channel's topic that is not a control event. */
  receive(frame: Frame): void;
  /** The peer left or the socket is closing. Called once; nothing can be pushed any more. */
  closed(): void;
}

/** The socket as its channel sees it. Everything is queued on the socket in the order of the calls. */
export interface ChannelSocket<Pushes> {
  /** It speaks Phoenix V1, as every Rust peer does and no tool: it can set up no flow without a relay. */
  readonly isRustPeer: boolean;
  push<Event extends keyof Pushes & string>(event: Event, payload: Pushes[Event]): void;
  replyOk(to: Addressed): void;
  /** Only for requests of clients before 1.4. */
  replyData(to: Addressed, response: Readonly<Record<string, unknown>>): void;
  /** @param extra stands next to `reason` */
  replyError(to: Addressed, reason: string, extra?: Readonly<Record<string, unknown>>): void;
  /** Ends the socket; what was pushed before still goes out. The reason is for our log: close frames carry none (D24). */
  close(code: CloseCode, why: string): void;
  /**
   * Asks the peer to prove that it has read everything sent before: a ping that every peer ignores (wire-protocol.md 0.5).
   * @param passed called when the answer is here; never once the channel is closed, nor once another barrier was sent
   */
  barrier(passed: () => void): void;
  /** Cuts the peer off at once, without a close frame; what is still unsent is lost. */
  terminate(why: string): void;
  /** Channel code failed: reports and closes. */
  crashed(error: unknown): void;
}

export type ClientSocket = ChannelSocket<ClientPushes>;
export type GatewaySocket = ChannelSocket<GatewayPushes>;
export type RelaySocket = ChannelSocket<RelayPushes>;

/** RFC 6455 section 7.4.1 and the IANA registry: normal, going away, protocol error, no text, internal error, restart. */
export type CloseCode = 1000 | 1001 | 1002 | 1003 | 1011 | 1012;
