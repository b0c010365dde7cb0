/** A launched server that can be asked from outside how much memory it holds and whether its prototypes are intact. */
import { eventually } from './eventually.js';
import { launchOn, type ServerOnDatabase } from './launched-server.js';
import type { TestDatabase } from './test-database.js';
import type { Settings } from './test-server.js';

/** Bytes in use after a garbage collection. */
export interface Memory {
  readonly rss: number;
  readonly heapUsed: number;
  /** Buffers, among them what sockets have not sent. */
  readonly arrayBuffers: number;
}

const PROBE = new URL('./process-probe.mjs', import.meta.url);

export class ProbedServer {
  private constructor(readonly server: ServerOnDatabase) {}

  static async launch(db: TestDatabase, settings: Settings = {}): Promise<ProbedServer> {
    return new ProbedServer(await launchOn(db, { ...settings, NODE_OPTIONS: `--import=${PROBE.href}` }));
  }

  async memory(): Promise<Memory> {
    const { process } = this.server;
    const said = this.#said('probe.memory').length;
    process.signal('SIGUSR2');
    await eventually('the memory of the server', async () => {
      await nextTurn();
      return this.#said('probe.memory').length > said;
    });
    return this.#said('probe.memory').at(-1) as unknown as Memory;
  }

  /** CPU time used so far, of all its threads. Unit ms. */
  async cpuMs(): Promise<number> {
    const text = await (await fetch(`${this.server.ops}/metrics`)).text();
    const seconds = /^process_cpu_seconds_total (\S+)/m.exec(text)?.[1];
    return Number(seconds) * 1000;
  }

  /** Ends as an operator ends it; rejects when it crashed before, did not end well, or says that a prototype was changed. */
  async mustEndWell(): Promise<void> {
    const { process } = this.server;
    if (process.hasEnded) throw new Error(`it has ended already:\n${process.stderr.slice(-5000)}`);
    process.signal('SIGTERM');
    const { code } = await process.end();
    const [prototypes] = this.#said('probe.prototypes');
    const changed = prototypes?.['changed'] as readonly string[] | undefined;
    if (code !== 0 || changed?.length !== 0) {
      throw new Error(`exit code ${code}, changed prototypes: ${String(changed)}\n${process.stderr.slice(-5000)}`);
    }
  }

  #said(event: string): Record<string, unknown>[] {
    const lines = this.server.process.stderr.split('\n').filter((line) => line.startsWith(`{"event":"${event}"`));
    return lines.map((line) => JSON.parse(line) as Record<string, unknown>);
  }
}

function nextTurn(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 5));
}
