/**
 * The first oracle: who may reach what, told by plain loops over plain rows (reliability.md 2.5, where D17 does not say
 * more). Written from the definitions alone. It shares nothing with the authorizer but the readers of rows, on purpose:
 * no index, no cache, no helper. The second oracle, `oracle-sql.ts`, says the same in one query; a test compares them.
 *
 * Where the definitions leave a choice:
 * - A token speaks only for clients of its actor and account, an identity only for its own actor: anything else is doubt.
 *   Only a token of kind `client` speaks for a client.
 * - Reliability 2.1 wants the gateway's token to exist, D17 does not: gateways are not cut off by it here either.
 * - A group is what memberships and policies name. Its own row decides nothing; it cannot be gone without them.
 * - A site that serves a resource must exist.
 * - The longest of the conforming policies is chosen before the token's end cuts it, so a tie is one of policies alone.
 */
import type { ConnectionFacts } from '../../src/core/model/connection-facts.js';
import type { AccountId, ClientId, GatewayId, PolicyId, ResourceId } from '../../src/core/model/ids.js';
import type { AccountTable, AccountTables, ClientRow } from '../../src/core/model/rows.js';
import { conditionsEnd, violatedIn, type Asker } from './oracle-conditions.js';

/** All rows that can be read, of any number of accounts, and the latest connection of each client. */
export type OracleRows = { readonly [Table in AccountTable]: readonly AccountTables[Table][] } & {
  readonly connections: readonly (ConnectionFacts & { readonly accountId: AccountId })[];
};

/** A resource that a client may use, and some site serves. */
export interface Access {
  readonly accountId: AccountId;
  readonly clientId: ClientId;
  readonly resourceId: ResourceId;
  readonly policyId: PolicyId;
  /** Null: nothing ends it. */
  readonly until: number | null;
}

/** A justified flow (D17). */
export interface Justified {
  readonly accountId: AccountId;
  readonly gatewayId: GatewayId;
  readonly clientId: ClientId;
  readonly resourceId: ResourceId;
  readonly policyId: PolicyId;
  readonly expiresAt: number;
}

const FOURTEEN_DAYS_MS = 14 * 24 * 60 * 60 * 1000;

/** Every justified flow at `now`, with the policy that lasts longest and the flow's end. */
export function justifyAll(db: OracleRows, now: number): Justified[] {
  const justified: Justified[] = [];
  for (const { accountId, clientId, resourceId, policyId, until } of accessAll(db, now)) {
    for (const gateway of db.gateways) {
      if (gateway.accountId !== accountId || !isServedBy(db, accountId, resourceId, gateway.siteId)) continue;
      const expiresAt = until ?? now + FOURTEEN_DAYS_MS;
      justified.push({ accountId, gatewayId: gateway.id, clientId, resourceId, policyId, expiresAt });
    }
  }
  return justified;
}

/** What each client may use at `now`, through any gateway. */
export function accessAll(db: OracleRows, now: number): Access[] {
  const all: Access[] = [];
  for (const client of db.clients) {
    const asker = askerOf(db, client, now);
    if (asker === undefined) continue;
    for (const resource of db.resources) {
      const { accountId } = client;
      if (resource.accountId !== accountId) continue;
      const isServed = db.sites.some((site) => isServedBy(db, accountId, resource.id, site.id));
      const best = isServed ? longestPolicy(db, client, asker, resource.id, now) : undefined;
      if (best === undefined) continue;
      const end = Math.min(best.end, asker.tokenEnd);
      const until = end === Infinity ? null : end;
      all.push({ accountId, clientId: client.id, resourceId: resource.id, policyId: best.policyId, until });
    }
  }
  return all;
}

/** The known properties that keep the client from the resource: those of all enabled policies of its groups. */
export function violatedAt(db: OracleRows, client: ClientRow, resourceId: ResourceId, now: number): Set<string> {
  const asker = askerOf(db, client, now);
  const violated = new Set<string>();
  for (const policy of asker === undefined ? [] : db.policies) {
    if (asker === undefined || policy.conditions === 'unreadable' || !concerns(db, policy, client, resourceId))
      continue;
    for (const property of violatedIn(policy.conditions, asker, now)) violated.add(property);
  }
  return violated;
}

function isServedBy(db: OracleRows, accountId: AccountId, resourceId: ResourceId, siteId: string): boolean {
  if (!db.sites.some((site) => site.accountId === accountId && site.id === siteId)) return false;
  return db.resource_sites.some(
    (link) => link.accountId === accountId && link.resourceId === resourceId && link.siteId === siteId,
  );
}

/** What conditions look at, when somebody may act as this client at all. */
function askerOf(db: OracleRows, client: ClientRow, now: number): (Asker & { readonly tokenEnd: number }) | undefined {
  const { accountId, actorId } = client;
  const facts = db.connections.find((row) => row.accountId === accountId && row.clientId === client.id);
  if (facts === undefined) return undefined;
  if (!db.accounts.some((row) => row.id === accountId && row.disabledAt === null)) return undefined;
  if (!db.actors.some((row) => row.accountId === accountId && row.id === actorId && row.disabledAt === null)) {
    return undefined;
  }
  const token = db.tokens.find((row) => row.accountId === accountId && row.id === facts.tokenId);
  if (token?.kind !== 'client' || token.actorId !== actorId) return undefined;
  const tokenEnd = token.expiresAt ?? Infinity;
  if (tokenEnd <= now) return undefined;

  let providerId: string | null = null;
  if (token.identityId !== null) {
    const identity = db.identities.find((row) => row.accountId === accountId && row.id === token.identityId);
    if (identity?.actorId !== actorId) return undefined;
    const provider = db.auth_providers.find((row) => row.accountId === accountId && row.id === identity.providerId);
    if (provider?.disabledAt !== null) return undefined;
    providerId = provider.id;
  }
  return { region: facts.region, remoteIp: facts.remoteIp, providerId, verifiedAt: client.verifiedAt, tokenEnd };
}

function longestPolicy(
  db: OracleRows,
  client: ClientRow,
  asker: Asker,
  resourceId: ResourceId,
  now: number,
): { readonly policyId: PolicyId; readonly end: number } | undefined {
  let best: { readonly policyId: PolicyId; readonly end: number } | undefined;
  for (const policy of db.policies) {
    if (policy.conditions === 'unreadable' || !concerns(db, policy, client, resourceId)) continue;
    const end = conditionsEnd(policy.conditions, asker, now);
    if (end === undefined) continue;
    const isBetter = best === undefined || end > best.end || (end === best.end && policy.id < best.policyId);
    if (isBetter) best = { policyId: policy.id, end };
  }
  return best;
}

function concerns(
  db: OracleRows,
  policy: AccountTables['policies'],
  { accountId, actorId }: ClientRow,
  resourceId: ResourceId,
): boolean {
  if (policy.accountId !== accountId || policy.resourceId !== resourceId || policy.disabledAt !== null) return false;
  return db.memberships.some(
    (row) => row.accountId === accountId && row.actorId === actorId && row.groupId === policy.groupId,
  );
}
