import type { RawRow } from '../changes/commit.js';
import type { ConnectionFacts } from '../model/connection-facts.js';
import type { AccountId, FlowId } from '../model/ids.js';
import type { Position } from '../model/position.js';
import type { AccountTable } from '../model/rows.js';

/** What one PostgreSQL snapshot contains, by top-level transaction id (events.md B.4.2). */
export interface XidSnapshot {
  readonly xmax: bigint;
  readonly running: ReadonlySet<bigint>;
}

/** True when a committed transaction is inside the snapshot. */
export function contains(snapshot: XidSnapshot, xid: bigint): boolean {
  return xid < snapshot.xmax && !snapshot.running.has(xid);
}

/** One account as one REPEATABLE READ snapshot shows it. */
export interface AccountSnapshot {
  readonly rows: ReadonlyMap<AccountTable, readonly RawRow[]>;
  readonly connections: readonly ConnectionFacts[];
  readonly snapshot: XidSnapshot;
  /** WAL insert position read after the rows: every transaction the snapshot contains committed before it. */
  readonly upperBound: Position;
  /** Of the flows asked about, those whose row is gone or was closed by a hand (D8a). */
  readonly cutFlows: ReadonlySet<FlowId>;
}

export interface HydrationReader {
  /**
   * Reads on the primary; rejects on a standby (the fence would be unsound there, events.md B.3.7).
   * @param flowIds rows of `flows` that were written: what hands did to them is looked up in the same snapshot
   */
  readAccount(accountId: AccountId, flowIds?: readonly FlowId[]): Promise<AccountSnapshot>;
  readSnapshot(): Promise<XidSnapshot>;
}
export const HYDRATION_READER = Symbol('HydrationReader');
