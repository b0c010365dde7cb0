import { Inject } from '@nestjs/common';
import { WebSocketGateway, type OnGatewayConnection } from '@nestjs/websockets';
import type { WebSocket } from 'ws';
import type { Accepted } from '../api-server.js';
import type { ConnectedGateway } from '../connected-peer.js';
import { SocketFactory } from '../socket-factory.js';

/** Where gateways connect. One plain channel object per socket does all the work (D44). */
@WebSocketGateway({ path: '/gateway/websocket' })
export class GatewayGateway implements OnGatewayConnection {
  constructor(@Inject(SocketFactory) private readonly sockets: SocketFactory) {}

  handleConnection(ws: WebSocket, accepted: Accepted<ConnectedGateway>): void {
    this.sockets.openGateway(ws, accepted);
  }
}
