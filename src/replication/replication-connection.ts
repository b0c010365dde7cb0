/** One connection in replication mode: SQL before streaming, then frames in and status updates out. */
import type { Position } from '../core/model/position.js';
import type { EpochMs } from '../core/model/time.js';
import { PinnedConnection } from './pinned-connection.js';
import { readWalFrame, type StatusUpdate, writeStatusUpdate } from './wal-frames.js';

export interface FrameListener {
  /** `body` is valid during the call only. */
  data(body: Buffer): void;
  keepalive(position: Position, replyWanted: boolean): void;
}

/** The parts of pg's connection that carry CopyBoth; its type declarations leave them out. */
interface CopyBoth {
  on(event: 'copyData', listener: (message: { readonly chunk: Buffer }) => void): void;
  once(event: 'replicationStart', listener: () => void): void;
  sendCopyFromChunk(chunk: Buffer): void;
}

/**
 * States: open (SQL may be asked, one statement at a time) → streaming → ended. Ended holds from the first error on,
 * ours or the server's; nothing is heard afterwards.
 */
export class ReplicationConnection extends PinnedConnection {
  readonly #wire: CopyBoth;
  #listener: FrameListener | undefined;

  constructor(databaseUrl: string, applicationName: string) {
    super(databaseUrl, applicationName, { replication: 'database' });
    this.#wire = this.client.connection as unknown as CopyBoth;
    this.#wire.on('copyData', ({ chunk }) => {
      this.#take(chunk);
    });
  }

  /**
   * Streams until the connection ends; then rejects with the reason: the server's error, the socket's, what the listener
   * threw, or what `destroy` was given. Resolves when the server ended it in good order.
   */
  async stream(startCommand: string, listener: FrameListener, onStarted: () => void): Promise<void> {
    this.#listener = listener;
    this.#wire.once('replicationStart', onStarted);
    try {
      await this.client.query(startCommand);
    } catch (error) {
      throw this.failure ?? error;
    } finally {
      this.#listener = undefined;
    }
  }

  sendStatus(update: StatusUpdate, now: EpochMs): void {
    this.#wire.sendCopyFromChunk(writeStatusUpdate(update, now));
  }

  /** Nothing more is heard; status updates can still be sent. */
  deafen(): void {
    this.#listener = undefined;
  }

  override async close(limit: Promise<void>): Promise<void> {
    this.deafen();
    await super.close(limit);
  }

  override destroy(reason?: Error): void {
    this.deafen();
    super.destroy(reason);
  }

  #take(chunk: Buffer): void {
    if (!this.#listener) return;
    try {
      const frame = readWalFrame(chunk);
      if (frame.kind === 'data') this.#listener.data(frame.body);
      else this.#listener.keepalive(frame.position, frame.replyWanted);
    } catch (error) {
      // Thrown on, it would leave through the socket's event and end the process.
      this.destroy(error instanceof Error ? error : new Error(String(error)));
    }
  }
}
