import { Inject } from '@nestjs/common';
import { WebSocketGateway, type OnGatewayConnection } from '@nestjs/websockets';
import type { WebSocket } from 'ws';
import type { Accepted } from '../api-server.js';
import type { ConnectedClient } from '../connected-peer.js';
import { SocketFactory } from '../socket-factory.js';

/** Where clients connect. One plain channel object per socket does all the work (D44). */
@WebSocketGateway({ path: '/client/websocket' })
export class ClientGateway implements OnGatewayConnection {
  constructor(@Inject(SocketFactory) private readonly sockets: SocketFactory) {}

  handleConnection(ws: WebSocket, accepted: Accepted<ConnectedClient>): void {
    this.sockets.openClient(ws, accepted);
  }
}
