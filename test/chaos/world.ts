/**
 * Everything a campaign is made of: the database, the product as a process of its own between two bad lines, the peers, the
 * writers and the witness; and the hands by which a fault is done to them.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Client } from 'pg';
import { formatPosition, parsePosition } from '../../src/core/model/position.js';
import { migrateToLatest } from '../../src/db/migrate.js';
import { type Exit, LaunchedServer } from '../support/launched-server.js';
import type { SeededRandom } from '../support/seeded-random.js';
import { TcpProxy } from '../support/tcp-proxy.js';
import type { Settings } from '../support/test-server.js';
import type { AckSample } from './checkers.js';
import { ChaosAccount } from './chaos-account.js';
import { ChaosPeer, type PeerNotes } from './chaos-peer.js';
import { ChaosPostgres } from './chaos-postgres.js';
import { pause, within } from './pause.js';
import { Witness } from './witness.js';
import { Workload } from './workload.js';

const CLOCK = new URL('../support/clock-skew.mjs', import.meta.url);
const FAILPOINTS = new URL('../support/failpoints.mjs', import.meta.url);

export const SLOT = 'chaos_product';
export const PUBLICATION_PREFIX = 'portcullis';

/** Short, so that what takes a minute in earnest happens several times in a campaign. */
export const STALE_AFTER_MS = 5_000;
/** Above it a commit is not held in memory. Low, so that a small one is a huge one here. */
export const MAX_TX_CHANGES = 1_000;
const SETTINGS: Settings = {
  API_PORT: '0',
  OPS_PORT: '0',
  REPLICATION_SLOT: SLOT,
  PUBLICATION_PREFIX,
  DATABASE_POOL_SIZE: '5',
  HEARTBEAT_INTERVAL_MS: '1000',
  STALE_AFTER_MS: String(STALE_AFTER_MS),
  STORE_IDLE_TTL_MS: '2000',
  CLIENT_IDLE_MS: '8000',
  GATEWAY_IDLE_MS: '8000',
  RELAYS_REQUIRED: 'false',
  CONNECT_BURST: '10000',
  MAX_BACK_OFF_SECONDS: '1',
  DRAIN_SECONDS: '1',
  MAX_TX_CHANGES: String(MAX_TX_CHANGES),
  LOG_LEVEL: 'warn',
  LOG_FORMAT: 'json',
};
const ACCOUNTS = 4;
const SAMPLE_EVERY_MS = 1_000;
/** Slower than this nothing starts, however busy the machine. */
const READY_WITHIN_MS = 60_000;

export interface WorldOptions {
  readonly random: SeededRandom;
  readonly writers: number;
  readonly writeEveryMs: number;
  readonly askEveryMs: number;
}

export class World {
  readonly notes: PeerNotes = {
    frames: 0,
    pings: 0,
    joins: 0,
    grantedAt: [],
    endings: new Map(),
    unreadable: [],
    tainted: [],
  };
  readonly ackSamples: AckSample[] = [];
  /** The product's log, of all its processes. */
  readonly log: string[] = [];
  /** Spans in which the harness itself did not turn: what it saw then it saw late. */
  readonly stalls: { readonly from: number; readonly to: number }[] = [];
  /** How often the product was killed, or made to throw, at which point of its code. */
  readonly failpoints: Record<string, number> = {};
  unexpectedExits = 0;
  witnessLost: Error | undefined;
  /** Acknowledged commits count from here on: those before the slot was made are on nobody's record. Undefined: not now. */
  #ackAfter: bigint | undefined;
  readonly accounts: readonly ChaosAccount[];
  readonly peers: readonly ChaosPeer[];
  readonly workload: Workload;
  #process: LaunchedServer | undefined;
  #ports = { api: 0, ops: 0 };
  #isExpectedToRun = false;
  readonly #clockFile: string;
  readonly #failpointFile: string;
  #isOpen = true;
  #background: Promise<unknown> = Promise.resolve();

  private constructor(
    readonly postgres: ChaosPostgres,
    readonly witness: Witness,
    readonly toDatabase: TcpProxy,
    readonly toProduct: TcpProxy,
    readonly random: SeededRandom,
    options: WorldOptions,
    accounts: readonly ChaosAccount[],
  ) {
    this.accounts = accounts;
    this.#clockFile = join(postgres.dataDir, 'clock-of-the-product');
    this.#failpointFile = join(postgres.dataDir, 'failpoint-of-the-product');
    const { notes } = this;
    const wsUrl = `ws://127.0.0.1:${toProduct.port}`;
    this.peers = accounts
      .flatMap(({ devices }) => devices)
      .map((device) => {
        const own = random.fork(device.externalId);
        return new ChaosPeer({ wsUrl, device, notes, random: own, askEveryMs: options.askEveryMs });
      });
    this.workload = new Workload({
      ...{ postgres, accounts, writers: options.writers, everyMs: options.writeEveryMs },
      random: random.fork('workload'),
    });
  }

