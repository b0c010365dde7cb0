/**
 * One ordered stream per account, in this process (ORD-1). A step reaches every gateway it concerns before any client,
 * synchronously: when `publish` returns, every reject is queued on its socket (ORD-4).
 */
import { EventEmitter } from 'eventemitter3';
import type { ClientImpact } from '../core/authorizer/client-impact.js';
import type { AccountId, ClientId, GatewayId } from '../core/model/ids.js';
import type {
  AccountStreams,
  AppliedStep,
  ClientSubscriber,
  GatewayImpact,
  GatewaySubscriber,
  StepImpacts,
} from '../core/ports/account-streams.js';
import type { Logger } from '../core/support/logger.js';

type Deliver = (step: AppliedStep, impact: GatewayImpact & ClientImpact) => void;

interface Stream {
  /** Events are named `gateway:<id>` and `client:<id>`: a step costs what it concerns, not what is connected. */
  readonly emitter: EventEmitter<Record<string, Deliver>>;
  readonly gateways: Set<GatewayId>;
  readonly clients: Set<ClientId>;
  readonly failures: Set<(error: unknown) => void>;
}

interface Subscriber<Impact> {
  onStep(step: AppliedStep, impact: Impact): void;
  onFailure(error: unknown): void;
}

export class AccountBroadcaster implements AccountStreams {
  readonly #streams = new Map<AccountId, Stream>();

  constructor(private readonly log: Logger) {}

  publish(step: AppliedStep, impacts: StepImpacts): void {
    const stream = this.#streams.get(step.accountId);
    if (!stream) return;
    for (const [id, impact] of impacts.gateways) stream.emitter.emit(`gateway:${id}`, step, impact as never);
    for (const [id, impact] of impacts.clients) stream.emitter.emit(`client:${id}`, step, impact as never);
  }

  fail(accountId: AccountId, error: unknown): void {
    for (const fail of [...(this.#streams.get(accountId)?.failures ?? [])]) fail(error);
  }

  subscribeGateway(accountId: AccountId, subscriber: GatewaySubscriber): () => void {
    const stream = this.#streamOf(accountId);
    return this.#subscribe(accountId, stream, stream.gateways, subscriber.gatewayId, 'gateway', subscriber);
  }

  subscribeClient(accountId: AccountId, subscriber: ClientSubscriber): () => void {
    const stream = this.#streamOf(accountId);
    return this.#subscribe(accountId, stream, stream.clients, subscriber.clientId, 'client', subscriber);
  }

  liveGateways(accountId: AccountId): ReadonlySet<GatewayId> {
    return this.#streams.get(accountId)?.gateways ?? NOBODY;
  }

  liveClients(accountId: AccountId): ReadonlySet<ClientId> {
    return this.#streams.get(accountId)?.clients ?? NOBODY;
  }

  #subscribe<Id extends string, Impact>(
    accountId: AccountId,
    stream: Stream,
    live: Set<Id>,
    id: Id,
    role: 'gateway' | 'client',
    subscriber: Subscriber<Impact>,
  ): () => void {
    // eventemitter3 stops at the first listener that throws: each is wrapped, so that one failing channel is closed and
    // the others still hear of the commit (D12).
    const fail = (error: unknown): void => {
      try {
        subscriber.onFailure(error);
      } catch (worse) {
        this.log.error('broadcast.failure-handler-threw', { error: worse });
      }
    };
    const deliver = (step: AppliedStep, impact: unknown): void => {
      try {
        subscriber.onStep(step, impact as Impact);
      } catch (error) {
        fail(error);
      }
    };
    const event = `${role}:${id}`;
    stream.emitter.on(event, deliver);
    stream.failures.add(fail);
    live.add(id);
    let subscribed = true;
    return () => {
      if (!subscribed) return;
      subscribed = false;
      stream.emitter.off(event, deliver);
      stream.failures.delete(fail);
      if (stream.emitter.listenerCount(event) === 0) live.delete(id);
      if (stream.failures.size === 0 && this.#streams.get(accountId) === stream) this.#streams.delete(accountId);
    };
  }

  #streamOf(accountId: AccountId): Stream {
    let stream = this.#streams.get(accountId);
    if (!stream) {
      stream = { emitter: new EventEmitter(), gateways: new Set(), clients: new Set(), failures: new Set() };
      this.#streams.set(accountId, stream);
    }
    return stream;
  }
}

const NOBODY: ReadonlySet<never> = new Set();
