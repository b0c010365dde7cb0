/**
 * Who is connected, and how to reach them. In one process these are the channels themselves; with several nodes the same
 * interfaces stand for channels elsewhere. Calls are signals: they return at once and answer, if at all, by another call.
 */
import type { AccountId, ClientId, ConnectionId, GatewayId, RelayId, ResourceId, SiteId } from '../model/ids.js';
import type { ClientRow } from '../model/rows.js';

/** Passed on between peers as it came. */
export type OpaqueObject = Readonly<Record<string, unknown>>;

/**
 * How a client asks for a flow: it decides what the gateway is sent and how its answer comes back. All but `flow` are of
 * clients before 1.4, which make the secrets of a connection themselves.
 */
export type FlowDialect =
  | { readonly kind: 'flow' }
  | { readonly kind: 'request-connection'; readonly payload: OpaqueObject; readonly presharedKey: string }
  | { readonly kind: 'reuse-connection'; readonly payload: OpaqueObject | null };

/** What the gateway must know of the client to serve a flow. */
export interface FlowRequest {
  readonly client: ClientPeer;
  readonly row: ClientRow;
  readonly resourceId: ResourceId;
  /** Counts the client channel's requests; the answer names it, so that one from before a toggle is recognised. */
  readonly sequence: number;
  readonly dialect: FlowDialect;
}

/** What the client must know of the gateway to use a flow. */
export interface FlowAnswer {
  readonly resourceId: ResourceId;
  readonly sequence: number;
  readonly gatewayId: GatewayId;
  readonly siteId: SiteId;
  readonly gatewayPublicKey: string;
  readonly gatewayIpv4: string;
  readonly gatewayIpv6: string;
  readonly secrets: PairSecrets;
}

/** The gateway's answer to a client before 1.4. */
export interface ConnectionAnswer {
  readonly resourceId: ResourceId;
  readonly sequence: number;
  readonly gatewayPublicKey: string;
  readonly gatewayPayload: OpaqueObject;
}

/** Derived from both device secrets and both public keys: the same as long as those are (wire rule 0.11). */
export interface PairSecrets {
  readonly presharedKey: string;
  readonly clientIce: IceCredentials;
  readonly gatewayIce: IceCredentials;
}

export interface IceCredentials {
  readonly username: string;
  readonly password: string;
}

export type IceKind = 'ice_candidates' | 'invalidate_ice_candidates';

export interface ClientPeer {
  readonly accountId: AccountId;
  readonly clientId: ClientId;
  readonly connectionId: ConnectionId;
  /** Counts accepted upgrades: of two connections of one device, the larger is the newer. */
  readonly upgradeNumber: number;
  readonly publicKey: string;
  readonly pskBase: Uint8Array;
  readonly remoteIp: string | null;
  flowAuthorized(answer: FlowAnswer): void;
  connectionReady(answer: ConnectionAnswer): void;
  /** A gateway lost this pair while the client may still be authorized: remove and add the resource again (D20b). */
  toggle(resourceId: ResourceId): void;
  iceFromGateway(gatewayId: GatewayId, kind: IceKind, candidates: readonly string[]): void;
  /** A newer connection of the same device is here: close without `disconnect` (D23). */
  evict(): void;
}

export interface GatewayPeer {
  readonly accountId: AccountId;
  readonly gatewayId: GatewayId;
  readonly connectionId: ConnectionId;
  readonly upgradeNumber: number;
  readonly version: string;
  readonly remoteIp: string | null;
  readonly latitude: number | null;
  readonly longitude: number | null;
  /** False: it was given none, and a real one reconnects when it is asked for a flow (wire rule 0.16). */
  readonly hasRelay: boolean;
  requestFlow(request: FlowRequest): void;
  iceFromClient(clientId: ClientId, kind: IceKind, candidates: readonly string[]): void;
  evict(): void;
}

/** An online relay. What it is and where it listens does not change while it is online. */
export interface RelayPeer {
  /** Null: it serves every account. */
  readonly accountId: AccountId | null;
  readonly relayId: RelayId;
  readonly connectionId: ConnectionId;
  readonly upgradeNumber: number;
  /** At least one address is not null. */
  readonly ipv4: string | null;
  readonly ipv6: string | null;
  readonly port: number;
  /** Keys the credentials of all peers; never logged. */
  readonly stampSecret: string;
  readonly latitude: number | null;
  readonly longitude: number | null;
  evict(): void;
}

export interface Presence {
  client(accountId: AccountId, clientId: ClientId): ClientPeer | undefined;
  gateway(accountId: AccountId, gatewayId: GatewayId): GatewayPeer | undefined;
  gateways(accountId: AccountId): Iterable<GatewayPeer>;
  /**
   * The newest upgrade wins and the other one is evicted, whichever enters first (D23). Returns the leave; leaving
   * after somebody else took the place does nothing.
   */
  enterClient(peer: ClientPeer): () => void;
  enterGateway(peer: GatewayPeer): () => void;
  /**
   * Tells the client that a gateway lost the pair. One that is away is told when it is back: it may still be sending into
   * the void (D20b).
   */
  toggle(accountId: AccountId, clientId: ClientId, resourceId: ResourceId): void;
  /** What a client that comes back is owed of these; once. */
  takeOwedToggles(accountId: AccountId, clientId: ClientId): ReadonlySet<ResourceId>;
  /** The account's own relays and those of the installation, each id once. */
  relays(accountId: AccountId): readonly RelayPeer[];
  /**
   * Of one id the newest upgrade wins (same secret), and of one address: a restarted relay has another id, and what was
   * there before is gone, whether or not its socket has noticed.
   */
  enterRelay(peer: RelayPeer): () => void;
  /** Called after each change of `relays(accountId)`; must not throw. Returns the unsubscribe. */
  onRelays(accountId: AccountId, changed: () => void): () => void;
}

/** What tells two relays apart that are not the same process: where they listen (wire-protocol.md 1.7). */
export function relayAddress({ accountId, ipv4, ipv6, port }: RelayPeer): string {
  return `${accountId ?? 'all'} ${ipv4 ?? ipv6} ${port}`;
}
export const PRESENCE = Symbol('Presence');