  /** Everybody is there, and nothing has happened yet. */
  static async open(options: WorldOptions): Promise<World> {
    const postgres = await ChaosPostgres.start();
    await migrateToLatest(postgres.url);
    const sql = await postgres.connect();
    const witness = await Witness.begin(sql);
    const accounts = Array.from({ length: ACCOUNTS }, (_, index) => new ChaosAccount(index + 1));
    const toDatabase = await TcpProxy.listen(() => postgres.port);
    let world: World | undefined = undefined as World | undefined;
    const toProduct = await TcpProxy.listen(() => world?.apiPort ?? 0);
    world = new World(postgres, witness, toDatabase, toProduct, options.random, options, accounts);
    for (const account of accounts) await sql.query(account.seed(world.workload.serial).join(';\n'));
    await sql.end();
    await world.startProduct();
    for (const peer of world.peers) peer.start();
    if (!(await world.everybodyIsBack(READY_WITHIN_MS)))
      throw new Error(`not everybody could join:\n${world.log.join('\n')}`);
    await world.slotIsWhole();
    world.#background = Promise.all([world.#sample(), world.#watchOwnLoop()]);
    return world;
  }

  get apiPort(): number {
    return this.#ports.api;
  }

  get opsUrl(): string {
    return `http://127.0.0.1:${this.#ports.ops}`;
  }

