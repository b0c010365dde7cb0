/** What a gateway's join knows of the history of flows, and what that knowledge is worth by the time it is used. */
import { type FlowRecord, isOwnReason, type StoredFlow } from '../../core/model/flow.js';
import type { ClientId } from '../../core/model/ids.js';
import type { Position } from '../../core/model/position.js';
import type { EpochMs } from '../../core/model/time.js';
import type { Cut } from '../../core/ports/account-streams.js';
import type { Restored } from './held-flows.js';

/** What the database said of a joining gateway. */
export interface History {
  readonly rows: readonly StoredFlow[];
  /** What ends behind it had not committed when the rows were read. */
  readonly upperBound: Position;
  /** Clients that may hold pairs of which no row was written (D22). */
  readonly unwritten: readonly ClientId[];
  readonly readAt: EpochMs;
  readonly asOf: AsOf;
}

/** How often commits had gone by unheard, and the history been truncated, when a read began. */
export interface AsOf {
  readonly gaps: number;
  readonly truncations: number;
}

/**
 * The rows as they are with the cuts committed while they were read: a cut row counts as closed, also one that was
 * deleted before it could be read and is not put back yet.
 */
export function withCuts(stored: readonly StoredFlow[], cuts: readonly Cut[]): readonly StoredFlow[] {
  const isCut = (row: StoredFlow): boolean =>
    cuts.some((cut) => cut.kind === 'all' || (cut.kind === 'flow' && !cut.wasClosed && cut.flowId === row.id));
  const known = new Set(stored.map((row) => row.id));
  const ended = (row: FlowRecord, isCutByHand = true, pushedAt: EpochMs | null = null): StoredFlow => {
    return { ...row, revokedAt: row.createdAt, isCutByHand, pushedAt, deliveredAt: null };
  };
  const deleted = cuts.flatMap((cut) =>
    cut.kind === 'flow' && cut.deleted && !known.has(cut.flowId)
      ? ended(cut.deleted, !isOwnReason(cut.reason), cut.pushedAt)
      : [],
  );
  return [...stored.map((row) => (row.revokedAt === null && isCut(row) ? ended(row) : row)), ...deleted];
}

/** Who has no listed pair needs a placeholder, whether its pairs were read and found unjustified or were never written. */
export function withSuspects(restored: Restored, unwritten: readonly ClientId[]): Restored {
  const listed = new Set(restored.served.map((pair) => pair.clientId));
  const suspects = unwritten.filter((clientId) => !listed.has(clientId));
  return { ...restored, emptied: [...new Set([...restored.emptied, ...suspects])].sort() };
}
