/**
 * Every push and its payload, with the names of the wire. Peers are strict: a member named here is mandatory, one that
 * may be null says so, and nothing else may be sent (wire-protocol.md 3, 4 and 6). Nothing is checked when it is sent:
 * the types do that when we are built, and the tests hold every frame against these schemas.
 */
import { z } from 'zod';
import type { ClientId, GatewayId, RelayId, ResourceId, SiteId } from '../core/model/ids.js';
import { id, ipv4, ipv6, key, list, opaqueObject, port, socketAddress, unixSeconds } from './wire-types.js';

// ---- parts -----------------------------------------------------------------------------------------------------------

/** One entry per port range; `[]` lets everything through. Both numbers absent: every port. */
const filter = z
  .union([
    z.strictObject({ protocol: z.enum(['tcp', 'udp', 'icmp']) }),
    z.strictObject({ protocol: z.enum(['tcp', 'udp']), port_range_start: port, port_range_end: port }),
  ])
  .meta({ id: 'Filter', description: 'One port range of one protocol; without numbers every port.' });

const site = z
  .strictObject({ id: id<SiteId>(), name: z.string() })
  .meta({ id: 'GatewayGroup', description: 'A site: the gateways behind which the resource is.' });

/** ip resources are sent as cidr, with /32 or /128. */
const cidrAddress = z.string().meta({ description: 'A network, its host bits zero.' });
const dnsAddress = z
  .string()
  .meta({ description: 'A host name or pattern: `*` within a label, `**` any depth, `?` one character.' });

const clientNetworkMembers = {
  id: id<ResourceId>(),
  name: z.string(),
  address_description: z.string().nullable(),
  gateway_groups: list(site),
  filters: list(filter),
};

const clientResource = z
  .discriminatedUnion('type', [
    z.strictObject({
      ...clientNetworkMembers,
      type: z.literal('dns'),
      address: dnsAddress,
      ip_stack: z.enum(['dual', 'ipv4_only', 'ipv6_only']).optional(),
    }),
    z.strictObject({ ...clientNetworkMembers, type: z.literal('cidr'), address: cidrAddress }),
    z.strictObject({
      id: id<ResourceId>(),
      type: z.literal('internet'),
      gateway_groups: list(site),
      can_be_disabled: z.literal(true),
    }),
  ])
  .meta({ id: 'ClientResource' });

const gatewayNetworkMembers = { id: id<ResourceId>(), name: z.string(), filters: list(filter) };

const gatewayResource = z
  .discriminatedUnion('type', [
    z.strictObject({ ...gatewayNetworkMembers, type: z.literal('dns'), address: dnsAddress }),
    z.strictObject({ ...gatewayNetworkMembers, type: z.literal('cidr'), address: cidrAddress }),
    z.strictObject({ id: id<ResourceId>(), type: z.literal('internet') }),
  ])
  .meta({ id: 'GatewayResource' });

/** Both entries of a dual-stack relay stand next to each other: peers merge only neighbours. */
const relay = z
  .strictObject({
    id: id<RelayId>(),
    type: z.literal('turn'),
    addr: socketAddress,
    username: z.string(),
    password: z.string(),
    expires_at: unixSeconds,
  })
  .meta({ id: 'Relay', description: 'One entry per address; those of one relay stand next to each other.' });

const clientInterface = z
  .strictObject({
    ipv4,
    ipv6,
    upstream_dns: list(z.strictObject({ protocol: z.literal('ip_port'), address: socketAddress })),
    search_domain: z.string().nullable(),
  })
  .meta({ id: 'ClientInterface' });

const iceCredentials = z.strictObject({ username: z.string().min(4), password: z.string().min(22) }).meta({
  id: 'IceCredentials',
});
const candidates = list(z.string());
const accessPair = { client_id: id<ClientId>(), resource_id: id<ResourceId>() };

const authorization = z
  .strictObject({ client_id: id<ClientId>(), resource_id: id<ResourceId>(), expires_at: unixSeconds })
  .meta({
    id: 'Authorization',
    description: 'The nil UUID as resource is a placeholder: the gateway then drops what else it holds for the client.',
  });

const relaysPresence = z.strictObject({ disconnected_ids: list(id<RelayId>()), connected: list(relay) }).meta({
  id: 'RelaysPresence',
  description: 'Stop using the former, add or refresh the latter.',
});

/** The only reason peers know, and it is final: a client signs out, a gateway or relay exits. */
const disconnect = z.strictObject({ reason: z.literal('token_expired') }).meta({
  id: 'Disconnect',
  description: 'Final: a client signs out, a gateway or relay exits. Sent only when the token has ended.',
});

// ---- pushes ----------------------------------------------------------------------------------------------------------

