/**
 * What an operator meets: `npm start` in a fresh clone as root and as an ordinary user, what is refused and how, and that
 * no way of ending leaves a PostgreSQL behind. The clones get this checkout's packages, but for one that installs.
 */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, jest } from '@jest/globals';
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
} from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Client } from 'pg';
import { BARE_ENVIRONMENT, CHECKOUT, LaunchedServer, type Launch, type ReadyLine } from '../support/launched-server.js';
import { startOwnPostgres } from '../support/own-postgres.js';
import { until } from '../support/stream-under-test.js';
import { createTestDatabase } from '../support/test-database.js';
import { settingsFor, type Settings } from '../support/test-server.js';

jest.setTimeout(300_000);

const NOBODY = ['--reuid=65534', '--regid=65534', '--clear-groups'];
const IS_ROOT = process.getuid?.() === 0;
const IS_LINUX = process.platform === 'linux';
const IS_REPOSITORY = existsSync(join(CHECKOUT, '.git'));

const QUIET: Settings = { API_PORT: '0', OPS_PORT: '0', DRAIN_SECONDS: '0', LOG_LEVEL: 'warn', LOG_FORMAT: 'json' };
const NPM: Settings = { npm_config_prefer_offline: 'true', npm_config_update_notifier: 'false' };

/** A data folder of a server that has run and stopped: copying it is quicker than making one. */
let made: string;
let top: string;
let dataDir: string;
const launched: LaunchedServer[] = [];

beforeAll(async () => {
  made = mkdtempSync(join(tmpdir(), 'portcullis-start-made-'));
  const server = LaunchedServer.start({ ...QUIET, PORTCULLIS_DATA_DIR: made });
  await server.ready();
  server.signal('SIGTERM');
  await server.end();
});

afterAll(() => rmSync(made, { recursive: true, force: true }));

beforeEach(() => {
  top = mkdtempSync(join(tmpdir(), 'portcullis-start-'));
  chmodSync(top, 0o711);
  dataDir = join(top, 'data');
});

afterEach(async () => {
  for (const server of launched.splice(0)) await server.kill();
  for (const pid of processesOf(top)) process.kill(pid, 'SIGKILL');
  await until(() => processesOf(top).length === 0, 'what a failed test left to end');
  rmSync(top, { recursive: true, force: true, maxRetries: 20, retryDelay: 25 });
});

function start(settings: Settings): LaunchedServer {
  return kept(LaunchedServer.start({ ...QUIET, PORTCULLIS_DATA_DIR: dataDir, ...settings }));
}

function useMade(): void {
  run('cp', ['-a', made, dataDir]);
}

function launch(options: Launch): LaunchedServer {
  return kept(LaunchedServer.launch(options));
}

function kept(server: LaunchedServer): LaunchedServer {
  launched.push(server);
  return server;
}

/** A clone of what is committed. @param owner a uid that shall own all of it but the packages */
function clone(options: { readonly packages: 'linked' | 'none'; readonly owner?: number }): string {
  const folder = join(top, 'clone');
  run('git', ['clone', '-q', '--no-hardlinks', CHECKOUT, folder]);
  if (options.owner !== undefined) run('chown', ['-R', `${options.owner}:${options.owner}`, folder]);
  if (options.packages === 'linked') linkPackages(folder);
  return folder;
}

/** File by file: behind one link to the folder, an install in the clone would empty the checkout's. */
function linkPackages(folder: string): void {
  const packages = join(CHECKOUT, 'node_modules');
  const { status } = spawnSync('cp', ['-al', packages, folder]);
  if (status === 0) return;
  rmSync(join(folder, 'node_modules'), { recursive: true, force: true });
  run('cp', ['-a', packages, folder]); // on another disk, or a cp that makes no links
}

function run(file: string, args: readonly string[]): void {
  const { status, stderr } = spawnSync(file, args);
  if (status !== 0) throw new Error(`${file} ${args.join(' ')}: ${stderr.toString()}`);
}

async function ask(url: string, sql: string): Promise<unknown> {
  const client = new Client({ connectionString: url });
  client.on('error', () => undefined);
  await client.connect();
  try {
    return (await client.query<{ answer: unknown }>(sql)).rows[0]?.answer;
  } finally {
    await client.end();
  }
}

async function isUp({ ops }: ReadyLine): Promise<boolean> {
  return (await fetch(`${ops}/readyz`)).ok;
}

