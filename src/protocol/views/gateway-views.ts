/** What a gateway is told, from the model: the only place that knows the wire's names for it (wire-protocol.md 4). */
import { NIL_UUID } from '../../core/model/ids.js';
import type { ClientId, ResourceId } from '../../core/model/ids.js';
import type { ClientRow, GatewayRow } from '../../core/model/rows.js';
import { toUnixSeconds } from '../../core/model/time.js';
import type { EpochMs } from '../../core/model/time.js';
import type { OpaqueObject, PairSecrets } from '../../core/ports/presence.js';
import type { AuthorizationEntry, GatewayPushes, GatewayResource, RelayEntry } from '../outbound.js';

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
): GatewayPushes['init'] {
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
  /** In the form that the gateway's version knows. */
  readonly resource: GatewayResource;
  readonly client: ClientRow;
  readonly clientPublicKey: string;
  readonly secrets: PairSecrets;
  readonly expiresAt: EpochMs;
}

export function authorizeFlow(grant: FlowGrant): GatewayPushes['authorize_flow'] {
  const { ref, resource, client, secrets } = grant;
  return {
    ref,
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

/** Clients before 1.4 make the secrets of a connection themselves: ours are not used. */
export function requestConnection(
  { ref, resource, client, clientPublicKey, expiresAt }: FlowGrant,
  asked: { readonly payload: OpaqueObject; readonly presharedKey: string },
): GatewayPushes['request_connection'] {
  return {
    ref,
    resource,
    client: {
      id: client.id,
      payload: asked.payload,
      peer: {
        persistent_keepalive: 25,
        public_key: clientPublicKey,
        preshared_key: asked.presharedKey,
        ipv4: client.ipv4,
        ipv6: client.ipv6,
      },
    },
    expires_at: toUnixSeconds(expiresAt),
  };
}

export function allowAccess(
  { ref, resource, client, expiresAt }: FlowGrant,
  payload: OpaqueObject | null,
): GatewayPushes['allow_access'] {
  return {
    ref,
    client_id: client.id,
    resource,
    expires_at: toUnixSeconds(expiresAt),
    payload,
    client_ipv4: client.ipv4,
    client_ipv6: client.ipv6,
  };
}

/** Safe to send twice, and for a pair the gateway never had. */
export function rejectAccess(clientId: ClientId, resourceId: ResourceId): GatewayPushes['reject_access'] {
  return { client_id: clientId, resource_id: resourceId };
}

export function expiryUpdated(pair: ServedPair): GatewayPushes['access_authorization_expiry_updated'] {
  return { ...rejectAccess(pair.clientId, pair.resourceId), expires_at: toUnixSeconds(pair.expiresAt) };
}

export function candidatesOfClient(clientId: ClientId, candidates: readonly string[]): GatewayPushes['ice_candidates'] {
  return { client_id: clientId, candidates };
}

/** Far beyond every grant; the pair does not exist, so the value only has to be in the future. */
const PLACEHOLDER_EXPIRY = 2_145_916_800;

function authorizationEntry(pair: ServedPair): AuthorizationEntry {
  return { client_id: pair.clientId, resource_id: pair.resourceId, expires_at: toUnixSeconds(pair.expiresAt) };
}

function placeholder(clientId: ClientId): AuthorizationEntry {
  return { client_id: clientId, resource_id: NIL_UUID as ResourceId, expires_at: PLACEHOLDER_EXPIRY };
}
