/** The two statements that write the history of flows: rows are inserted once, and closed once (D8). */
import { sql } from 'kysely';
import type { FlowRecord } from '../core/model/flow.js';
import { formatPosition } from '../core/model/position.js';
import type { EpochMs } from '../core/model/time.js';
import type { FlowClosing } from '../core/ports/flow-records.js';
import type { Database } from './open-database.js';

/** A row to write; `cutAt` when it is put back as revoked after an operator deleted it (D8a). */
export interface FlowRow {
  readonly record: FlowRecord;
  readonly cutAt: EpochMs | null;
}

/**
 * All or nothing. A row that is there already (this very batch, sent again) is left as it is.
 * The rows are one parameter: a query builder spends more time on each of thousands of parameters than the server does.
 */
export async function insertFlows(database: Database, rows: readonly FlowRow[]): Promise<void> {
  await database.ask('insert-flows', (db) =>
    sql`
      INSERT INTO flows (account_id, id, client_id, gateway_id, resource_id, policy_id, membership_id, token_id,
        client_remote_ip, gateway_remote_ip, resource_shape, created_at, expires_at,
        revoked_at, revoked_reason, revoked_position)
      SELECT * FROM json_to_recordset(${JSON.stringify(rows.map(toColumns))}::json) AS flow (
        account_id uuid, id uuid, client_id uuid, gateway_id uuid, resource_id uuid, policy_id uuid, membership_id uuid,
        token_id uuid, client_remote_ip inet, gateway_remote_ip inet, resource_shape jsonb, created_at timestamptz,
        expires_at timestamptz, revoked_at timestamptz, revoked_reason text, revoked_position pg_lsn)
      ON CONFLICT (account_id, id) DO NOTHING`.execute(db),
  );
}

/** All or nothing. A row that is closed already stays as it is: the first closing stands. Each flow at most once. */
export async function closeFlows(database: Database, closings: readonly FlowClosing[]): Promise<void> {
  await database.ask('close-flows', (db) =>
    sql`
      UPDATE flows SET revoked_at = closing.at, revoked_reason = closing.reason, revoked_position = closing.position
      FROM unnest(
        ${closings.map((closing) => closing.accountId)}::uuid[], ${closings.map((closing) => closing.flowId)}::uuid[],
        ${closings.map((closing) => new Date(closing.at).toISOString())}::timestamptz[],
        ${closings.map((closing) => closing.reason)}::text[],
        ${closings.map((closing) => formatPosition(closing.position ?? NO_POSITION))}::pg_lsn[]
      ) AS closing (account_id, id, at, reason, position)
      WHERE flows.account_id = closing.account_id AND flows.id = closing.id AND flows.revoked_at IS NULL`.execute(db),
  );
}

/** Written when no commit caused a closing: any position marks the UPDATE as ours when it comes down the stream (D8a). */
const NO_POSITION = 0n;

function toColumns({ record, cutAt }: FlowRow) {
  return {
    account_id: record.accountId,
    id: record.id,
    client_id: record.clientId,
    gateway_id: record.gatewayId,
    resource_id: record.resourceId,
    policy_id: record.policyId,
    membership_id: record.membershipId,
    token_id: record.tokenId,
    client_remote_ip: record.clientRemoteIp,
    gateway_remote_ip: record.gatewayRemoteIp,
    resource_shape: {
      type: record.shape.type,
      address: record.shape.address,
      ip_stack: record.shape.ipStack,
    },
    created_at: new Date(record.createdAt).toISOString(),
    expires_at: new Date(record.expiresAt).toISOString(),
    revoked_at: cutAt === null ? null : new Date(cutAt).toISOString(),
    revoked_reason: cutAt === null ? null : 'cut-by-hand',
    revoked_position: cutAt === null ? null : formatPosition(NO_POSITION),
  };
}
