/**
 * Rows with a valid default: a test states only what matters. The defaults belong together: the client may use the
 * resource through the gateway, by the one policy.
 */
import type { Change, RawRow, StreamTable } from '../../src/core/changes/commit.js';
import { printRow, printTimestamp } from '../../src/core/changes/print-row.js';
import type { ConnectionFacts } from '../../src/core/model/connection-facts.js';
import type { AccountId, ActorId, AnyId, FlowId, GroupId, IdentityId } from '../../src/core/model/ids.js';
import type { ClientId, GatewayId, MembershipId, PolicyId, ProviderId } from '../../src/core/model/ids.js';
import type { ResourceId, SiteId, TokenId } from '../../src/core/model/ids.js';
import type { FlowRecord } from '../../src/core/model/flow.js';
import type { AccountTable, AccountTables } from '../../src/core/model/rows.js';
import type * as Rows from '../../src/core/model/rows.js';
import type { EpochMs } from '../../src/core/model/time.js';

/** A UUID that stands for a name of up to six characters; ids sort as their names do. */
export function idOf<Id extends AnyId>(name: string): Id {
  const hex = [...name].map((char) => char.charCodeAt(0).toString(16).padStart(2, '0')).join('');
  if (hex.length > 12) throw new RangeError(`${name} has more than six characters`);
  return `00000000-0000-4000-8000-${hex.padEnd(12, '0')}` as Id;
}

export const ACCOUNT = idOf<AccountId>('acme');
export const ACTOR = idOf<ActorId>('alice');
const PROVIDER = idOf<ProviderId>('oidc');
const IDENTITY = idOf<IdentityId>('alice');
export const GROUP = idOf<GroupId>('devs');
export const SITE = idOf<SiteId>('berlin');
export const GATEWAY = idOf<GatewayId>('gate');
export const CLIENT = idOf<ClientId>('laptop');
export const RESOURCE = idOf<ResourceId>('gitlab');
export const POLICY = idOf<PolicyId>('policy');
export const TOKEN = idOf<TokenId>('token');
export const GATEWAY_TOKEN = idOf<TokenId>('gtoken');

/** Monday, as ManualClock starts. */
export const MONDAY_9 = Date.UTC(2026, 0, 5, 9);

const accountId = ACCOUNT;

export const anAccount = (of: Partial<Rows.AccountRow> = {}): Rows.AccountRow => ({
  id: ACCOUNT,
  name: 'Acme',
  slug: 'acme',
  config: { searchDomain: null, upstreamDns: [] },
  disabledAt: null,
  ...of,
});

export const anActor = (of: Partial<Rows.ActorRow> = {}): Rows.ActorRow => ({
  accountId,
  id: ACTOR,
  type: 'account_user',
  name: 'Alice',
  disabledAt: null,
  ...of,
});

export const aProvider = (of: Partial<Rows.ProviderRow> = {}): Rows.ProviderRow => ({
  accountId,
  id: PROVIDER,
  name: 'OIDC',
  adapter: 'openid_connect',
  disabledAt: null,
  ...of,
});

export const anIdentity = (of: Partial<Rows.IdentityRow> = {}): Rows.IdentityRow => ({
  accountId,
  id: IDENTITY,
  actorId: ACTOR,
  providerId: PROVIDER,
  providerIdentifier: 'alice',
  email: null,
  ...of,
});

export const aGroup = (of: Partial<Rows.GroupRow> = {}): Rows.GroupRow => ({
  accountId,
  id: GROUP,
  name: 'Devs',
  ...of,
});

export const aMembership = (of: Partial<Rows.MembershipRow> = {}): Rows.MembershipRow => ({
  accountId,
  id: idOf<MembershipId>('member'),
  actorId: ACTOR,
  groupId: GROUP,
  ...of,
});

export const aSite = (of: Partial<Rows.SiteRow> = {}): Rows.SiteRow => ({
  accountId,
  id: SITE,
  name: 'Berlin',
  managedBy: 'account',
  ...of,
});

export const aGateway = (of: Partial<Rows.GatewayRow> = {}): Rows.GatewayRow => ({
  accountId,
  id: GATEWAY,
  siteId: SITE,
  externalId: 'gate',
  name: 'gate',
  ipv4: '100.64.0.1',
  ipv6: 'fd00:2021:1111::1',
  ...of,
});

export const aClient = (of: Partial<Rows.ClientRow> = {}): Rows.ClientRow => ({
  accountId,
  id: CLIENT,
  actorId: ACTOR,
  externalId: 'laptop',
  name: 'laptop',
  ipv4: '100.64.0.2',
  ipv6: 'fd00:2021:1111::2',
  verifiedAt: null,
  ...of,
});

export const aResource = (of: Partial<Rows.ResourceRow> = {}): Rows.ResourceRow => ({
  accountId,
  id: RESOURCE,
  type: 'dns',
  name: 'GitLab',
  address: 'gitlab.acme.example',
  addressDescription: null,
  ipStack: 'dual',
  filters: [],
  ...of,
});

