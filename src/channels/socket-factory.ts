/** Puts a channel on an accepted socket. Whatever goes wrong closes that socket alone: an error here would end the process (D44). */
import type { WebSocket } from 'ws';
import { parseRelayJoin } from '../protocol/inbound.js';
import type { ClientPushes, GatewayPushes, RelayPushes } from '../protocol/outbound.js';
import { isVersion } from '../core/support/peer-version.js';
import type { Accepted } from './api-server.js';
import type { ChannelServices } from './channel-services.js';
import { ClientChannel } from './client/client-channel.js';
import type { ConnectedClient, ConnectedGateway, ConnectedRelay } from './connected-peer.js';
import { GatewayChannel } from './gateway/gateway-channel.js';
import { RelayChannel } from './relay/relay-channel.js';
import { PhoenixSocket, type SocketLimits } from './socket/phoenix-socket.js';
import type { ConnectGuard } from './upgrade/connect-guard.js';

export interface SocketTimes {
  readonly client: SocketLimits;
  readonly gateway: SocketLimits;
  readonly relay: SocketLimits;
}

export class SocketFactory {
  constructor(
    private readonly services: ChannelServices,
    private readonly limits: SocketTimes,
    private readonly guard: ConnectGuard,
  ) {}

  openClient(ws: WebSocket, { peer, serializer }: Accepted<ConnectedClient>): void {
    this.#guarded(ws, () => {
      new PhoenixSocket<ClientPushes>(
        ws,
        'client',
        serializer,
        (socket) =>
          isVersion(peer.version) ? new ClientChannel(peer, socket, this.services) : { refused: 'invalid_version' },
        this.limits.client,
        this.services,
        this.guard.opened(peer.identity),
      );
    });
  }

  openGateway(ws: WebSocket, { peer, serializer }: Accepted<ConnectedGateway>): void {
    this.#guarded(ws, () => {
      new PhoenixSocket<GatewayPushes>(
        ws,
        'gateway',
        serializer,
        (socket) => new GatewayChannel(peer, socket, this.services),
        this.limits.gateway,
        this.services,
        this.guard.opened(peer.identity),
      );
    });
  }

  openRelay(ws: WebSocket, { peer, serializer }: Accepted<ConnectedRelay>): void {
    this.#guarded(ws, () => {
      new PhoenixSocket<RelayPushes>(
        ws,
        'relay',
        serializer,
        (socket, payload) => {
          const join = parseRelayJoin(payload);
          return join ? new RelayChannel(peer, join.stampSecret, socket, this.services) : { refused: 'join crashed' };
        },
        this.limits.relay,
        this.services,
        this.guard.opened(peer.identity),
      );
    });
  }

  #guarded(ws: WebSocket, open: () => void): void {
    try {
      open();
    } catch (error) {
      this.services.log.error('socket.open-failed', { error });
      ws.close(1011);
    }
  }
}
