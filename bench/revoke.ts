/**
 * How long after a revoking commit the gateway hears `reject_access`.
 *
 * Each sample deletes one policy, by which one of some thousand live flows was justified, in a transaction of its own;
 * no sample undoes another, so the account shrinks from sample to sample as it would under a busy administrator's hand.
 * Between any two of them the floor is sampled: the same kind of commit in a table of the bench, read from a temporary
 * slot by a bare reader that sends one frame of the same size. Both see the same machine, and neither runs while the
 * other is timed.
 */
import { randomUUID } from 'node:crypto';
import type { Client } from 'pg';
import { type BenchOptions, patiently, quietestOf, rest, WARM_UP } from './bench.js';
import { BenchPeer } from './bench-peer.js';
import { type ChildProgram, startChild } from './child-program.js';
import { FLOOR_PUBLICATION, fillFloorTable, makeFloorTable } from './floor-table.js';
import { FlowOpener } from './flow-opener.js';
import { type Product, spentBetween } from './product.js';
import { ms, range, ratio, type Section, summaryTable } from './report.js';
import { seedAccount } from './seeded-account.js';
import { type Collections, summarize, type Summary, watchCollections } from './statistics.js';

const CLIENTS = 20;
const GATEWAYS = 4;
interface Timing {
  readonly sentAt: number;
  readonly repliedAt: number;
  readonly heardAt: number;
}

interface Timings {
  readonly fromSent: Summary;
  readonly fromReply: Summary;
  readonly commit: Summary;
}

interface Round {
  readonly ours: Timings;
  readonly floor: Timings;
  readonly peerCollections: Collections;
  readonly serverCollections: Collections;
}

export async function benchRevoke(product: Product, options: BenchOptions): Promise<Section> {
  await makeFloorTable(product.sql);
  const round = (): Promise<Round> => measure(product, options.samples);
  const { quietest, all } = await quietestOf(options.rounds, round, ({ floor }) => floor.fromSent.p99);
  return { name: 'revoke', title: 'bench:revoke, from COMMIT to `reject_access`', lines: describe(quietest, all) };
}

async function measure(product: Product, samples: number): Promise<Round> {
  const total = samples + WARM_UP;
  const account = await seedAccount(product, {
    clients: CLIENTS,
    resourcesPerClient: Math.ceil(total / CLIENTS),
  });
  const flows = await FlowOpener.start(product, account, GATEWAYS);
  await flows.openAll(account.pairs, 16);
  const floor = await FloorReader.start(product, account.accountId);
  await product.settled();
  const shuffled = account.pairs.slice(0, total).sort((a, b) => (a.policyId < b.policyId ? -1 : 1));

  const ours: Timing[] = [];
  const bare: Timing[] = [];
  let before = await product.metrics();
  let collections = watchCollections();
  for (const [index, pair] of shuffled.entries()) {
    if (index === WARM_UP) {
      ours.length = 0;
      bare.length = 0;
      before = await product.metrics();
      collections.stop();
      collections = watchCollections();
    }
    if (index >= WARM_UP) await rest();
    ours.push(await timeCommit(product.sql, 'DELETE FROM policies WHERE id = $1', pair.policyId, flows.rejected(pair)));
    if (index >= WARM_UP) await rest();
    bare.push(await timeCommit(product.sql, 'DELETE FROM bench_floor WHERE id = $1', floor.takeRow(), floor.heard()));
  }
  const peerCollections = collections.stop();
  const serverCollections = collectionsBetween(before, await product.metrics());
  await floor.close();
  await flows.close();
  return { ours: timings(ours), floor: timings(bare), peerCollections, serverCollections };
}

/** Only the COMMIT is timed: the statement before it has been answered. */
async function timeCommit(sql: Client, statement: string, id: string, heard: Promise<number>): Promise<Timing> {
  await sql.query('BEGIN');
  const { rowCount } = await sql.query(statement, [id]);
  if (rowCount !== 1) throw new Error(`${statement}: no such row`);
  const sentAt = performance.now();
  await sql.query('COMMIT');
  const repliedAt = performance.now();
  return { sentAt, repliedAt, heardAt: await heard };
}

