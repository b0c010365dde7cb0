/**
 * How long after a revoking commit its gateway has read the rejection, and the server knows it.
 *
 * Two instants of each sample: the pong leaves the gateway (one clock, exact), and the server has taken it (its own row,
 * in whole milliseconds since the time that PostgreSQL gave the commit). One gateway holds the flow that a sample cuts; the
 * other 999 are connected to the same account. The floor is sampled in between and under the same load: a bare slot reader
 * that sends one frame and one ping to a peer in the same process as the gateways.
 */
import { randomUUID } from 'node:crypto';
import type { Client } from 'pg';
import { type BenchOptions, monotonicMs, patiently, pause, rest } from './bench.js';
import type { Written, WriterInput, WriterOrder } from './background-writer.js';
import { type ChildProgram, type Partner, startChild, startPartner } from './child-program.js';
import { FLOOR_PUBLICATION, fillFloorTable, makeFloorTable } from './floor-table.js';
import { FlowOpener } from './flow-opener.js';
import type { CrowdInput, CrowdSaid } from './peer-crowd.js';
import type { Product } from './product.js';
import { ratio, type Section, summaryTable } from './report.js';
import { type Pair, seedAccount, type SeededAccount } from './seeded-account.js';
import { summarize, type Summary } from './statistics.js';

const GATEWAYS = [1, 1_000] as const;
const CLIENTS = 20;
/** Of what `--samples` says: there are four measurements, each with a rest before each sample. */
const SHARE_OF_SAMPLES = 0.15;
const WARM_UP = 200;
const RECORDED_WITHIN_MS = 5_000;
/** 1,000 changes/s, as the commits of several administrators rather than as a single import. */
const WRITTEN_ACCOUNTS = 10;
const CHANGES_PER_COMMIT = 5;
const COMMITS_PER_SECOND = 200;

type Load = 'idle' | 'busy';

interface Measured {
  readonly gateways: number;
  readonly load: Load;
  readonly pong: Summary;
  readonly floor: Summary;
  /** From PostgreSQL's time of the commit to the receipt, whole ms. */
  readonly recorded: Summary;
  /** Background changes a second. */
  readonly rate: number;
}

export async function benchReceipt(product: Product, options: BenchOptions): Promise<Section> {
  const samples = Math.ceil(options.samples * SHARE_OF_SAMPLES);
  await makeFloorTable(product.sql);
  const background = await startBackground(product);
  const measured: Measured[] = [];
  for (const gateways of GATEWAYS) {
    const account = await seedAccount(product, {
      clients: CLIENTS,
      resourcesPerClient: Math.ceil((2 * samples + WARM_UP) / CLIENTS),
    });
    const bed = await TestBed.start(product, account, gateways);
    await bed.sample(WARM_UP, false);
    for (const load of ['idle', 'busy'] as const) {
      if (load === 'busy') background.send('write' satisfies WriterOrder);
      const found = await bed.sample(samples, true);
      const rate = load === 'busy' ? await rateOf(background) : 0;
      measured.push({ gateways, load, rate, ...found, recorded: await recordedOf(product, found.resourceIds) });
    }
    await bed.close();
  }
  await background.stop();
  return {
    name: 'receipt',
    title: 'bench:receipt, from COMMIT to the receipt of `reject_access`',
    lines: describe(measured, samples),
  };
}

/** A gateway crowd, clients whose flows they hold, and the floor. */
class TestBed {
  readonly #receipts = new Map<string, (at: number) => void>();
  readonly #pairs: Pair[];

  private constructor(
    private readonly sql: Client,
    account: SeededAccount,
    private readonly clients: FlowOpener,
    private readonly gateways: Partner<CrowdSaid>,
    private readonly floor: ChildProgram,
    private readonly floorPair: string,
    private readonly floorRows: string[],
  ) {
    this.#pairs = [...account.pairs].sort((a, b) => (a.policyId < b.policyId ? -1 : 1));
    gateways.onMessage = (said) => {
      if (said.kind === 'receipt') this.#receipts.get(said.resourceId)?.(said.at);
    };
  }

  static async start(product: Product, account: SeededAccount, gatewayCount: number): Promise<TestBed> {
    const floorRows = await fillFloorTable(product.sql, account.accountId);
    const floorPair = randomUUID();
    const payload = { client_id: randomUUID(), resource_id: floorPair };
    const frame = JSON.stringify({ topic: 'gateway', event: 'reject_access', ref: null, payload });
    const { databaseUrl, wsUrl } = product;
    const reader = { databaseUrl, publication: FLOOR_PUBLICATION, frame, isPinging: true };
    const floor = await startChild('bare-slot-reader', reader);
    const peers = Array.from({ length: gatewayCount }, () => {
      return { role: 'gateway' as const, token: account.gatewayToken, externalId: randomUUID() };
    });
    const crowd: CrowdInput = { serverUrl: wsUrl, peers, floorUrl: floor.url };
    const gateways = await startPartner<CrowdSaid>('peer-crowd', crowd);
    const clients = await FlowOpener.start(product, account, 0);
    await clients.openAll(account.pairs, 16);
    await product.settled();
    return new TestBed(product.sql, account, clients, gateways, floor, floorPair, floorRows);
  }

