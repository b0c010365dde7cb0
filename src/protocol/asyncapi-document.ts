/**
 * The wire as an AsyncAPI 3.0 document, made from the schemas that read and type it, so that it cannot differ from what is
 * spoken. Messages are whole frames in Phoenix V1. Pure; `docs/asyncapi.yaml` is its text.
 */
import { z } from 'zod';
import type { PeerRole } from '../core/ports/metrics.js';
import { CLIENT_EVENTS, GATEWAY_EVENTS, RELAY_JOIN } from './inbound.js';
import { CLIENT_PUSHES, CLIENT_REPLIES, GATEWAY_PUSHES, RELAY_PUSHES } from './outbound.js';
import { opaqueObject } from './wire-types.js';

export type Json = string | number | boolean | null | readonly Json[] | { readonly [key: string]: Json };
type JsonObject = Readonly<Record<string, Json>>;

/** @param version of the product */
export function asyncApiDocument(version: string): JsonObject {
  const schemas = new Schemas();
  const roles = (['client', 'gateway', 'relay'] as const).map((role) => roleDocument(role, schemas));
  return {
    asyncapi: '3.0.0',
    info: { title: 'Portcullis: clients, gateways and relays', version, license: LICENSE, description: DESCRIPTION },
    defaultContentType: 'application/json',
    channels: Object.fromEntries(roles.map(({ role, channel }) => [role, channel])),
    operations: Object.assign({}, ...roles.map(({ operations }) => operations)) as JsonObject,
    components: { schemas: { ...TRANSPORT_SCHEMAS, ...schemas.shared } },
  };
}

const LICENSE = { name: 'Apache-2.0', url: 'https://www.apache.org/licenses/LICENSE-2.0' };

const DESCRIPTION = [
  'Phoenix channels over WebSocket: text frames, UTF-8, no subprotocol and no extension. Messages are shown as frames of ' +
    'Phoenix V1, an object; with `vsn=2.0.0` each is the array `[join_ref, ref, topic, event, payload]` instead.',
  'A `ref` is any JSON scalar and is echoed with its type. An event that is not known, or a payload that does not fit, is ' +
    'answered with the reason `unknown_message`, and the channel goes on. What is no frame closes the socket.',
  'Refusals of the upgrade, limits, and what the protocol leaves to the server: docs/wire.md.',
].join('\n\n');

interface Message {
  readonly event: string;
  readonly direction: 'fromPeer' | 'toPeer';
  readonly frame: JsonObject;
  readonly description: string | undefined;
}

function roleDocument(role: PeerRole, schemas: Schemas) {
  const messages = [...messagesOf(role, schemas)];
  const channel = {
    address: `/${role}/websocket`,
    description: CHANNELS[role],
    messages: Object.fromEntries(messages.map((message) => [nameOf(message), described(message)])),
    bindings: { ws: { method: 'GET', query: schemas.of(CONNECT_QUERY[role], 'input'), bindingVersion: '0.1.0' } },
  };
  const operations = messages.map((message) => [
    `${role}.${nameOf(message)}`,
    {
      action: message.direction === 'fromPeer' ? 'receive' : 'send',
      channel: { $ref: `#/channels/${role}` },
      messages: [{ $ref: `#/channels/${role}/messages/${nameOf(message)}` }],
    },
  ]);
  return { role, channel: channel as JsonObject, operations: Object.fromEntries(operations) as JsonObject };
}

/** `init`, or `phx_join.request` where both sides have an event of that name or it goes to the server. */
function nameOf({ event, direction }: Message): string {
  return direction === 'fromPeer' ? `${event}.request` : event;
}

function described({ event, frame, description }: Message): Json {
  return { name: event, ...(description !== undefined && { description }), payload: frame };
}

function* messagesOf(role: PeerRole, schemas: Schemas): Iterable<Message> {
  const inbound = { ...CONTROL_EVENTS, ...INBOUND[role] };
  for (const [event, schema] of Object.entries(inbound)) {
    const topic = event === 'heartbeat' ? 'phoenix' : role;
    const payload = withoutDescription(schemas.of(schema, 'input'));
    yield { event, direction: 'fromPeer', frame: frame(topic, event, ANY_REF, payload), ...descriptionOf(schema) };
  }
  for (const [event, schema] of Object.entries(OUTBOUND[role])) {
    const payload = withoutDescription(schemas.of(schema, 'output'));
    yield { event, direction: 'toPeer', frame: frame(role, event, NO_REF, payload), ...descriptionOf(schema) };
  }
  yield {
    event: 'phx_reply',
    direction: 'toPeer',
    frame: frame({ type: 'string' }, 'phx_reply', ANY_REF, replyOf(role, schemas)),
    description: 'Echoes `ref`. Where a message has an answer of its own, no reply comes.',
  };
  yield {
    event: 'phx_close',
    direction: 'toPeer',
    frame: frame(role, 'phx_close', ANY_REF, EMPTY),
    description: 'The channel is gone: the answer to `phx_leave`, and in V2 to a second join of one topic.',
  };
}

function descriptionOf(schema: z.ZodType): { readonly description: string | undefined } {
  const source = schema instanceof z.ZodPipe ? (schema.in as z.ZodType) : schema;
  return { description: source.meta()?.description };
}