function timings(samples: readonly Timing[]): Timings {
  return {
    fromSent: summarize(samples.map(({ sentAt, heardAt }) => heardAt - sentAt)),
    fromReply: summarize(samples.map(({ repliedAt, heardAt }) => heardAt - repliedAt)),
    commit: summarize(samples.map(({ sentAt, repliedAt }) => repliedAt - sentAt)),
  };
}

class FloorReader {
  readonly #rows: string[] = [];

  private constructor(
    private readonly child: ChildProgram,
    private readonly peer: BenchPeer,
    rows: readonly string[],
  ) {
    this.#rows.push(...rows);
  }

  /** Its rows are there before its slot is, so that it reads their deletes only. */
  static async start(product: Product, accountId: string): Promise<FloorReader> {
    const rows = await fillFloorTable(product.sql, accountId);
    const payload = { client_id: randomUUID(), resource_id: randomUUID() };
    const frame = JSON.stringify({ topic: 'gateway', event: 'reject_access', ref: null, payload });
    const { databaseUrl } = product;
    const child = await startChild('bare-slot-reader', {
      databaseUrl,
      publication: FLOOR_PUBLICATION,
      frame,
      isPinging: false,
    });
    return new FloorReader(child, await BenchPeer.connect(child.url), rows);
  }

  takeRow(): string {
    const id = this.#rows.pop();
    if (id === undefined) throw new Error('the floor has no rows left');
    return id;
  }

  heard(): Promise<number> {
    return patiently('the frame of the floor', (resolve) => {
      this.peer.onFrame = (_frame, at) => {
        resolve(at);
      };
    });
  }

  async close(): Promise<void> {
    await this.peer.close();
    await this.child.stop();
  }
}

function collectionsBetween(before: ReadonlyMap<string, number>, after: ReadonlyMap<string, number>): Collections {
  return {
    count: spentBetween(before, after, 'nodejs_gc_duration_seconds_count'),
    totalMs: spentBetween(before, after, 'nodejs_gc_duration_seconds_sum') * 1000,
  };
}

function describe(quietest: Round, all: readonly Round[]): string[] {
  const { ours, floor, serverCollections: server, peerCollections: peer } = quietest;
  return [
    ...summaryTable([
      ['`reject_access` after the reply to COMMIT', ours.fromReply],
      ['floor: bare slot reader and one `ws` hop, after the reply', floor.fromReply],
      ['`reject_access` after COMMIT was sent', ours.fromSent],
      ['floor, after COMMIT was sent', floor.fromSent],
      ['the COMMIT itself (fsync on), sent to reply', ours.commit],
    ]),
    '',
    `- Ours to floor at p50: ${ratio(ours.fromSent.p50, floor.fromSent.p50)} after COMMIT was sent, ` +
      `${ratio(ours.fromReply.p50, floor.fromReply.p50)} after its reply ` +
      `(${ms(ours.fromReply.p50 - floor.fromReply.p50)} ms on top of the floor).`,
    '- Aim: after the reply p50 ≤ 2 ms and p99 ≤ 10 ms; p50 within 2× of the floor.',
    `- ${ours.fromSent.count} samples of each, in turn, after ${WARM_UP} of warm-up; ${CLIENTS} clients, ` +
      `${GATEWAYS} gateways, one live flow cut by each sample. A frame may come before the reply: then the time after it is negative.`,
    `- Collections while measuring: server ${server.count} (${ms(server.totalMs)} ms in all), ` +
      `bench ${peer.count} (${ms(peer.totalMs)} ms in all).`,
    ...noiseOf(all),
  ];
}

function noiseOf(all: readonly Round[]): string[] {
  if (all.length === 1) return ['- One round.'];
  const p50s = (of: (round: Round) => Timings): string => range(all.map((round) => of(round).fromSent.p50));
  const p99s = (of: (round: Round) => Timings): string => range(all.map((round) => of(round).fromSent.p99));
  const ours = ({ ours: timed }: Round): Timings => timed;
  const floor = ({ floor: timed }: Round): Timings => timed;
  return [
    `- The quietest of ${all.length} rounds (lowest p99 of the floor). Over all of them, after COMMIT was sent: ours p50 ` +
      `${p50s(ours)}, p99 ${p99s(ours)}; floor p50 ${p50s(floor)}, p99 ${p99s(floor)}.`,
  ];
}
