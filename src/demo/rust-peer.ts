/**
 * What simulated gateways and relays share: Phoenix V1 as the Rust peers speak it (object frames, number refs, no
 * library), a heartbeat, and coming back when the server closes.
 */
import { WebSocket } from 'ws';
import { refusalStatus, whyRefused, type PeerOptions } from './simulated-peer.js';

/** The server closes a gateway that is silent for 37 s, a relay after 41 s; real ones send after 30 s. */
const HEARTBEAT_MS = 25_000;
const RECONNECT_MS = 1_000;

export interface RustPeerIdentity {
  readonly role: 'gateway' | 'relay';
  readonly userAgent: string;
  readonly query: Readonly<Record<string, string>>;
  /** Payload of the join. */
  readonly join: unknown;
}

export class RustPeer {
  #ws: WebSocket | undefined;
  #ref = 0;
  #joinedAt: number | undefined;
  #isStopped = false;
  #isAway = false;
  #cancelHeartbeat: (() => void) | undefined;
  #cancelReconnect: (() => void) | undefined;

  /** @param received every frame on the role's topic */
  constructor(
    private readonly identity: RustPeerIdentity,
    private readonly with_: Pick<PeerOptions, 'wsUrl' | 'clock' | 'scheduler' | 'note' | 'ended'>,
    private readonly received: (event: string, payload: unknown) => void,
  ) {}

  /** Since its last `phx_join`. Unit ms. */
  get sinceJoinMs(): number {
    return this.with_.scheduler.elapsedMs() - (this.#joinedAt ?? 0);
  }

  start(): void {
    const { role, userAgent, query, join } = this.identity;
    const ws = new WebSocket(`${this.with_.wsUrl}/${role}/websocket?${new URLSearchParams(query).toString()}`, {
      perMessageDeflate: false,
      headers: { 'user-agent': userAgent },
    });
    this.#ws = ws;
    ws.on('open', () => {
      this.#isAway = false;
      this.#joinedAt = this.with_.scheduler.elapsedMs();
      this.send(role, 'phx_join', join);
      this.#beat();
    });
    ws.on('message', (data: Buffer) => {
      const { event, payload } = JSON.parse(data.toString()) as { event: string; payload: unknown };
      this.received(event, payload);
    });
    ws.on('error', (error) => {
      const status = refusalStatus(error.message);
      if (status !== undefined && status < 500) this.end(whyRefused(status, this.#joinedAt !== undefined));
    });
    ws.on('close', (code) => {
      this.#closed(code);
    });
  }

  stop(): void {
    this.#isStopped = true;
    this.#cancelHeartbeat?.();
    this.#cancelReconnect?.();
    this.#ws?.close();
  }

  send(topic: string, event: string, payload: unknown): void {
    this.#ws?.send(JSON.stringify({ topic, event, payload, ref: this.#ref++ }));
  }

  /** For good, as a real one exits. */
  end(why: string): void {
    if (this.#isStopped) return;
    this.stop();
    this.with_.ended(`the ${this.identity.role} stopped: ${why}`);
  }

  /** The server closes a connection for many reasons; all but `disconnect` and 4xx mean: come back. */
  #closed(code: number): void {
    this.#cancelHeartbeat?.();
    if (this.#isStopped) return;
    const { role } = this.identity;
    if (!this.#isAway) this.with_.note(`${role.padEnd(8)} the connection was closed (${code}); connects again`);
    this.#isAway = true;
    this.#cancelReconnect = this.with_.clock.after(RECONNECT_MS, () => {
      this.start();
    });
  }

  #beat(): void {
    this.#cancelHeartbeat = this.with_.clock.after(HEARTBEAT_MS, () => {
      this.send('phoenix', 'heartbeat', {});
      this.#beat();
    });
  }
}
