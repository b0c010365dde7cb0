/**
 * What one commit of 1,000,000 changed rows does to everybody else: 1,000 clients are connected to ten accounts, a row of
 * each of which it changes too, and another account's administrator goes on deleting policies all the while.
 *
 * The lag is measured as that other account has it, from the reply to each COMMIT to `reject_access` at the gateway: it
 * needs no metric of ours. What commits behind the huge commit waits until PostgreSQL has sent all of it.
 */
import { randomUUID } from 'node:crypto';
import { Client } from 'pg';
import { type BenchOptions, pause } from './bench.js';
import { BenchPeer } from './bench-peer.js';
import { FlowOpener } from './flow-opener.js';
import { rssOf, watchRss } from './memory.js';
import type { Product } from './product.js';
import { ms, type Section, summaryTable } from './report.js';
import { type Pair, seedAccount, type SeededAccount } from './seeded-account.js';
import { summarize } from './statistics.js';

const ROWS = 1_000_000;
const ACCOUNTS = 10;
const CLIENTS_PER_ACCOUNT = 100;
/** Revocations of the other account. */
const REVOKE_EVERY_MS = 100;
const MOST_REVOCATIONS = 2_000;
/** Before the commit, for what is usual; and behind it, to see that it stays so. */
const USUAL_FOR_MS = 5_000;
const REST_MS = 5_000;
const AIM = { memoryMib: 150, stallMs: 200, lagMs: 1_000, withinMs: 30_000 };

interface Revoked {
  /** Of `performance.now`, when COMMIT was answered. */
  readonly at: number;
  readonly delayMs: number;
}

export async function benchHuge(product: Product, _options: BenchOptions): Promise<Section> {
  const accounts: SeededAccount[] = [];
  for (let i = 0; i < ACCOUNTS; i += 1) {
    accounts.push(await seedAccount(product, { clients: CLIENTS_PER_ACCOUNT, resourcesPerClient: 1 }));
  }
  const peers: BenchPeer[] = [];
  for (const { token } of accounts.flatMap(({ clients }) => clients)) {
    peers.push(await BenchPeer.join(product.wsUrl, { role: 'client', token, externalId: randomUUID() }));
  }
  const bystander = await Bystander.start(product);
  const hugeId = await anEmptyAccount(product.sql);
  await bystander.revokeFor(USUAL_FOR_MS);
  await product.settled();
  await pause(REST_MS);

  const rssBefore = rssOf(product.serverPid);
  const memory = watchRss(product.serverPid);
  const before = await product.metrics(); // starts the watch on the event loop anew
  const stalls = watchStalls(product);
  const revoking = bystander.revokeUntilTold();
  const startedAt = performance.now();
  await commitHuge(product.sql, hugeId, accounts);
  const committedAt = performance.now();
  const recorded = recordedAfter(product, hugeId);
  const recordedAt = await recorded;
  await pause(USUAL_FOR_MS);
  bystander.stop();
  const revoked = await revoking;
  const after = await product.metrics();
  const found: Found = {
    ...{ startedAt, committedAt, recordedAt, revoked, rssBefore },
    usual: bystander.usual,
    statements: ['append-change-log', 'hydrate-account'].map((question) => ({
      question,
      ...asked(before, after, question),
    })),
    rssMost: memory.stop(),
    stallMs: await stalls.stop(),
  };
  const closed = peers.filter((peer) => peer.isClosed).length;
  if (closed > 0) throw new Error(`${closed} of ${peers.length} clients were cut off`);
  await bystander.close();
  await Promise.all(peers.map((peer) => peer.close()));
  return {
    name: 'huge',
    title: `bench:huge, one commit of ${ROWS.toLocaleString('en')} rows, ${peers.length} clients connected`,
    lines: describe(found),
  };
}

/** Another account, in which one revocation follows the other. */
class Bystander {
  readonly usual: Revoked[] = [];
  readonly #pairs: Pair[];
  #isTold = false;

  private constructor(
    private readonly sql: Client,
    account: SeededAccount,
    private readonly flows: FlowOpener,
  ) {
    this.#pairs = [...account.pairs];
  }

  static async start(product: Product): Promise<Bystander> {
    const clients = 20;
    const account = await seedAccount(product, { clients, resourcesPerClient: MOST_REVOCATIONS / clients });
    const flows = await FlowOpener.start(product, account, 1);
    await flows.openAll(account.pairs, 16);
    const sql = new Client({ connectionString: product.databaseUrl });
    await sql.connect();
    return new Bystander(sql, account, flows);
  }

  async revokeFor(forMs: number): Promise<void> {
    const until = performance.now() + forMs;
    const arriving: Promise<Revoked>[] = [];
    while (performance.now() < until) await this.#revoke(arriving);
    this.usual.push(...(await Promise.all(arriving)));
  }

  /** Each at its time, whether the one before it has arrived or not. Rejects when one does not arrive. */
  async revokeUntilTold(): Promise<readonly Revoked[]> {
    const arriving: Promise<Revoked>[] = [];
    while (!this.#isTold) await this.#revoke(arriving);
    return Promise.all(arriving);
  }

  stop(): void {
    this.#isTold = true;
  }

  async close(): Promise<void> {
    await this.sql.end();
    await this.flows.close();
  }

  async #revoke(arriving: Promise<Revoked>[]): Promise<void> {
    const pair = this.#pairs.pop();
    if (!pair) throw new Error('nothing is left to be revoked');
    const rejected = this.flows.rejected(pair, LONGEST_WAIT_MS);
    await this.sql.query('DELETE FROM policies WHERE id = $1', [pair.policyId]);
    const at = performance.now();
    arriving.push(rejected.then((heardAt) => ({ at, delayMs: Math.max(0, heardAt - at) })));
    await pause(REVOKE_EVERY_MS);
  }
}

