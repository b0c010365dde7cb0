/** A peer that speaks Phoenix V1 and notes when each frame came, as cheaply as it can: it shares the machine. */
import { once } from 'node:events';
import { WebSocket } from 'ws';

export interface ReceivedFrame {
  readonly event: string;
  readonly payload: unknown;
}

/** @param at milliseconds of `performance.now`, read before the frame was parsed */
export type FrameHandler = (frame: ReceivedFrame, at: number, text: string) => void;

export interface PeerIdentity {
  readonly role: 'client' | 'gateway';
  readonly token: string;
  readonly externalId: string;
}

const USER_AGENTS = {
  client: 'Ubuntu/24.4.0 connlib/1.5.3 (x86_64; 6.8.0)',
  gateway: 'Linux/6.8.0 connlib/1.4.16 (x86_64)',
};

/** As real peers do; a silent gateway is closed after 37 s. */
const HEARTBEAT_EVERY_MS = 15_000;

export class BenchPeer {
  #ref = 0;
  #isClosing = false;
  readonly #waiting = new Map<string, (payload: unknown) => void>();
  onFrame: FrameHandler = () => undefined;
  /** `ws` has handed its pong to the system by then. */
  onPing: () => void = () => undefined;

  private constructor(
    private readonly ws: WebSocket,
    private readonly topic: 'client' | 'gateway' | 'bare',
  ) {
    ws.on('message', (data: Buffer) => {
      const at = performance.now();
      const text = data.toString();
      const frame = JSON.parse(text) as ReceivedFrame;
      this.#waiting.get(frame.event)?.(frame.payload);
      this.onFrame(frame, at, text);
    });
    ws.on('ping', () => {
      this.onPing();
    });
    const heartbeat = setInterval(() => {
      if (topic !== 'bare') this.heartbeat();
    }, HEARTBEAT_EVERY_MS);
    ws.on('close', (code) => {
      clearInterval(heartbeat);
      if (!this.#isClosing) throw new Error(`the server closed a ${topic} socket with ${code}`);
    });
  }

  /** A bare socket to a bare server. */
  static async connect(url: string): Promise<BenchPeer> {
    const ws = new WebSocket(url, { perMessageDeflate: false });
    await once(ws, 'open');
    return new BenchPeer(ws, 'bare');
  }

  /** Joined: resolves when `init` has come. */
  static async join(serverUrl: string, { role, token, externalId }: PeerIdentity): Promise<BenchPeer> {
    const query = new URLSearchParams({ token, external_id: externalId, public_key: keyOf(externalId) });
    const ws = new WebSocket(`${serverUrl}/${role}/websocket?${query.toString()}`, {
      perMessageDeflate: false,
      headers: { 'user-agent': USER_AGENTS[role] },
    });
    await once(ws, 'open');
    const peer = new BenchPeer(ws, role);
    const init = peer.next('init');
    peer.send('phx_join', null);
    await init;
    return peer;
  }

  get isClosed(): boolean {
    return this.ws.readyState !== WebSocket.OPEN;
  }

  heartbeat(): void {
    this.sendText(`{"topic":"phoenix","event":"heartbeat","payload":{},"ref":${this.#ref++}}`);
  }

  /** From here on the peer takes nothing more, and may be cut off for it. */
  stopReading(): void {
    this.#isClosing = true;
    this.ws.pause();
  }

  send(event: string, payload: unknown): void {
    this.sendText(JSON.stringify({ topic: this.topic, event, payload, ref: this.#ref++ }));
  }

  sendText(text: string): void {
    this.ws.send(text);
  }

  /** The payload of the next frame of this event. */
  next(event: string): Promise<unknown> {
    return new Promise((resolve) => {
      this.#waiting.set(event, (payload) => {
        this.#waiting.delete(event);
        resolve(payload);
      });
    });
  }

  /** As when the network goes: no close frame. */
  drop(): void {
    this.#isClosing = true;
    this.ws.terminate();
  }

  async close(): Promise<void> {
    this.#isClosing = true;
    this.ws.close();
    await once(this.ws, 'close');
  }
}

function keyOf(externalId: string): string {
  const bytes = Buffer.alloc(32, 9);
  bytes.write(externalId.slice(-31));
  return bytes.toString('base64');
}
