/**
 * The listener for peers: answers `/healthz`, authenticates every upgrade before a WebSocket exists, and hands accepted
 * sockets to the gateway class of their path. Every upgrade is answered or its connection destroyed in time, whatever
 * the database does: peers of 2025 have no timeout of their own there (D24a).
 */
import { EventEmitter } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Duplex } from 'node:stream';
import { WebSocketServer, type WebSocket } from 'ws';
import type { Metrics, PeerRole } from '../core/ports/metrics.js';
import type { Clock, Random } from '../core/support/clock.js';
import type { Logger } from '../core/support/logger.js';
import { selectSerializer, type Serializer } from '../protocol/frame.js';
import type { AnyConnected } from './connected-peer.js';
import type { Authenticator } from './upgrade/authenticator.js';
import type { ConnectLimits } from './upgrade/connect-guard.js';
import { vsnOf } from './upgrade/connect-params.js';
import { handshakeFault } from './upgrade/handshake.js';
import { isOriginAllowed } from './upgrade/origin.js';
import type { TrustedProxies } from './upgrade/real-ip.js';
import { comeBack, FORBIDDEN_ORIGIN, NOT_FOUND, responseOf, UNSUPPORTED_VSN, type Refusal } from './upgrade/refusal.js';
import type { UpgradeRequest } from './upgrade/upgrade-request.js';

export interface ApiServerOptions {
  readonly maxFrameBytes: number;
  /** Longest an upgrade may take. Unit ms. */
  readonly connectTimeoutMs: number;
  readonly maxConcurrentUpgrades: number;
  readonly connects: ConnectLimits;
  readonly trustedProxies: TrustedProxies;
}

/** An accepted socket with who it is. */
export interface Accepted<Peer> {
  readonly peer: Peer;
  readonly serializer: Serializer;
}

/** What the Nest adapter binds one gateway class to: emits `connection` with the socket and what was accepted. */
export class PathServer extends EventEmitter<{
  connection: [WebSocket, Accepted<AnyConnected>];
}> {}

/** A message in more pieces than this is an attack: real peers never fragment. */
const MAX_FRAGMENTS = 64;
/** A frame that comes in more reads than this comes byte by byte, and each read costs far more memory than it holds. */
const MAX_BUFFERED_CHUNKS = 1024;
const HEADERS_TIMEOUT_MS = 10_000;
const REQUEST_TIMEOUT_MS = 15_000;
/** Node looks for connections past those only so often; its own 30 s would let them live longer than they may. */
const CHECK_EVERY_MS = 1_000;
/**
 * Connections that the system accepts before we do; its own limit (`net.core.somaxconn`) counts too. With Node's 511 a fleet
 * that comes back at once overflows it, and whose SYN was dropped tries again after 1, 3, 7, 15 and 31 s.
 */
const LISTEN_BACKLOG = 4_096;

export class ApiServer {
  readonly #http: Server;
  readonly #ws: WebSocketServer;
  readonly #paths = new Map<string, PathServer>();
  readonly #sockets = new Set<WebSocket>();
  #upgrading = 0;
  #isDraining = false;

