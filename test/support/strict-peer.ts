/**
 * Judges every frame the server sends as strictly as a real peer of 2025 parses it, and stricter: such a peer drops a
 * bad frame in silence, or all of an `init` for one bad member, and a test would only see that nothing happened. Here
 * it throws, with the path of the member. Written from wire-protocol.md sections 0, 3, 4 and 6, not from our types.
 */
import { isIP, isIPv4, isIPv6 } from 'node:net';
import ipaddr from 'ipaddr.js';
import { z } from 'zod';

export type PeerRole = 'client' | 'gateway' | 'relay';

/** @param frame the text of a text frame, or the value it parses to; V1 object or V2 array */
export function checkServerFrame(role: PeerRole, frame: unknown): void {
  const value: unknown = typeof frame === 'string' ? JSON.parse(frame) : frame;
  const { version, topic, event, ref, payload } = unpack(value);
  if (event === 'phx_reply') return checkReply(role, version, topic, ref, payload);

  must(topic === role, `push on topic "${topic}" to a ${role}`);
  const isClose = event === 'phx_close';
  must(isClose || ref === null, `push ${event} carries ref ${JSON.stringify(ref)}`);
  const schema = isClose ? nothing : PUSHES[role].get(event);
  must(schema !== undefined, `a ${role} knows no event "${event}"`);
  if (schema) check(event, schema, payload);
}

/** Judges the payload of a Ping: peers parse it as if it were a text frame, so only the barrier is harmless. */
export function checkServerPing(payload: string): void {
  must(Buffer.byteLength(payload) <= 125, 'a control frame holds 125 bytes');
  check('ping', barrier, JSON.parse(payload));
}

interface Unpacked {
  readonly version: 1 | 2;
  readonly topic: string;
  readonly event: string;
  readonly ref: unknown;
  readonly payload: unknown;
}

function unpack(value: unknown): Unpacked {
  if (!Array.isArray(value)) return { version: 1, ...check('frame', v1Frame, value) };
  const [, ref, topic, event, payload] = check('frame', v2Frame, value);
  return { version: 2, topic, event, ref, payload };
}

function checkReply(role: PeerRole, version: 1 | 2, topic: string, ref: unknown, payload: unknown): void {
  // A Rust peer counts from 0 and drops an answer whose ref is no number.
  check('phx_reply ref', version === 1 ? z.int().nonnegative() : z.string(), ref);
  const { status } = check('phx_reply', reply, payload);
  must(status === 'error' || topic === role || topic === 'phoenix', `ok reply on topic "${topic}" to a ${role}`);
}

function check<Schema extends z.ZodType>(what: string, schema: Schema, value: unknown): z.output<Schema> {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  throw new Error(
    `${what} is not what a peer can read:\n${z.prettifyError(result.error)}\nin ${JSON.stringify(value)}`,
  );
}

function must(holds: boolean, message: string): void {
  if (!holds) throw new Error(message);
}

const nothing = z.strictObject({});
const v1Frame = z.strictObject({ topic: z.string(), event: z.string(), ref: z.json(), payload: z.json() });
const v2Frame = z.tuple([z.string().nullable(), z.string().nullable(), z.string(), z.string(), z.json()]);
const barrier = z.strictObject({
  topic: z.literal('phoenix'),
  event: z.literal('phx_error'),
  payload: nothing,
  ref: z.int().nonnegative(),
});
/** What clients before 1.4 read in an ok reply; to everybody else only the empty one is readable. */
const legacyReply = z.union([
  z.strictObject({
    resource_id: z.uuid(),
    gateway_group_id: z.uuid(),
    gateway_id: z.uuid(),
    gateway_remote_ip: z.string().refine((text) => isIP(text) > 0, 'an address'),
  }),
  z.strictObject({
    resource_id: z.uuid(),
    persistent_keepalive: z.literal(25),
    gateway_public_key: z.string().length(44),
    gateway_payload: z.record(z.string(), z.json()),
  }),
]);
const reply = z.discriminatedUnion('status', [
  z.strictObject({ status: z.literal('ok'), response: z.union([nothing, legacyReply]) }),
  z.strictObject({ status: z.literal('error'), response: z.looseObject({ reason: z.string().min(1) }) }),
]);

const uuid = z.string().regex(/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/, 'lower-case hyphenated uuid');
const ipv4 = z.string().refine(isIPv4, 'ipv4 without prefix');
const ipv6 = z.string().refine((text) => isIPv6(text) && !text.includes('%'), 'ipv6 without prefix or zone');
const port = z.int().min(0).max(65_535);
const key = z.string().refine((text) => text.length === 44 && isBase64Of(text, 32), 'base64 of 32 bytes');
/** Seconds: a value in milliseconds would be thousands of years away. */
const unixSeconds = z.int().positive().max(99_999_999_999, 'seconds, not milliseconds');
const socketAddress = z.string().refine(isSocketAddress, 'ip:port or [ip6]:port');
const network = z.string().refine(isNetwork, 'a network with its prefix and host bits zero');

