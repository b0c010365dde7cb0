/**
 * The life of the PostgreSQL server that comes with the product (decisions D42). Used only when DATABASE_URL is unset.
 *
 * The server is a detached process of its own, so that a terminal's Ctrl-C reaches us alone and we stop it last. What
 * decides who runs it are PostgreSQL's own files, never a lock of ours: two servers on one cluster are impossible, so of two
 * processes that start at once one wins and the other finds the winner's server and uses it.
 *
 * In the data folder: `cluster` (PostgreSQL's), `port` (tried first at the next start), `owner` (pid of the server,
 * pid of the process that stops it), `postgres.log`.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import * as fs from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import type { Clock } from '../core/support/clock.js';
import type { Logger } from '../core/support/logger.js';
import { SystemClock } from '../system/system-clock.js';
import { mustFindBinaries } from './binaries.js';
import { EmbeddedPostgresError } from './embedded-postgres-error.js';
import { DATABASE, makeCluster, OWNER, PASSWORD_FILE, SERVER_ENVIRONMENT } from './new-cluster.js';
import { clearRecycledPidFile, isAlive, isPostmasterOf, livePostmaster, type Postmaster } from './postmaster.js';
import { chooseServerUser, type ServerUser } from './server-user.js';

export interface EmbeddedOptions {
  /** Made when missing. */
  readonly dataDir: string;
  /** Server settings on top of ours, by PostgreSQL's names; not remembered for the next start. */
  readonly settings?: Readonly<Record<string, string>>;
  readonly log: Logger;
  /** How a new cluster admits loopback connections. `trust` is for data that is thrown away. Default `scram-sha-256`. */
  readonly authentication?: 'scram-sha-256' | 'trust';
  readonly clock?: Clock;
}

export interface EmbeddedPostgres {
  /** Carries the password. */
  readonly url: string;
  readonly pid: number;
  /** True when a live server was found and nothing was started. */
  readonly wasRunning: boolean;
  /**
   * Resolves when the server has ended: at once by fast shutdown, after 10 s by immediate shutdown. Does nothing when
   * another live process owns the server. One whose owner was killed is adopted: its new user stops it.
   */
  stop(): Promise<void>;
  /** Asks the server to end and does not wait; for `exit` hooks, where one is installed already. SIGINT is fast shutdown. */
  killSync(signal?: 'SIGINT' | 'SIGQUIT'): void;
}

/** Resolves when the server accepts connections. Throws EmbeddedPostgresError. */
export async function startEmbedded(options: EmbeddedOptions): Promise<EmbeddedPostgres> {
  const clock = options.clock ?? new SystemClock();
  const folder = mustMakeFolder(options.dataDir);
  let user: ServerUser | undefined;
  for (let attempt = 1; ; attempt++) {
    const running = await settledPostmaster(folder.cluster, clock);
    if (running) return useRunning(folder, running, clock, options.log);

    user ??= chooseServerUser(mustFindBinaries(), folder.path);
    if (!fs.existsSync(folder.cluster)) await makeCluster(clusterPlan(folder, user, options));
    user.mustOwn(folder.cluster);
    const started = await launch(folder, user, options, clock);
    if (started) return started;
    // The port was taken in between, or another process was faster; the next round tells which.
    if (attempt === MAX_STARTS && !livePostmaster(folder.cluster)) throw startError(folder);
  }
}

/** The server of a data folder when one is ready now; never starts or adopts one. For commands beside a running server. */
export function findRunningEmbedded(dataDir: string): { readonly url: string } | undefined {
  if (!fs.existsSync(join(dataDir, 'cluster'))) return undefined;
  const folder = folderAt(fs.realpathSync(dataDir));
  const postmaster = livePostmaster(folder.cluster);
  return postmaster?.isReady ? { url: urlOf(folder, postmaster) } : undefined;
}

interface Folder {
  readonly path: string;
  readonly cluster: string;
  readonly port: string;
  readonly owner: string;
  readonly log: string;
}

