/** The product as it runs in earnest: its own process, on a durable PostgreSQL (fsync on) that the bench starts for it. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import * as fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { Client } from 'pg';
import { startEmbedded } from '../src/embedded/start-embedded.js';
import { pause } from './bench.js';

export interface Product {
  readonly databaseUrl: string;
  /** A connection of the bench, for what a person would do in psql. */
  readonly sql: Client;
  /** `ws://…`, to which the path of a role is added. */
  readonly wsUrl: string;
  readonly postgresVersion: string;
  readonly serverPid: number;
  /** The server's metrics now: name with labels as printed → value. */
  metrics(): Promise<ReadonlyMap<string, number>>;
  /** Everything committed so far is applied and recorded: nothing of it is left to disturb what is measured next. */
  readonly settled: () => Promise<void>;
  stop(): Promise<void>;
}

const BACKLOG = 'portcullis_change_log_backlog';

/** Name of a metric: processor time of the server process. */
export const CPU_SECONDS = 'process_cpu_seconds_total';

/** How much the metrics of this name, whatever their labels, grew. */
export function spentBetween(
  before: ReadonlyMap<string, number>,
  after: ReadonlyMap<string, number>,
  name: string,
): number {
  const isOfName = (key: string): boolean => key === name || key.startsWith(`${name}{`);
  return [...after].reduce((sum, [key, value]) => (isOfName(key) ? sum + value - (before.get(key) ?? 0) : sum), 0);
}

const SILENT = { error: () => {}, warn: () => {}, info: () => {}, debug: () => {} };
const SERVER = fileURLToPath(new URL('../src/main.js', import.meta.url));
const DATABASE = 'portcullis_bench';

/** @param profileDir the server writes a CPU profile there when it ends */
export async function startProduct(profileDir?: string): Promise<Product> {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'portcullis-bench-'));
  const postgres = await startEmbedded({ dataDir: path.join(folder, 'postgres'), log: SILENT });
  const url = new URL(postgres.url);
  await onServer(url.href, (server) => server.query(`CREATE DATABASE ${DATABASE}`));
  url.pathname = `/${DATABASE}`;

  const log = fs.openSync(path.join(folder, 'server.log'), 'a');
  const profiling = profileDir === undefined ? [] : ['--cpu-prof', '--cpu-prof-dir', profileDir];
  const server = spawn(process.execPath, [...profiling, SERVER], {
    env: {
      ...{ PATH: process.env['PATH'], DATABASE_URL: url.href, NODE_ENV: 'production', DRAIN_SECONDS: '0' },
      ...{
        API_PORT: '0',
        OPS_PORT: '0',
        CONNECT_BURST: '1000',
        RELAYS_REQUIRED: 'false',
        GATEWAY_FRAMES_PER_SECOND: '1000000',
        CLIENT_FRAMES_PER_SECOND: '1000000',
        LOG_FORMAT: 'json',
      },
    },
    stdio: ['ignore', 'pipe', log],
  });
  const killAndRemove = (): void => {
    server.kill('SIGKILL');
    postgres.killSync('SIGQUIT');
    fs.rmSync(folder, { recursive: true, force: true, maxRetries: 20, retryDelay: 25 });
  };
  process.once('exit', killAndRemove);
  const { api, ops } = await readyLine(server, folder);
  const sql = new Client({ connectionString: url.href });
  await sql.connect();
  const { rows } = await sql.query<{ server_version: string }>('SHOW server_version');

  return {
    databaseUrl: url.href,
    sql,
    wsUrl: api.replace('http', 'ws'),
    serverPid: server.pid ?? 0,
    postgresVersion: rows[0]?.server_version ?? 'unknown',
    metrics: () => readMetrics(ops),
    settled: () => settled(sql, ops),
    stop: async () => {
      await sql.end();
      const ended = once(server, 'exit');
      server.kill('SIGTERM');
      await ended;
      await postgres.stop();
      fs.closeSync(log);
      process.removeListener('exit', killAndRemove);
      killAndRemove();
    },
  };
}

async function readyLine(
  server: ChildProcess,
  folder: string,
): Promise<{ readonly api: string; readonly ops: string }> {
  if (!server.stdout) throw new Error('the server has no stdout');
  for await (const line of createInterface({ input: server.stdout })) {
    return JSON.parse(line) as { api: string; ops: string };
  }
  throw new Error(`the server did not start:\n${fs.readFileSync(path.join(folder, 'server.log'), 'utf8')}`);
}

async function readMetrics(ops: string): Promise<ReadonlyMap<string, number>> {
  const text = await (await fetch(`${ops}/metrics`)).text();
  const lines = text.split('\n').filter((line) => line !== '' && !line.startsWith('#'));
  return new Map(
    lines.map((line) => [line.slice(0, line.lastIndexOf(' ')), Number(line.slice(line.lastIndexOf(' ')))]),
  );
}

async function settled(sql: Client, ops: string): Promise<void> {
  const { rows } = await sql.query<{ lsn: string }>('SELECT pg_current_wal_flush_lsn() AS lsn');
  const isApplied = async (): Promise<boolean> => (await fetch(`${ops}/readyz?applied=${rows[0]?.lsn ?? ''}`)).ok;
  const isRecorded = async (): Promise<boolean> => (await readMetrics(ops)).get(BACKLOG) === 0;
  while (!((await isApplied()) && (await isRecorded()))) await pause(100);
}

async function onServer(url: string, work: (server: Client) => Promise<unknown>): Promise<void> {
  const server = new Client({ connectionString: url });
  await server.connect();
  try {
    await work(server);
  } finally {
    await server.end();
  }
}
