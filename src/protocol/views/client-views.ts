/** What a client is told, from the model: the only place that knows the wire's names for it (wire-protocol.md 3). */
import type { GatewayId, ResourceId } from '../../core/model/ids.js';
import type { AccountConfig, ClientRow } from '../../core/model/rows.js';
import type { ConnectionAnswer, FlowAnswer } from '../../core/ports/presence.js';
import type { ShownResource } from '../../core/views/client-view.js';
import { addressText, parseIpEndpoint } from '../ip-endpoint.js';
import type { ClientInterface, ClientPushes, ClientReplies, RelayEntry } from '../outbound.js';
import { clientResource } from './resource-forms.js';

/** Resources that a client of this version cannot use are left out. */
export function clientInit(
  client: ClientRow,
  config: AccountConfig,
  shown: Iterable<ShownResource>,
  clientVersion: string,
  relays: readonly RelayEntry[],
): ClientPushes['init'] {
  const resources = [...shown].flatMap(({ resource, sites }) => clientResource(resource, sites, clientVersion) ?? []);
  return { interface: clientInterface(client, config), resources, relays };
}

/**
 * One bad member would make the client drop all of `init`, so what it could not read is left out: an upstream that is
 * no address, a search domain that is no domain name.
 */
export function clientInterface(client: ClientRow, config: AccountConfig): ClientInterface {
  return {
    ipv4: client.ipv4,
    ipv6: client.ipv6,
    upstream_dns: config.upstreamDns.flatMap((stored) => {
      const address = dnsServerAddress(stored);
      return address === undefined ? [] : [{ protocol: 'ip_port' as const, address }];
    }),
    search_domain: searchDomain(config.searchDomain),
  };
}

export function configChanged(client: ClientRow, config: AccountConfig): { interface: ClientInterface } {
  return { interface: clientInterface(client, config) };
}

export function flowCreated(answer: FlowAnswer): ClientPushes['flow_created'] {
  return {
    resource_id: answer.resourceId,
    gateway_id: answer.gatewayId,
    gateway_group_id: answer.siteId,
    gateway_public_key: answer.gatewayPublicKey,
    gateway_ipv4: answer.gatewayIpv4,
    gateway_ipv6: answer.gatewayIpv6,
    preshared_key: answer.secrets.presharedKey,
    client_ice_credentials: answer.secrets.clientIce,
    gateway_ice_credentials: answer.secrets.gatewayIce,
  };
}

/** For a client before 1.4: its gateway has the connection, or one resource more on it. */
export function connectionReady(answer: ConnectionAnswer): ClientReplies['request_connection'] {
  return {
    resource_id: answer.resourceId,
    persistent_keepalive: 25,
    gateway_public_key: answer.gatewayPublicKey,
    gateway_payload: answer.gatewayPayload,
  };
}

/**
 * @param violatedProperties in the order of evaluation; repeats are dropped here. Sent with `forbidden` alone. The
 *   client acts only on `offline`, which it shows, and it then waits for traffic without asking again (D14).
 */
export function flowCreationFailed(
  resourceId: ResourceId,
  reason: ClientPushes['flow_creation_failed']['reason'],
  violatedProperties: readonly string[] = [],
): ClientPushes['flow_creation_failed'] {
  if (reason !== 'forbidden') return { resource_id: resourceId, reason };
  return { resource_id: resourceId, reason, violated_properties: [...new Set(violatedProperties)] };
}

export function candidatesOfGateway(
  gatewayId: GatewayId,
  candidates: readonly string[],
): ClientPushes['ice_candidates'] {
  return { gateway_id: gatewayId, candidates };
}

const DNS_PORT = 53;

/** `ip:port`, IPv6 in brackets. */
function dnsServerAddress(stored: string): string | undefined {
  const endpoint = parseIpEndpoint(stored.trim());
  if (!endpoint) return undefined;
  const ip = addressText(endpoint.address);
  return `${endpoint.address.version === 4 ? ip : `[${ip}]`}:${endpoint.port ?? DNS_PORT}`;
}

function searchDomain(stored: string | null): string | null {
  const domain = stored?.trim() ?? '';
  const labels = domain.split('.');
  return domain.length <= 253 && labels.every((label) => /^[A-Za-z0-9_-]{1,63}$/.test(label)) ? domain : null;
}
