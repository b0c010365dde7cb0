/**
 * Everything a WebSocket was sent, byte by byte and in which kind of frame, whether or not the test reads it: for what
 * must never have been said to a peer.
 */
import { once } from 'node:events';
import type { WebSocket } from 'ws';

export interface SentFrame {
  readonly kind: 'text' | 'binary' | 'ping' | 'pong' | 'close';
  /** The payload; of a close frame the reason. */
  readonly text: string;
  /** Milliseconds of a monotonic clock. */
  readonly at: number;
}

/** A test that waits longer than this waits for something that does not come. */
const WAIT_MS = 5000;

export class Transcript {
  readonly frames: SentFrame[] = [];
  #read = 0;

  constructor(private readonly ws: WebSocket) {
    const note = (kind: SentFrame['kind'], data: Buffer): void => {
      this.frames.push({ kind, text: data.toString(), at: performance.now() });
    };
    ws.on('message', (data: Buffer, isBinary) => {
      note(isBinary ? 'binary' : 'text', data);
    });
    ws.on('ping', (data: Buffer) => {
      note('ping', data);
    });
    ws.on('pong', (data: Buffer) => {
      note('pong', data);
    });
    ws.on('close', (_code, reason) => {
      note('close', reason);
    });
  }

  /** The messages, parsed. */
  get messages(): unknown[] {
    return this.frames.filter(({ kind }) => kind === 'text').map(({ text }) => JSON.parse(text) as unknown);
  }

  /** The next message not read yet, parsed. */
  async next(): Promise<unknown> {
    while (this.#read >= this.messages.length) {
      await once(this.ws, 'message', { signal: AbortSignal.timeout(WAIT_MS) });
    }
    return this.messages[this.#read++];
  }
}
