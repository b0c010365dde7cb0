import type { FlowRecord, RevokedReason, StoredFlow } from '../model/flow.js';
import type { AccountId, ClientId, FlowId, GatewayId } from '../model/ids.js';
import type { Position } from '../model/position.js';
import type { EpochMs } from '../model/time.js';

export interface FlowClosing {
  readonly accountId: AccountId;
  readonly flowId: FlowId;
  readonly reason: RevokedReason;
  readonly at: EpochMs;
  /** The commit that caused it; null when time, a peer or a replacement did. Stored as 0/0, so that our echo is recognised (D8a). */
  readonly position: Position | null;
}

/** The history of flows. Writes are queued and go out in batches; nothing on the way from frame to push awaits one (D21). */
export interface FlowRecords {
  /** Exactly one of the callbacks runs, later: the row is in the database, or it never will be. */
  add(record: FlowRecord, outcome: { written(): void; unwritable(error: unknown): void }): void;
  /** `UPDATE … WHERE revoked_at IS NULL`: the first closing stands. */
  close(closing: FlowClosing): void;
  /** An operator deleted an unexpired row: it is put back as revoked, so that a gateway that is away hears of it (D8a). */
  putBackRevoked(record: FlowRecord, at: EpochMs): void;
  /** Somebody truncated the history: a gateway that is away is treated as after an unclean stop (D8a, D22). */
  historyGone(): void;
  /** Every row of this gateway not past its expiry, closed ones included: the one query on flows that a join makes (D22). */
  unexpired(accountId: AccountId, gatewayId: GatewayId, now: EpochMs): Promise<readonly StoredFlow[]>;
  /**
   * Clients that may hold pairs at this gateway of which no row was ever written, because a process was killed (D22). Asked
   * at a join, after its connect is stored.
   */
  clientsOfUncleanEpochs(accountId: AccountId, gatewayId: GatewayId): Promise<readonly ClientId[]>;
  /** Resolves when everything queued before the call is written or known to be unwritable. */
  flush(): Promise<void>;
}
export const FLOW_RECORDS = Symbol('FlowRecords');
