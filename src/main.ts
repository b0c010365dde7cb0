/** Reads the configuration, starts the database if it is ours, builds the app, and handles signals. */
import 'reflect-metadata';
import { env } from 'node:process';
import { pathToFileURL } from 'node:url';
import { NestFactory } from '@nestjs/core';
import type { INestApplication } from '@nestjs/common';
import type { NestExpressApplication } from '@nestjs/platform-express';
import { AppModule, DATABASE } from './app.module.js';
import { ApiServer } from './channels/api-server.js';
import { PhoenixSocketAdapter } from './channels/phoenix-socket-adapter.js';
import type { Config } from './config/config.js';
import { ConfigError } from './config/config-error.js';
import { readConfig } from './config/read-config.js';
import { FLOW_RECORDS, type FlowRecords } from './core/ports/flow-records.js';
import type { GeoIp } from './core/ports/geo-ip.js';
import type { Clock } from './core/support/clock.js';
import type { Logger } from './core/support/logger.js';
import { within } from './core/support/within.js';
import { checkServer } from './db/check-server.js';
import { markClean, openEpoch } from './db/epochs.js';
import { Housekeeping } from './db/housekeeping.js';
import { migrateToLatest } from './db/migrate.js';
import { type Database, openDatabase } from './db/open-database.js';
import { DrainState } from './drain-state.js';
import { EmbeddedPostgresError } from './embedded/embedded-postgres-error.js';
import { GeoIpError, openGeoIp } from './geoip/mmdb-geo-ip.js';
import { type EmbeddedPostgres, startEmbedded } from './embedded/start-embedded.js';
import { REPLICATION, type Replication } from './replication/replication.js';
import { AccountStoreRegistry } from './store/account-store-registry.js';
import { createLogger } from './system/logger.js';
import { SystemClock } from './system/system-clock.js';
import { SystemRandom } from './system/system-random.js';
import { SystemScheduler } from './system/system-scheduler.js';

type Environment = Readonly<Record<string, string | undefined>>;

/** A server that accepts peers. */
export interface RunningServer {
  /** `http://host:port` where peers connect. */
  readonly api: string;
  readonly ops: string;
  /** With the password only when the database is the embedded one. */
  readonly database: string;
  /** Drains and ends, the embedded database last (D40). Idempotent. */
  stop(): Promise<void>;
}

/** The database cannot serve us; `message` names each fault with the statement that fixes it. */
export class DatabaseUnfitError extends Error {}

/** The start was given up by a signal; everything begun has been undone. */
class StartAbandonedError extends Error {}

/**
 * Brings up everything and resolves when peers are accepted. Throws ConfigError, GeoIpError, EmbeddedPostgresError,
 * DatabaseUnfitError; nothing is left running then.
 */
export async function startServer(env: Environment, signal?: AbortSignal): Promise<RunningServer> {
  const config = readConfig(env);
  const log = createLogger({ level: config.logLevel, format: config.logFormat });
  for (const warning of config.warnings) log.warn('config.odd', { warning });
  const geoIp = config.geoIpDatabase === undefined ? undefined : openGeoIp(config.geoIpDatabase);
  const embedded = config.databaseUrl === undefined ? await startEmbedded({ dataDir: config.dataDir, log }) : undefined;
  try {
    return await startOn(config, config.databaseUrl ?? embedded?.url ?? '', embedded, geoIp, log, signal);
  } catch (error) {
    await embedded?.stop();
    throw error;
  }
}

