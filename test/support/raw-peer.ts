/**
 * A client, gateway or relay that speaks Phoenix V1 by hand, as the Rust peers do: object frames, number refs. Every frame it
 * receives is judged by the strict checker; a bad one fails the next call of the test.
 */
import { WebSocket } from 'ws';
import { checkServerFrame, checkServerPing, type PeerRole } from './strict-peer.js';
import { checkAgainstDocument, noteSent } from './wire-document.js';

export type Json = Record<string, unknown>;

/** One push or reply as it arrived. */
export interface Received {
  readonly event: string;
  readonly payload: Json;
  readonly ref: unknown;
  /** Milliseconds of a monotonic clock; the same for all that was found readable together. */
  readonly at: number;
}

export interface PeerOptions {
  readonly token: string;
  /** Relays have none. */
  readonly externalId?: string;
  /** 44 characters of base64; any valid key when absent. */
  readonly publicKey?: string;
  readonly userAgent?: string;
  readonly name?: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** Further parameters, and other values of those above. */
  readonly query?: Readonly<Record<string, string>>;
  /** False: pings are only noted, and a test answers them. Default true, as every WebSocket library does. */
  readonly answersPings?: boolean;
  /** Payload of the join; null when absent, as clients and gateways send it. */
  readonly join?: unknown;
}

/** A test that waits longer than this waits for something that does not come. */
const WAIT_MS = 5000;

export class RawPeer {
  readonly received: Received[] = [];
  /** Payloads of the pings so far. */
  readonly pings: string[] = [];
  closeCode: number | undefined;
  closeReason: string | undefined;
  #ref = 0;
  #read = 0;
  #fault: Error | undefined;
  readonly #wake = new Set<() => void>();