function isBase64Of(text: string, length: number): boolean {
  const bytes = Buffer.from(text, 'base64');
  return bytes.length === length && bytes.toString('base64') === text;
}

function isSocketAddress(text: string): boolean {
  const [, v6, v4, portText = ''] = /^(?:\[([^\]]+)\]|([^:]+)):(\d{1,5})$/.exec(text) ?? [];
  const isAddress = v6 === undefined ? isIPv4(v4 ?? '') : isIPv6(v6) && !v6.includes('%');
  return isAddress && Number(portText) > 0 && Number(portText) <= 65_535;
}

function isNetwork(text: string): boolean {
  const [address = '', prefix = ''] = text.split('/');
  if (isIP(address) === 0 || !/^\d{1,3}$/.test(prefix) || !ipaddr.isValidCIDR(text)) return false;
  const family = isIPv4(address) ? ipaddr.IPv4 : ipaddr.IPv6;
  return family.networkAddressFromCIDR(text).toString() === family.parse(address).toString();
}

function distinct(values: readonly unknown[]): boolean {
  return new Set(values).size === values.length;
}

const filter = z.union([
  z.strictObject({ protocol: z.enum(['tcp', 'udp', 'icmp']) }),
  z
    .strictObject({ protocol: z.enum(['tcp', 'udp']), port_range_start: port, port_range_end: port })
    .refine((range) => range.port_range_start <= range.port_range_end, 'port range the wrong way round'),
]);
const sites = z
  .array(z.strictObject({ id: uuid, name: z.string() }))
  .min(1)
  .refine((list) => distinct(list.map((site) => site.id)), 'a site twice');

const clientNetworkMembers = {
  id: uuid,
  name: z.string(),
  address_description: z.string().nullable(),
  gateway_groups: sites,
  filters: z.array(filter),
};
const clientResource = z.discriminatedUnion('type', [
  z.strictObject({
    ...clientNetworkMembers,
    type: z.literal('dns'),
    address: z.string().min(1),
    ip_stack: z.enum(['dual', 'ipv4_only', 'ipv6_only']).optional(),
  }),
  z.strictObject({ ...clientNetworkMembers, type: z.literal('cidr'), address: network }),
  z.strictObject({
    id: uuid,
    type: z.literal('internet'),
    gateway_groups: sites,
    can_be_disabled: z.literal(true),
  }),
]);
const gatewayResource = z.discriminatedUnion('type', [
  z.strictObject({
    id: uuid,
    type: z.literal('dns'),
    address: z.string().min(1),
    name: z.string(),
    filters: z.array(filter),
  }),
  z.strictObject({ id: uuid, type: z.literal('cidr'), address: network, name: z.string(), filters: z.array(filter) }),
  z.strictObject({ id: uuid, type: z.literal('internet') }),
]);

const relay = z
  .strictObject({
    id: uuid,
    type: z.literal('turn'),
    addr: socketAddress,
    username: z.string().regex(/^\d+:[A-Za-z0-9+/]{43}$/, 'expiry:salt'),
    password: z.string().regex(/^[A-Za-z0-9+/]{43}$/, 'unpadded base64 of 32 bytes'),
    expires_at: unixSeconds,
  })
  .refine((entry) => entry.username.startsWith(`${entry.expires_at}:`), 'expiry differs from the user name’s');
/** At most two relays, each with one entry per address family. */
const relays = z
  .array(relay)
  .refine((list) => new Set(list.map((entry) => entry.id)).size <= 2, 'more than two relays')
  .refine((list) => distinct(list.map((entry) => entry.addr)), 'an address twice')
  .refine((list) => distinct(list.map((entry) => `${entry.id} ${entry.addr.startsWith('[')}`)), 'a family twice')
  .refine(eachIdInOneRun, 'entries of a relay must stand next to each other');

function eachIdInOneRun(list: readonly { readonly id: string }[]): boolean {
  return distinct(list.filter((entry, i) => entry.id !== list[i - 1]?.id).map((entry) => entry.id));
}

const relaysPresence = z.strictObject({
  disconnected_ids: z.array(uuid).refine(distinct, 'an id twice'),
  connected: relays,
});
const disconnect = z.strictObject({ reason: z.literal('token_expired') });
const candidates = z.array(z.string());
const ice = z.strictObject({ username: z.string().min(4), password: z.string().min(22) });

