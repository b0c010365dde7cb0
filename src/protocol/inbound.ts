/**
 * What peers ask of us: every event they may send, read by a strict schema into a typed request. What no schema reads
 * gets the reply `unknown_message`, and the channel goes on.
 */
import { z } from 'zod';
import { isUuid } from '../core/model/ids.js';
import type { ClientId, GatewayId, ResourceId } from '../core/model/ids.js';

export type ClientRequest =
  | {
      readonly kind: 'create-flow';
      readonly resourceId: ResourceId;
      /** Gateways the client used lately; one of these wins when it is eligible (wire-protocol.md 0.12). */
      readonly connectedGatewayIds: readonly GatewayId[];
    }
  | IceBroadcast<'gatewayIds', GatewayId>;

export type GatewayRequest =
  | {
      readonly kind: 'flow-authorized';
      /** As we sent it with `authorize_flow`, or anything else. */
      readonly ref: string;
    }
  | IceBroadcast<'clientIds', ClientId>;

/** Candidates are opaque; they go on unchanged and in order. */
type IceBroadcast<Key extends string, Id> = {
  readonly kind: 'ice-candidates' | 'invalidated-ice-candidates';
  readonly candidates: readonly string[];
} & { readonly [key in Key]: readonly Id[] };

/** Events of the transport; clients and gateways send them with any payload. */
export type ControlEvent = 'phx_join' | 'phx_leave' | 'heartbeat';

export function isControlEvent(event: string): event is ControlEvent {
  return event === 'phx_join' || event === 'phx_leave' || event === 'heartbeat';
}

/** `undefined`: unknown event, or a member is missing, mistyped or too long. */
export function parseClientEvent(event: string, payload: unknown): ClientRequest | undefined {
  return CLIENT_EVENTS.get(event)?.safeParse(payload).data;
}

/** `undefined`: unknown event, or a member is missing, mistyped or too long. */
export function parseGatewayEvent(event: string, payload: unknown): GatewayRequest | undefined {
  return GATEWAY_EVENTS.get(event)?.safeParse(payload).data;
}

/** The payload of a relay's join; `undefined` refuses it. The secret keys all TURN credentials: never log it. */
export function parseRelayJoin(payload: unknown): { readonly stampSecret: string } | undefined {
  return RELAY_JOIN.safeParse(payload).data;
}

/** More than any peer has; a list is walked on the path that everybody shares. */
const MAX_LIST = 100;
/** Candidates of real peers stay below 200 characters. */
const MAX_CANDIDATE_LENGTH = 1024;
/** What we hand out has 174 characters; wire-protocol.md 4.5 allows 2 KiB. */
const MAX_REF_LENGTH = 2048;
const MAX_STAMP_SECRET_LENGTH = 256;

function ids<Id extends string>() {
  const id = z.string().transform((text, context) => {
    const lower = text.length === 36 ? text.toLowerCase() : '';
    if (isUuid(lower)) return lower as Id;
    context.addIssue('not a uuid');
    return z.NEVER;
  });
  return { id, list: z.array(id).max(MAX_LIST) };
}

const resource = ids<ResourceId>();
const gateways = ids<GatewayId>();
const clients = ids<ClientId>();
const candidates = z.array(z.string().max(MAX_CANDIDATE_LENGTH)).max(MAX_LIST);

const createFlow = z
  .object({ resource_id: resource.id, connected_gateway_ids: gateways.list })
  .transform((payload) => ({
    kind: 'create-flow' as const,
    resourceId: payload.resource_id,
    connectedGatewayIds: payload.connected_gateway_ids,
  }));

const flowAuthorized = z
  .object({ ref: z.string().max(MAX_REF_LENGTH) })
  .transform((payload) => ({ kind: 'flow-authorized' as const, ref: payload.ref }));

const toGateways = (kind: 'ice-candidates' | 'invalidated-ice-candidates') =>
  z
    .object({ candidates, gateway_ids: gateways.list })
    .transform((payload) => ({ kind, candidates: payload.candidates, gatewayIds: payload.gateway_ids }));

const toClients = (kind: 'ice-candidates' | 'invalidated-ice-candidates') =>
  z
    .object({ candidates, client_ids: clients.list })
    .transform((payload) => ({ kind, candidates: payload.candidates, clientIds: payload.client_ids }));

/** Maps, so that an event named `constructor` finds nothing. */
const CLIENT_EVENTS = new Map<string, z.ZodType<ClientRequest>>([
  ['create_flow', createFlow],
  ['broadcast_ice_candidates', toGateways('ice-candidates')],
  ['broadcast_invalidated_ice_candidates', toGateways('invalidated-ice-candidates')],
]);

const GATEWAY_EVENTS = new Map<string, z.ZodType<GatewayRequest>>([
  ['flow_authorized', flowAuthorized],
  ['broadcast_ice_candidates', toClients('ice-candidates')],
  ['broadcast_invalidated_ice_candidates', toClients('invalidated-ice-candidates')],
]);

const RELAY_JOIN = z
  .object({ stamp_secret: z.string().min(1).max(MAX_STAMP_SECRET_LENGTH) })
  .transform((payload) => ({ stampSecret: payload.stamp_secret }));
