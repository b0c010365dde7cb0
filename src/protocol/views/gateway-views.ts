/** What a gateway is told, from the model: the only place that knows the wire's names for it (wire-protocol.md 4). */
import { NIL_UUID } from '../../core/model/ids.js';
import type { ClientId, ResourceId } from '../../core/model/ids.js';
import type { ClientRow, GatewayRow, ResourceRow } from '../../core/model/rows.js';
import { toUnixSeconds } from '../../core/model/time.js';
import type { EpochMs } from '../../core/model/time.js';
import type { PairSecrets } from '../../core/ports/presence.js';
import type {
  AccessPair,
  AuthorizationEntry,
  AuthorizeFlow,
  ClientCandidates,
  GatewayInit,
  RelayEntry,
} from '../outbound.js';
import { gatewayResource } from './resource-forms.js';

/** One pair the gateway may serve, with the longest expiry among its flows. */
export interface ServedPair {
  readonly clientId: ClientId;
  readonly resourceId: ResourceId;
  readonly expiresAt: EpochMs;
}

/**
 * @param served every pair the gateway may serve now: what it holds for a listed client beyond these, it drops
 * @param emptied clients of whom it may hold pairs although none is justified. It prunes only clients that are listed,
 *   so each gets one placeholder entry for a resource that cannot exist (D22).
 */
export function gatewayInit(
  accountSlug: string,
  gateway: GatewayRow,
  relays: readonly RelayEntry[],
  served: readonly ServedPair[],
  emptied: readonly ClientId[],
): GatewayInit {
  return {
    account_slug: accountSlug,
    interface: { ipv4: gateway.ipv4, ipv6: gateway.ipv6 },
    config: { ipv4_masquerade_enabled: true, ipv6_masquerade_enabled: true },
    relays,
    authorizations: [...served.map(authorizationEntry), ...emptied.map(placeholder)],
  };
}

export interface FlowGrant {
  /** Sealed; see core/derivations/sealed-ref. */
  readonly ref: string;
  readonly resource: ResourceRow;
  readonly client: ClientRow;
  readonly clientPublicKey: string;
  readonly secrets: PairSecrets;
  readonly expiresAt: EpochMs;
}

/** `undefined` when a gateway of this version cannot serve the resource: it is then not eligible for it. */
export function authorizeFlow(grant: FlowGrant, gatewayVersion: string): AuthorizeFlow | undefined {
  const resource = gatewayResource(grant.resource, gatewayVersion);
  if (!resource) return undefined;
  const { client, secrets } = grant;
  return {
    ref: grant.ref,
    resource,
    client: {
      id: client.id,
      public_key: grant.clientPublicKey,
      preshared_key: secrets.presharedKey,
      ipv4: client.ipv4,
      ipv6: client.ipv6,
    },
    client_ice_credentials: secrets.clientIce,
    gateway_ice_credentials: secrets.gatewayIce,
    expires_at: toUnixSeconds(grant.expiresAt),
  };
}

/** Safe to send twice, and for a pair the gateway never had. */
export function rejectAccess(clientId: ClientId, resourceId: ResourceId): AccessPair {
  return { client_id: clientId, resource_id: resourceId };
}

export function expiryUpdated(pair: ServedPair): AccessPair & { expires_at: number } {
  return { ...rejectAccess(pair.clientId, pair.resourceId), expires_at: toUnixSeconds(pair.expiresAt) };
}

export function candidatesOfClient(clientId: ClientId, candidates: readonly string[]): ClientCandidates {
  return { client_id: clientId, candidates };
}

/** Far beyond every grant; the pair does not exist, so the value only has to be in the future. */
const PLACEHOLDER_EXPIRY = 2_145_916_800;

function authorizationEntry(pair: ServedPair): AuthorizationEntry {
  return { client_id: pair.clientId, resource_id: pair.resourceId, expires_at: toUnixSeconds(pair.expiresAt) };
}

function placeholder(clientId: ClientId): AuthorizationEntry {
  return { client_id: clientId, resource_id: NIL_UUID, expires_at: PLACEHOLDER_EXPIRY };
}