const POLL_MS = 10;
const MAX_STARTS = 3;
/** Longer: a stuck session holds up our exit. Shorter: a busy server is cut off and recovers at its next start. */
const FAST_SHUTDOWN_MS = 10_000;
const MAX_LOG_BYTES = 16 * 1024 * 1024;

const SETTINGS: Readonly<Record<string, string>> = {
  listen_addresses: '127.0.0.1',
  unix_socket_directories: '',
  wal_level: 'logical',
  max_wal_senders: '10',
  max_replication_slots: '10',
  // A slot nobody reads is given up before it fills the disk; we then resync (decisions D10, D14).
  max_slot_wal_keep_size: '4GB',
};

function mustMakeFolder(dataDir: string): Folder {
  try {
    fs.mkdirSync(dataDir, { recursive: true, mode: 0o700 });
    return folderAt(fs.realpathSync(dataDir));
  } catch (cause) {
    throw new EmbeddedPostgresError(`cannot make the data folder ${dataDir}`, { cause });
  }
}

function folderAt(path: string): Folder {
  return {
    path,
    cluster: join(path, 'cluster'),
    port: join(path, 'port'),
    owner: join(path, 'owner'),
    log: join(path, 'postgres.log'),
  };
}

function clusterPlan(folder: Folder, user: ServerUser, options: EmbeddedOptions): Parameters<typeof makeCluster>[0] {
  return {
    cluster: folder.cluster,
    user,
    authentication: options.authentication ?? 'scram-sha-256',
    isDurable: options.settings?.['fsync'] !== 'off',
  };
}

/** Waits while a server starts or stops, as long as it lives: recovery after a crash takes what it takes. */
async function settledPostmaster(cluster: string, clock: Clock): Promise<Postmaster | undefined> {
  for (;;) {
    const postmaster = livePostmaster(cluster);
    if (!postmaster || postmaster.isReady) return postmaster;
    await pause(clock);
  }
}

function useRunning(folder: Folder, postmaster: Postmaster, clock: Clock, log: Logger): EmbeddedPostgres {
  const isOwned = isOrphan(folder, postmaster.pid);
  if (isOwned) writeOwner(folder, postmaster.pid);
  log.info('embedded.reused', { pid: postmaster.pid, port: postmaster.port, adopted: isOwned });
  return handleOf(folder, postmaster, { clock, wasRunning: true, isOwned });
}

/** A server whose owner is not written down yet has just been started by somebody else: it is no orphan. */
function isOrphan(folder: Folder, postmasterPid: number): boolean {
  if (!fs.existsSync(folder.owner)) return false;
  const [server, owner] = fs.readFileSync(folder.owner, 'utf8').split(' ').map(Number);
  return server === postmasterPid && owner !== undefined && !isAlive(owner);
}

function writeOwner(folder: Folder, postmasterPid: number): void {
  fs.writeFileSync(folder.owner, `${postmasterPid} ${process.pid}\n`);
}

/** Undefined when the server ended before it was ready. */
async function launch(
  folder: Folder,
  user: ServerUser,
  options: EmbeddedOptions,
  clock: Clock,
): Promise<EmbeddedPostgres | undefined> {
  clearRecycledPidFile(folder.cluster);
  const startedAt = clock.now();
  const child = spawnServer(folder, user, { ...SETTINGS, ...options.settings, port: String(await freePort(folder)) });
  const kill = (): void => void child.kill('SIGINT');
  process.once('exit', kill);
  try {
    const postmaster = await readyPostmaster(folder.cluster, child, clock);
    if (!postmaster) return undefined;
    fs.writeFileSync(folder.port, `${postmaster.port}\n`);
    writeOwner(folder, postmaster.pid);
    const { pid, port } = postmaster;
    options.log.info('embedded.started', { pid, port, runsAs: user.kind, startMs: clock.now() - startedAt });
    return handleOf(folder, postmaster, { clock, wasRunning: false, isOwned: true });
  } finally {
    process.removeListener('exit', kill);
  }
}