  get process(): LaunchedServer {
    if (!this.#process) throw new Error('the product does not run');
    return this.#process;
  }

  // ---- the product ------------------------------------------------------------------------------------------------

  /** Resolves when it accepts peers. */
  async startProduct(settings: Settings = {}): Promise<void> {
    const url = new URL(this.postgres.url);
    url.port = String(this.toDatabase.port);
    const hands = {
      NODE_OPTIONS: `--import=${CLOCK.href} --import=${FAILPOINTS.href}`,
      PORTCULLIS_TEST_CLOCK: this.#clockFile,
      PORTCULLIS_TEST_FAILPOINT: this.#failpointFile,
    };
    const process = LaunchedServer.start({ ...SETTINGS, ...hands, DATABASE_URL: url.href, ...settings });
    this.#process = process;
    this.#isExpectedToRun = true;
    const { api, ops } = await process.ready();
    this.#ports = { api: Number(new URL(api).port), ops: Number(new URL(ops).port) };
    void process.end().then(() => {
      this.log.push(...process.stderr.split('\n').filter((line) => line !== ''));
      if (this.#isExpectedToRun && this.#process === process && this.#isOpen) this.unexpectedExits += 1;
    });
  }

  async killProduct(): Promise<void> {
    this.#isExpectedToRun = false;
    await this.process.kill();
    await this.sampleAck();
  }

  /** Kills it when it comes to the point of its code the n-th time. False: it did not, and was killed all the same. */
  async killProductAt(point: string, n: number, limitMs: number): Promise<boolean> {
    this.#isExpectedToRun = false;
    this.#arm(`kill ${point} ${n}`);
    const isDone = await within(limitMs, () => this.process.hasEnded);
    await this.killProduct();
    if (isDone) this.#cameTo(`kill ${point}`);
    return isDone;
  }

  /** Has it throw there. False: it did not come there. */
  async throwInProductAt(point: string, n: number, limitMs: number): Promise<boolean> {
    this.#arm(`throw ${point} ${n}`);
    const isDone = await within(limitMs, () => readFileSync(this.#failpointFile, 'utf8') === 'done');
    if (isDone) this.#cameTo(`throw ${point}`);
    else this.#arm('');
    return isDone;
  }

  #cameTo(failpoint: string): void {
    this.failpoints[failpoint] = (this.failpoints[failpoint] ?? 0) + 1;
  }

  #arm(failpoint: string): void {
    writeFileSync(this.#failpointFile, failpoint);
    this.process.signal('SIGUSR2');
  }

  /** As an operator stops it. */
  async stopProduct(): Promise<Exit> {
    this.#isExpectedToRun = false;
    this.process.signal('SIGTERM');
    return this.process.end();
  }

  /** Sets the product's clock, and nobody else's; 0 sets it right. */
  setClock(wrongByMs: number): void {
    writeFileSync(this.#clockFile, String(wrongByMs));
    this.process.signal('SIGUSR2');
  }

  signal(signal: NodeJS.Signals): void {
    this.process.signal(signal);
  }

  /** It ended by itself, as it may when a fault says so, and is started again as a supervisor would. */
  async mustRun(): Promise<void> {
    if (this.process.hasEnded) await this.startProduct();
  }

  async isReady(): Promise<boolean> {
    return this.#ask('/readyz');
  }

  // ---- what is so -------------------------------------------------------------------------------------------------

  /** Since the call everybody was seen connected once, or was unwelcome: all at once they never are while tokens come and go. */
  async everybodyIsBack(limitMs: number): Promise<boolean> {
    const missing = new Set(this.peers);
    return within(limitMs, async () => {
      const welcome = await this.#welcomeTokens();
      if (!welcome) return false;
      for (const peer of missing) if (peer.isJoined || !welcome.has(peer.device.tokenId)) missing.delete(peer);
      return missing.size === 0;
    });
  }

  /** All that was committed so far is applied by every channel. */
  async isApplied(limitMs: number): Promise<boolean> {
    return (
      (await this.withSql(async (sql) => {
        const { rows } = await sql.query<{ lsn: string }>('SELECT pg_current_wal_insert_lsn()::text AS lsn');
        await sql.query(`SELECT pg_logical_emit_message(true, 'passes', 'the position above')`);
        return within(limitMs, () => this.#ask(`/readyz?applied=${rows[0]?.lsn}`));
      })) ?? false
    );
  }

  /** With a connection past the bad line. Undefined: there is no database. */
  async withSql<Result>(work: (sql: Client) => Promise<Result>): Promise<Result | undefined> {
    const sql = await this.postgres.connect().catch(() => undefined);
    if (!sql) return undefined;
    try {
      return await work(sql);
    } finally {
      await sql.end().catch(() => undefined);
    }
  }

  /** How far it has acknowledged, and what is on record up to there: in that order. */
  async sampleAck(): Promise<void> {
    const at = performance.now();
    const after = this.#ackAfter;
    if (after === undefined) return;
    await this.withSql(async (sql) => {
      const confirmed = await confirmedPosition(sql);
      if (confirmed === undefined) return;
      const { rows } = await sql.query<{ count: string }>(
        'SELECT count(DISTINCT position) FROM change_log WHERE position <= $1::pg_lsn AND position > $2::pg_lsn',
        [formatPosition(confirmed), formatPosition(after)],
      );
      this.ackSamples.push({ at, confirmed, recorded: Number(rows[0]?.count), after });
    }).catch(() => undefined); // the database went away meanwhile
  }

  /** The slot is about to be lost: what it had not brought is on no record. */
  slotIsForfeit(): void {
    this.#ackAfter = undefined;
  }

  /** There is a slot that has everything from here on. */
  async slotIsWhole(): Promise<void> {
    this.#ackAfter = await this.withSql(async (sql) => {
      const { rows } = await sql.query<{ lsn: string }>('SELECT pg_current_wal_insert_lsn()::text AS lsn');
      return parsePosition(rows[0]?.lsn ?? '');
    });
  }

  /** Everybody leaves, the product ends, and the witness has seen all there will ever be. */
  async quiet(): Promise<void> {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    for (const peer of this.peers) peer.stop();
    await this.#background;
    if (this.#process && !this.#process.hasEnded) await this.killProduct();
    await this.withSql((sql) => this.witness.read(sql));
  }

  async close(): Promise<void> {
    await this.quiet().catch(() => undefined); // after a failure the database may be gone
    await this.toDatabase.close();
    await this.toProduct.close();
    await this.postgres.remove();
  }

  async #sample(): Promise<void> {
    while (this.#isOpen) {
      await pause(SAMPLE_EVERY_MS);
      await this.sampleAck();
      await this.withSql((sql) => this.witness.read(sql)).catch((error: unknown) => {
        // A database that is away is what happens here; a witness that cannot go on is the end of the campaign.
        if ((error as { code?: string }).code === '55000') this.witnessLost = error as Error;
      });
    }
  }

  /** Says when this process was away: a frame that came then looks late and was not. */
  async #watchOwnLoop(): Promise<void> {
    while (this.#isOpen) {
      const from = performance.now();
      await pause(OWN_LOOP_EVERY_MS);
      const to = performance.now();
      if (to - from > OWN_LOOP_EVERY_MS + LONG_STALL_MS) this.stalls.push({ from, to });
    }
  }

  async #welcomeTokens(): Promise<Set<string> | undefined> {
    return this.withSql(async (sql) => {
      const { rows } = await sql.query<{ id: string }>(WELCOME);
      return new Set(rows.map(({ id }) => id));
    }).catch(() => undefined);
  }

  async #ask(path: string): Promise<boolean> {
    try {
      return (await fetch(`${this.opsUrl}${path}`, { signal: AbortSignal.timeout(1_000) })).ok;
    } catch {
      return false;
    }
  }
}

const OWN_LOOP_EVERY_MS = 20;
const LONG_STALL_MS = 100;

/** Tokens with which one may connect. */
const WELCOME = `
  SELECT tokens.id FROM tokens JOIN accounts ON accounts.id = tokens.account_id
    LEFT JOIN actors ON actors.account_id = tokens.account_id AND actors.id = actor_id
    LEFT JOIN identities ON identities.account_id = tokens.account_id AND identities.id = identity_id
    LEFT JOIN auth_providers ON auth_providers.account_id = tokens.account_id AND auth_providers.id = provider_id
  WHERE accounts.disabled_at IS NULL AND actors.disabled_at IS NULL AND auth_providers.disabled_at IS NULL
    AND (tokens.expires_at IS NULL OR tokens.expires_at > now())`;

async function confirmedPosition(sql: Client): Promise<bigint | undefined> {
  const { rows } = await sql.query<{ lsn: string | null }>(
    'SELECT confirmed_flush_lsn::text AS lsn FROM pg_replication_slots WHERE slot_name = $1',
    [SLOT],
  );
  return rows[0]?.lsn == null ? undefined : parsePosition(rows[0].lsn);
}
