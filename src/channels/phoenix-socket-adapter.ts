/**
 * Nest's side of the listener: one path server per `@WebSocketGateway`. Messages never pass through Nest: its wrapper is
 * asynchronous and turns errors into frames of its own, so each socket has one plain channel object instead (D44).
 */
import type { WebSocketAdapter } from '@nestjs/common';
import type { WebSocket } from 'ws';
import type { ApiServer, PathServer } from './api-server.js';

export class PhoenixSocketAdapter implements WebSocketAdapter<PathServer, WebSocket, { readonly path?: string }> {
  constructor(private readonly api: ApiServer) {}

  create(_port: number, options?: { readonly path?: string }): PathServer {
    if (options?.path === undefined) throw new TypeError('a @WebSocketGateway of this house names its path');
    return this.api.at(options.path);
  }

  bindClientConnect(server: PathServer, callback: (...args: unknown[]) => void): void {
    server.on('connection', callback);
  }

  bindMessageHandlers(): void {
    // There are none: see above.
  }

  close(server: PathServer): void {
    server.removeAllListeners();
  }

  /** Before `app.close()` returns, which would otherwise wait for every peer to leave (D44). */
  async dispose(): Promise<void> {
    await this.api.close();
  }
}