function spawnServer(folder: Folder, user: ServerUser, settings: Readonly<Record<string, string>>): ChildProcess {
  if (fs.existsSync(folder.log) && fs.statSync(folder.log).size > MAX_LOG_BYTES)
    fs.renameSync(folder.log, `${folder.log}.1`);
  const log = fs.openSync(folder.log, 'a', 0o600);
  try {
    const given = Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`]);
    const { file, args, identity } = user.command('postgres', ['-D', folder.cluster, ...given]);
    const stdio = ['ignore' as const, log, log];
    const child = spawn(file, args, { ...identity, cwd: '/', env: SERVER_ENVIRONMENT, detached: true, stdio });
    child.once('error', () => undefined); // then it has no pid, which `readyPostmaster` reads as ended
    child.unref();
    return child;
  } finally {
    fs.closeSync(log);
  }
}

async function readyPostmaster(cluster: string, child: ChildProcess, clock: Clock): Promise<Postmaster | undefined> {
  while (child.pid !== undefined && child.exitCode === null && child.signalCode === null) {
    const postmaster = livePostmaster(cluster);
    if (postmaster?.pid === child.pid && postmaster.isReady) return postmaster;
    await pause(clock);
  }
  return undefined;
}

function handleOf(
  folder: Folder,
  postmaster: Postmaster,
  how: { readonly clock: Clock; readonly wasRunning: boolean; readonly isOwned: boolean },
): EmbeddedPostgres {
  const { pid } = postmaster;
  const killSync = (signal: 'SIGINT' | 'SIGQUIT' = 'SIGINT'): void => {
    if (!how.isOwned || !isPostmasterOf(folder.cluster, pid)) return;
    try {
      process.kill(pid, signal);
    } catch {
      // it ended in between
    }
  };
  const killAtExit = (): void => killSync();
  if (how.isOwned) process.once('exit', killAtExit);
  let stopping: Promise<void> | undefined;
  return {
    url: urlOf(folder, postmaster),
    pid,
    wasRunning: how.wasRunning,
    stop: () => (stopping ??= stop()),
    killSync,
  };

  async function stop(): Promise<void> {
    if (!how.isOwned) return;
    killSync('SIGINT');
    const patienceEndsAt = how.clock.now() + FAST_SHUTDOWN_MS;
    let isPatient = true;
    while (isPostmasterOf(folder.cluster, pid)) {
      if (isPatient && how.clock.now() >= patienceEndsAt) {
        isPatient = false;
        killSync('SIGQUIT');
      }
      await pause(how.clock);
    }
    process.removeListener('exit', killAtExit);
  }
}

/** The port of the last time if it is free, so that a URL noted somewhere stays right; else one the system picks. */
async function freePort(folder: Folder): Promise<number> {
  return (await tryPort(readNumber(folder.port) ?? 0)) ?? (await tryPort(0)) ?? 0;
}

function tryPort(port: number): Promise<number | undefined> {
  return new Promise((resolve) => {
    const probe = createServer();
    probe.once('error', () => resolve(undefined));
    probe.listen({ port, host: '127.0.0.1' }, () => {
      const address = probe.address();
      probe.close(() => resolve(typeof address === 'object' ? address?.port : undefined));
    });
  });
}

function urlOf(folder: Folder, postmaster: Postmaster): string {
  const password = fs.readFileSync(join(folder.cluster, PASSWORD_FILE), 'utf8').trim();
  return `postgres://${OWNER}:${password}@127.0.0.1:${postmaster.port}/${DATABASE}`;
}

function startError(folder: Folder): EmbeddedPostgresError {
  const end = fs.readFileSync(folder.log, 'utf8').trim().split('\n').slice(-8).join('\n');
  return new EmbeddedPostgresError(`the embedded PostgreSQL did not start; the end of ${folder.log}:\n${end}`);
}

function readNumber(file: string): number | undefined {
  try {
    const value = Number.parseInt(fs.readFileSync(file, 'utf8'), 10);
    return Number.isNaN(value) ? undefined : value;
  } catch {
    return undefined;
  }
}

function pause(clock: Clock): Promise<void> {
  return new Promise((resolve) => clock.after(POLL_MS, resolve));
}
