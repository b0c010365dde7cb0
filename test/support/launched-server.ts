/** The product as an operator runs it: built, in a process group of its own, to be signalled and killed. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { StandingRelay } from './relays.js';
import type { TestDatabase } from './test-database.js';
import { settingsFor, type Settings, type TestServer } from './test-server.js';

export const CHECKOUT = fileURLToPath(new URL('../..', import.meta.url));

/** What a process gets besides its settings: enough to find programs, nothing of this run's configuration. */
export const BARE_ENVIRONMENT: Settings = {
  PATH: process.env['PATH'] ?? '',
  HOME: process.env['HOME'] ?? '/',
  TMPDIR: process.env['TMPDIR'] ?? '/tmp',
};

export interface ReadyLine {
  readonly event: 'ready';
  readonly api: string;
  readonly ops: string;
  readonly database: string;
}

export interface Exit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

export interface Launch {
  readonly file: string;
  readonly args: readonly string[];
  readonly cwd?: string;
  readonly env: Settings;
}

/** Slower than this, on a busy machine and with everything to install first, nothing starts. */
const READY_WITHIN_MS = 240_000;

export class LaunchedServer {
  stdout = '';
  stderr = '';
  readonly #exited: Promise<Exit>;
  readonly #closed: Promise<unknown>;

  private constructor(private readonly child: ChildProcess) {
    child.stdout?.on('data', (chunk: Buffer) => (this.stdout += chunk.toString()));
    child.stderr?.on('data', (chunk: Buffer) => (this.stderr += chunk.toString()));
    this.#exited = once(child, 'exit').then(([code, signal]) => ({ code, signal }));
    this.#closed = once(child, 'close');
  }

  static launch({ file, args, cwd = CHECKOUT, env }: Launch): LaunchedServer {
    return new LaunchedServer(spawn(file, args, { cwd, env, detached: true, stdio: ['ignore', 'pipe', 'pipe'] }));
  }

  /** `dist/src/main.js` of this checkout, built if it is not. */
  static start(settings: Settings): LaunchedServer {
    buildOnce();
    const env = { ...BARE_ENVIRONMENT, ...settings };
    return LaunchedServer.launch({ file: process.execPath, args: ['dist/src/main.js'], env });
  }

  get pid(): number {
    return this.child.pid ?? 0;
  }

  get hasEnded(): boolean {
    return this.child.exitCode !== null || this.child.signalCode !== null;
  }

  /** Lines before it, as npm prints them, are passed over. */
  get readyLine(): ReadyLine | undefined {
    const line = this.stdout.split('\n').find((text) => text.startsWith('{"event":"ready"'));
    return line === undefined ? undefined : (JSON.parse(line) as ReadyLine);
  }

  /** Rejects with what it said when it ends without having been ready. */
  async ready(): Promise<ReadyLine> {
    const giveUp = new AbortController();
    const timer = setTimeout(() => giveUp.abort(), READY_WITHIN_MS);
    try {
      while (!this.readyLine && !this.hasEnded && !giveUp.signal.aborted) {
        const said = once(this.child.stdout ?? this.child, 'data', { signal: giveUp.signal });
        await Promise.race([said, this.#closed]).catch(() => undefined);
      }
    } finally {
      clearTimeout(timer);
    }
    const line = this.readyLine;
    if (!line) throw new Error(`not ready (exit ${this.child.exitCode}); it said:\n${this.stdout}\n${this.stderr}`);
    return line;
  }

  signal(signal: NodeJS.Signals): void {
    this.child.kill(signal);
  }

  /** To it and all it started in its group, as a terminal sends Ctrl-C. */
  signalGroup(signal: NodeJS.Signals): void {
    process.kill(-this.pid, signal);
  }

  /** It has ended, all its output is here, and nobody holds its output any more. */
  async end(): Promise<Exit> {
    const exit = await this.#exited;
    await this.#closed;
    return exit;
  }

  async kill(): Promise<void> {
    if (!this.hasEnded) this.signal('SIGKILL');
    await this.end();
  }
}

export interface ServerOnDatabase extends TestServer {
  readonly process: LaunchedServer;
}

/** A process on a test's database, ready to accept peers, with one relay; the database stays its owner's to drop. */
export async function launchOn(db: TestDatabase, settings: Settings = {}): Promise<ServerOnDatabase> {
  const process = LaunchedServer.start({ ...settingsFor(db), ...settings });
  const ready = await process.ready();
  const wsUrl = ready.api.replace('http', 'ws');
  const relay = await StandingRelay.join(db, wsUrl);
  const stop = async (): Promise<void> => {
    await relay.stop();
    process.signal('SIGTERM');
    await process.end();
  };
  return { ...ready, wsUrl, db, process, stop, close: stop };
}

let isBuilt = false;

/** What `npm test` has done already; for those who start jest by hand. */
function buildOnce(): void {
  if (isBuilt) return;
  const { status, stderr } = spawnSync(process.execPath, ['tools/ensure.mjs', '--build'], { cwd: CHECKOUT });
  if (status !== 0) throw new Error(`the build failed:\n${stderr.toString()}`);
  isBuilt = true;
}
