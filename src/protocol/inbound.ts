/**
 * What peers ask of us: every event they may send, read by a strict schema into a typed request. What no schema reads
 * gets the reply `unknown_message`, and the channel goes on.
 */
import { z } from 'zod';
import type { ClientId, GatewayId, ResourceId } from '../core/model/ids.js';
import { anyCaseId, key, opaqueObject } from './wire-types.js';

/** More than any peer has; a list is walked on the path that everybody shares. */
const MAX_LIST = 100;
/** Candidates of real peers stay below 200 characters. */
const MAX_CANDIDATE_LENGTH = 1024;
/** What we hand out has 174 characters; wire-protocol.md 4.5 allows 2 KiB. */
const MAX_REF_LENGTH = 2048;
const MAX_STAMP_SECRET_LENGTH = 256;

const resourceId = anyCaseId<ResourceId>();
const gatewayId = anyCaseId<GatewayId>();
const gatewayIds = z.array(gatewayId).max(MAX_LIST);
const clientIds = z.array(anyCaseId<ClientId>()).max(MAX_LIST);
const candidates = z.array(z.string().max(MAX_CANDIDATE_LENGTH)).max(MAX_LIST);
const ref = z.string().max(MAX_REF_LENGTH).meta({ description: 'As it came with the request that this answers.' });

const toGateways = <Kind extends string>(kind: Kind) =>
  z
    .object({ candidates, gateway_ids: gatewayIds })
    .meta({ description: 'Forwarded in order to those of the gateways with which this client shares or wants a flow.' })
    .transform((payload) => ({ kind, candidates: payload.candidates, gatewayIds: payload.gateway_ids }));

const toClients = <Kind extends string>(kind: Kind) =>
  z
    .object({ candidates, client_ids: clientIds })
    .meta({ description: 'Forwarded in order to those of the clients that share or want a flow through this gateway.' })
    .transform((payload) => ({ kind, candidates: payload.candidates, clientIds: payload.client_ids }));

/** What a client may send, by event. */
export const CLIENT_EVENTS = {
  create_flow: z
    .object({
      resource_id: resourceId,
      connected_gateway_ids: gatewayIds.meta({
        description: 'Gateways used lately: one of them wins whenever it is eligible.',
      }),
    })
    .meta({ description: 'Answered with `flow_created` or `flow_creation_failed`, never with a reply.' })
    .transform((payload) => ({
      kind: 'create-flow' as const,
      resourceId: payload.resource_id,
      connectedGatewayIds: payload.connected_gateway_ids,
    })),
  broadcast_ice_candidates: toGateways('ice-candidates'),
  broadcast_invalidated_ice_candidates: toGateways('invalidated-ice-candidates'),
  prepare_connection: z
    .object({ resource_id: resourceId, connected_gateway_ids: gatewayIds.default([]) })
    .meta({ description: 'Before 1.4: which gateway to use.' })
    .transform((payload) => ({
      kind: 'prepare-connection' as const,
      resourceId: payload.resource_id,
      connectedGatewayIds: payload.connected_gateway_ids,
    })),
  request_connection: z
    .object({
      resource_id: resourceId,
      gateway_id: gatewayId,
      client_payload: opaqueObject,
      client_preshared_key: key,
    })
    .meta({ description: 'Before 1.4: connect to the gateway.' })
    .transform((payload) => ({
      kind: 'request-connection' as const,
      resourceId: payload.resource_id,
      gatewayId: payload.gateway_id,
      payload: payload.client_payload,
      presharedKey: payload.client_preshared_key,
    })),
  reuse_connection: z
    .object({ resource_id: resourceId, gateway_id: gatewayId, payload: opaqueObject.nullable().default(null) })
    .meta({ description: 'Before 1.4: use the connection to the gateway for one resource more.' })
    .transform((payload) => ({
      kind: 'reuse-connection' as const,
      resourceId: payload.resource_id,
      gatewayId: payload.gateway_id,
      payload: payload.payload,
    })),
} as const;

/** What a gateway may send, by event. */
export const GATEWAY_EVENTS = {
  flow_authorized: z
    .object({ ref })
    .meta({ description: 'The gateway has let the client in. A ref is good once and for 60 s.' })
    .transform((payload) => ({ kind: 'flow-authorized' as const, ref: payload.ref })),
  broadcast_ice_candidates: toClients('ice-candidates'),
  broadcast_invalidated_ice_candidates: toClients('invalidated-ice-candidates'),
  connection_ready: z
    .object({ ref, gateway_payload: opaqueObject })
    .meta({ description: 'The answer to `request_connection`, for a client before 1.4.' })
    .transform((payload) => ({
      kind: 'connection-ready' as const,
      ref: payload.ref,
      payload: payload.gateway_payload,
    })),
} as const;

export const RELAY_JOIN = z
  .object({
    stamp_secret: z
      .string()
      .min(1)
      .max(MAX_STAMP_SECRET_LENGTH)
      .meta({ description: 'Made at each start of the relay. Keys all credentials and is kept nowhere.' }),
  })
  .transform((payload) => ({ stampSecret: payload.stamp_secret }));

export type ClientRequest = z.output<(typeof CLIENT_EVENTS)[keyof typeof CLIENT_EVENTS]>;
export type GatewayRequest = z.output<(typeof GATEWAY_EVENTS)[keyof typeof GATEWAY_EVENTS]>;

/** Events of the transport; clients and gateways send them with any payload. */
export type ControlEvent = 'phx_join' | 'phx_leave' | 'heartbeat';
export function isControlEvent(event: string): event is ControlEvent {
  return event === 'phx_join' || event === 'phx_leave' || event === 'heartbeat';
}

/** `undefined`: unknown event, or a member is missing, mistyped or too long. */
export function parseClientEvent(event: string, payload: unknown): ClientRequest | undefined {
  return CLIENT_SCHEMAS.get(event)?.safeParse(payload).data;
}

/** `undefined`: unknown event, or a member is missing, mistyped or too long. */
export function parseGatewayEvent(event: string, payload: unknown): GatewayRequest | undefined {
  return GATEWAY_SCHEMAS.get(event)?.safeParse(payload).data;
}

/** The payload of a relay's join; `undefined` refuses it. The secret keys all TURN credentials: never log it. */
export function parseRelayJoin(payload: unknown): { readonly stampSecret: string } | undefined {
  return RELAY_JOIN.safeParse(payload).data;
}

/** Maps, so that an event named `constructor` finds nothing. */
const CLIENT_SCHEMAS = new Map<string, z.ZodType<ClientRequest>>(Object.entries(CLIENT_EVENTS));
const GATEWAY_SCHEMAS = new Map<string, z.ZodType<GatewayRequest>>(Object.entries(GATEWAY_EVENTS));
