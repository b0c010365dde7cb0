/** A primary and its standby, of one test's own: what a failover needs. Nothing is flushed to disk. */
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { Client } from 'pg';
import { type EmbeddedPostgres, startEmbedded } from '../../src/embedded/start-embedded.js';
import { SILENT } from './store-under-test.js';
import { until } from './stream-under-test.js';

const STANDBY_SLOT = 'standby';
/** Folders whose content a copy must not have. Source: PostgreSQL documentation, "Backing Up the Data Directory". */
const LEFT_OUT = new Set([
  'pg_wal',
  'pg_replslot',
  'pg_dynshmem',
  'pg_notify',
  'pg_serial',
  'pg_snapshots',
  'pg_subtrans',
]);

export class PostgresPair {
  #standby: EmbeddedPostgres | undefined;

  private constructor(
    private readonly folder: string,
    readonly primary: EmbeddedPostgres,
    /** Resolves once it is promoted: until then it is not what is called ready. */
    private readonly starting: Promise<EmbeddedPostgres>,
    readonly standbyUrl: string,
  ) {}

  /** The standby streams and is as far as the primary. */
  static async start(): Promise<PostgresPair> {
    const folder = mkdtempSync(join(tmpdir(), 'portcullis-pair-'));
    const [first, second] = [join(folder, 'first'), join(folder, 'second')];
    const primary = await launch(first, { synchronized_standby_slots: STANDBY_SLOT });
    await backUp(primary.url, join(first, 'cluster'), join(second, 'cluster'));
    writeFileSync(join(second, 'cluster', 'standby.signal'), '');
    const standbyUrl = new URL(primary.url);
    standbyUrl.port = String(await freePort());
    writeFileSync(join(second, 'port'), standbyUrl.port);
    const { hostname, port, username } = new URL(primary.url);
    const starting = launch(second, {
      primary_conninfo: `host=${hostname} port=${port} user=${username} dbname=portcullis`,
      primary_slot_name: STANDBY_SLOT,
      hot_standby_feedback: 'on',
    });
    starting.catch(() => undefined); // it was ended before it was promoted
    const pair = new PostgresPair(folder, primary, starting, standbyUrl.href);
    await pair.caughtUp();
    return pair;
  }

  /** The standby has everything that is committed on the primary by now. */
  async caughtUp(): Promise<void> {
    const [row] = await ask(this.primary.url, 'SELECT pg_current_wal_flush_lsn()::text AS lsn');
    const reached = `SELECT coalesce(pg_last_wal_replay_lsn() >= '${String(row?.['lsn'])}', false) AS is_there`;
    await until(
      async () => (await ask(this.standbyUrl, reached).catch(() => []))[0]?.['is_there'] === true,
      'the standby',
    );
  }

  /** The standby has a copy of the slot with which it could go on. */
  async syncSlots(slot: string): Promise<void> {
    await until(async () => {
      await ask(this.standbyUrl, 'SELECT pg_sync_replication_slots()').catch(() => undefined);
      const ready = `SELECT FROM pg_replication_slots WHERE slot_name = '${slot}' AND synced AND NOT temporary`;
      return (await ask(this.standbyUrl, ready)).length === 1;
    }, 'the slot to be on the standby');
  }

  /** The primary crashes, and the standby takes over. */
  async failOver(): Promise<void> {
    this.primary.killSync('SIGQUIT');
    await this.primary.stop();
    await ask(this.standbyUrl, 'SELECT pg_promote()');
    this.#standby = await this.starting;
  }

  async remove(): Promise<void> {
    for (const server of [this.primary, this.#standby ?? (await this.#promoted())]) {
      server?.killSync('SIGQUIT');
      await server?.stop();
    }
    rmSync(this.folder, { recursive: true, force: true, maxRetries: 20, retryDelay: 25 });
  }

  /** So that it has a handle by which it can be ended. */
  async #promoted(): Promise<EmbeddedPostgres | undefined> {
    await ask(this.standbyUrl, 'SELECT pg_promote()').catch(() => undefined);
    return this.starting.catch(() => undefined);
  }
}

function launch(dataDir: string, settings: Readonly<Record<string, string>>): Promise<EmbeddedPostgres> {
  return startEmbedded({ dataDir, settings: { fsync: 'off', ...settings }, authentication: 'trust', log: SILENT });
}

/** A copy of a running server, from which a standby can start; the slot keeps what it needs to follow. */
async function backUp(url: string, from: string, to: string): Promise<void> {
  const sql = new Client({ connectionString: url });
  await sql.connect();
  try {
    await sql.query('SELECT pg_create_physical_replication_slot($1, true)', [STANDBY_SLOT]);
    await sql.query(`SELECT pg_backup_start('pair', fast => true)`);
    mkdirSync(dirname(to), { recursive: true, mode: 0o700 });
    cpSync(from, to, {
      recursive: true,
      filter: (path) => !basename(path).startsWith('postmaster.') && !LEFT_OUT.has(basename(dirname(path))),
    });
    const { rows } = await sql.query<{ labelfile: string }>('SELECT labelfile FROM pg_backup_stop(false)');
    writeFileSync(join(to, 'backup_label'), rows[0]?.labelfile ?? '');
  } finally {
    await sql.end();
  }
}

async function ask(url: string, statement: string): Promise<readonly Record<string, unknown>[]> {
  const sql = new Client({ connectionString: url });
  sql.on('error', () => undefined);
  await sql.connect();
  try {
    return (await sql.query<Record<string, unknown>>(statement)).rows;
  } finally {
    await sql.end();
  }
}

async function freePort(): Promise<number> {
  const probe = createServer().listen(0, '127.0.0.1');
  await once(probe, 'listening');
  const { port } = probe.address() as AddressInfo;
  probe.close();
  await once(probe, 'close');
  return port;
}