async function startOn(
  config: Config,
  databaseUrl: string,
  embedded: EmbeddedPostgres | undefined,
  geoIp: GeoIp | undefined,
  log: Logger,
  signal: AbortSignal | undefined,
): Promise<RunningServer> {
  const clock = new SystemClock();
  const epoch = await prepareDatabase(config, databaseUrl, log);
  const runtime = {
    config,
    databaseUrl,
    epoch,
    clock,
    log,
    geoIp,
    random: new SystemRandom(),
    scheduler: new SystemScheduler(),
  };
  const app = await NestFactory.create<NestExpressApplication>(AppModule.with(runtime), {
    logger: false,
    abortOnError: false,
  });
  app.disable('x-powered-by');
  const api = app.get(ApiServer);
  const database = app.get<Database>(DATABASE);
  const replication = app.get<Replication>(REPLICATION);
  const housekeeping = new Housekeeping(database, config.changeLogRetentionDays, clock, log);
  app.useWebSocketAdapter(new PhoenixSocketAdapter(api));

  const stop = once(async () => {
    log.info('server.draining');
    app.get(DrainState).isDraining = true;
    api.beginDrain();
    housekeeping.stop();
    await replication.stop();
    const isRecorded = await inTime(
      'last rows',
      closeEpoch(app.get<FlowRecords>(FLOW_RECORDS), database, epoch, clock),
      clock,
      log,
    );
    await api.drain(config.drainSeconds * 1000);
    await app.close();
    if (isRecorded) await inTime('last deliveries', app.get<FlowRecords>(FLOW_RECORDS).flush(), clock, log);
    app.get(AccountStoreRegistry).close();
    await inTime('database connections', database.close(), clock, log);
    await embedded?.stop();
    log.info('server.stopped');
  });

  try {
    const ops = await listenOps(app, config);
    replication.start();
    await untilFresh(replication, clock, log, signal);
    housekeeping.start();
    const port = await api.listen(config.apiHost, config.apiPort);
    log.info('server.ready');
    return {
      api: `http://${bracketed(config.apiHost)}:${port}`,
      ops,
      database: embedded ? databaseUrl : masked(databaseUrl),
      stop,
    };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** A database that does not answer by then is not waited for. */
const GOODBYE_WITHIN_MS = 5000;

/** Marks the epoch clean once the last rows are written; else it stays unclean, as after a crash (D22). */
async function closeEpoch(flowRecords: FlowRecords, database: Database, epoch: bigint, clock: Clock): Promise<void> {
  await flowRecords.flush();
  await markClean(database, epoch, clock.now());
}

/** Never rejects; what fails or takes too long is logged and left behind. Whether it was done. */
async function inTime(what: string, task: Promise<void>, clock: Clock, log: Logger): Promise<boolean> {
  try {
    await within(clock, GOODBYE_WITHIN_MS, task);
    return true;
  } catch (error) {
    log.error('server.stop-incomplete', { what, error });
    return false;
  }
}

/** Migrated, fit, and with this start's epoch opened. */
async function prepareDatabase(config: Config, databaseUrl: string, log: Logger): Promise<bigint> {
  const database = openDatabase(databaseUrl, { max: 1 });
  try {
    const { publicationPrefix: prefix, replicationSlot: slot, replicationMode: mode } = config;
    const before = await checkServer(database, { prefix, slot, mode }).catch(mustHaveAnswered);
    refuseUnfit(before.filter((fault) => !MIGRATION_MENDS.has(fault.code)));
    const applied = await migrateToLatest(databaseUrl, { publicationPrefix: prefix, slot });
    if (applied.length > 0) log.info('database.migrated', { applied });
    refuseUnfit(await checkServer(database, { prefix, slot, mode }));
    return await openEpoch(database);
  } finally {
    await database.close();
  }
}

/** No server, no such database, a wrong password: the operator needs the reason, not where in our code it was met. */
function mustHaveAnswered(cause: unknown): never {
  const { message = '', code = '' } = cause instanceof Error ? (cause as NodeJS.ErrnoException) : {};
  throw new DatabaseUnfitError(`cannot use the database that DATABASE_URL names: ${message || code}`, { cause });
}

const MIGRATION_MENDS = new Set(['migrations', 'publication', 'replica-identity']);

function refuseUnfit(faults: Awaited<ReturnType<typeof checkServer>>): void {
  const errors = faults.filter((fault) => fault.severity === 'fault');
  if (errors.length === 0) return;
  const lines = errors.map(({ what, fix }) => `  - ${what}\n    fix: ${fix}`);
  throw new DatabaseUnfitError(`this database cannot serve Portcullis:\n${lines.join('\n')}`);
}

async function listenOps(app: INestApplication, config: Config): Promise<string> {
  await app.listen(config.opsPort, config.opsHost);
  const { port } = (app.getHttpServer() as { address(): { port: number } }).address();
  return `http://${bracketed(config.opsHost)}:${port}`;
}

/** Peers are accepted only once the stream is proven: before that nothing could be granted. */
async function untilFresh(
  replication: Replication,
  clock: SystemClock,
  log: Logger,
  signal: AbortSignal | undefined,
): Promise<void> {
  for (let waitedMs = 0; !replication.freshness.isFresh(); waitedMs += 10) {
    if (signal?.aborted) throw new StartAbandonedError('the start was given up');
    if (waitedMs > 0 && waitedMs % 5000 === 0) {
      log.warn('server.waiting-for-stream', { because: replication.freshness.staleBecause() });
    }
    await new Promise<void>((resume) => clock.after(10, resume));
  }
}

function bracketed(host: string): string {
  return host.includes(':') ? `[${host}]` : host;
}

function masked(url: string): string {
  const shown = new URL(url);
  if (shown.password !== '') shown.password = '***';
  // `pg` reads them from the query as well.
  for (const name of [...shown.searchParams.keys()]) if (/password/i.test(name)) shown.searchParams.set(name, '***');
  return shown.toString();
}

function once(task: () => Promise<void>): () => Promise<void> {
  let running: Promise<void> | undefined;
  return () => (running ??= task());
}

/** npm and the terminal each deliver Ctrl-C: two within this time are one (D40). */
const SAME_SIGNAL_MS = 1000;

/** The whole life of the process. Exit code 0 after a drain, 1 when it could not start. */
export async function runServer(env: Environment): Promise<void> {
  const clock = new SystemClock();
  const abandon = new AbortController();
  let firstSignalAt: number | undefined;
  let server: RunningServer | undefined;
  const onSignal = (): void => {
    const now = clock.now();
    if (firstSignalAt === undefined) {
      firstSignalAt = now;
      abandon.abort();
      if (server) void stopAndExit(server);
    } else if (now - firstSignalAt >= SAME_SIGNAL_MS) {
      process.exit(1); // the exit hook stops the embedded server
    }
  };
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, onSignal);

  try {
    server = await startServer(env, abandon.signal);
  } catch (error) {
    // A Ctrl-C that failed a child of ours may be waiting in the event loop behind that failure.
    await new Promise<void>((resume) => new SystemScheduler().nextTurn(resume));
    if (abandon.signal.aborted) process.exit(0);
    process.stderr.write(`portcullis: ${isExpected(error) ? error.message : describe(error)}\n`);
    process.exit(1);
  }
  if (abandon.signal.aborted) return stopAndExit(server);
  const { api, ops, database } = server;
  process.stdout.write(`${JSON.stringify({ event: 'ready', api, ops, database })}\n`);
}

/** Its message says all that an operator needs. */
function isExpected(error: unknown): error is Error {
  return [ConfigError, DatabaseUnfitError, EmbeddedPostgresError, GeoIpError].some((kind) => error instanceof kind);
}

async function stopAndExit(server: RunningServer): Promise<void> {
  try {
    await server.stop();
    process.exit(0);
  } catch (error) {
    process.stderr.write(`portcullis: ${describe(error)}\n`);
    process.exit(1);
  }
}

function describe(error: unknown): string {
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  await runServer(env);
}
