/** The statements that write the history of flows: rows are inserted once, closed once, and delivered once (D8, G4). */
import { sql } from 'kysely';
import type { FlowRecord } from '../core/model/flow.js';
import { formatPosition } from '../core/model/position.js';
import type { EpochMs } from '../core/model/time.js';
import type { FlowClosing, FlowDelivery, HandMadeCut } from '../core/ports/flow-records.js';
import type { Database } from './open-database.js';

/** A row to write; with its cut when it is put back as revoked after an operator deleted it (D8a). */
export interface FlowRow {
  readonly record: FlowRecord;
  readonly cut: HandMadeCut | null;
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
        revoked_at, revoked_reason, revoked_position, revoked_committed_at, pushed_at, delivery)
      SELECT * FROM json_to_recordset(${JSON.stringify(rows.map(toColumns))}::json) AS flow (
        account_id uuid, id uuid, client_id uuid, gateway_id uuid, resource_id uuid, policy_id uuid, membership_id uuid,
        token_id uuid, client_remote_ip inet, gateway_remote_ip inet, resource_shape jsonb, created_at timestamptz,
        expires_at timestamptz, revoked_at timestamptz, revoked_reason text, revoked_position pg_lsn,
        revoked_committed_at timestamptz, pushed_at timestamptz, delivery text)
      ON CONFLICT (account_id, id) DO NOTHING`.execute(db),
  );
}

/**
 * All or nothing. A row that we closed already stays as it is: the first closing stands. What a hand has written stands
 * too; the commit it came with is filled in. Each flow at most once.
 */
export async function closeFlows(database: Database, closings: readonly FlowClosing[]): Promise<void> {
  await database.ask('close-flows', (db) =>
    sql`
      UPDATE flows SET revoked_at = coalesce(flows.revoked_at, closing.at),
        revoked_reason = coalesce(flows.revoked_reason,
          CASE WHEN flows.revoked_at IS NULL THEN closing.reason ELSE 'cut-by-hand' END),
        revoked_position = closing.position, revoked_committed_at = closing.committed_at, pushed_at = closing.pushed_at
      FROM unnest(
        ${closings.map((closing) => closing.accountId)}::uuid[], ${closings.map((closing) => closing.flowId)}::uuid[],
        ${closings.map((closing) => toTime(closing.at))}::timestamptz[],
        ${closings.map((closing) => closing.reason)}::text[],
        ${closings.map((closing) => formatPosition(closing.cause?.position ?? NO_POSITION))}::pg_lsn[],
        ${closings.map((closing) => toTime(closing.cause?.committedAt ?? null))}::timestamptz[],
        ${closings.map((closing) => toTime(closing.pushedAt))}::timestamptz[]
      ) AS closing (account_id, id, at, reason, position, committed_at, pushed_at)
      WHERE flows.account_id = closing.account_id AND flows.id = closing.id AND flows.revoked_position IS NULL`.execute(
      db,
    ),
  );
}

/**
 * All or nothing. What was receipted once stays so. A row that a hand has closed gets a position as well, so that this
 * update is not taken for another hand's (D8a). Each flow at most once.
 */
export async function deliverFlows(database: Database, deliveries: readonly FlowDelivery[]): Promise<void> {
  await database.ask('deliver-flows', (db) =>
    sql`
      UPDATE flows SET pushed_at = push.at, delivery = push.ended, delivered_at = push.delivered_at,
        revoked_position = coalesce(flows.revoked_position, '0/0'),
        revoked_reason = coalesce(flows.revoked_reason, 'cut-by-hand')
      FROM unnest(
        ${deliveries.map((delivery) => delivery.accountId)}::uuid[],
        ${deliveries.map((delivery) => delivery.flowId)}::uuid[],
        ${deliveries.map((delivery) => toTime(delivery.pushedAt))}::timestamptz[],
        ${deliveries.map((delivery) => delivery.how)}::text[],
        ${deliveries.map((delivery) => (delivery.how === 'receipted' ? toTime(delivery.at) : null))}::timestamptz[]
      ) AS push (account_id, id, at, ended, delivered_at)
      WHERE flows.account_id = push.account_id AND flows.id = push.id
        AND flows.revoked_at IS NOT NULL AND flows.delivered_at IS NULL`.execute(db),
  );
}

/** Written when no commit caused a closing: any position marks the UPDATE as ours when it comes down the stream (D8a). */
const NO_POSITION = 0n;

function toColumns({ record, cut }: FlowRow) {
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
    revoked_at: toTime(cut?.at ?? null),
    revoked_reason: cut?.reason ?? null,
    revoked_position: cut && formatPosition(cut.cause.position),
    revoked_committed_at: toTime(cut?.cause.committedAt ?? null),
    pushed_at: toTime(cut?.pushedAt ?? null),
    delivery: cut && !cut.isConnected ? 'not-connected' : null,
  };
}

function toTime(at: EpochMs | null): string | null {
  return at === null ? null : new Date(at).toISOString();
}
