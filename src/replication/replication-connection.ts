/** One connection in replication mode: SQL before streaming, then frames in and status updates out. */
import { Client, type CustomTypesConfig } from 'pg';
import type { Position } from '../core/model/position.js';
import type { RawRow } from '../core/changes/commit.js';
import type { EpochMs } from '../core/model/time.js';
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

const AS_PRINTED = { getTypeParser: () => (value: string) => value } as unknown as CustomTypesConfig;

const CONNECT_TIMEOUT_MS = 10_000;
/** Lets the system find a connection whose other end vanished without a word; our own watchdog is quicker. */
const KEEP_ALIVE_AFTER_MS = 10_000;

/**
 * Rows must read as those of a hydration do, so what decides about their printing is fixed here. As statements, not as
 * start-up options: those a `?options=` in the URL would replace. No limit may end a stream that is only quiet.
 */
const SESSION = `SET DateStyle = 'ISO, MDY'; SET TimeZone = 'UTC'; SET IntervalStyle = 'postgres';
  SET bytea_output = 'hex'; SET extra_float_digits = 1; SET client_encoding = 'UTF8';
  SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0; SET lock_timeout = 0`;

/**
 * States: open (SQL may be asked, one statement at a time) → streaming → ended. Ended holds from the first error on,
 * ours or the server's; nothing is heard afterwards.
 */
export class ReplicationConnection {
  readonly #client: Client;
  readonly #wire: CopyBoth;
  #listener: FrameListener | undefined;
  #failure: Error | undefined;
  readonly #closed: Promise<void>;

  /** Nothing is sent before `connect`. */
  constructor(databaseUrl: string, applicationName: string) {
    const config = {
      connectionString: databaseUrl,
      replication: 'database',
      application_name: applicationName,
      connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
      keepAlive: true,
      keepAliveInitialDelayMillis: KEEP_ALIVE_AFTER_MS,
      types: AS_PRINTED,
    };
    this.#client = new Client(config);
    this.#wire = this.#client.connection as unknown as CopyBoth;
    this.#client.on('error', (error) => {
      this.#failure ??= error;
    });
    this.#closed = new Promise((resolve) => this.#client.once('end', resolve));
    this.#wire.on('copyData', ({ chunk }) => {
      this.#take(chunk);
    });
  }

  /** Rejects when the server cannot be reached, refuses a replication connection, or `destroy` is called meanwhile. */
  async connect(): Promise<void> {
    await this.#client.connect();
    await this.#client.query(SESSION);
  }

  /** One statement, SQL or replication command, without parameters: replication mode has the simple protocol only. */
  async ask(statement: string): Promise<readonly RawRow[]> {
    const { rows } = await this.#client.query<RawRow>(statement);
    return rows;
  }

  /**
   * Streams until the connection ends; then rejects with the reason: the server's error, the socket's, what the listener
   * threw, or what `destroy` was given. Resolves when the server ended it in good order.
   */
  async stream(startCommand: string, listener: FrameListener, onStarted: () => void): Promise<void> {
    this.#listener = listener;
    this.#wire.once('replicationStart', onStarted);
    try {
      await this.#client.query(startCommand);
    } catch (error) {
      throw this.#failure ?? error;
    } finally {
      this.#listener = undefined;
    }
  }

  sendStatus(update: StatusUpdate, now: EpochMs): void {
    this.#wire.sendCopyFromChunk(writeStatusUpdate(update, now));
  }

  /** The server goes on until its buffers are full, then waits; status updates still reach it. */
  pause(): void {
    this.#client.connection.stream.pause();
  }

  resume(): void {
    this.#client.connection.stream.resume();
  }

  /** Nothing more is heard; status updates can still be sent. */
  deafen(): void {
    this.#listener = undefined;
  }

  /** Says goodbye after what was sent, so that the server has read the last status and freed the slot when this resolves. */
  async close(limit: Promise<void>): Promise<void> {
    this.deafen();
    this.resume(); // an unread socket never sees the server's end
    this.#client.connection.end(); // the client's own `end` would cut a connection that streams, with what is unsent
    await Promise.race([this.#closed, limit]);
    this.destroy();
  }

  destroy(reason?: Error): void {
    this.deafen();
    this.#failure ??= reason;
    this.#client.connection.stream.destroy();
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
