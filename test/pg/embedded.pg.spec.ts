import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, jest } from '@jest/globals';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  chownSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { Client } from 'pg';
import { EmbeddedPostgresError } from '../../src/embedded/embedded-postgres-error.js';
import { isPostmasterOf } from '../../src/embedded/postmaster.js';
import { type EmbeddedPostgres, findRunningEmbedded, startEmbedded } from '../../src/embedded/start-embedded.js';
import { SystemClock } from '../../src/system/system-clock.js';

jest.setTimeout(30_000);

const SCRIPT = fileURLToPath(new URL('../support/embedded-server-process.ts', import.meta.url));
const CHECKOUT = fileURLToPath(new URL('../..', import.meta.url));
const NOBODY = ['--reuid=65534', '--regid=65534', '--clear-groups'];
const IS_ROOT = process.getuid?.() === 0;
/** An unprivileged process cannot load this checkout from below a folder that only root may enter. */
const NOBODY_CAN_LOAD_US =
  IS_ROOT && spawnSync('setpriv', [...NOBODY, process.execPath, '-e', `fs.readFileSync('${SCRIPT}')`]).status === 0;

const SILENT = { error: () => {}, warn: () => {}, info: () => {}, debug: () => {} };
const clock = new SystemClock();

/** A data folder whose cluster is made and stopped; copying it costs a fifth of making one. */
let made: string;
let top: string;
let dataDir: string;
const servers: EmbeddedPostgres[] = [];
const children: ChildProcess[] = [];

beforeAll(async () => {
  made = mkdtempSync(join(tmpdir(), 'portcullis-embedded-'));
  const server = await startEmbedded({ dataDir: made, settings: { fsync: 'off' }, log: SILENT });
  await server.stop();
});

afterAll(() => rmSync(made, { recursive: true, force: true }));

beforeEach(() => {
  top = mkdtempSync(join(tmpdir(), 'portcullis-embedded-'));
  dataDir = join(top, 'data');
});

afterEach(async () => {
  for (const child of children.splice(0)) await killAndAwait(child);
  for (const server of servers.splice(0)) await server.stop();
  // Whatever a failed test left: its server would keep the folder busy.
  const left = findRunningEmbedded(dataDir) ? await startEmbedded({ dataDir, log: SILENT }) : undefined;
  await left?.stop();
  rmSync(top, { recursive: true, force: true });
});

