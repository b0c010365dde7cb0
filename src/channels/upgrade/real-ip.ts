/**
 * The address a peer really comes from. Forwarding headers are believed only when the TCP peer is a trusted proxy
 * (wire-protocol.md 1.6): anybody can write them, and conditions on the remote address grant access.
 */
import { contains, parseAddress, unmapped } from '../../core/authorizer/ip-ranges.js';
import type { IpAddress, IpRange } from '../../core/authorizer/ip-ranges.js';
import { addressText, parseIpEndpoint } from '../../protocol/ip-endpoint.js';
import { headerOf } from './upgrade-request.js';
import type { UpgradeRequest } from './upgrade-request.js';

/** `TRUSTED_PROXIES`. Nothing else is trusted, neither loopback nor private ranges. */
export type TrustedProxies = readonly IpRange[];

/**
 * Textual address without zone, port or prefix, an IPv4-mapped one as IPv4; null when even the TCP peer's is unknown.
 *
 * Walks `X-Forwarded-For` from the right, where our own proxies wrote, and takes the first address that is no trusted
 * proxy. What cannot be read ends the walk, and so does the end of the list: the answer is then the TCP peer, since what
 * stands further left may be the peer's own invention.
 */
export function realIp(request: UpgradeRequest, trusted: TrustedProxies): string | null {
  const tcpPeer = tcpPeerOf(request);
  if (!tcpPeer) return null;
  const forwarded = isTrusted(tcpPeer, trusted) ? forwardedAddress(request, trusted) : undefined;
  return addressText(forwarded ?? tcpPeer);
}

/** True when the headers that only our proxies may set can be believed. */
export function comesFromTrustedProxy(request: UpgradeRequest, trusted: TrustedProxies): boolean {
  const tcpPeer = tcpPeerOf(request);
  return tcpPeer !== undefined && isTrusted(tcpPeer, trusted);
}

/** More proxies in a row than anybody runs; bounds the work a long header can cause. */
const MAX_PROXIES = 32;

function forwardedAddress(request: UpgradeRequest, trusted: TrustedProxies): IpAddress | undefined {
  const hops = headerOf(request, 'x-forwarded-for')?.split(',') ?? [];
  for (const hop of hops.slice(-MAX_PROXIES).reverse()) {
    const endpoint = parseIpEndpoint(hop.trim());
    if (!endpoint) return undefined;
    const address = withoutMapping(endpoint.address);
    if (!isTrusted(address, trusted)) return address;
  }
  return undefined;
}

/** Node adds the zone of a link-local peer; it names an interface of ours, not the peer. */
function tcpPeerOf(request: UpgradeRequest): IpAddress | undefined {
  const address = parseAddress(request.remoteAddress?.split('%', 1)[0] ?? '');
  return address && withoutMapping(address);
}

function isTrusted(address: IpAddress, trusted: TrustedProxies): boolean {
  return trusted.some((range) => contains(range, address));
}

function withoutMapping(address: IpAddress): IpAddress {
  return unmapped(address) ?? address;
}
