/**
 * The published rows as the program sees them. Immutable: a change replaces a row.
 * A part that could not be read is the word `unreadable`; whoever decides treats it as absent (decisions D15).
 */
import type {
  AccountId,
  ActorId,
  ClientId,
  GatewayId,
  GroupId,
  IdentityId,
  MembershipId,
  PolicyId,
  ProviderId,
  ResourceId,
  SiteId,
  TokenId,
} from './ids.js';
import type { EpochMs } from './time.js';

export interface AccountRow {
  readonly id: AccountId;
  readonly name: string;
  readonly slug: string;
  /** An unreadable config reads as the empty one. */
  readonly config: AccountConfig;
  readonly disabledAt: EpochMs | null;
}

export interface AccountConfig {
  readonly searchDomain: string | null;
  /** `IP`, `IP:port` or `[v6]:port`, as stored. */
  readonly upstreamDns: readonly string[];
}

export interface ActorRow {
  readonly accountId: AccountId;
  readonly id: ActorId;
  readonly type: 'account_user' | 'account_admin_user' | 'service_account' | 'api_client';
  readonly name: string;
  readonly disabledAt: EpochMs | null;
}

export interface ProviderRow {
  readonly accountId: AccountId;
  readonly id: ProviderId;
  readonly name: string;
  readonly adapter: string;
  readonly disabledAt: EpochMs | null;
}

export interface IdentityRow {
  readonly accountId: AccountId;
  readonly id: IdentityId;
  readonly actorId: ActorId;
  readonly providerId: ProviderId;
  readonly providerIdentifier: string;
  readonly email: string | null;
}

export interface GroupRow {
  readonly accountId: AccountId;
  readonly id: GroupId;
  readonly name: string;
}

export interface MembershipRow {
  readonly accountId: AccountId;
  readonly id: MembershipId;
  readonly actorId: ActorId;
  readonly groupId: GroupId;
}

export interface SiteRow {
  readonly accountId: AccountId;
  readonly id: SiteId;
  readonly name: string;
  readonly managedBy: string;
}

export interface GatewayRow {
  readonly accountId: AccountId;
  readonly id: GatewayId;
  readonly siteId: SiteId;
  readonly externalId: string;
  readonly name: string;
  readonly ipv4: string;
  readonly ipv6: string;
}

export interface ClientRow {
  readonly accountId: AccountId;
  readonly id: ClientId;
  readonly actorId: ActorId;
  readonly externalId: string;
  readonly name: string;
  readonly ipv4: string;
  readonly ipv6: string;
  readonly verifiedAt: EpochMs | null;
}

export type ResourceType = 'dns' | 'cidr' | 'ip' | 'internet';
export type IpStack = 'dual' | 'ipv4_only' | 'ipv6_only';

export interface Filter {
  readonly protocol: 'tcp' | 'udp' | 'icmp';
  /** Inclusive port ranges; empty means every port. Always empty for icmp. */
  readonly ports: readonly { readonly from: number; readonly to: number }[];
}

export interface ResourceRow {
  readonly accountId: AccountId;
  readonly id: ResourceId;
  readonly type: ResourceType;
  readonly name: string;
  /** dns: the pattern as stored; cidr and ip: a network with host bits zero and its prefix (`10.20.0.0/16`, `10.1.2.3/32`); null for internet. */
  readonly address: string | null;
  readonly addressDescription: string | null;
  readonly ipStack: IpStack | null;
  readonly filters: readonly Filter[];
}

export interface ResourceSiteRow {
  readonly accountId: AccountId;
  readonly resourceId: ResourceId;
  readonly siteId: SiteId;
}

export interface ConditionSource {
  readonly property: string;
  readonly operator: string;
  readonly values: readonly string[];
}

export interface PolicyRow {
  readonly accountId: AccountId;
  readonly id: PolicyId;
  readonly groupId: GroupId;
  readonly resourceId: ResourceId;
  /** Not even a list of {property, operator, values}: the policy grants nothing. */
  readonly conditions: readonly ConditionSource[] | 'unreadable';
  readonly description: string | null;
  readonly disabledAt: EpochMs | null;
}

export type TokenKind = 'client' | 'gateway' | 'relay' | 'api';

export interface TokenRow {
  readonly id: TokenId;
  /** Null only for relay tokens of the whole installation. */
  readonly accountId: AccountId | null;
  readonly kind: TokenKind;
  readonly actorId: ActorId | null;
  readonly identityId: IdentityId | null;
  readonly siteId: SiteId | null;
  /** Null: never. */
  readonly expiresAt: EpochMs | null;
}

/** The account tables an account's state holds, by SQL name, with their row types. */
export interface AccountTables {
  readonly accounts: AccountRow;
  readonly actors: ActorRow;
  readonly auth_providers: ProviderRow;
  readonly identities: IdentityRow;
  readonly groups: GroupRow;
  readonly memberships: MembershipRow;
  readonly sites: SiteRow;
  readonly gateways: GatewayRow;
  readonly clients: ClientRow;
  readonly resources: ResourceRow;
  readonly resource_sites: ResourceSiteRow;
  readonly policies: PolicyRow;
  readonly tokens: TokenRow;
}

export type AccountTable = keyof AccountTables;

/** In the order a snapshot is read: parents before children. */
export const ACCOUNT_TABLES = [
  'accounts',
  'actors',
  'auth_providers',
  'identities',
  'groups',
  'memberships',
  'sites',
  'gateways',
  'clients',
  'resources',
  'resource_sites',
  'policies',
  'tokens',
] as const satisfies readonly AccountTable[];
