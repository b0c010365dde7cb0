/** Which flows may a gateway still hold? The one query on flows that a join makes (D22). */
import { type Selectable, sql } from 'kysely';
import { isOwnReason, type StoredFlow } from '../core/model/flow.js';
import type {
  AccountId,
  ClientId,
  FlowId,
  GatewayId,
  MembershipId,
  PolicyId,
  ResourceId,
  TokenId,
} from '../core/model/ids.js';
import type { IpStack, ResourceType } from '../core/model/rows.js';
import type { EpochMs } from '../core/model/time.js';
import type { UnexpiredFlows } from '../core/ports/flow-records.js';
import type { Tables } from './database-tables.js';
import { toEpochMs } from './epoch-ms.js';
import { insertPosition, SELECT_INSERT_POSITION } from './insert-position.js';
import type { Database } from './open-database.js';

/** Closed ones included, oldest first. */
export function unexpiredFlows(
  database: Database,
  accountId: AccountId,
  gatewayId: GatewayId,
  now: EpochMs,
): Promise<UnexpiredFlows> {
  return database.ask('unexpired-flows', async (db) => {
    const rows = await db
      .selectFrom('flows')
      .where('account_id', '=', accountId)
      .where('gateway_id', '=', gatewayId)
      .where('expires_at', '>', new Date(now))
      .orderBy('created_at')
      .orderBy('id')
      .selectAll()
      .execute();
    const { rows: answer } = await sql.raw(SELECT_INSERT_POSITION).execute(db);
    return { rows: rows.map(toStored), upperBound: insertPosition(answer[0] as Record<string, unknown>) };
  });
}

function toStored(row: Selectable<Tables['flows']>): StoredFlow {
  return {
    id: row.id as FlowId,
    accountId: row.account_id as AccountId,
    gatewayId: row.gateway_id as GatewayId,
    clientId: row.client_id as ClientId,
    resourceId: row.resource_id as ResourceId,
    policyId: row.policy_id as PolicyId,
    membershipId: row.membership_id as MembershipId,
    tokenId: row.token_id as TokenId,
    shape: toShape(row.resource_shape),
    clientRemoteIp: row.client_remote_ip,
    gatewayRemoteIp: row.gateway_remote_ip,
    createdAt: toEpochMs(row.created_at),
    expiresAt: toEpochMs(row.expires_at),
    revokedAt: row.revoked_at === null ? null : toEpochMs(row.revoked_at),
    isCutByHand: row.revoked_at !== null && !isOwnReason(row.revoked_reason),
    pushedAt: row.pushed_at === null ? null : toEpochMs(row.pushed_at),
    deliveredAt: row.delivered_at === null ? null : toEpochMs(row.delivered_at),
  };
}

/** The database keeps it an object with these keys. What a hand typed into them equals no resource: unjustified. */
function toShape(stored: unknown): StoredFlow['shape'] {
  const shape = stored as { type: ResourceType; address: string | null; ip_stack: IpStack | null };
  return { type: shape.type, address: shape.address, ipStack: shape.ip_stack };
}
