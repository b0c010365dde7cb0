/**
 * Every push and its payload, with the names of the wire. Peers are strict: a member named here is mandatory, one that
 * may be null says so, and nothing else may be sent (wire-protocol.md 3, 4 and 6).
 * Times are unix seconds, ids lower-case UUID text, keys 44 characters of base64.
 */
import type { ClientId, GatewayId, ResourceId, SiteId } from '../core/model/ids.js';
import type { IpStack } from '../core/model/rows.js';
import type { IceCredentials } from '../core/ports/presence.js';

/** What a client's channel may push, by event. */
export interface ClientPushes {
  readonly init: ClientInit;
  /** Upserts by id. Does not change the sites of a resource the client has: send `resource_deleted` before. */
  readonly resource_created_or_updated: ClientResource;
  /** The bare id, not an object. */
  readonly resource_deleted: ResourceId;
  readonly config_changed: { readonly interface: ClientInterface };
  readonly flow_created: FlowCreated;
  readonly flow_creation_failed: FlowCreationFailed;
  readonly relays_presence: RelaysPresence;
  readonly ice_candidates: GatewayCandidates;
  readonly invalidate_ice_candidates: GatewayCandidates;
  readonly disconnect: Disconnect;
}

/** What a gateway's channel may push, by event. */
export interface GatewayPushes {
  readonly init: GatewayInit;
  readonly authorize_flow: AuthorizeFlow;
  readonly reject_access: AccessPair;
  /** Gateways before 1.4.14 log and ignore it. */
  readonly access_authorization_expiry_updated: AccessPair & { readonly expires_at: number };
  /** For a change of name or filters only. */
  readonly resource_updated: GatewayResource;
  readonly relays_presence: RelaysPresence;
  readonly ice_candidates: ClientCandidates;
  readonly invalidate_ice_candidates: ClientCandidates;
  readonly disconnect: Disconnect;
}

/** What a relay's channel may push, by event. */
export interface RelayPushes {
  /** Has no member. */
  readonly init: Readonly<Record<string, never>>;
  readonly disconnect: Disconnect;
}

/** The only reason peers know, and it is final: a client signs out, a gateway or relay exits. */
export interface Disconnect {
  readonly reason: 'token_expired';
}

export const DISCONNECT: Disconnect = { reason: 'token_expired' };

export interface ClientInit {
  readonly interface: ClientInterface;
  readonly resources: readonly ClientResource[];
  readonly relays: readonly RelayEntry[];
}

export interface ClientInterface {
  readonly ipv4: string;
  readonly ipv6: string;
  readonly upstream_dns: readonly { readonly protocol: 'ip_port'; readonly address: string }[];
  readonly search_domain: string | null;
}

export type ClientResource = ClientNetworkResource | ClientInternetResource;

interface ClientNetworkResource {
  readonly id: ResourceId;
  readonly type: 'dns' | 'cidr';
  readonly address: string;
  readonly name: string;
  readonly address_description: string | null;
  readonly gateway_groups: readonly SiteEntry[];
  readonly filters: readonly FilterEntry[];
  /** Only for dns, and absent rather than null. */
  readonly ip_stack?: IpStack;
}

interface ClientInternetResource {
  readonly id: ResourceId;
  readonly type: 'internet';
  readonly gateway_groups: readonly SiteEntry[];
  readonly can_be_disabled: true;
}

/** The wire's name for a site is `gateway_group`. */
export interface SiteEntry {
  readonly id: SiteId;
  readonly name: string;
}

export type FilterEntry =
  | { readonly protocol: 'tcp' | 'udp' | 'icmp' }
  | { readonly protocol: 'tcp' | 'udp'; readonly port_range_start: number; readonly port_range_end: number };

/** Both entries of a dual-stack relay stand next to each other: peers merge only neighbours. */
export interface RelayEntry {
  readonly id: string;
  readonly type: 'turn';
  readonly addr: string;
  readonly username: string;
  readonly password: string;
  readonly expires_at: number;
}

export interface RelaysPresence {
  readonly disconnected_ids: readonly string[];
  readonly connected: readonly RelayEntry[];
}

export interface FlowCreated {
  readonly resource_id: ResourceId;
  readonly gateway_id: GatewayId;
  readonly gateway_group_id: string;
  readonly gateway_public_key: string;
  readonly gateway_ipv4: string;
  readonly gateway_ipv6: string;
  readonly preshared_key: string;
  readonly client_ice_credentials: IceCredentials;
  readonly gateway_ice_credentials: IceCredentials;
}

export type FlowCreationFailed =
  | { readonly resource_id: ResourceId; readonly reason: 'not_found' | 'offline' }
  | {
      readonly resource_id: ResourceId;
      readonly reason: 'forbidden';
      readonly violated_properties: readonly string[];
    };

export interface GatewayCandidates {
  readonly gateway_id: GatewayId;
  readonly candidates: readonly string[];
}

export interface ClientCandidates {
  readonly client_id: ClientId;
  readonly candidates: readonly string[];
}

export interface AccessPair {
  readonly client_id: ClientId;
  readonly resource_id: ResourceId;
}

export interface GatewayInit {
  readonly account_slug: string;
  readonly interface: { readonly ipv4: string; readonly ipv6: string };
  readonly config: { readonly ipv4_masquerade_enabled: true; readonly ipv6_masquerade_enabled: true };
  readonly relays: readonly RelayEntry[];
  readonly authorizations: readonly AuthorizationEntry[];
}

/** `resource_id` is the nil uuid in a placeholder, which makes the gateway prune a client that has nothing left (D22). */
export interface AuthorizationEntry {
  readonly client_id: ClientId;
  readonly resource_id: string;
  readonly expires_at: number;
}

export type GatewayResource =
  | {
      readonly id: ResourceId;
      readonly type: 'dns' | 'cidr';
      readonly address: string;
      readonly name: string;
      readonly filters: readonly FilterEntry[];
    }
  | { readonly id: ResourceId; readonly type: 'internet' };

export interface AuthorizeFlow {
  readonly ref: string;
  readonly resource: GatewayResource;
  readonly client: {
    readonly id: ClientId;
    readonly public_key: string;
    readonly preshared_key: string;
    readonly ipv4: string;
    readonly ipv6: string;
  };
  readonly client_ice_credentials: IceCredentials;
  readonly gateway_ice_credentials: IceCredentials;
  readonly expires_at: number;
}
