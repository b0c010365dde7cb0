/** The database's part of a connect: who holds this token, and which device is this (D27, wire-protocol.md 1.7). */
import type { ClientId, AccountId, ActorId, GatewayId, SiteId, TokenId, ConnectionId } from '../model/ids.js';
import type { TokenKind } from '../model/rows.js';
import type { EpochMs } from '../model/time.js';

/** A stored token with everything that decides whether it may connect now. */
export interface StoredToken {
  readonly id: TokenId;
  readonly kind: TokenKind;
  readonly accountId: AccountId | null;
  readonly actorId: ActorId | null;
  readonly siteId: SiteId | null;
  readonly expiresAt: EpochMs | null;
  readonly salt: Uint8Array;
  readonly digest: Uint8Array;
  /** Null for a token of no account. */
  readonly accountDisabledAt: EpochMs | null;
  /** False when the actor is disabled, or the identity is gone or its provider disabled. True for tokens without actor. */
  readonly bearerEnabled: boolean;
}

/** Where and as what a device connected. */
export interface DeviceSession {
  readonly connectionId: ConnectionId;
  readonly tokenId: TokenId;
  readonly publicKey: string;
  readonly remoteIp: string | null;
  readonly region: string | null;
  readonly city: string | null;
  readonly latitude: number | null;
  readonly longitude: number | null;
  readonly userAgent: string;
  readonly version: string;
  readonly at: EpochMs;
}

export interface ClientConnect {
  readonly accountId: AccountId;
  readonly actorId: ActorId;
  readonly externalId: string;
  /** Used when the device is new; an existing device keeps its name. */
  readonly name: string;
  readonly deviceSerial: string | null;
  readonly deviceUuid: string | null;
  readonly identifierForVendor: string | null;
  readonly firebaseInstallationId: string | null;
  readonly session: DeviceSession;
}

export interface GatewayConnect {
  readonly accountId: AccountId;
  readonly siteId: SiteId;
  readonly externalId: string;
  /** Replaces the stored name; null keeps it, or makes one for a new device. */
  readonly name: string | null;
  readonly newName: string;
  readonly session: DeviceSession;
}

export interface ConnectedDevice<Id> {
  readonly id: Id;
  readonly ipv4: string;
  readonly ipv6: string;
  /** 32 secret bytes of this device row; never logged, never in the stream (D8b). */
  readonly pskBase: Uint8Array;
  /** True when the transaction changed a published row: the channel waits until the stream has applied it (D13). */
  readonly changedPublishedRow: boolean;
}

/** The public key belongs to another device of the account. */
export class PublicKeyTakenError extends Error {}

export interface Connects {
  findToken(id: TokenId): Promise<StoredToken | undefined>;
  /**
   * Upserts device and session row in one transaction, which also emits the transactional logical message
   * `portcullis.connect` with the connection id. Throws PublicKeyTakenError.
   */
  connectClient(connect: ClientConnect): Promise<ConnectedDevice<ClientId>>;
  connectGateway(connect: GatewayConnect): Promise<ConnectedDevice<GatewayId>>;
}
/** Prefix of the logical message a connect emits; its content is the connection id. */
export const CONNECT_MESSAGE = 'portcullis.connect';
export const CONNECTS = Symbol('Connects');