/** It stands with the message. */
function withoutDescription(schema: JsonObject): JsonObject {
  return Object.fromEntries(Object.entries(schema).filter(([key]) => key !== 'description'));
}

function frame(topic: Json, event: string, ref: Json, payload: Json): JsonObject {
  return {
    type: 'object',
    required: ['topic', 'event', 'ref', 'payload'],
    properties: {
      topic: typeof topic === 'string' ? { const: topic } : topic,
      event: { const: event },
      ref,
      payload,
    },
  };
}

function replyOf(role: PeerRole, schemas: Schemas): Json {
  const withData = role === 'client' ? Object.values(CLIENT_REPLIES).map((schema) => schemas.of(schema, 'output')) : [];
  return {
    anyOf: [
      ...[EMPTY, ...withData].map((response) => ({
        type: 'object',
        required: ['status', 'response'],
        properties: { status: { const: 'ok' }, response },
        additionalProperties: false,
      })),
      ERROR_REPLY,
    ],
  };
}

const EMPTY = { type: 'object', additionalProperties: false } as const;
const ANY_REF = { $ref: '#/components/schemas/Ref' };
const NO_REF = { type: 'null' };
const ERROR_REPLY = {
  type: 'object',
  required: ['status', 'response'],
  properties: {
    status: { const: 'error' },
    response: { type: 'object', required: ['reason'], properties: { reason: { type: 'string' } } },
  },
  additionalProperties: false,
} as const;
const TRANSPORT_SCHEMAS: JsonObject = {
  Ref: {
    type: ['string', 'number', 'boolean', 'null'],
    description: 'Rust peers send numbers and drop a reply that carries another type.',
  },
};

const anyPayload = z.unknown();
const CONTROL_EVENTS: Readonly<Record<string, z.ZodType>> = {
  phx_join: anyPayload.meta({ description: 'Answered at once; `init` follows. Clients and gateways send null.' }),
  phx_leave: anyPayload.meta({ description: 'Answered with ok and `phx_close`. Rust peers never leave.' }),
  heartbeat: anyPayload.meta({ description: 'Answered at once, joined or not. Any frame keeps the socket open.' }),
};

const INBOUND: Readonly<Record<PeerRole, Readonly<Record<string, z.ZodType>>>> = {
  client: CLIENT_EVENTS,
  gateway: GATEWAY_EVENTS,
  relay: { phx_join: RELAY_JOIN },
};

const OUTBOUND: Readonly<Record<PeerRole, Readonly<Record<string, z.ZodType>>>> = {
  client: CLIENT_PUSHES,
  gateway: GATEWAY_PUSHES,
  relay: RELAY_PUSHES,
};

const CHANNELS: Readonly<Record<PeerRole, string>> = {
  client: 'Clients: what they may reach, and flows to it.',
  gateway: 'Gateways: whom they may let through, to what and until when.',
  relay: 'Relays: online for as long as they are joined.',
};

const optional = z.string().max(255).optional();
const device = {
  token: z.string().meta({ description: 'Or in the header `X-Authorization: Bearer …`, which comes first.' }),
  vsn: z.string().optional().meta({ description: 'Absent or `1.x`: V1. `2.x`: V2.' }),
  external_id: z.string().min(1).max(255).meta({ description: 'Names the device; a known one keeps its addresses.' }),
  public_key: z
    .string()
    .length(44)
    .meta({ description: 'WireGuard key: canonical base64 of 32 bytes, no point of low order.' }),
  name: optional,
};
const CONNECT_QUERY: Readonly<Record<PeerRole, z.ZodType>> = {
  client: z.object({
    ...device,
    device_serial: optional,
    device_uuid: optional,
    identifier_for_vendor: optional,
    firebase_installation_id: optional,
  }),
  gateway: z.object(device),
  relay: z
    .object({
      token: device.token,
      vsn: device.vsn,
      ipv4: z.string().optional(),
      ipv6: z.string().optional(),
      port: z.int().min(1).max(65_535).default(3478),
      name: optional,
    })
    .meta({ description: 'At least one address.' }),
};

/** JSON schemas of zod schemas; those with an id stand once, under `components`. */
class Schemas {
  readonly shared: Record<string, Json> = {};

  of(schema: z.ZodType, io: 'input' | 'output'): JsonObject {
    const { definitions = {}, ...own } = z.toJSONSchema(schema, {
      target: 'draft-7',
      io,
      unrepresentable: 'any',
      override: ({ zodSchema, jsonSchema }) => {
        delete jsonSchema.readOnly;
        delete jsonSchema.id;
        if (zodSchema === opaqueObject) jsonSchema.type = 'object';
      },
    }) as { definitions?: Readonly<Record<string, Json>> } & Record<string, Json>;
    delete own['$schema'];
    for (const [name, definition] of Object.entries(definitions)) this.shared[name] = rehomed(definition);
    return rehomed(own) as JsonObject;
  }
}

/** References to `definitions` point to `components` instead. */
function rehomed(value: Json): Json {
  if (Array.isArray(value)) return (value as readonly Json[]).map(rehomed);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value as JsonObject).map(([key, inner]) => [
      key,
      key === '$ref' && typeof inner === 'string'
        ? inner.replace('#/definitions/', '#/components/schemas/')
        : rehomed(inner),
    ]),
  );
}
