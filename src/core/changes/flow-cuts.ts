/**
 * Reads an operator's hand in the changes of `flows` (CUT-1, D8a). Our own writes come back through the same stream: an UPDATE
 * that carries `revoked_position`, and the delete of a row past its expiry, are echoes and mean nothing.
 */
import type { FlowRecord } from '../model/flow.js';
import type {
  AccountId,
  ClientId,
  FlowId,
  GatewayId,
  MembershipId,
  PolicyId,
  ResourceId,
  TokenId,
} from '../model/ids.js';
import type { IpStack, ResourceType } from '../model/rows.js';
import type { EpochMs } from '../model/time.js';
import type { Cut } from '../ports/account-streams.js';
import type { Change, RawRow, RowChange } from './commit.js';
import { parseTimestamp } from './parse-timestamp.js';

/** @param now rows that expired before it are not cut by being deleted. */
export function cutsIn(changes: readonly Change[], now: EpochMs): Cut[] {
  const cuts: Cut[] = [];
  if (changes.some(takesAccount)) return cuts;
  for (const change of changes) {
    if (change.kind === 'truncate') {
      if (change.tables.includes('flows')) cuts.push({ kind: 'all' });
    } else if (change.table === 'flows') {
      const cut = cutOf(change, now);
      if (cut) cuts.push(cut);
    }
  }
  return cuts;
}

/** Whether a hand may have cut by a change of `flows` that cannot be kept, or not be read in full. */
export function mayCut(change: Omit<RowChange, 'seq'>, now: EpochMs): boolean {
  if (change.kind === 'insert') return false;
  if (change.kind === 'update') return change.new?.['revoked_position'] == null;
  return (expiryOf(change.old ?? {}) ?? Infinity) > now;
}

/** Rows that we have closed ourselves, and no hand before us. */
export function closingsIn(changes: readonly Change[]): FlowId[] {
  return changes.flatMap((change) =>
    change.kind === 'update' &&
    change.table === 'flows' &&
    change.new?.['revoked_position'] != null &&
    change.old?.['revoked_at'] == null
      ? [change.new['id'] as FlowId]
      : [],
  );
}

/** A deleted account takes its flows along: no hand cut them, and they cannot be put back. */
function takesAccount(change: Change): boolean {
  return change.kind === 'delete' && change.table === 'accounts';
}

function cutOf(change: RowChange, now: EpochMs): Cut | undefined {
  const row = change.old ?? change.new;
  if (!row || !mayCut(change, now)) return undefined;
  if (change.kind === 'update' && change.new?.['revoked_at'] == null) return undefined;
  return {
    kind: 'flow',
    flowId: row['id'] as FlowId,
    gatewayId: row['gateway_id'] as GatewayId,
    clientId: row['client_id'] as ClientId,
    resourceId: row['resource_id'] as ResourceId,
    wasClosed: row['revoked_at'] != null,
    reason: row['revoked_reason'] ?? 'cut-by-hand',
    pushedAt: timeOf(row['pushed_at']) ?? null,
    deleted: change.kind === 'delete' && row['delivered_at'] == null ? recordOf(row) : undefined,
  };
}

/** The row as it can be written back; undefined when a part of it cannot be read. */
function recordOf(row: RawRow): FlowRecord | undefined {
  const createdAt = timeOf(row['created_at']);
  const expiresAt = expiryOf(row);
  const shape = shapeIn(row['resource_shape']);
  if (createdAt === undefined || expiresAt === undefined || !shape) return undefined;
  return {
    id: row['id'] as FlowId,
    accountId: row['account_id'] as AccountId,
    gatewayId: row['gateway_id'] as GatewayId,
    clientId: row['client_id'] as ClientId,
    resourceId: row['resource_id'] as ResourceId,
    policyId: row['policy_id'] as PolicyId,
    membershipId: row['membership_id'] as MembershipId,
    tokenId: row['token_id'] as TokenId,
    shape,
    clientRemoteIp: row['client_remote_ip'] ?? null,
    gatewayRemoteIp: row['gateway_remote_ip'] ?? null,
    createdAt,
    expiresAt,
  };
}

function expiryOf(row: RawRow): EpochMs | undefined {
  return timeOf(row['expires_at']);
}

function timeOf(text: string | null | undefined): EpochMs | undefined {
  return text == null ? undefined : (parseTimestamp(text) ?? undefined);
}

function shapeIn(text: string | null | undefined): FlowRecord['shape'] | undefined {
  if (text == null) return undefined;
  try {
    const shape = JSON.parse(text) as Record<string, unknown>;
    return {
      type: shape['type'] as ResourceType,
      address: (shape['address'] ?? null) as string | null,
      ipStack: (shape['ip_stack'] ?? null) as IpStack | null,
    };
  } catch {
    return undefined;
  }
}
