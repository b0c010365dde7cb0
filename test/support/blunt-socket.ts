/**
 * A WebSocket that says much and listens little: it counts what it hears and keeps nothing but the answer it waits for.
 * For floods and fuzzing, where thousands of frames are in flight at once.
 */
import { WebSocket } from 'ws';
import type { PeerRole } from './strict-peer.js';
import { deviceQuery, type Query } from './upgrade.js';

export interface BluntDevice {
  readonly role: PeerRole;
  readonly token: string;
  /** Of a relay, its port: what makes it another relay than its neighbours. */
  readonly name: string;
  readonly vsn?: '1.0.0' | '2.0.0';
  readonly userAgent?: string;
}

const AGENTS = { client: 'test connlib/1.5.3', gateway: 'test connlib/1.4.16', relay: 'relay/0.1.0' };
const INIT = /^.{0,60}"init"/;
/** Longer than this nothing takes that a server does at all. */
const WAIT_MS = 20_000;

export class BluntSocket {
  heard = 0;
  /** Hears every frame; set by whoever wants to judge them. */
  onText: ((text: string) => void) | undefined;
  readonly ended: Promise<number>;
  #code: number | undefined;
  #refs = 0;
  /** By the ref of a heartbeat. */
  readonly #awaited = new Map<string, () => void>();

  private constructor(
    readonly ws: WebSocket,
    readonly role: PeerRole,
    readonly isV2: boolean,
  ) {
    ws.on('message', (data: Buffer) => {
      this.heard += 1;
      const text = data.toString();
      this.onText?.(text);
      if (this.#awaited.size > 0) this.#answered(text);
    });
    this.ended = new Promise((resolve) => {
      ws.on('close', (code) => {
        this.#code = code;
        for (const wake of this.#awaited.values()) wake();
        resolve(code);
      });
    });
    ws.on('error', () => undefined); // a close follows
  }

  static open(wsUrl: string, device: BluntDevice): Promise<BluntSocket> {
    const { role, token, name, vsn, userAgent } = device;
    const own = role === 'relay' ? { token, ipv4: '192.0.2.1', port: name } : deviceQuery(token, name);
    const query: Query = { ...own, ...(vsn !== undefined && { vsn }) };
    const ws = new WebSocket(`${wsUrl}/${role}/websocket?${new URLSearchParams(query).toString()}`, {
      perMessageDeflate: false,
      headers: { 'user-agent': userAgent ?? AGENTS[role] },
    });
    return new Promise((resolve, reject) => {
      const socket = new BluntSocket(ws, role, vsn === '2.0.0');
      ws.once('open', () => {
        resolve(socket);
      });
      ws.once('error', reject);
    });
  }

  /** Open, joined and past its `init`. */
  static async joined(wsUrl: string, device: BluntDevice): Promise<BluntSocket> {
    const socket = await BluntSocket.open(wsUrl, device);
    const init = new Promise<void>((resolve) => {
      socket.onText = (text) => {
        if (INIT.test(text)) resolve();
      };
    });
    socket.join();
    await Promise.race([init, socket.ended]);
    socket.onText = undefined;
    if (!socket.isOpen) throw new Error(`a ${device.role} was closed (${socket.code}) while it joined`);
    return socket;
  }

  get isOpen(): boolean {
    return this.#code === undefined;
  }

  /** How it ended. */
  get code(): number | undefined {
    return this.#code;
  }

  join(): void {
    this.say('phx_join', this.role === 'relay' ? { stamp_secret: 'c3'.repeat(32) } : null);
  }

  say(event: string, payload: unknown, topic: string = this.role, ref: string | number = (this.#refs += 1)): void {
    this.ws.send(JSON.stringify(this.isV2 ? ['1', `${ref}`, topic, event, payload] : { topic, event, payload, ref }));
  }

  /** Everything said before has been read, and everything that was queued for this socket has arrived; false: it ended. */
  async beat(): Promise<boolean> {
    const ref = `beat-${(this.#refs += 1)}`;
    if (!this.isOpen) return false;
    const answered = new Promise<void>((resolve, reject) => {
      const timer = setTimeout(() => {
        reject(new Error(`a ${this.role} waited ${WAIT_MS} ms for the answer to a heartbeat`));
      }, WAIT_MS);
      this.#awaited.set(ref, () => {
        clearTimeout(timer);
        resolve();
      });
    });
    this.say('heartbeat', {}, 'phoenix', ref);
    await answered;
    this.#awaited.delete(ref);
    return this.isOpen;
  }

  /** As `ended`, when the server owes a close. */
  async mustEnd(): Promise<number> {
    let timer: NodeJS.Timeout | undefined;
    const tooLong = new Promise<never>((_, reject) => {
      timer = setTimeout(() => {
        reject(new Error(`a ${this.role} waited ${WAIT_MS} ms for the close of its socket`));
      }, WAIT_MS);
    });
    try {
      return await Promise.race([this.ended, tooLong]);
    } finally {
      clearTimeout(timer);
    }
  }

  /** Ends it without a word. */
  drop(): Promise<number> {
    this.ws.terminate();
    return this.ended;
  }

  #answered(text: string): void {
    const ref = /"(beat-\d+)"/.exec(text)?.[1];
    if (ref !== undefined) this.#awaited.get(ref)?.();
  }
}
