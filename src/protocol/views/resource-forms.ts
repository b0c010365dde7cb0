/** A resource as clients and as gateways want it (wire-protocol.md 6.1 to 6.3), adapted to their version. */
import type { Filter, ResourceRow, SiteRow } from '../../core/model/rows.js';
import type { ClientResource, FilterEntry, GatewayResource, SiteEntry } from '../outbound.js';
import { resourceForVersion } from '../versions.js';

/** `undefined`: nothing a client of this version could use, so it is not told of it. Always so without a site. */
export function clientResource(
  row: ResourceRow,
  sites: readonly SiteRow[],
  clientVersion: string,
): ClientResource | undefined {
  const resource = resourceForVersion(row, clientVersion);
  if (!resource || sites.length === 0) return undefined;

  const gateway_groups = sites.map(siteEntry).sort((a, b) => (a.id < b.id ? -1 : 1));
  if (resource.type === 'internet') return { id: resource.id, type: 'internet', gateway_groups, can_be_disabled: true };
  if (resource.address === null) return undefined;
  return {
    id: resource.id,
    type: resource.type === 'dns' ? 'dns' : 'cidr',
    address: resource.address,
    name: resource.name,
    address_description: resource.addressDescription,
    gateway_groups,
    filters: resource.filters.flatMap(filterEntries),
    ...(resource.type === 'dns' && resource.ipStack !== null && { ip_stack: resource.ipStack }),
  };
}

/** `undefined`: a gateway of this version could not serve it, and would drop the whole message. */
export function gatewayResource(row: ResourceRow, gatewayVersion: string): GatewayResource | undefined {
  const resource = resourceForVersion(row, gatewayVersion);
  if (!resource) return undefined;
  if (resource.type === 'internet') return { id: resource.id, type: 'internet' };
  if (resource.address === null) return undefined;
  return {
    id: resource.id,
    type: resource.type === 'dns' ? 'dns' : 'cidr',
    address: resource.address,
    name: resource.name,
    filters: resource.filters.flatMap(filterEntries),
  };
}

function siteEntry(site: SiteRow): SiteEntry {
  return { id: site.id, name: site.name };
}

/** One entry per port range. Both numbers absent means every port. */
function filterEntries({ protocol, ports }: Filter): FilterEntry[] {
  if (protocol === 'icmp' || ports.length === 0) return [{ protocol }];
  return ports.map((range) => ({ protocol, port_range_start: range.from, port_range_end: range.to }));
}
