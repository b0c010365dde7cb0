/** A peer as the upgrade let it in: who it is, and the facts that stay the same for the life of the socket. */
import type { AccountId, ActorId, ClientId, ConnectionId, GatewayId, SiteId, TokenId } from '../core/model/ids.js';
import type { PeerRole } from '../core/ports/metrics.js';
import type { DeviceIdentity } from './upgrade/connect-guard.js';

interface ConnectedPeer {
  readonly identity: DeviceIdentity;
  readonly connectionId: ConnectionId;
  readonly upgradeNumber: number;
  readonly tokenId: TokenId;
  /** Of the user agent; not always a SemVer. */
  readonly version: string;
  readonly latitude: number | null;
  readonly longitude: number | null;
}

interface ConnectedDevice extends ConnectedPeer {
  readonly accountId: AccountId;
  readonly publicKey: string;
  readonly pskBase: Uint8Array;
  readonly remoteIp: string | null;
  readonly region: string | null;
  /** Its connect changed a published row: the channel starts once the stream has shown it (D13). */
  readonly mustSeeConnect: boolean;
}

export interface ConnectedClient extends ConnectedDevice {
  readonly role: 'client';
  readonly clientId: ClientId;
  readonly actorId: ActorId;
}

export interface ConnectedGateway extends ConnectedDevice {
  readonly role: 'gateway';
  readonly gatewayId: GatewayId;
  readonly siteId: SiteId;
}

export interface ConnectedRelay extends ConnectedPeer {
  readonly role: 'relay';
  /** Null: a relay of the installation, for every account. */
  readonly accountId: AccountId | null;
  /** At least one address is not null. */
  readonly ipv4: string | null;
  readonly ipv6: string | null;
  readonly port: number;
}

/** Who connects on the path of a role. */
export interface ConnectedByRole {
  readonly client: ConnectedClient;
  readonly gateway: ConnectedGateway;
  readonly relay: ConnectedRelay;
}

export type AnyConnected = ConnectedByRole[PeerRole];
