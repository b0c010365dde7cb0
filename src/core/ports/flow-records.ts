import type { FlowRecord, PushEnd, RevokedReason, StoredFlow } from '../model/flow.js';
import type { AccountId, ClientId, FlowId, GatewayId } from '../model/ids.js';
import type { Position } from '../model/position.js';
import type { EpochMs } from '../model/time.js';
import type { Cause } from './account-streams.js';

export interface FlowClosing {
  readonly accountId: AccountId;
  readonly flowId: FlowId;
  readonly reason: RevokedReason;
  readonly at: EpochMs;
  /** Null when time, a peer or a replacement did it. Its position is then stored as 0/0, so that our echo is recognised (D8a). */
  readonly cause: Cause | null;
  /** When the gateway was told; null when it need not be, or is not there. */
  readonly pushedAt: EpochMs | null;
}

/** How a rejection that was pushed for a closed flow ended. A later one, at the gateway's next join, replaces an earlier one. */
export interface FlowDelivery {
  readonly accountId: AccountId;
  readonly flowId: FlowId;
  readonly how: PushEnd;
  readonly pushedAt: EpochMs;
  /** When it ended. Of a receipt, that is when it was delivered. */
  readonly at: EpochMs;
}

/** What an operator did to a row by deleting it. */
export interface HandMadeCut {
  readonly at: EpochMs;
  readonly cause: Cause;
  /** Why the flow had ended, if it had; or the hand. */
  readonly reason: string;
  /** When the gateway was told before the row was deleted. */
  readonly pushedAt: EpochMs | null;
  /** Its gateway hears of it now; else at its next join. */
  readonly isConnected: boolean;
}

export interface UnexpiredFlows {
  readonly rows: readonly StoredFlow[];
  /** WAL insert position read after the rows: what ends behind it had not committed when they were read. */
  readonly upperBound: Position;
}

/** The history of flows. Writes are queued and go out in batches; nothing on the way from frame to push awaits one (D21). */
export interface FlowRecords {
  /** Exactly one of the callbacks runs, later: the row is in the database, or it never will be. */
  add(record: FlowRecord, outcome: { written(): void; unwritable(error: unknown): void }): void;
  /** The first closing stands. Of a row that a hand has closed, its time and reason stand, and the rest is filled in. */
  close(closing: FlowClosing): void;
  /** Only of a flow that was closed before. What was receipted once stays so. */
  delivered(delivery: FlowDelivery): void;
  /**
   * An operator deleted an unexpired row: it is put back as revoked, so that a gateway that is away hears of it (D8a).
   * @param done called later, once the row is in the database or never will be
   */
  putBackRevoked(record: FlowRecord, cut: HandMadeCut, done: () => void): void;
  /**
   * Rows are gone and nobody knows which: a gateway that is away is treated as after an unclean stop (D8a, D22).
   * @param accountId null: of all accounts, by TRUNCATE
   * @param done as above
   */
  historyGone(accountId: AccountId | null, done: () => void): void;
  /** Every row of this gateway not past its expiry, closed ones included: the one query on flows that a join makes (D22). */
  unexpired(accountId: AccountId, gatewayId: GatewayId, now: EpochMs): Promise<UnexpiredFlows>;
  /**
   * Clients that may hold pairs at this gateway of which no row was ever written, because a process was killed (D22). Asked
   * at a join, after its connect is stored.
   */
  clientsOfUncleanEpochs(accountId: AccountId, gatewayId: GatewayId): Promise<readonly ClientId[]>;
  /** The gateway has been told of those clients: it holds nothing that is not on record. Not awaited by anybody. */
  uncleanEpochsTold(accountId: AccountId, gatewayId: GatewayId): void;
  /** Resolves when everything queued before the call is written or known to be unwritable. */
  flush(): Promise<void>;
}
export const FLOW_RECORDS = Symbol('FlowRecords');
