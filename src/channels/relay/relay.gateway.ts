import { Inject } from '@nestjs/common';
import { WebSocketGateway, type OnGatewayConnection } from '@nestjs/websockets';
import type { WebSocket } from 'ws';
import type { Accepted } from '../api-server.js';
import type { ConnectedRelay } from '../connected-peer.js';
import { SocketFactory } from '../socket-factory.js';

/** Where relays connect. One plain channel object per socket does all the work (D44). */
@WebSocketGateway({ path: '/relay/websocket' })
export class RelayGateway implements OnGatewayConnection {
  constructor(@Inject(SocketFactory) private readonly sockets: SocketFactory) {}

  handleConnection(ws: WebSocket, accepted: Accepted<ConnectedRelay>): void {
    this.sockets.openRelay(ws, accepted);
  }
}