  private constructor(
    readonly role: PeerRole,
    readonly ws: WebSocket,
  ) {
    ws.on('message', (data: Buffer, isBinary) => {
      this.#take(data.toString(), isBinary);
    });
    ws.on('ping', (data: Buffer) => {
      this.#judge(() => {
        checkServerPing(data.toString());
      });
      this.pings.push(data.toString());
      this.#wakeAll();
    });
    ws.on('close', (code, reason) => {
      this.closeCode = code;
      this.closeReason = reason.toString();
      this.#wakeAll();
    });
    ws.on('error', () => undefined);
  }

  /** Resolves when the upgrade is accepted; rejects with the HTTP status and body otherwise. */
  static connect(role: PeerRole, wsUrl: string, options: PeerOptions): Promise<RawPeer> {
    const { token, externalId, publicKey, name } = options;
    const query = new URLSearchParams({
      token,
      ...(externalId !== undefined && { external_id: externalId, public_key: publicKey ?? keyOf(externalId) }),
      ...(name !== undefined && { name }),
      ...options.query,
    });
    const userAgent = options.userAgent ?? AGENTS[role];
    const ws = new WebSocket(`${wsUrl}/${role}/websocket?${query.toString()}`, {
      perMessageDeflate: false,
      autoPong: options.answersPings ?? true,
      headers: { 'user-agent': userAgent, ...options.headers },
    });
    return new Promise((resolve, reject) => {
      const peer = new RawPeer(role, ws);
      ws.once('open', () => {
        resolve(peer);
      });
      ws.once('unexpected-response', (_request, response) => {
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.on('end', () => {
          reject(new RefusedError(response.statusCode ?? 0, Buffer.concat(chunks).toString(), response.headers));
        });
      });
      ws.once('error', reject);
    });
  }

  /** Connects, joins, and resolves with the peer once `init` is here. Everything up to it is read. */
  static async joined(role: PeerRole, wsUrl: string, options: PeerOptions): Promise<RawPeer> {
    const peer = await RawPeer.connect(role, wsUrl, options);
    peer.send('phx_join', options.join ?? null);
    await peer.next('phx_reply');
    await peer.next('init');
    return peer;
  }

  get isClosed(): boolean {
    return this.closeCode !== undefined;
  }

  /** Sends a frame on the role's topic and returns its ref. */
  send(event: string, payload: unknown, topic: string = this.role): number {
    const ref = this.#ref++;
    const frame = { topic, event, payload, ref };
    noteSent(this.role, frame);
    this.ws.send(JSON.stringify(frame));
    return ref;
  }

  /** The payload of the last `init`. */
  get init(): Json {
    const init = this.received.findLast(({ event }) => event === 'init');
    if (!init) throw new Error('no init yet');
    return init.payload;
  }

  /** The next frame not read yet; fails when it is another event, or none comes. */
  async next(event: string): Promise<Json> {
    await this.#until(() => this.received.length > this.#read, `a ${event}`);
    const frame = this.received[this.#read];
    if (frame?.event !== event) throw new Error(`expected ${event}, got ${JSON.stringify(frame)}`);
    this.#read += 1;
    return frame.payload;
  }

  /** Reads on until a frame of this event; what came before it is passed over. */
  async until(event: string): Promise<Json> {
    const find = (): number => this.received.findIndex((frame, i) => i >= this.#read && frame.event === event);
    await this.#until(() => find() >= 0, `a ${event}`);
    this.#read = find() + 1;
    return this.received[this.#read - 1]?.payload ?? {};
  }

  /** An unread frame of this event, once there is one; it stays unread. */
  async awaits(event: string): Promise<Received> {
    const find = (): Received | undefined => this.received.slice(this.#read).find((frame) => frame.event === event);
    await this.#until(() => find() !== undefined, `a ${event}`);
    const frame = find();
    if (!frame) throw new Error(`no ${event}`);
    return frame;
  }

  /** Frames not read yet, as `[event, payload]`, and reads them. */
  drain(): [string, Json][] {
    const frames = this.received.slice(this.#read);
    this.#read = this.received.length;
    this.check();
    return frames.map(({ event, payload }) => [event, payload]);
  }

  /** Payload of the ping with this number on the socket, from 1, once it is here. */
  async ping(number: number): Promise<string> {
    await this.#until(() => this.pings.length >= number, `ping ${number}`);
    return this.pings[number - 1] ?? '';
  }

  /** Everything the server had queued for this peer before the call has arrived: a heartbeat went there and back. */
  async settled(): Promise<void> {
    const ref = this.send('heartbeat', {}, 'phoenix');
    const isAnswer = (frame: Received): boolean => frame.event === 'phx_reply' && frame.ref === ref;
    await this.#until(() => this.received.some(isAnswer), 'the heartbeat reply');
    this.received.splice(this.received.findIndex(isAnswer), 1);
  }

  async closed(): Promise<number> {
    await this.#until(() => this.isClosed, 'the close');
    return this.closeCode ?? 0;
  }

  /** Throws when a frame was not what a real peer can read. */
  check(): void {
    if (this.#fault) throw this.#fault;
  }

  close(): Promise<number> {
    this.ws.close();
    return this.closed();
  }

  #take(text: string, isBinary: boolean): void {
    this.#judge(() => {
      if (isBinary) throw new Error('a binary frame');
      checkServerFrame(this.role, text);
    });
    const frame = JSON.parse(text) as { event: string; payload: Json; ref: unknown };
    this.#judge(() => {
      checkAgainstDocument(this.role, frame);
    });
    const { event, payload, ref } = frame;
    this.received.push({ event, payload, ref, at: turnOfLoop() });
    this.#wakeAll();
  }

  #judge(check: () => void): void {
    try {
      check();
    } catch (error) {
      this.#fault ??= error as Error;
    }
  }

  #wakeAll(): void {
    for (const wake of [...this.#wake]) wake();
  }

  #until(isTrue: () => boolean, what: string): Promise<void> {
    return new Promise((resolve, reject) => {
      const look = (): void => {
        if (this.#fault) done(this.#fault);
        else if (isTrue()) done();
        else if (this.isClosed) done(new Error(`${this.role} closed (${this.closeCode}) while waiting for ${what}`));
      };
      const done = (error?: Error): void => {
        clearTimeout(timer);
        this.#wake.delete(look);
        if (error) reject(error);
        else resolve();
      };
      const timer = setTimeout(() => {
        const tail = JSON.stringify(this.received.slice(this.#read));
        done(new Error(`${this.role} waited ${WAIT_MS} ms for ${what}; unread: ${tail}`));
      }, WAIT_MS);
      this.#wake.add(look);
      look();
    });
  }
}

/** An upgrade that was answered with something else than 101. */
class RefusedError extends Error {
  constructor(
    readonly status: number,
    readonly body: string,
    readonly headers: Readonly<Record<string, string | string[] | undefined>>,
  ) {
    super(`refused with ${status}: ${body}`);
  }
}

const AGENTS = {
  client: 'Ubuntu/24.4.0 connlib/1.5.3 (x86_64; 6.8.0)',
  gateway: 'Linux/6.8.0 connlib/1.4.16 (x86_64)',
  relay: 'relay/0.1.0',
};

/** A valid public key of its own for each device. */
export function keyOf(externalId: string): string {
  const bytes = Buffer.alloc(32, 9);
  bytes.write(externalId.slice(-31));
  return bytes.toString('base64');
}

let turnStartedAt: number | undefined;

/**
 * When the event loop last looked for data, in ms. Of sockets that are found readable together nobody can tell which was
 * written to first: they share a time.
 */
function turnOfLoop(): number {
  if (turnStartedAt === undefined) setImmediate(() => (turnStartedAt = undefined));
  return (turnStartedAt ??= performance.now());
}
