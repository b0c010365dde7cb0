/** A flow: one client's authorized use of one resource through one gateway. */
import type { AccountId, ClientId, FlowId, GatewayId, MembershipId, PolicyId, ResourceId, TokenId } from './ids.js';
import type { IpStack, ResourceRow, ResourceType } from './rows.js';
import type { EpochMs } from './time.js';

/** What a gateway was told to let through. When it differs from the resource, the flow is unjustified (D20, D22). */
export interface ResourceShape {
  readonly type: ResourceType;
  readonly address: string | null;
  readonly ipStack: IpStack | null;
}

export function shapeOf(resource: ResourceRow): ResourceShape {
  return { type: resource.type, address: resource.address, ipStack: resource.ipStack };
}

export function sameShape(a: ResourceShape, b: ResourceShape): boolean {
  return a.type === b.type && a.address === b.address && a.ipStack === b.ipStack;
}

/** One row of `flows`, as it is first written. Never updated but to be closed (D8). */
export interface FlowRecord {
  readonly id: FlowId;
  readonly accountId: AccountId;
  readonly gatewayId: GatewayId;
  readonly clientId: ClientId;
  readonly resourceId: ResourceId;
  readonly policyId: PolicyId;
  readonly membershipId: MembershipId;
  readonly tokenId: TokenId;
  readonly shape: ResourceShape;
  readonly clientRemoteIp: string | null;
  readonly gatewayRemoteIp: string | null;
  readonly createdAt: EpochMs;
  readonly expiresAt: EpochMs;
}

/** A row read back at a gateway's join: unexpired, closed or not. */
export interface StoredFlow extends FlowRecord {
  readonly revokedAt: EpochMs | null;
  /** It ended by a hand, not for a reason of ours. */
  readonly isCutByHand: boolean;
  /** When its gateway was last told that it ended. */
  readonly pushedAt: EpochMs | null;
  /** When the gateway was proven to have read that (G4). */
  readonly deliveredAt: EpochMs | null;
}

/**
 * How a pushed rejection ended; stored in `flows.delivery`. `receipted`: the gateway has read it. `no-receipt`: it did not
 * say so in time and was cut off. `socket-closed`: its socket ended first. `unreceipted`: nobody asked (RECEIPTS=off).
 */
export type PushEnd = 'receipted' | 'no-receipt' | 'socket-closed' | 'unreceipted';

/** Why we ended a flow by ourselves; stored in `flows.revoked_reason`. */
export const OWN_REASONS = [
  'replaced',
  'moved',
  'unjustified',
  'resource-changed',
  'site-left-resource',
  'expired',
  'unwritable',
] as const;

/** @param stored `flows.revoked_reason`; null where a hand gave none */
export function isOwnReason(stored: string | null): boolean {
  return (OWN_REASONS as readonly (string | null)[]).includes(stored);
}

/** Why a flow ended; stored in `flows.revoked_reason`, where a hand may have written any other text. */
export type RevokedReason = (typeof OWN_REASONS)[number] | 'cut-by-hand';
