/**
 * The floor of a flow: client → relay → gateway → relay → client over bare `ws`. The relay looks at nothing and answers
 * each frame of one side with a recorded frame to the other, so that all four hops carry the product's payloads.
 */
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { WebSocketServer, type WebSocket } from 'ws';

export interface RelayInput {
  /** What the gateway gets for each frame of the client. */
  readonly toGateway: string;
  /** What the client gets for each frame of the gateway. */
  readonly toClient: string;
}

const [input] = (await once(process, 'message')) as [RelayInput];
const server = new WebSocketServer({ host: '127.0.0.1', port: 0, perMessageDeflate: false });
let client: WebSocket | undefined;
let gateway: WebSocket | undefined;
server.on('connection', (socket, request) => {
  if (request.url === '/client') {
    client = socket;
    socket.on('message', () => gateway?.send(input.toGateway));
  } else {
    gateway = socket;
    socket.on('message', () => client?.send(input.toClient));
  }
});
server.once('listening', () => process.send?.((server.address() as AddressInfo).port));
