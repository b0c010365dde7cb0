/**
 * A WebSocket of a device that says whatever the test wants, and keeps what it hears without judging it: for frames that
 * no real peer sends and replies that no real peer could read.
 */
import { WebSocket } from 'ws';
import { deviceQuery, type Query } from './upgrade.js';

/** A test that waits longer than this waits for something that does not come. */
const WAIT_MS = 5000;

export class PlainSocket {
  /** Texts of the frames not read yet. */
  readonly unread: string[] = [];
  #close: { readonly code: number; readonly reason: string } | undefined;
  readonly #wake = new Set<() => void>();

  private constructor(readonly ws: WebSocket) {
    ws.on('message', (data: Buffer) => {
      this.unread.push(data.toString());
      this.#wakeAll();
    });
    ws.on('close', (code, reason) => {
      this.#close = { code, reason: reason.toString() };
      this.#wakeAll();
    });
    ws.on('error', () => undefined);
  }

  /** Resolves when the upgrade is accepted. */
  static open(
    role: 'client' | 'gateway',
    wsUrl: string,
    device: { readonly token: string; readonly externalId: string; readonly query?: Query },
  ): Promise<PlainSocket> {
    const query = new URLSearchParams(deviceQuery(device.token, device.externalId, device.query));
    const headers = { 'user-agent': 'test connlib/1.4.16' };
    const ws = new WebSocket(`${wsUrl}/${role}/websocket?${query.toString()}`, { perMessageDeflate: false, headers });
    return new Promise((resolve, reject) => {
      const socket = new PlainSocket(ws);
      ws.once('open', () => {
        resolve(socket);
      });
      ws.once('error', reject);
    });
  }

  get isOpen(): boolean {
    return this.#close === undefined;
  }

  sendText(text: string): void {
    this.ws.send(text);
  }

  send(value: unknown): void {
    this.sendText(JSON.stringify(value));
  }

  /** The text of the next frame. */
  async nextText(): Promise<string> {
    await this.#until(() => this.unread.length > 0, 'a frame');
    return this.unread.shift() ?? '';
  }

  /** Reads on until a frame with this text in it is here. */
  async untilText(part: string): Promise<string> {
    for (;;) {
      const text = await this.nextText();
      if (text.includes(part)) return text;
    }
  }

  /** How the server ended it. */
  async closed(): Promise<{ readonly code: number; readonly reason: string }> {
    await this.#until(() => this.#close !== undefined, 'the close');
    return this.#close ?? { code: 0, reason: '' };
  }

  close(): Promise<unknown> {
    this.ws.close();
    return this.closed();
  }

  #wakeAll(): void {
    for (const wake of [...this.#wake]) wake();
  }

  #until(isTrue: () => boolean, what: string): Promise<void> {
    return new Promise((resolve, reject) => {
      const look = (): void => {
        if (isTrue()) done();
        else if (this.#close) done(new Error(`closed (${this.#close.code}) while waiting for ${what}`));
      };
      const done = (error?: Error): void => {
        clearTimeout(timer);
        this.#wake.delete(look);
        if (error) reject(error);
        else resolve();
      };
      const timer = setTimeout(() => {
        done(new Error(`waited ${WAIT_MS} ms for ${what}`));
      }, WAIT_MS);
      this.#wake.add(look);
      look();
    });
  }
}