export const aLink = (of: Partial<Rows.ResourceSiteRow> = {}): Rows.ResourceSiteRow => ({
  accountId,
  resourceId: RESOURCE,
  siteId: SITE,
  ...of,
});

export const aPolicy = (of: Partial<Rows.PolicyRow> = {}): Rows.PolicyRow => ({
  accountId,
  id: POLICY,
  groupId: GROUP,
  resourceId: RESOURCE,
  conditions: [],
  description: null,
  disabledAt: null,
  ...of,
});

/** The client's, without end. */
export const aToken = (of: Partial<Rows.TokenRow> = {}): Rows.TokenRow => ({
  id: TOKEN,
  accountId,
  kind: 'client',
  actorId: ACTOR,
  identityId: IDENTITY,
  siteId: null,
  expiresAt: null,
  ...of,
});

export const aGatewayToken = (of: Partial<Rows.TokenRow> = {}): Rows.TokenRow =>
  aToken({ id: GATEWAY_TOKEN, kind: 'gateway', actorId: null, identityId: null, siteId: SITE, ...of });

export const someFacts = (of: Partial<ConnectionFacts> = {}): ConnectionFacts => ({
  clientId: CLIENT,
  tokenId: TOKEN,
  region: 'DE',
  remoteIp: '192.0.2.7',
  connectedAt: MONDAY_9,
  ...of,
});

export const aFlowRecord = (of: Partial<FlowRecord> = {}): FlowRecord => ({
  id: idOf<FlowId>('flow'),
  accountId,
  gatewayId: GATEWAY,
  clientId: CLIENT,
  resourceId: RESOURCE,
  policyId: POLICY,
  membershipId: idOf<MembershipId>('member'),
  tokenId: TOKEN,
  shape: { type: 'dns', address: 'gitlab.acme.example', ipStack: 'dual' },
  clientRemoteIp: '192.0.2.7',
  gatewayRemoteIp: '192.0.2.8',
  createdAt: MONDAY_9,
  expiresAt: MONDAY_9 + 14 * 86_400_000,
  ...of,
});

/** `M/9:00-17:00/UTC` and the like. */
export const duringHours = (...values: string[]): Rows.ConditionSource => ({
  property: 'current_utc_datetime',
  operator: 'is_in_day_of_week_time_ranges',
  values,
});

export type AnyRow = { [T in AccountTable]: readonly [table: T, row: AccountTables[T]] }[AccountTable];

/** Everything that lets the client use the resource through the gateway. */
export function anAccountInUse(): AnyRow[] {
  return [
    ['accounts', anAccount()],
    ['actors', anActor()],
    ['auth_providers', aProvider()],
    ['identities', anIdentity()],
    ['groups', aGroup()],
    ['memberships', aMembership()],
    ['sites', aSite()],
    ['gateways', aGateway()],
    ['clients', aClient()],
    ['resources', aResource()],
    ['resource_sites', aLink()],
    ['policies', aPolicy()],
    ['tokens', aToken()],
    ['tokens', aGatewayToken()],
  ];
}

/** Rows as column text by table: what a read of the account brings. */
export function rawRows(rows: readonly AnyRow[]): Map<AccountTable, RawRow[]> {
  const byTable = new Map<AccountTable, RawRow[]>();
  for (const [table, row] of rows) byTable.set(table, [...(byTable.get(table) ?? []), printRow(row)]);
  return byTable;
}

// ---- as the stream shows them ------------------------------------------------------------------------------------

export function inserted<T extends AccountTable>(table: T, row: AccountTables[T]): Change {
  return rawChange('insert', table, null, printRow(row));
}

export function updated<T extends AccountTable>(table: T, old: AccountTables[T], row: AccountTables[T]): Change {
  return rawChange('update', table, printRow(old), printRow(row));
}

export function deleted<T extends AccountTable>(table: T, row: AccountTables[T]): Change {
  return rawChange('delete', table, printRow(row), null);
}

export function truncated(...tables: StreamTable[]): Change {
  return { kind: 'truncate', tables, seq: 0 };
}

export function rawChange(
  kind: 'insert' | 'update' | 'delete',
  table: StreamTable,
  old: RawRow | null,
  row: RawRow | null,
): Change {
  return { kind, table, seq: 0, old, new: row };
}

/** A row of `flows` as the stream shows it. */
export function rawFlow(flow: FlowRecord, revoked: { at?: EpochMs; position?: string } = {}): RawRow {
  const { type, address, ipStack } = flow.shape;
  return {
    ...{ id: flow.id, account_id: flow.accountId, gateway_id: flow.gatewayId, client_id: flow.clientId },
    ...{ resource_id: flow.resourceId, policy_id: flow.policyId, membership_id: flow.membershipId },
    ...{ token_id: flow.tokenId, client_remote_ip: flow.clientRemoteIp, gateway_remote_ip: flow.gatewayRemoteIp },
    resource_shape: JSON.stringify({ type, address, ip_stack: ipStack }),
    created_at: printTimestamp(flow.createdAt),
    expires_at: printTimestamp(flow.expiresAt),
    revoked_at: revoked.at === undefined ? null : printTimestamp(revoked.at),
    revoked_position: revoked.position ?? null,
  };
}
