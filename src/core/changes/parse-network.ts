import {
  formatRange,
  IPV4_MAPPED,
  isOneAddress,
  overlaps,
  parseCidr,
  parseRange,
  type IpRange,
} from '../authorizer/ip-ranges.js';

/** The ranges our own peers get their tunnel addresses from. */
export const CLIENT_NETWORKS: readonly IpRange[] = ['100.64.0.0/10', 'fd00:2021:1111::/48'].map(mustBeCidr);

/**
 * Never a resource, nor any network that overlaps one: loopback, "any address", the tunnel itself, and IPv4-mapped
 * IPv6, which some readers take for IPv4. The whole of IPv4 or IPv6 is therefore refused as well.
 */
const FORBIDDEN: readonly IpRange[] = [
  ...['0.0.0.0/32', '127.0.0.0/8', '::/128', '::1/128'].map(mustBeCidr),
  ...CLIENT_NETWORKS,
  IPV4_MAPPED,
];

/** The canonical network of a `cidr` resource: `10.1.2.3/8` is `10.0.0.0/8`. Undefined when it may not be a resource. */
export function parseCidrAddress(text: string): string | undefined {
  return allowed(parseCidr(text));
}

/**
 * The canonical network of an `ip` resource: `10.1.2.3` is `10.1.2.3/32`, and may be stored so. Undefined when it may
 * not be a resource.
 */
export function parseIpAddress(text: string): string | undefined {
  const range = parseRange(text);
  return allowed(range && isOneAddress(range) ? range : undefined);
}

function allowed(range: IpRange | undefined): string | undefined {
  return range && !FORBIDDEN.some((forbidden) => overlaps(forbidden, range)) ? formatRange(range) : undefined;
}

function mustBeCidr(text: string): IpRange {
  const range = parseCidr(text);
  if (!range) throw new Error(`${text} is not a network`);
  return range;
}
