/**
 * Bounds what one gateway has not answered: from 1.4.16 on a gateway that gets about 258 `authorize_flow` back to back
 * deadlocks for good (D34). What does not fit waits its turn, is decided when it is sent, and is dropped when its client
 * has not repeated it for a while.
 */
import type { Flow } from '../../core/authorizer/flow-table.js';
import type { ConnectionId } from '../../core/model/ids.js';
import type { EpochMs } from '../../core/model/time.js';
import type { FlowRequest, PairSecrets } from '../../core/ports/presence.js';
import type { Clock } from '../../core/support/clock.js';

/** A pushed request that the gateway has not answered. */
export interface Unanswered {
  readonly request: FlowRequest;
  readonly flow: Flow;
  readonly secrets: PairSecrets;
  readonly sentAt: EpochMs;
}

/** A ref older than this opens nothing (D29); the peers' own handshake gives up after 20 s. */
const ANSWER_WITHIN_MS = 60_000;
/** The client repeats every 2 s; later than this nobody waits for the answer. */
const WAIT_AT_MOST_MS = 10_000;
/** Refs of `allow_access` that are remembered: gateways of 1.4 answer none, older ones soon. */
const MAX_UNEXPECTED = 256;

export class FlowQueue {
  readonly #unanswered = new Map<string, Unanswered>();
  /** Sent, and perhaps never answered: takes no slot from anybody. */
  readonly #unexpected = new Map<string, Unanswered>();
  /** By client connection and resource: a client repeats itself every 2 s, and only its last word counts. */
  readonly #waiting = new Map<string, { readonly request: FlowRequest; readonly since: EpochMs }>();

  /** @param isHeld whether a flow is still registered: once it is lost, its answer serves nobody */
  constructor(
    private readonly limit: number,
    private readonly clock: Clock,
    private readonly isHeld: (flow: Flow) => boolean,
  ) {}

  /**
   * True: send it now. False: it waits, or it repeats what the gateway has not answered yet: the answer to the first
   * serves both, and a slot more for each repeat would soon leave none for others. A `request_connection` brings secrets
   * of its own each time, so a repeat waits for the answer to the one before.
   */
  admit(request: FlowRequest): boolean {
    this.#expire();
    if (request.dialect.kind === 'reuse-connection') return true;
    for (const [ref, unanswered] of this.#unanswered) {
      if (waiterOf(unanswered.request) !== waiterOf(request) || !this.isHeld(unanswered.flow)) continue;
      if (request.dialect.kind === 'flow' && unanswered.request.dialect.kind === 'flow') {
        this.#unanswered.set(ref, { ...unanswered, request });
        return false;
      }
      return this.#wait(request);
    }
    return this.#unanswered.size < this.limit || this.#wait(request);
  }

  sent(ref: string, unanswered: Unanswered): void {
    const isExpected = unanswered.request.dialect.kind !== 'reuse-connection';
    (isExpected ? this.#unanswered : this.#unexpected).set(ref, unanswered);
    for (const oldest of this.#unexpected.keys()) {
      if (this.#unexpected.size <= MAX_UNEXPECTED) break;
      this.#unexpected.delete(oldest);
    }
  }

  /** Takes the request that a ref answers, once; undefined when there is none, or it is too late. */
  answered(ref: string): Unanswered | undefined {
    const unanswered = this.#unanswered.get(ref) ?? this.#unexpected.get(ref);
    this.#unanswered.delete(ref);
    this.#unexpected.delete(ref);
    return unanswered && this.clock.now() - unanswered.sentAt <= ANSWER_WITHIN_MS ? unanswered : undefined;
  }

  /** The next request whose turn has come. */
  next(): FlowRequest | undefined {
    this.#expire();
    if (this.#unanswered.size >= this.limit) return undefined;
    for (const [waiter, { request }] of this.#waiting) {
      if (this.#isUnanswered(waiter)) continue;
      this.#waiting.delete(waiter);
      return request;
    }
    return undefined;
  }

  /** Whether this client connection has asked for a flow that is still open: its ICE candidates may pass (D32). */
  concerns(connectionId: ConnectionId): boolean {
    const isOf = ({ request }: { readonly request: FlowRequest }): boolean =>
      request.client.connectionId === connectionId;
    return [...this.#unanswered.values()].some(isOf) || [...this.#waiting.values()].some(isOf);
  }

  /** A repeat keeps its place. */
  #wait(request: FlowRequest): false {
    this.#waiting.set(waiterOf(request), { request, since: this.clock.now() });
    return false;
  }

  #isUnanswered(waiter: string): boolean {
    for (const { request, flow } of this.#unanswered.values()) {
      if (waiterOf(request) === waiter && this.isHeld(flow)) return true;
    }
    return false;
  }

  #expire(): void {
    const now = this.clock.now();
    for (const sent of [this.#unanswered, this.#unexpected]) {
      for (const [ref, { sentAt }] of sent) {
        if (now - sentAt <= ANSWER_WITHIN_MS) break; // in order of sending
        sent.delete(ref);
      }
    }
    for (const [waiter, { since }] of this.#waiting) if (now - since > WAIT_AT_MOST_MS) this.#waiting.delete(waiter);
  }
}

function waiterOf({ client, resourceId }: FlowRequest): string {
  return `${client.connectionId}/${resourceId}`;
}
