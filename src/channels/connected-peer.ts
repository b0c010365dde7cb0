/** A peer as the upgrade let it in: who it is, and the facts that stay the same for the life of the socket. */
import type { AccountId, ActorId, ClientId, ConnectionId, GatewayId, SiteId, TokenId } from '../core/model/ids.js';

interface ConnectedPeer {
  readonly accountId: AccountId;
  readonly connectionId: ConnectionId;
  readonly upgradeNumber: number;
  readonly tokenId: TokenId;
  /** SemVer text of the user agent. */
  readonly version: string;
  readonly publicKey: string;
  readonly pskBase: Uint8Array;
  readonly remoteIp: string | null;
  readonly region: string | null;
  readonly latitude: number | null;
  readonly longitude: number | null;
  /** Its connect changed a published row: the channel starts once the stream has shown it (D13). */
  readonly mustSeeConnect: boolean;
}

export interface ConnectedClient extends ConnectedPeer {
  readonly role: 'client';
  readonly clientId: ClientId;
  readonly actorId: ActorId;
}

export interface ConnectedGateway extends ConnectedPeer {
  readonly role: 'gateway';
  readonly gatewayId: GatewayId;
  readonly siteId: SiteId;
}