/** What a client's channel may push, by event. */
export const CLIENT_PUSHES = {
  init: z
    .strictObject({ interface: clientInterface, resources: list(clientResource), relays: list(relay) })
    .meta({ description: 'After each join, and whenever everything is said again; replaces what was said before.' }),
  resource_created_or_updated: clientResource.meta({
    description: 'Upserts by id. After a change of sites `resource_deleted` comes first.',
  }),
  resource_deleted: id<ResourceId>().meta({ description: 'The bare id, not an object.' }),
  config_changed: z.strictObject({ interface: clientInterface }),
  relays_presence: relaysPresence,
  flow_created: z.strictObject({
    resource_id: id<ResourceId>(),
    gateway_id: id<GatewayId>(),
    gateway_group_id: id<SiteId>(),
    gateway_public_key: key,
    gateway_ipv4: ipv4,
    gateway_ipv6: ipv6,
    preshared_key: key,
    client_ice_credentials: iceCredentials,
    gateway_ice_credentials: iceCredentials,
  }),
  flow_creation_failed: z.discriminatedUnion('reason', [
    z.strictObject({ resource_id: id<ResourceId>(), reason: z.literal('not_found') }),
    z.strictObject({ resource_id: id<ResourceId>(), reason: z.literal('offline') }),
    z.strictObject({
      resource_id: id<ResourceId>(),
      reason: z.literal('forbidden'),
      violated_properties: list(z.string()),
    }),
  ]),
  ice_candidates: z.strictObject({ gateway_id: id<GatewayId>(), candidates }),
  invalidate_ice_candidates: z.strictObject({ gateway_id: id<GatewayId>(), candidates }),
  disconnect,
} as const;

/** What a gateway's channel may push, by event. */
export const GATEWAY_PUSHES = {
  init: z
    .strictObject({
      account_slug: z.string(),
      interface: z.strictObject({ ipv4, ipv6 }),
      config: z.strictObject({ ipv4_masquerade_enabled: z.literal(true), ipv6_masquerade_enabled: z.literal(true) }),
      relays: list(relay),
      authorizations: list(authorization),
    })
    .meta({ description: 'Of each client that is listed, what is not listed is revoked.' }),
  authorize_flow: z
    .strictObject({
      ref: z.string(),
      resource: gatewayResource,
      client: z.strictObject({ id: id<ClientId>(), public_key: key, preshared_key: key, ipv4, ipv6 }),
      client_ice_credentials: iceCredentials,
      gateway_ice_credentials: iceCredentials,
      expires_at: unixSeconds,
    })
    .meta({ description: 'Answered with `flow_authorized` and the same `ref` within 60 s.' }),
  reject_access: z
    .strictObject(accessPair)
    .meta({ description: 'May come twice, and for a pair the gateway never had.' }),
  access_authorization_expiry_updated: z.strictObject({ ...accessPair, expires_at: unixSeconds }).meta({
    description: 'Only to gateways from 1.4.14 on.',
  }),
  resource_updated: gatewayResource.meta({ description: 'Name or filters changed; for every client that uses it.' }),
  relays_presence: relaysPresence,
  ice_candidates: z.strictObject({ client_id: id<ClientId>(), candidates }),
  invalidate_ice_candidates: z.strictObject({ client_id: id<ClientId>(), candidates }),
  request_connection: z
    .strictObject({
      ref: z.string(),
      resource: gatewayResource,
      client: z.strictObject({
        id: id<ClientId>(),
        payload: opaqueObject,
        peer: z.strictObject({
          persistent_keepalive: z.literal(25),
          public_key: key,
          preshared_key: key,
          ipv4,
          ipv6,
        }),
      }),
      expires_at: unixSeconds,
    })
    .meta({ description: 'For a client before 1.4. Answered with `connection_ready`.' }),
  allow_access: z
    .strictObject({
      ref: z.string(),
      client_id: id<ClientId>(),
      resource: gatewayResource,
      expires_at: unixSeconds,
      payload: opaqueObject.nullable(),
      client_ipv4: ipv4,
      client_ipv6: ipv6,
    })
    .meta({ description: 'For a client before 1.4 that is connected already. Gateways of 1.4 do not answer it.' }),
  disconnect,
} as const;

/** What a relay's channel may push, by event. */
export const RELAY_PUSHES = { init: z.strictObject({}), disconnect } as const;

type PayloadsOf<Schemas extends Readonly<Record<string, z.ZodType>>> = {
  readonly [Event in keyof Schemas]: z.output<Schemas[Event]>;
};
export type ClientPushes = PayloadsOf<typeof CLIENT_PUSHES>;
export type GatewayPushes = PayloadsOf<typeof GATEWAY_PUSHES>;
export type RelayPushes = PayloadsOf<typeof RELAY_PUSHES>;

export type ClientResource = z.output<typeof clientResource>;
export type GatewayResource = z.output<typeof gatewayResource>;
export type ClientInterface = z.output<typeof clientInterface>;
export type SiteEntry = z.output<typeof site>;
export type FilterEntry = z.output<typeof filter>;
export type RelayEntry = z.output<typeof relay>;
export type AuthorizationEntry = z.output<typeof authorization>;

export const DISCONNECT: z.output<typeof disconnect> = { reason: 'token_expired' };

// ---- replies that carry data, to clients before 1.4 --------------------------------------------------------------------

/** Replies of status ok by the request they answer; every other ok reply has an empty response (D25). */
export const CLIENT_REPLIES = {
  prepare_connection: z.strictObject({
    resource_id: id<ResourceId>(),
    gateway_group_id: id<SiteId>(),
    gateway_id: id<GatewayId>(),
    gateway_remote_ip: z.string(),
  }),
  /** Comes when the gateway has sent `connection_ready`, if it does. */
  reuse_connection: z.strictObject({
    resource_id: id<ResourceId>(),
    persistent_keepalive: z.literal(25),
    gateway_public_key: key,
    gateway_payload: opaqueObject,
  }),
  request_connection: z.strictObject({
    resource_id: id<ResourceId>(),
    persistent_keepalive: z.literal(25),
    gateway_public_key: key,
    gateway_payload: opaqueObject,
  }),
} as const;

export type ClientReplies = PayloadsOf<typeof CLIENT_REPLIES>;
