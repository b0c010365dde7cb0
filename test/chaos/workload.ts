/** Several people at the database at once, who go on whatever happens to it, and what they were told of each transaction. */
import type { Client } from 'pg';
import { eventually } from '../support/eventually.js';
import type { SeededRandom } from '../support/seeded-random.js';
import type { ChaosAccount } from './chaos-account.js';
import type { ChaosPostgres } from './chaos-postgres.js';
import { type Operation, OPERATIONS } from './operations.js';
import { pause } from './pause.js';
import { MARK_PREFIX } from './witness.js';

export interface DoneOperation {
  readonly name: string;
  /** `info`: the connection ended while it was being committed; settled at the end. */
  outcome: 'ok' | 'fail' | 'info';
  /** What it is called in the log. A transaction id would not do: after a crash one that was never written is given again. */
  readonly mark: string;
  /** Undefined when it did not come so far. */
  readonly xid: string | undefined;
  readonly invokedAt: number;
  readonly endedAt: number;
}

export interface WorkloadOptions {
  readonly postgres: ChaosPostgres;
  readonly accounts: readonly ChaosAccount[];
  readonly random: SeededRandom;
  readonly writers: number;
  /** Between two transactions of one writer, on average. */
  readonly everyMs: number;
}

export class Workload {
  readonly done: DoneOperation[] = [];
  #serial = 0;
  #isStopped = false;
  #running: Promise<unknown> = Promise.resolve();
  #paused: Promise<void> | undefined;
  #resume: (() => void) | undefined;

  constructor(private readonly options: WorkloadOptions) {}

  /** A number that no name had before. */
  readonly serial = (): number => (this.#serial += 1);

  start(): void {
    const { writers, random } = this.options;
    const places = Array.from({ length: writers }, (_, place) => place);
    this.#running = Promise.all(places.map((place) => this.#write(random.fork(`writer ${place}`), place)));
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    this.resume();
    await this.#running;
  }

  /** Nobody begins anything until `resume`. */
  hold(): void {
    this.#paused ??= new Promise((resolve) => (this.#resume = resolve));
  }

  resume(): void {
    this.#paused = undefined;
    this.#resume?.();
  }

  /**
   * What became of the transactions whose end nobody heard: asked of the database, which knows, unless it gave the id again.
   * @param committed marks in the history
   */
  async settle(sql: Client, committed: ReadonlySet<string>): Promise<string[]> {
    const found: string[] = [];
    for (const operation of this.done) {
      if (operation.outcome !== 'info') continue;
      const { rows } = await sql.query<{ status: string | null }>('SELECT pg_xact_status($1::xid8) AS status', [
        operation.xid,
      ]);
      const isCommitted = committed.has(operation.mark);
      if (isCommitted && rows[0]?.status !== 'committed') {
        found.push(`${operation.mark} is in the history, and ${rows[0]?.status} for the database`);
      }
      operation.outcome = isCommitted ? 'ok' : 'fail';
    }
    return found;
  }

  async #write(random: SeededRandom, place: number): Promise<void> {
    const { accounts, everyMs, postgres } = this.options;
    let client: Client | undefined;
    while (!this.#isStopped) {
      await this.#paused;
      await pause(everyMs * (0.2 + random.fraction() * 1.6));
      const operation = random.weighted(OPERATIONS);
      const account = random.pick(accounts);
      client ??= await postgres.connect().catch(() => undefined);
      if (!client) continue;
      const done = await this.#transact(client, operation, operation.make(account, random, this.serial), place);
      this.done.push(done.operation);
      if (done.isLost) {
        await client.end().catch(() => undefined);
        client = undefined;
      }
    }
    await client?.end().catch(() => undefined);
  }

  async #transact(client: Client, { name, end }: Operation, statements: readonly string[], place: number) {
    const invokedAt = performance.now();
    const mark = `${place}-${this.done.length}-${this.serial()}`;
    let xid: string | undefined;
    let outcome: DoneOperation['outcome'] = 'fail';
    let isLost = false;
    try {
      await client.query(
        `BEGIN; SELECT pg_logical_emit_message(true, '${MARK_PREFIX}', '${mark}'); ${statements.join(';\n')}`,
      );
      const { rows } = await client.query<{ xid: string }>('SELECT pg_current_xact_id()::text AS xid');
      xid = rows[0]?.xid;
      outcome = end === undefined || end === 'prepared' ? 'info' : 'fail';
      await finish(client, end, `chaos_${mark}`);
      if (outcome === 'info') outcome = 'ok';
    } catch (error) {
      // With a code the server refused it. Without one the connection is gone, and perhaps the COMMIT was heard.
      isLost = isConnectionLoss(error);
      if (!isLost) outcome = 'fail';
      if (!isLost) await client.query('ROLLBACK').catch(() => (isLost = true));
    }
    return { isLost, operation: { name, outcome, mark, xid, invokedAt, endedAt: performance.now() } };
  }
}

async function finish(client: Client, end: Operation['end'], gid: string): Promise<void> {
  if (end === undefined) await client.query('COMMIT');
  else if (end === 'rollback') await client.query('ROLLBACK');
  else {
    await client.query(`PREPARE TRANSACTION '${gid}'`);
    await client.query(end === 'prepared' ? `COMMIT PREPARED '${gid}'` : `ROLLBACK PREPARED '${gid}'`);
  }
}

function isConnectionLoss(error: unknown): boolean {
  const code = (error as { code?: string }).code ?? '';
  return !/^[0-9A-Z]{5}$/.test(code) || code.startsWith('57P') || code.startsWith('08');
}

/** Prepared transactions that their writer lost: rolled back, so that nothing waits for their locks. */
export async function rollBackAbandoned(sql: Client): Promise<void> {
  await eventually('prepared transactions to be gone', async () => {
    const { rows } = await sql.query<{ gid: string }>(
      'SELECT gid FROM pg_prepared_xacts WHERE database = current_database()',
    );
    for (const { gid } of rows) await sql.query(`ROLLBACK PREPARED '${gid}'`).catch(() => undefined);
    return rows.length === 0;
  });
}