const clientInterface = z.strictObject({
  ipv4,
  ipv6,
  upstream_dns: z.array(z.strictObject({ protocol: z.literal('ip_port'), address: socketAddress })),
  search_domain: z
    .string()
    .regex(/^[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*$/, 'a domain name')
    .nullable(),
});
const violatedProperty = z.enum([
  'remote_ip_location_region',
  'remote_ip',
  'provider_id',
  'current_utc_datetime',
  'client_verified',
]);
const fromGateway = z.strictObject({ gateway_id: uuid, candidates });
const fromClient = z.strictObject({ client_id: uuid, candidates });
const pair = { client_id: uuid, resource_id: uuid };

const CLIENT_PUSHES = new Map<string, z.ZodType>([
  [
    'init',
    z.strictObject({
      interface: clientInterface,
      resources: z.array(clientResource).refine((list) => distinct(list.map(({ id }) => id)), 'a resource twice'),
      relays,
    }),
  ],
  ['resource_created_or_updated', clientResource],
  ['resource_deleted', uuid],
  ['config_changed', z.strictObject({ interface: clientInterface })],
  [
    'flow_created',
    z.strictObject({
      resource_id: uuid,
      gateway_id: uuid,
      gateway_group_id: uuid,
      gateway_public_key: key,
      gateway_ipv4: ipv4,
      gateway_ipv6: ipv6,
      preshared_key: key,
      client_ice_credentials: ice,
      gateway_ice_credentials: ice,
    }),
  ],
  [
    'flow_creation_failed',
    z.discriminatedUnion('reason', [
      z.strictObject({ resource_id: uuid, reason: z.enum(['not_found', 'offline']) }),
      z.strictObject({
        resource_id: uuid,
        reason: z.literal('forbidden'),
        violated_properties: z.array(violatedProperty).refine(distinct, 'a property twice'),
      }),
    ]),
  ],
  ['relays_presence', relaysPresence],
  ['ice_candidates', fromGateway],
  ['invalidate_ice_candidates', fromGateway],
  ['disconnect', disconnect],
]);

const GATEWAY_PUSHES = new Map<string, z.ZodType>([
  [
    'init',
    z.strictObject({
      account_slug: z.string(),
      interface: z.strictObject({ ipv4, ipv6 }),
      config: z.strictObject({ ipv4_masquerade_enabled: z.boolean(), ipv6_masquerade_enabled: z.boolean() }),
      relays,
      authorizations: z
        .array(z.strictObject({ ...pair, expires_at: unixSeconds }))
        .refine((list) => distinct(list.map((entry) => `${entry.client_id} ${entry.resource_id}`)), 'a pair twice'),
    }),
  ],
  [
    'authorize_flow',
    z.strictObject({
      ref: z.string().regex(/^[!#-[\]-~]{1,2047}$/, 'JSON-safe ASCII below 2 KiB'),
      resource: gatewayResource,
      client: z.strictObject({ id: uuid, public_key: key, preshared_key: key, ipv4, ipv6 }),
      client_ice_credentials: ice,
      gateway_ice_credentials: ice,
      expires_at: unixSeconds,
    }),
  ],
  [
    'request_connection',
    z.strictObject({
      ref: z.string().min(1),
      resource: gatewayResource,
      client: z.strictObject({
        id: uuid,
        payload: z.record(z.string(), z.json()),
        peer: z.strictObject({
          persistent_keepalive: z.literal(25),
          public_key: key,
          preshared_key: key,
          ipv4,
          ipv6,
        }),
      }),
      expires_at: unixSeconds,
    }),
  ],
  [
    'allow_access',
    z.strictObject({
      ref: z.string().min(1),
      client_id: uuid,
      resource: gatewayResource,
      expires_at: unixSeconds,
      payload: z.record(z.string(), z.json()).nullable(),
      client_ipv4: ipv4,
      client_ipv6: ipv6,
    }),
  ],
  ['reject_access', z.strictObject(pair)],
  ['access_authorization_expiry_updated', z.strictObject({ ...pair, expires_at: unixSeconds })],
  ['resource_updated', gatewayResource],
  ['relays_presence', relaysPresence],
  ['ice_candidates', fromClient],
  ['invalidate_ice_candidates', fromClient],
  ['disconnect', disconnect],
]);

const RELAY_PUSHES = new Map<string, z.ZodType>([
  ['init', nothing],
  ['disconnect', disconnect],
]);

const PUSHES: Readonly<Record<PeerRole, ReadonlyMap<string, z.ZodType>>> = {
  client: CLIENT_PUSHES,
  gateway: GATEWAY_PUSHES,
  relay: RELAY_PUSHES,
};
