/** Branded ids: a group id cannot be passed where a resource id is meant. All are lower-case hyphenated UUID text. */

declare const brand: unique symbol;
type Id<Name extends string> = string & { readonly [brand]: Name };

export type AccountId = Id<'account'>;
export type ActorId = Id<'actor'>;
export type ProviderId = Id<'provider'>;
export type IdentityId = Id<'identity'>;
export type GroupId = Id<'group'>;
export type MembershipId = Id<'membership'>;
export type SiteId = Id<'site'>;
export type GatewayId = Id<'gateway'>;
export type ClientId = Id<'client'>;
export type ResourceId = Id<'resource'>;
export type PolicyId = Id<'policy'>;
export type TokenId = Id<'token'>;
export type FlowId = Id<'flow'>;
/** Derived from the relay's stamp secret: no row has it. */
export type RelayId = Id<'relay'>;
/** One accepted socket; made at the upgrade, never reused. */
export type ConnectionId = Id<'connection'>;

export type AnyId =
  | AccountId
  | ActorId
  | ProviderId
  | IdentityId
  | GroupId
  | MembershipId
  | SiteId
  | GatewayId
  | ClientId
  | ResourceId
  | PolicyId
  | TokenId
  | FlowId
  | RelayId
  | ConnectionId;

/** The nil UUID. The database refuses it as an id, so it can stand for "no such row" on the wire (decisions D4, D22). */
export const NIL_UUID = '00000000-0000-0000-0000-000000000000';

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

/** True for UUID text exactly as PostgreSQL prints it. */
export function isUuid(text: unknown): text is string {
  return typeof text === 'string' && UUID.test(text);
}