/** A revocation that takes longer has failed. */
const LONGEST_WAIT_MS = 120_000;

async function anEmptyAccount(sql: Client): Promise<string> {
  const accountId = randomUUID();
  await sql.query('INSERT INTO accounts (id) VALUES ($1)', [accountId]);
  return accountId;
}

async function commitHuge(sql: Client, hugeId: string, accounts: readonly SeededAccount[]): Promise<void> {
  await sql.query('BEGIN');
  await sql.query(`UPDATE groups SET name = 'changed' WHERE id = ANY($1)`, [
    accounts.map(({ clients }) => clients[0]?.groupId),
  ]);
  const { rowCount } = await sql.query(
    `INSERT INTO groups (account_id, name) SELECT $1, 'Group ' || i FROM generate_series(1, $2::int) AS i`,
    [hugeId, ROWS - accounts.length],
  );
  if (rowCount !== ROWS - accounts.length) throw new Error(`${rowCount} rows`);
  await sql.query('COMMIT');
}

/** When the event store has every row of it. Of `performance.now`. */
async function recordedAfter({ sql }: Product, hugeId: string): Promise<number> {
  for (;;) {
    const { rowCount } = await sql.query(
      `SELECT FROM (SELECT seq FROM change_log WHERE account_id = $1 ORDER BY position DESC, seq DESC LIMIT 1) AS last
       WHERE seq = $2`,
      [hugeId, ROWS - 1],
    );
    if (rowCount === 1) return performance.now();
    await pause(250);
  }
}

/** The server's longest stall from now on: each look at its metrics starts its watch anew. */
function watchStalls(product: Product): { stop(): Promise<number> } {
  let longest = 0;
  let isOver = false;
  const look = async (): Promise<void> => {
    const seconds = (await product.metrics()).get('nodejs_eventloop_lag_max_seconds') ?? NaN;
    longest = Math.max(longest, seconds * 1000);
  };
  const looking = (async () => {
    while (!isOver) {
      await pause(1_000);
      await look();
    }
  })();
  return {
    stop: async () => {
      isOver = true;
      await looking;
      return longest;
    },
  };
}

interface Asked {
  readonly count: number;
  readonly totalMs: number;
}

function asked(before: ReadonlyMap<string, number>, after: ReadonlyMap<string, number>, question: string): Asked {
  const grown = (name: string): number => {
    const key = `portcullis_query_ms_${name}{question="${question}"}`;
    return (after.get(key) ?? 0) - (before.get(key) ?? 0);
  };
  return { count: grown('count'), totalMs: grown('sum') };
}

interface Found {
  readonly statements: readonly (Asked & { readonly question: string })[];
  readonly startedAt: number;
  readonly committedAt: number;
  readonly recordedAt: number;
  readonly usual: readonly Revoked[];
  readonly revoked: readonly Revoked[];
  readonly rssBefore: number;
  readonly rssMost: number;
  readonly stallMs: number;
}

function describe(found: Found): string[] {
  const { startedAt, committedAt, recordedAt, usual, revoked, rssBefore, rssMost, stallMs } = found;
  const delays = (some: readonly Revoked[]) => summarize(some.map(({ delayMs }) => delayMs));
  const late = revoked.filter(({ delayMs }) => delayMs > AIM.lagMs);
  const caughtUpAt = Math.max(committedAt, ...late.map(({ at, delayMs }) => at + delayMs));
  const grownMib = (rssMost - rssBefore) / 2 ** 20;
  const seconds = (value: number): string => `${(value / 1000).toFixed(1)} s`;
  const aim = (value: number, most: number): string => (value <= most ? 'met' : 'MISSED');
  return [
    ...summaryTable([
      ['`reject_access` of another account after the reply to COMMIT, before', delays(usual)],
      ['while the rows are written', delays(revoked.filter(({ at }) => at < committedAt))],
      [
        'from the commit until it is recorded',
        delays(revoked.filter(({ at }) => at >= committedAt && at < recordedAt)),
      ],
      ['after that', delays(revoked.filter(({ at }) => at >= recordedAt))],
    ]),
    '',
    `- Memory of the server grew by ${grownMib.toFixed(0)} MiB at most (from ${(rssBefore / 2 ** 20).toFixed(0)} MiB, RSS). ` +
      `Aim ≤ ${AIM.memoryMib} MB: ${aim(rssMost - rssBefore, AIM.memoryMib * 1e6)}.`,
    `- Longest stall of its event loop: ${ms(stallMs)} ms. Aim ≤ ${AIM.stallMs} ms: ${aim(stallMs, AIM.stallMs)}.`,
    `- A revocation takes less than 1 s again ${seconds(caughtUpAt - committedAt)} after the reply to the huge COMMIT. ` +
      `Aim ≤ ${seconds(AIM.withinMs)}: ${aim(caughtUpAt - committedAt, AIM.withinMs)}.`,
    `- Writing the rows took PostgreSQL ${seconds(committedAt - startedAt)}; all of them are in \`change_log\` ` +
      `${seconds(recordedAt - committedAt)} after the commit.`,
    `- Statements of the server meanwhile: ${found.statements
      .map(({ question, count, totalMs }) => `${count} \`${question}\` in ${seconds(totalMs)}`)
      .join(', ')}.`,
    `- ${revoked.length} revocations, one each ${REVOKE_EVERY_MS} ms; all arrived, and no client was cut off (else this bench fails). ` +
      `${ACCOUNTS} accounts with all the clients were read again for it.`,
  ];
}
