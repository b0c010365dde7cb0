/** The generated account as the rows a snapshot reads, columns as PostgreSQL prints them, for the library under test. */
import type { RawRow } from '../src/core/changes/commit.js';
import type { ConnectionFacts } from '../src/core/model/connection-facts.js';
import type { ClientId, TokenId } from '../src/core/model/ids.js';
import type { AccountTable } from '../src/core/model/rows.js';
import { type Account, Chance, type Condition, ownStrings, type Policy } from './authorize-rules.js';

/** A Tuesday, 10:30 UTC. */
export const NOW = Date.UTC(2026, 2, 3, 10, 30);

export interface RowOptions {
  /** Every tenth policy that has conditions gets this one more. */
  readonly windows?: readonly string[];
  /** These have no rows. */
  readonly without?: readonly AccountTable[];
}

export type Rows = Map<AccountTable, readonly RawRow[]>;

export function rowsOf(account: Account, { windows, without = [] }: RowOptions = {}): Rows {
  return new Map([...allRowsOf(account, windows)].filter(([table]) => !without.includes(table)));
}

function allRowsOf(account: Account, windows: readonly string[] | undefined): Rows {
  const chance = new Chance(3);
  const of = (row: RawRow): RawRow => ownStrings({ account_id: account.id, ...row });
  const siteId = chance.id();
  const identityOf = new Map(account.actors.map(({ id }) => [id, chance.id()]));
  const conditional = account.policies.filter(({ conditions }) => conditions.length > 0);
  const withWindows = new Set(windows ? conditional.filter((_, i) => i % 10 === 0) : []);
  return new Map<AccountTable, readonly RawRow[]>([
    ['accounts', [{ id: account.id, name: 'Bench', slug: 'bench', config: '{}', disabled_at: null }]],
    ['actors', account.actors.map(({ id }) => of({ id, type: 'account_user', name: 'Actor', disabled_at: null }))],
    [
      'auth_providers',
      account.providerIds.map((id) => of({ id, name: 'Provider', adapter: 'oidc', disabled_at: null })),
    ],
    [
      'identities',
      account.actors.map(({ id, facts }) => {
        const own = { id: identityOf.get(id) ?? null, actor_id: id, provider_id: facts.providerId };
        return of({ ...own, provider_identifier: id, email: null });
      }),
    ],
    ['groups', account.groupIds.map((id) => of({ id, name: 'Group' }))],
    [
      'memberships',
      account.actors.flatMap(({ id, groupIds }) =>
        groupIds.map((groupId) => of({ id: chance.id(), actor_id: id, group_id: groupId })),
      ),
    ],
    ['sites', [of({ id: siteId, name: 'Site', managed_by: 'account' })]],
    ['gateways', []],
    ['clients', account.actors.map((actor, i) => of(clientRow(actor, i)))],
    [
      'resources',
      account.resourceIds.map((id, i) => {
        const address = `10.${100 + (i >>> 16)}.${(i >>> 8) & 255}.${i & 255}/32`;
        const own = { id, type: 'ip', name: `Resource ${i}`, address, address_description: null };
        return of({ ...own, ip_stack: null, filters: '[]' });
      }),
    ],
    ['resource_sites', account.resourceIds.map((id) => of({ resource_id: id, site_id: siteId }))],
    [
      'policies',
      account.policies.map((policy) => of(policyRow(policy, withWindows.has(policy) ? windows : undefined))),
    ],
    [
      'tokens',
      account.actors.map(({ id, clientId }) => {
        const own = { id: tokenOf(clientId), kind: 'client', actor_id: id, identity_id: identityOf.get(id) ?? null };
        return of({ ...own, site_id: null, expires_at: null });
      }),
    ],
  ]);
}

export function connectionsOf({ actors }: Account): ConnectionFacts[] {
  return actors.map(({ clientId, facts }) =>
    ownStrings({
      clientId: clientId as ClientId,
      tokenId: tokenOf(clientId) as TokenId,
      region: facts.region,
      remoteIp: facts.ip,
      connectedAt: NOW,
    }),
  );
}

function clientRow({ id, clientId, facts }: Account['actors'][number], i: number): RawRow {
  const addresses = {
    ipv4: `100.64.${(i >>> 8) & 255}.${i & 255}`,
    ipv6: `fd00:2021:1111::${(i >>> 16).toString(16)}:${(i & 0xffff).toString(16)}`,
  };
  const verifiedAt = facts.isVerified ? '2026-01-05 08:00:00+00' : null;
  return { id: clientId, actor_id: id, external_id: clientId, name: 'Laptop', ...addresses, verified_at: verifiedAt };
}

function policyRow({ id, groupId, resourceId, conditions }: Policy, windows: readonly string[] | undefined): RawRow {
  const time = { property: 'current_utc_datetime', operator: 'is_in_day_of_week_time_ranges', values: windows };
  const list = [...conditions.map(conditionSource), ...(windows ? [time] : [])];
  const own = { id, group_id: groupId, resource_id: resourceId, conditions: JSON.stringify(list) };
  return { ...own, description: null, disabled_at: null };
}

function conditionSource(condition: Condition): unknown {
  switch (condition.kind) {
    case 'region':
      return { property: 'remote_ip_location_region', operator: 'is_in', values: condition.values };
    case 'cidr':
      return { property: 'remote_ip', operator: 'is_in_cidr', values: condition.ranges.map(({ text }) => text) };
    case 'provider':
      return { property: 'provider_id', operator: 'is_in', values: condition.ids };
    case 'verified':
      return { property: 'client_verified', operator: 'is', values: ['true'] };
  }
}

/** Its client's id with another first digit: as good as any. */
function tokenOf(clientId: string): string {
  return (clientId.startsWith('f') ? 'e' : 'f') + clientId.slice(1);
}
