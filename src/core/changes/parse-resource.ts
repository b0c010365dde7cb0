import type { IpStack, ResourceRow, ResourceType } from '../model/rows.js';
import { dnsPatternProblem } from './parse-dns-pattern.js';
import { parseFilters } from './parse-filters.js';
import { parseCidrAddress, parseIpAddress } from './parse-network.js';
import type { RowReader } from './row-reader.js';

const TYPES = ['dns', 'cidr', 'ip', 'internet'] as const satisfies readonly ResourceType[];
const IP_STACKS = ['dual', 'ipv4_only', 'ipv6_only'] as const satisfies readonly IpStack[];

/** A resource of which any part is in doubt is absent: it must not reach further than its author meant. */
export function parseResource(row: RowReader): ResourceRow {
  const type = row.oneOf('type', TYPES);
  return {
    accountId: row.id('account_id'),
    id: row.id('id'),
    type,
    name: row.text('name'),
    address: addressOf(row, type),
    addressDescription: row.optionalText('address_description'),
    ipStack: ipStackOf(row, type),
    filters: filtersOf(row, type),
  };
}

function addressOf(row: RowReader, type: ResourceType): string | null {
  if (type === 'internet') {
    if (row.optionalText('address') !== null) row.reject('address', 'an internet resource has none');
    return null;
  }
  const stored = row.text('address');
  const address = canonicalAddress(type, stored);
  if (address === undefined) row.reject('address', problemOf(type, stored));
  return address ?? null;
}

function canonicalAddress(type: Exclude<ResourceType, 'internet'>, stored: string): string | undefined {
  switch (type) {
    case 'dns':
      return dnsPatternProblem(stored) === undefined ? stored : undefined;
    case 'cidr':
      return parseCidrAddress(stored);
    case 'ip':
      return parseIpAddress(stored);
  }
}

function problemOf(type: Exclude<ResourceType, 'internet'>, stored: string): string {
  if (type === 'dns') return `not usable as a dns pattern: ${dnsPatternProblem(stored)}`;
  return `not usable as ${type === 'ip' ? 'an ip' : 'a cidr'} resource`;
}

/** Only dns resources have one; it means both families when not set. */
function ipStackOf(row: RowReader, type: ResourceType): IpStack | null {
  if (type !== 'dns') return null;
  return row.optionalText('ip_stack') === null ? 'dual' : row.oneOf('ip_stack', IP_STACKS);
}

/** The peers know no filters for the internet resource: one that has some cannot be enforced. */
function filtersOf(row: RowReader, type: ResourceType): ResourceRow['filters'] {
  const filters = parseFilters(row.optionalText('filters'));
  if ('problem' in filters) {
    row.reject(filters.part, filters.problem);
    return [];
  }
  if (type === 'internet' && filters.length > 0) row.reject('filters', 'an internet resource has none');
  return filters;
}