  /** Ours and the floor in turn, from COMMIT sent to the pong. */
  async sample(
    count: number,
    isRested: boolean,
  ): Promise<{ readonly pong: Summary; readonly floor: Summary; readonly resourceIds: readonly string[] }> {
    const ours: number[] = [];
    const bare: number[] = [];
    const pairs = this.#pairs.splice(0, count);
    for (const { policyId, resourceId } of pairs) {
      if (isRested) await rest();
      ours.push(await this.#timeCommit('DELETE FROM policies WHERE id = $1', policyId, resourceId));
      if (isRested) await rest();
      bare.push(await this.#timeCommit('DELETE FROM bench_floor WHERE id = $1', this.floorRows.pop(), this.floorPair));
    }
    const resourceIds = pairs.map(({ resourceId }) => resourceId);
    return { pong: summarize(ours), floor: summarize(bare), resourceIds };
  }

  async close(): Promise<void> {
    await this.clients.close();
    await this.gateways.stop();
    await this.floor.stop();
  }

  /** Only the COMMIT is timed: the statement before it has been answered. */
  async #timeCommit(statement: string, id: string | undefined, resourceId: string): Promise<number> {
    const receipted = patiently<number>(`the receipt of ${resourceId}`, (resolve) => {
      this.#receipts.set(resourceId, resolve);
    });
    await this.sql.query('BEGIN');
    const { rowCount } = await this.sql.query(statement, [id]);
    if (rowCount !== 1) throw new Error(`${statement}: no such row`);
    const sentAt = monotonicMs();
    await this.sql.query('COMMIT');
    const leftAt = await receipted;
    this.#receipts.delete(resourceId);
    return leftAt - sentAt;
  }
}

/** As the server has written them down, a moment after it had them. Fails when one was not receipted. */
async function recordedOf({ sql, settled }: Product, resourceIds: readonly string[]): Promise<Summary> {
  const lastLookAt = monotonicMs() + RECORDED_WITHIN_MS;
  for (;;) {
    await settled();
    const { rows } = await sql.query<{ ms: number | null }>(
      `SELECT (extract(epoch FROM delivered_at - revoked_committed_at) * 1000)::float8 AS ms
       FROM flows WHERE resource_id = ANY($1) AND delivery = 'receipted'`,
      [resourceIds],
    );
    const known = rows.flatMap(({ ms }) => ms ?? []);
    if (known.length === resourceIds.length) return summarize(known);
    if (monotonicMs() > lastLookAt) throw new Error(`${known.length} receipts of ${resourceIds.length}`);
    await pause(100);
  }
}

async function startBackground(product: Product): Promise<Partner<Written>> {
  const accounts: SeededAccount[] = [];
  for (let i = 0; i < WRITTEN_ACCOUNTS; i += 1) {
    accounts.push(await seedAccount(product, { clients: 1, resourcesPerClient: CHANGES_PER_COMMIT }));
  }
  const clients = accounts.flatMap((account) =>
    account.clients.map(({ token }) => ({ role: 'client' as const, token, externalId: randomUUID() })),
  );
  const input: WriterInput = {
    ...{ databaseUrl: product.databaseUrl, serverUrl: product.wsUrl, clients, commitsPerSecond: COMMITS_PER_SECOND },
    resourceIds: accounts.map(({ pairs }) => pairs.map(({ resourceId }) => resourceId)),
  };
  return startPartner<Written>('background-writer', input);
}

async function rateOf(background: Partner<Written>): Promise<number> {
  const { changes, overMs } = await patiently<Written>('the writer to rest', (resolve) => {
    background.onMessage = resolve;
    background.send('rest' satisfies WriterOrder);
  });
  return (changes / overMs) * 1000;
}

function describe(measured: readonly Measured[], samples: number): string[] {
  const name = ({ gateways, load }: Measured): string => `${gateways} connected, ${load}`;
  return [
    ...summaryTable(
      measured.flatMap((each) => [
        [`${name(each)}: the pong has left the gateway`, each.pong] as const,
        [`${name(each)}: floor, bare slot reader and one ping over \`ws\``, each.floor] as const,
        [`${name(each)}: the server has the receipt (whole ms, since PostgreSQL's time of the commit)`, each.recorded],
      ]),
    ),
    '',
    '- Both first rows are from COMMIT sent; the third begins inside the COMMIT, before its fsync. ' +
      'One more hop, of a pong of some 60 bytes, lies between the first and the third.',
    `- Ours to floor at p50: ${measured.map((each) => `${ratio(each.pong.p50, each.floor.p50)} (${name(each)})`).join(', ')}.`,
    `- Busy: ${measured
      .filter(({ load }) => load === 'busy')
      .map(({ rate }) => Math.round(rate))
      .join(' and ')} changes/s in ${WRITTEN_ACCOUNTS} other accounts, ${CHANGES_PER_COMMIT} in a commit, each ` +
      'account with a client that is told of them.',
    `- ${samples} samples of each, in turn, after ${WARM_UP} of warm-up; one flow at one gateway is cut by each. ` +
      'Every one of them is receipted in its row (else this bench fails). One round.',
  ];
}
