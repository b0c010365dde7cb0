/** The campaign's PostgreSQL: a server of its own that is stopped, killed and started again on the same port. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Client } from 'pg';
import { type EmbeddedPostgres, startEmbedded } from '../../src/embedded/start-embedded.js';
import { SILENT } from '../support/store-under-test.js';

/**
 * Commits are synchronous, so that what was confirmed survives `immediate`; nothing is flushed to the disk, which only a crash
 * of the machine would tell.
 */
const SETTINGS = {
  fsync: 'off',
  synchronous_commit: 'on',
  full_page_writes: 'off',
  max_connections: '60',
  max_prepared_transactions: '10',
  autovacuum_naptime: '10s',
};

export class ChaosPostgres {
  #server: EmbeddedPostgres;

  private constructor(
    /** For whatever else shall be gone with it. */
    readonly dataDir: string,
    server: EmbeddedPostgres,
  ) {
    this.#server = server;
  }

  static async start(): Promise<ChaosPostgres> {
    const dataDir = mkdtempSync(join(tmpdir(), 'portcullis-chaos-'));
    return new ChaosPostgres(dataDir, await launch(dataDir));
  }

  get url(): string {
    return this.#server.url;
  }

  get port(): number {
    return Number(new URL(this.url).port);
  }

  /**
   * `fast` ends every session in order; `immediate` is a crash, with recovery at the start. False: a fast shutdown did not
   * end within 10 s, and was made an immediate one.
   */
  async restart(mode: 'fast' | 'immediate', settings: Readonly<Record<string, string>> = {}): Promise<boolean> {
    const before = this.#immediateShutdowns();
    this.#server.killSync(mode === 'fast' ? 'SIGINT' : 'SIGQUIT');
    await this.#server.stop();
    const wasInOrder = mode === 'immediate' || this.#immediateShutdowns() === before;
    this.#server = await launch(this.dataDir, settings);
    return wasInOrder;
  }

  /** A connection past every proxy, for what the harness does itself. Its loss is an error of the next query only. */
  async connect(): Promise<Client> {
    const client = new Client({ connectionString: this.url, connectionTimeoutMillis: 5_000 });
    client.on('error', () => undefined);
    await client.connect();
    return client;
  }

  async remove(): Promise<void> {
    this.#server.killSync('SIGQUIT');
    await this.#server.stop();
    rmSync(this.dataDir, { recursive: true, force: true, maxRetries: 20, retryDelay: 25 });
  }

  #immediateShutdowns(): number {
    const log = readFileSync(join(this.dataDir, 'postgres.log'), 'utf8');
    return log.split('received immediate shutdown request').length;
  }
}

function launch(dataDir: string, settings: Readonly<Record<string, string>> = {}): Promise<EmbeddedPostgres> {
  return startEmbedded({ dataDir, settings: { ...SETTINGS, ...settings }, authentication: 'trust', log: SILENT });
}
