/** Which grants were taken back, by what, and is each gateway proven to know? For `portcullis revocations`. */
import type { PushEnd } from '../core/model/flow.js';
import type { AccountId, ClientId, FlowId, GatewayId, PolicyId, ResourceId } from '../core/model/ids.js';
import type { EpochMs } from '../core/model/time.js';
import { toEpochMs } from './epoch-ms.js';
import type { Database } from './open-database.js';

export interface Revocation {
  readonly flowId: FlowId;
  readonly account: { readonly id: AccountId; readonly slug: string };
  readonly client: Named<ClientId>;
  readonly resource: Named<ResourceId>;
  readonly gateway: Named<GatewayId>;
  /** The one that had granted it. */
  readonly policyId: PolicyId;
  /** A `RevokedReason`, or what a hand wrote; null where a hand wrote nothing and no gateway has heard of it yet. */
  readonly reason: string | null;
  /** As PostgreSQL prints it; null when no commit did it: time, or a row that could not be written. */
  readonly position: string | null;
  /** Null as well where a join or a repair found it: nobody saw which commit it was. */
  readonly committedAt: EpochMs | null;
  readonly decidedAt: EpochMs;
  /** The last time, when its gateway was told more than once. */
  readonly pushedAt: EpochMs | null;
  readonly deliveredAt: EpochMs | null;
  /** How the last push ended; null while that is open, and before the first. */
  readonly delivery: PushEnd | 'not-connected' | null;
}

interface Named<Id> {
  readonly id: Id;
  /** Null when its row is gone. */
  readonly name: string | null;
}

/**
 * Decided since then, newest first. A flow that went on under another row was not taken back. What committed while a
 * gateway was away is decided, and so listed, when it joins.
 * @param accountId null: of all accounts
 */
export function revocations(
  database: Database,
  accountId: AccountId | null,
  since: EpochMs,
  limit: number,
): Promise<readonly Revocation[]> {
  return database.ask('revocations', async (db) => {
    const found = db
      .selectFrom('flows')
      .innerJoin('accounts', 'accounts.id', 'flows.account_id')
      .leftJoin('clients', (join) =>
        join.onRef('clients.account_id', '=', 'flows.account_id').onRef('clients.id', '=', 'flows.client_id'),
      )
      .leftJoin('resources', (join) =>
        join.onRef('resources.account_id', '=', 'flows.account_id').onRef('resources.id', '=', 'flows.resource_id'),
      )
      .leftJoin('gateways', (join) =>
        join.onRef('gateways.account_id', '=', 'flows.account_id').onRef('gateways.id', '=', 'flows.gateway_id'),
      )
      .where('flows.revoked_at', '>=', new Date(since))
      .where((is) => is.or([is('revoked_reason', 'is', null), is('revoked_reason', 'not in', ['moved', 'replaced'])]))
      .selectAll('flows')
      .select(['accounts.slug', 'clients.name as client', 'resources.name as resource', 'gateways.name as gateway'])
      .orderBy('flows.revoked_at', 'desc')
      .orderBy('flows.id')
      .limit(limit);
    const rows = await (accountId === null ? found : found.where('flows.account_id', '=', accountId)).execute();
    return rows.flatMap((row) => (row.revoked_at === null ? [] : [toRevocation(row, row.revoked_at)]));
  });
}

interface Found {
  readonly id: string;
  readonly account_id: string;
  readonly slug: string;
  readonly client_id: string;
  readonly client: string | null;
  readonly resource_id: string;
  readonly resource: string | null;
  readonly gateway_id: string;
  readonly gateway: string | null;
  readonly policy_id: string;
  readonly revoked_reason: string | null;
  readonly revoked_position: string | null;
  readonly revoked_committed_at: Date | null;
  readonly pushed_at: Date | null;
  readonly delivered_at: Date | null;
  readonly delivery: Revocation['delivery'];
}

function toRevocation(row: Found, decided: Date): Revocation {
  return {
    flowId: row.id as FlowId,
    account: { id: row.account_id as AccountId, slug: row.slug },
    client: { id: row.client_id as ClientId, name: row.client },
    resource: { id: row.resource_id as ResourceId, name: row.resource },
    gateway: { id: row.gateway_id as GatewayId, name: row.gateway },
    policyId: row.policy_id as PolicyId,
    reason: row.revoked_reason,
    position: row.revoked_position === NO_POSITION ? null : row.revoked_position,
    committedAt: timeOf(row.revoked_committed_at),
    decidedAt: toEpochMs(decided),
    pushedAt: timeOf(row.pushed_at),
    deliveredAt: timeOf(row.delivered_at),
    delivery: row.delivery,
  };
}

/** What is stored where no commit did it. */
const NO_POSITION = '0/0';

function timeOf(time: Date | null): EpochMs | null {
  return time === null ? null : toEpochMs(time);
}
