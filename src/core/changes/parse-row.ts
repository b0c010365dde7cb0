/**
 * Gives the raw text of a published row its type. What does not parse counts as absent, for that part or for the whole
 * row, and is named as a fault (D15); doubt never widens access (S9). Only a row whose ids cannot be read throws.
 */
import type { AccountTable, AccountTables, PolicyRow } from '../model/rows.js';
import type { RawRow } from './commit.js';
import { parseAccountConfig } from './parse-account-config.js';
import { parseConditions } from './parse-conditions.js';
import { parseResource } from './parse-resource.js';
import { UnreadableRowError, type RowFault } from './row-fault.js';
import { RowReader } from './row-reader.js';

export { UnreadableRowError, type RowFault };

export interface ParsedRow<T extends AccountTable> {
  /** Null: the row counts as absent. */
  readonly row: AccountTables[T] | null;
  readonly faults: readonly RowFault[];
}

/** Throws UnreadableRowError when an id is missing or no UUID. */
export function parseRow<T extends AccountTable>(table: T, raw: RawRow): ParsedRow<T> {
  const reader = new RowReader(table, raw);
  const row = PARSERS[table](reader);
  return { row: reader.isAbsent ? null : row, faults: reader.faults };
}

/** A raw row's key inside its account and table; the same before and after parsing. Throws UnreadableRowError. */
export function rowKey(table: AccountTable, raw: RawRow): string {
  const reader = new RowReader(table, raw);
  return table === 'resource_sites' ? `${reader.id('resource_id')}/${reader.id('site_id')}` : reader.id('id');
}

export function keyOf<T extends AccountTable>(_table: T, row: AccountTables[T]): string {
  return 'id' in row ? row.id : `${row.resourceId}/${row.siteId}`;
}

const ACTOR_TYPES = ['account_user', 'account_admin_user', 'service_account', 'api_client'] as const;
const TOKEN_KINDS = ['client', 'gateway', 'relay', 'api'] as const;

const PARSERS: { readonly [T in AccountTable]: (row: RowReader) => AccountTables[T] } = {
  accounts: (row) => ({
    id: row.id('id'),
    name: row.text('name'),
    slug: row.text('slug'),
    config: accountConfig(row),
    disabledAt: row.disabledAt(),
  }),
  actors: (row) => ({
    accountId: row.id('account_id'),
    id: row.id('id'),
    type: row.oneOf('type', ACTOR_TYPES),
    name: row.text('name'),
    disabledAt: row.disabledAt(),
  }),
  auth_providers: (row) => ({
    accountId: row.id('account_id'),
    id: row.id('id'),
    name: row.text('name'),
    adapter: row.text('adapter'),
    disabledAt: row.disabledAt(),
  }),
  identities: (row) => ({
    accountId: row.id('account_id'),
    id: row.id('id'),
    actorId: row.id('actor_id'),
    providerId: row.id('provider_id'),
    providerIdentifier: row.text('provider_identifier'),
    email: row.optionalText('email'),
  }),
  groups: (row) => ({ accountId: row.id('account_id'), id: row.id('id'), name: row.text('name') }),
  memberships: (row) => ({
    accountId: row.id('account_id'),
    id: row.id('id'),
    actorId: row.id('actor_id'),
    groupId: row.id('group_id'),
  }),
  sites: (row) => ({
    accountId: row.id('account_id'),
    id: row.id('id'),
    name: row.text('name'),
    managedBy: row.text('managed_by'),
  }),
  gateways: (row) => ({
    accountId: row.id('account_id'),
    id: row.id('id'),
    siteId: row.id('site_id'),
    externalId: row.text('external_id'),
    name: row.text('name'),
    ipv4: row.address('ipv4', 4),
    ipv6: row.address('ipv6', 6),
  }),
  clients: (row) => ({
    accountId: row.id('account_id'),
    id: row.id('id'),
    actorId: row.id('actor_id'),
    externalId: row.text('external_id'),
    name: row.text('name'),
    ipv4: row.address('ipv4', 4),
    ipv6: row.address('ipv6', 6),
    verifiedAt: row.verifiedAt(),
  }),
  resources: parseResource,
  resource_sites: (row) => ({
    accountId: row.id('account_id'),
    resourceId: row.id('resource_id'),
    siteId: row.id('site_id'),
  }),
  policies: (row) => ({
    accountId: row.id('account_id'),
    id: row.id('id'),
    groupId: row.id('group_id'),
    resourceId: row.id('resource_id'),
    conditions: policyConditions(row),
    description: row.optionalText('description'),
    disabledAt: row.disabledAt(),
  }),
  tokens: (row) => ({
    id: row.id('id'),
    accountId: row.optionalId('account_id'),
    kind: row.oneOf('kind', TOKEN_KINDS),
    actorId: row.optionalId('actor_id'),
    identityId: row.optionalId('identity_id'),
    siteId: row.optionalId('site_id'),
    expiresAt: row.expiresAt(),
  }),
};

function accountConfig(row: RowReader): AccountTables['accounts']['config'] {
  const { config, faults } = parseAccountConfig(row.optionalText('config'));
  for (const { part, problem } of faults) row.report(part, problem);
  return config;
}

function policyConditions(row: RowReader): PolicyRow['conditions'] {
  const conditions = parseConditions(row.optionalText('conditions'));
  if (conditions === 'unreadable') row.report('conditions', 'not a list of {property, operator, values}');
  return conditions;
}
