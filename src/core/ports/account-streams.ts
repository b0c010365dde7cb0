/** One ordered stream of applied commits per account, fanned out to local channels (ORD-1). */
import type { ClientImpact } from '../authorizer/client-impact.js';
import type { Flow } from '../authorizer/flow-table.js';
import type { FlowRecord } from '../model/flow.js';
import type { AccountId, ClientId, FlowId, GatewayId, ResourceId, TokenId } from '../model/ids.js';
import type { Position } from '../model/position.js';
import type { EpochMs } from '../model/time.js';
import type { LastHeard } from './commit-sink.js';

/**
 * An operator's hand on the flow history (D8a): on one row; on all rows, by TRUNCATE; or, where commits could not be heard or
 * read, perhaps on rows that nobody holds any more, in commits after what was heard.
 */
export type Cut = FlowCut | { readonly kind: 'all' } | { readonly kind: 'gap'; readonly heard: LastHeard };

export interface FlowCut {
  readonly kind: 'flow';
  readonly flowId: FlowId;
  readonly gatewayId: GatewayId;
  readonly clientId: ClientId;
  readonly resourceId: ResourceId;
  /** The row was closed already: nothing is cut now, but a deleted one is still owed to a gateway that is away. */
  readonly wasClosed: boolean;
  /** Why the flow ended: what a closed row said of it, or the hand. */
  readonly reason: string;
  /** When its gateway was told, as a closed row said it. */
  readonly pushedAt: EpochMs | null;
  /** The deleted row, to be put back as revoked; undefined when it was updated, cannot be read, or is owed to nobody (G4). */
  readonly deleted: FlowRecord | undefined;
}

/** What one commit (or a step that acts like one) means for one gateway. */
export interface GatewayImpact {
  /** Registered flows of this gateway to decide again. */
  readonly flows: ReadonlySet<Flow>;
  /** Resources whose row changed and of which this gateway holds a flow. */
  readonly resources: ReadonlySet<ResourceId>;
  readonly slugChanged: boolean;
  /** The account or the gateway's own row is gone. */
  readonly isGone: boolean;
  readonly deletedTokens: ReadonlySet<TokenId>;
  readonly cuts: readonly Cut[];
}

/** What made something end, as far as the log of the database knows. */
export interface Cause {
  /** The commit's; where no commit did it (a connect, a join), the last applied one; for a resync, the one that owed it. */
  readonly position: Position;
  /** When that commit was made, by the database's clock; null where no commit did it, or it is not known which. */
  readonly committedAt: EpochMs | null;
}

export interface AppliedStep extends Cause {
  readonly accountId: AccountId;
  readonly now: EpochMs;
}

export interface GatewaySubscriber {
  readonly gatewayId: GatewayId;
  /** Runs inside the synchronous step of the commit: decides and queues pushes, awaits nothing (D12). */
  onStep(step: AppliedStep, impact: GatewayImpact): void;
  /** `onStep` threw, or the account's store failed for good: the socket must be closed. */
  onFailure(error: unknown): void;
}

export interface ClientSubscriber {
  readonly clientId: ClientId;
  /** Runs inside the synchronous step, after every gateway: marks what to look at again, or ends the socket. */
  onStep(step: AppliedStep, impact: ClientImpact): void;
  onFailure(error: unknown): void;
}

/** What a step means for whom; made by the store, delivered in this order: all gateways, then all clients. */
export interface StepImpacts {
  readonly gateways: ReadonlyMap<GatewayId, GatewayImpact>;
  readonly clients: ReadonlyMap<ClientId, ClientImpact>;
}

export interface AccountStreams {
  publish(step: AppliedStep, impacts: StepImpacts): void;
  /** The account's store cannot follow any more: every subscriber fails closed. */
  fail(accountId: AccountId, error: unknown): void;
  /** Returns the unsubscribe. A later subscriber of the same id does not silence an earlier one. */
  subscribeGateway(accountId: AccountId, subscriber: GatewaySubscriber): () => void;
  subscribeClient(accountId: AccountId, subscriber: ClientSubscriber): () => void;
  liveGateways(accountId: AccountId): ReadonlySet<GatewayId>;
  liveClients(accountId: AccountId): ReadonlySet<ClientId>;
}
export const ACCOUNT_STREAMS = Symbol('AccountStreams');
