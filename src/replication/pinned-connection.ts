/** One connection of our own, from its start to its end: SQL, pause and resume, and why it ended. */
import { Client, type ClientConfig, type CustomTypesConfig } from 'pg';
import type { RawRow } from '../core/changes/commit.js';

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

/** States: open (one statement at a time) → ended, from the first error on, ours or the server's. */
export class PinnedConnection {
  protected readonly client: Client;
  #failure: Error | undefined;
  readonly #closed: Promise<void>;

  /** Nothing is sent before `connect`. */
  constructor(databaseUrl: string, applicationName: string, options: ClientConfig & { replication?: 'database' } = {}) {
    this.client = new Client({
      connectionString: databaseUrl,
      application_name: applicationName,
      connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
      keepAlive: true,
      keepAliveInitialDelayMillis: KEEP_ALIVE_AFTER_MS,
      types: AS_PRINTED,
      ...options,
    });
    this.client.on('error', (error) => {
      this.#failure ??= error;
    });
    this.#closed = new Promise((resolve) => this.client.once('end', resolve));
  }

  /** Why it ended, when that was not the answer to a statement. */
  get failure(): Error | undefined {
    return this.#failure;
  }

  /** Rejects when the server cannot be reached or refuses us, or `destroy` is called meanwhile. */
  async connect(): Promise<void> {
    await this.client.connect();
    await this.client.query(SESSION);
  }

  /** One statement without parameters: replication mode has the simple protocol only. */
  async ask(statement: string): Promise<readonly RawRow[]> {
    if (this.#failure) throw this.#failure;
    const { rows } = await this.client.query<RawRow>(statement);
    return rows;
  }

  /** The server goes on until its buffers are full, then waits; what we send still reaches it. */
  pause(): void {
    this.client.connection.stream.pause();
  }

  resume(): void {
    this.client.connection.stream.resume();
  }

  /** Says goodbye after what was sent, so that the server has read it and freed what we held when this resolves. */
  async close(limit: Promise<void>): Promise<void> {
    this.resume(); // an unread socket never sees the server's end
    this.client.connection.end(); // the client's own `end` would cut a connection that streams, with what is unsent
    await Promise.race([this.#closed, limit]);
    this.destroy();
  }

  destroy(reason?: Error): void {
    this.#failure ??= reason;
    this.client.connection.stream.destroy();
  }
}