/** Living processes that were told of the folder, or work in it: a PostgreSQL server and its backends do one or other. */
function processesOf(folder: string): number[] {
  if (!IS_LINUX) return [];
  const pids = readdirSync('/proc').filter((name) => /^\d+$/.test(name));
  return pids.filter((pid) => isAt(pid, folder)).map(Number);
}

function isAt(pid: string, folder: string): boolean {
  try {
    if (/^State:\s+[ZX]/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'))) return false; // ended, and not reaped yet
    return (
      readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(folder) ||
      readlinkSync(`/proc/${pid}/cwd`).startsWith(folder)
    );
  } catch {
    return false;
  }
}

async function nothingStays(): Promise<void> {
  await until(() => processesOf(top).length === 0, 'every process of the test to end');
}

(IS_REPOSITORY ? describe : describe.skip)('npm start in a fresh clone', () => {
  const npmStart = (folder: string, env: Settings = {}): Launch => ({
    file: 'npm',
    args: ['start'],
    cwd: folder,
    env: { ...BARE_ENVIRONMENT, ...NPM, ...QUIET, ...env },
  });

  it('D37, D40: is ready with a PostgreSQL of its own, keeps its data, and a Ctrl-C, which npm doubles, ends all', async () => {
    const folder = clone({ packages: 'linked' });
    const first = launch(npmStart(folder));
    const ready = await first.ready();
    expect(ready).toEqual({
      event: 'ready',
      api: expect.stringMatching(/^http:\/\/127\.0\.0\.1:\d+$/),
      ops: expect.stringMatching(/^http:\/\/127\.0\.0\.1:\d+$/),
      database: expect.stringMatching(/^postgres:\/\/portcullis:[^*@]+@127\.0\.0\.1:\d+\/portcullis$/),
    });
    expect(await isUp(ready)).toBe(true);
    await ask(ready.database, `INSERT INTO accounts (name, slug) VALUES ('Kept', 'kept') RETURNING 1 AS answer`);
    first.signalGroup('SIGINT');
    expect((await first.end()).code).toBe(0);
    await nothingStays();

    const second = launch(npmStart(folder));
    const again = await second.ready();
    expect(again.database).toBe(ready.database);
    expect(await ask(again.database, `SELECT name AS answer FROM accounts WHERE slug = 'kept'`)).toBe('Kept');
    // npm alone is told to end: its shell must have made way for the server.
    second.signal('SIGTERM');
    await second.end();
    await nothingStays();
  });

  (IS_ROOT ? it : it.skip)('works as an unprivileged user', async () => {
    const folder = clone({ packages: 'linked', owner: 65534 });
    const home = join(top, 'home');
    mkdirSync(home);
    run('chown', ['65534:65534', home]);
    const npm = npmStart(folder, { HOME: home });
    const server = launch({ ...npm, file: 'setpriv', args: [...NOBODY, npm.file, ...npm.args] });
    const ready = await server.ready();
    expect(await isUp(ready)).toBe(true);
    server.signalGroup('SIGINT');
    expect((await server.end()).code).toBe(0);
    await nothingStays();
  });

  it('D35: installs what is missing first; with DATABASE_URL it starts no PostgreSQL, and hides the password', async () => {
    const folder = clone({ packages: 'none' });
    const db = await createTestDatabase();
    try {
      const url = new URL(db.url);
      url.password ||= 'secret'; // the server of the run asks for none
      const server = launch(npmStart(folder, { ...settingsFor(db), DATABASE_URL: url.href }));
      const ready = await server.ready();
      expect(ready.database).toBe(url.href.replace(`:${url.password}@`, ':***@'));
      expect(await isUp(ready)).toBe(true);
      expect(existsSync(join(folder, '.portcullis'))).toBe(false);
      server.signalGroup('SIGINT');
      expect((await server.end()).code).toBe(0);
    } finally {
      await db.drop();
    }
  });
});

describe('a start that is refused', () => {
  it('names every wrong setting in one message, and ends with 1', async () => {
    const server = start({
      API_PORT: 'eighty',
      TRUSTED_PROXIES: '10.0.0.0/99',
      LOG_LEVEL: 'loud',
      DRAIN_SECONDS: '-1',
    });
    expect(await server.end()).toEqual({ code: 1, signal: null });
    for (const name of ['API_PORT', 'TRUSTED_PROXIES', 'LOG_LEVEL', 'DRAIN_SECONDS']) {
      expect(server.stderr.match(new RegExp(name, 'g'))).toHaveLength(1);
    }
    expect(server.stderr).not.toMatch(/\n\s+at /);
    expect(server.stdout).toBe('');
    expect(existsSync(dataDir)).toBe(false);
  });

  it('says which statement lets a database without logical decoding serve', async () => {
    const db = await startOwnPostgres({ wal_level: 'replica' });
    try {
      const server = start({ DATABASE_URL: db.url });
      expect(await server.end()).toEqual({ code: 1, signal: null });
      expect(server.stderr).toContain('ALTER SYSTEM SET wal_level = logical');
      expect(server.stderr).not.toMatch(/\n\s+at /);
      const { rows } = await db.query(`SELECT FROM pg_tables WHERE schemaname = 'public'`);
      expect(rows).toEqual([]);
    } finally {
      await db.drop();
    }
  });

  it('says in one line that the database cannot be reached', async () => {
    const server = start({ DATABASE_URL: 'postgres://nobody:hunter2@127.0.0.1:1/nowhere' });
    expect(await server.end()).toEqual({ code: 1, signal: null });
    expect(server.stderr).toContain('127.0.0.1:1');
    expect(server.stderr).not.toContain('hunter2');
    expect(server.stderr).not.toMatch(/\n\s+at /);
  });

  it('says that a port is taken, and leaves no PostgreSQL behind', async () => {
    const holder = createServer().listen(0, '127.0.0.1');
    await once(holder, 'listening');
    const taken = String((holder.address() as AddressInfo).port);
    useMade();
    const server = start({ API_PORT: taken });
    expect(await server.end()).toEqual({ code: 1, signal: null });
    expect(server.stderr).toContain(taken);
    holder.close();
    await nothingStays();
  });
});

(IS_LINUX ? describe : describe.skip)('nothing of the embedded PostgreSQL stays behind (D42)', () => {
  it('after a Ctrl-C while its cluster is being made, which the next start makes', async () => {
    const server = start({});
    const isHalfMade = (name: string): boolean => existsSync(join(dataDir, name, 'global', 'pg_control'));
    await until(() => existsSync(dataDir) && readdirSync(dataDir).some(isHalfMade), 'the moment');
    server.signalGroup('SIGINT');
    expect(await server.end()).toEqual({ code: 0, signal: null });
    expect([server.stdout, server.stderr]).toEqual(['', '']);
    await nothingStays();

    const next = start({});
    await next.ready();
    expect(readdirSync(dataDir).filter((name) => name.includes('.new.'))).toEqual([]);
    next.signal('SIGTERM');
    expect(await next.end()).toEqual({ code: 0, signal: null });
    await nothingStays();
  });

  it.each([
    ['starts', () => existsSync(join(dataDir, 'cluster', 'postmaster.pid'))],
    ['has started', (pid: number) => readFileSync(join(dataDir, 'owner'), 'utf8').endsWith(` ${pid}\n`)],
  ])('after a Ctrl-C while its server %s', async (_when, isNow) => {
    useMade();
    const server = start({});
    await until(() => isNow(server.pid), 'the moment');
    server.signalGroup('SIGINT');
    expect(await server.end()).toEqual({ code: 0, signal: null });
    expect(server.stdout).toBe('');
    await nothingStays();
  });

  it('after a kill -9, once the next start has stopped', async () => {
    useMade();
    const killed = start({});
    const { database } = await killed.ready();
    await ask(database, `INSERT INTO accounts (name, slug) VALUES ('Kept', 'kept') RETURNING 1 AS answer`);
    await killed.kill();
    const next = start({});
    const ready = await next.ready();
    expect(await ask(ready.database, `SELECT name AS answer FROM accounts WHERE slug = 'kept'`)).toBe('Kept');
    next.signal('SIGTERM');
    expect(await next.end()).toEqual({ code: 0, signal: null });
    await nothingStays();
  });

  it('after a second signal that cuts the drain short', async () => {
    useMade();
    const server = start({ LOG_LEVEL: 'info' });
    const { database } = await server.ready();
    // A commit nobody can record keeps the stop waiting.
    const blocker = new Client({ connectionString: database });
    blocker.on('error', () => undefined);
    await blocker.connect();
    await blocker.query('BEGIN; LOCK TABLE epochs IN ACCESS EXCLUSIVE MODE');
    server.signal('SIGTERM');
    const again = setInterval(() => server.signal('SIGTERM'), 1050);
    expect((await server.end()).code).toBe(1);
    clearInterval(again);
    await nothingStays();
  });
});