  constructor(
    private readonly authenticator: Authenticator,
    private readonly options: ApiServerOptions,
    private readonly with_: {
      readonly clock: Clock;
      readonly random: Random;
      readonly metrics: Metrics;
      readonly log: Logger;
    },
  ) {
    const timeouts = {
      headersTimeout: HEADERS_TIMEOUT_MS,
      requestTimeout: REQUEST_TIMEOUT_MS,
      connectionsCheckingInterval: CHECK_EVERY_MS,
    };
    this.#http = createServer(timeouts, answerRequest);
    this.#ws = new WebSocketServer({
      noServer: true,
      clientTracking: false,
      perMessageDeflate: false,
      maxPayload: options.maxFrameBytes,
      maxFragments: MAX_FRAGMENTS,
      maxBufferedChunks: MAX_BUFFERED_CHUNKS,
    });
    this.#http.on('upgrade', (request, socket, head) => {
      void this.#upgrade(request, socket, head);
    });
  }

  /** The server of one upgrade path, made at first use. */
  at(path: string): PathServer {
    let server = this.#paths.get(path);
    if (!server) this.#paths.set(path, (server = new PathServer()));
    return server;
  }

  /** Resolves with the port that is listened on. */
  listen(host: string, port: number): Promise<number> {
    return new Promise((resolve, reject) => {
      this.#http.once('error', reject);
      this.#http.listen({ port, host, backlog: LISTEN_BACKLOG }, () => {
        this.#http.off('error', reject);
        resolve((this.#http.address() as AddressInfo).port);
      });
    });
  }

  /** From here on every upgrade is told to come back. */
  beginDrain(): void {
    this.#isDraining = true;
  }

  get socketCount(): number {
    return this.#sockets.size;
  }

  /** Closes every socket at a random moment within `withinMs`, so that the fleet does not come back at one instant. */
  async drain(withinMs: number): Promise<void> {
    this.beginDrain();
    await Promise.all([...this.#sockets].map((socket) => this.#closeWithin(socket, withinMs)));
  }

  async close(): Promise<void> {
    this.beginDrain();
    for (const socket of this.#sockets) socket.terminate();
    this.#http.closeAllConnections();
    await new Promise<void>((resolve) => {
      this.#http.close(() => {
        resolve();
      });
    });
  }

  async #upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): Promise<void> {
    socket.on('error', () => socket.destroy());
    const path = pathOf(request);
    const refuse = (refusal: Refusal): void => {
      this.with_.metrics.upgradeAnswered(refusal.status);
      this.with_.log.debug('upgrade.refused', { path, status: refusal.status, code: refusal.code });
      if (!socket.writable) return;
      socket.end(responseOf(refusal));
      socket.once('finish', () => socket.destroy());
    };
    if (this.#upgrading >= this.options.maxConcurrentUpgrades) {
      refuse(comeBack('overloaded', 1));
      return;
    }
    this.#upgrading += 1;
    let isAnswered = false;
    const cancelDeadline = this.with_.clock.after(this.options.connectTimeoutMs, () => {
      isAnswered = true;
      refuse(comeBack('unavailable', 1));
    });
    try {
      const outcome = await this.#decide(path, request);
      if (isAnswered) return;
      if ('status' in outcome) refuse(outcome);
      else this.#accept(path, request, socket, head, outcome);
    } catch (error) {
      this.with_.log.warn('upgrade.failed', { path, error });
      if (!isAnswered) refuse(comeBack('unavailable', 1));
    } finally {
      cancelDeadline();
      this.#upgrading -= 1;
    }
  }

  async #decide(path: string, incoming: IncomingMessage): Promise<Accepted<AnyConnected> | Refusal> {
    const role = PATHS.get(path);
    if (!role || !this.#paths.has(path)) return NOT_FOUND;
    if (this.#isDraining) return comeBack('draining', 2);
    const request = requestOf(incoming);
    const fault = handshakeFault(request);
    if (fault) return fault;
    const serializer = selectSerializer(vsnOf(request));
    if (!serializer) return UNSUPPORTED_VSN;
    if (!isOriginAllowed(request, this.options.trustedProxies)) return FORBIDDEN_ORIGIN;
    const result = await this.authenticator.authenticate(role, request);
    return result.ok ? { peer: result.peer, serializer } : result.refusal;
  }

  #accept(
    path: string,
    request: IncomingMessage,
    socket: Duplex,
    head: Buffer,
    accepted: Accepted<AnyConnected>,
  ): void {
    this.#ws.handleUpgrade(request, socket, head, (ws) => {
      this.with_.metrics.upgradeAnswered(101);
      this.#sockets.add(ws);
      ws.once('close', () => this.#sockets.delete(ws));
      this.at(path).emit('connection', ws, accepted);
    });
  }

  #closeWithin(socket: WebSocket, withinMs: number): Promise<void> {
    return new Promise((resolve) => {
      socket.once('close', () => {
        resolve();
      });
      this.with_.clock.after(this.with_.random.fraction() * withinMs, () => {
        socket.close(1001);
      });
      this.with_.clock.after(withinMs + 1000, () => {
        socket.terminate();
      });
    });
  }
}

const PATHS: ReadonlyMap<string, PeerRole> = new Map([
  ['/client/websocket', 'client'],
  ['/gateway/websocket', 'gateway'],
  ['/relay/websocket', 'relay'],
]);

/** The served path without the prefix that an operator may have given the peers' API URL (wire-protocol.md 1.1). */
function pathOf(request: IncomingMessage): string {
  const path = (request.url ?? '').split('?', 1).join('');
  for (const served of PATHS.keys()) if (path.endsWith(served)) return served;
  return path;
}

function requestOf(incoming: IncomingMessage): UpgradeRequest {
  return {
    method: incoming.method ?? '',
    httpVersion: incoming.httpVersion,
    url: incoming.url ?? '',
    headers: incoming.headers,
    remoteAddress: incoming.socket.remoteAddress,
  };
}

function answerRequest(request: IncomingMessage, response: ServerResponse): void {
  const isHealth = request.url === '/healthz' && (request.method === 'GET' || request.method === 'HEAD');
  response.writeHead(isHealth ? 200 : 404, { 'content-type': 'application/json' });
  response.end(isHealth ? '{"status":"ok"}' : '{"status":404,"code":"not_found","title":"Not found"}');
}
