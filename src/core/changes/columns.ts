/** The SQL columns the program reads from each published table: what a snapshot selects and a row parser understands (D5). */
import type { AccountTable } from '../model/rows.js';

export const COLUMNS: { readonly [T in AccountTable]: readonly string[] } = {
  accounts: ['id', 'name', 'slug', 'config', 'disabled_at'],
  actors: ['account_id', 'id', 'type', 'name', 'disabled_at'],
  auth_providers: ['account_id', 'id', 'name', 'adapter', 'disabled_at'],
  identities: ['account_id', 'id', 'actor_id', 'provider_id', 'provider_identifier', 'email'],
  groups: ['account_id', 'id', 'name'],
  memberships: ['account_id', 'id', 'actor_id', 'group_id'],
  sites: ['account_id', 'id', 'name', 'managed_by'],
  gateways: ['account_id', 'id', 'site_id', 'external_id', 'name', 'ipv4', 'ipv6'],
  clients: ['account_id', 'id', 'actor_id', 'external_id', 'name', 'ipv4', 'ipv6', 'verified_at'],
  resources: ['account_id', 'id', 'type', 'name', 'address', 'address_description', 'ip_stack', 'filters'],
  resource_sites: ['account_id', 'resource_id', 'site_id'],
  policies: ['account_id', 'id', 'group_id', 'resource_id', 'conditions', 'description', 'disabled_at'],
  tokens: ['id', 'account_id', 'kind', 'actor_id', 'identity_id', 'site_id', 'expires_at'],
};