describe('embedded PostgreSQL (D42)', () => {
  it('from nothing: a UTF8 database with logical WAL, on loopback, that asks for its password', async () => {
    const server = await start();

    expect(server.wasRunning).toBe(false);
    expect(await ask(server.url, `SELECT current_database() AS answer`)).toBe('portcullis');
    expect(await ask(server.url, `SELECT current_setting('wal_level') AS answer`)).toBe('logical');
    expect(await ask(server.url, `SELECT current_setting('max_slot_wal_keep_size') AS answer`)).toBe('4GB');
    expect(await ask(server.url, `SELECT current_setting('listen_addresses') AS answer`)).toBe('127.0.0.1');
    expect(
      await ask(
        server.url,
        `SELECT pg_encoding_to_char(encoding) || ' ' || datcollate AS answer FROM pg_database WHERE datname = current_database()`,
      ),
    ).toBe('UTF8 C');
    const stranger = new URL(server.url);
    stranger.password = 'guess';
    await expect(ask(stranger.href, 'SELECT 1 AS answer')).rejects.toMatchObject({ code: '28P01' });
    expect(statSync(join(dataDir, 'cluster', 'portcullis.password')).mode & 0o777).toBe(0o600);
  });

  it('stop leaves no process, and the next start has the same port, password and rows', async () => {
    useMadeCluster();
    const first = await start();
    await ask(first.url, 'CREATE TABLE kept AS SELECT 7 AS n');
    await first.stop();
    expect(isPostmasterOf(dataDir, first.pid)).toBe(false);
    expect(findRunningEmbedded(dataDir)).toBeUndefined();

    const second = await start();
    expect(second.url).toBe(first.url);
    expect(await ask(second.url, 'SELECT n AS answer FROM kept')).toBe(7);
  });

  it('a port taken meanwhile is given up for another one', async () => {
    useMadeCluster();
    const first = await start();
    await first.stop();
    const port = Number(new URL(first.url).port);
    const squatter = createServer().listen(port, '127.0.0.1');
    await once(squatter, 'listening');

    const second = await start();
    squatter.close();
    expect(new URL(second.url).port).not.toBe(String(port));
    expect(await ask(second.url, 'SELECT 1 AS answer')).toBe(1);
  });

  it('a live server is reused, and one who found it running does not stop it', async () => {
    useMadeCluster();
    const owner = await start();
    const guest = await start();
    expect(guest).toMatchObject({ wasRunning: true, url: owner.url, pid: owner.pid });
    expect(findRunningEmbedded(dataDir)).toEqual({ url: owner.url });

    const other = await startInProcess();
    expect(other.ready).toMatchObject({ wasRunning: true, url: owner.url });
    other.child.stdin?.write('stop\n');
    await once(other.child, 'exit');

    expect(await ask(owner.url, 'SELECT 1 AS answer')).toBe(1);
  });

  it('two starts at once on an empty folder share one server', async () => {
    const [one, two] = await Promise.all([startInProcess(), startInProcess()]);

    expect(one.ready.url).toBe(two.ready.url);
    expect([one.ready.wasRunning, two.ready.wasRunning].sort()).toEqual([false, true]);
    expect(await ask(one.ready.url, 'SELECT 1 AS answer')).toBe(1);
  });

  it('a process that exits without stopping it takes the server along', async () => {
    useMadeCluster();
    const { child, ready } = await startInProcess();
    child.stdin?.write('exit\n');
    await once(child, 'exit');
    await until(() => !isPostmasterOf(dataDir, ready.pid));
    expect(findRunningEmbedded(dataDir)).toBeUndefined();
  });

  it('a server whose owner was killed is adopted by the next start and ended by its stop', async () => {
    useMadeCluster();
    const { child, ready } = await startInProcess();
    await killAndAwait(child);
    expect(isPostmasterOf(dataDir, ready.pid)).toBe(true);

    const heir = await start();
    expect(heir).toMatchObject({ wasRunning: true, pid: ready.pid });
    await heir.stop();
    expect(isPostmasterOf(dataDir, ready.pid)).toBe(false);
  });

  it('the pid file of a killed server is no obstacle, also when its pid belongs to somebody else now', async () => {
    useMadeCluster();
    const first = await start();
    const pidFile = join(dataDir, 'cluster', 'postmaster.pid');
    process.kill(first.pid, 'SIGKILL');
    await until(() => !isPostmasterOf(dataDir, first.pid));
    expect(findRunningEmbedded(dataDir)).toBeUndefined();

    const second = await start();
    expect(second.wasRunning).toBe(false);
    const lines = readFileSync(pidFile, 'utf8').split('\n');
    await second.stop();
    writeFileSync(pidFile, [process.pid, ...lines.slice(1)].join('\n'));

    const third = await start();
    expect(third.wasRunning).toBe(false);
    expect(await ask(third.url, 'SELECT 1 AS answer')).toBe(1);
  });

  it('a server that cannot start is an error that quotes its log', async () => {
    useMadeCluster();
    const failing = startEmbedded({ dataDir, settings: { fsync: 'off', shared_buffers: 'plenty' }, log: SILENT });
    await expect(failing).rejects.toThrow(EmbeddedPostgresError);
    await expect(failing).rejects.toThrow(/invalid value for parameter "shared_buffers"/);
  });

  (IS_ROOT && process.platform === 'linux' ? it : it.skip)(
    'root without user namespaces runs it as uid 65534, in a folder that uid can reach, or refuses',
    async () => {
      const withoutUnshare = { PATH: '' };
      const refused = await startInProcess({ env: withoutUnshare });
      expect(refused.ready).toMatchObject({
        error: expect.stringMatching(/uid 65534 cannot reach .*set DATABASE_URL/s),
      });

      chmodSync(top, 0o711);
      const { child, ready } = await startInProcess({ env: withoutUnshare });
      expect(ready.runsAs).toBe('nobody');
      expect(statSync(`/proc/${ready.pid}`).uid).toBe(65534);
      expect(await ask(ready.url, 'CREATE TABLE kept AS SELECT 7 AS n; SELECT n AS answer FROM kept')).toBe(7);
      child.stdin?.write('stop\n');
      await once(child, 'exit');

      // The same folder where namespaces work: the cluster changes hands.
      const inNamespace = await start();
      expect(await ask(inNamespace.url, 'SELECT n AS answer FROM kept')).toBe(7);
    },
  );

  (NOBODY_CAN_LOAD_US ? it : it.skip)('an ordinary user runs it directly', async () => {
    chmodSync(top, 0o711);
    mkdirSync(dataDir, { mode: 0o700 });
    chownSync(dataDir, 65534, 65534);
    const { child, ready } = await startInProcess({ asNobody: true });

    expect(ready.runsAs).toBe('caller');
    expect(await ask(ready.url, 'SELECT 1 AS answer')).toBe(1);
    child.stdin?.write('stop\n');
    await once(child, 'exit');
    expect(isPostmasterOf(dataDir, ready.pid)).toBe(false);
  });
});

interface Ready {
  readonly url: string;
  readonly pid: number;
  readonly wasRunning: boolean;
  readonly runsAs: string;
}

function useMadeCluster(): void {
  cpSync(made, dataDir, { recursive: true });
}

async function start(): Promise<EmbeddedPostgres> {
  const server = await startEmbedded({ dataDir, settings: { fsync: 'off' }, log: SILENT });
  servers.push(server);
  return server;
}

async function startInProcess(
  how: { env?: Record<string, string>; asNobody?: boolean } = {},
): Promise<{ child: ChildProcess; ready: Ready }> {
  const node = [process.execPath, '--import', 'tsx', SCRIPT, dataDir];
  const [file = '', ...args] = how.asNobody ? ['setpriv', ...NOBODY, ...node] : node;
  const env = { PATH: process.env['PATH'], TMPDIR: tmpdir(), ...how.env };
  const child = spawn(file, args, { cwd: CHECKOUT, env, stdio: ['pipe', 'pipe', 'inherit'] });
  children.push(child);
  for await (const line of createInterface({ input: child.stdout })) return { child, ready: JSON.parse(line) as Ready };
  throw new Error('the process ended without a word');
}

async function killAndAwait(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = once(child, 'exit');
  child.kill('SIGKILL');
  await gone;
}

async function ask(url: string, sql: string): Promise<unknown> {
  const client = new Client({ connectionString: url });
  client.on('error', () => undefined);
  await client.connect();
  try {
    const results = [await client.query<{ answer: unknown }>(sql)].flat();
    return results.at(-1)?.rows[0]?.answer;
  } finally {
    await client.end();
  }
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise<void>((resolve) => void clock.after(5, resolve));
}
