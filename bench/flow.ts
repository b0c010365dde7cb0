/**
 * How long a flow takes from `create_flow` to `flow_created`, and how many a second one server opens.
 *
 * Every flow is a new one: its row is made, registered and written. The gateway answers at once. The floor is an echo of
 * four hops through a bare relay in a process of its own, with the product's own frames; both kinds have the same two
 * peers in the bench process, which parse what they get.
 */
import { BenchPeer } from './bench-peer.js';
import { type BenchOptions, patiently, pause, quietestOf, rest, WARM_UP } from './bench.js';
import { type ChildProgram, startChild } from './child-program.js';
import { type FlowFrames, FlowOpener } from './flow-opener.js';
import { CPU_SECONDS, type Product, spentBetween } from './product.js';
import { ms, range, ratio, type Section, summaryTable } from './report.js';
import { type Pair, seedAccount } from './seeded-account.js';
import { summarize, type Summary } from './statistics.js';

const CLIENTS = 20;
/** As many `authorize_flow` as one gateway may owe (D34). */
const AT_ONCE = 32;
const BLOCKS = 5;
const BLOCK_FLOWS = 2_000;
/** For the rows of a block to be written before the other side's block. */
const BLOCK_PAUSE_MS = 500;

interface Round {
  readonly ours: Summary;
  readonly floor: Summary;
  /** Flows a second, of each block. */
  readonly oursPerSecond: readonly number[];
  readonly floorPerSecond: readonly number[];
  /** Processor time of the server for one flow, writing its row included. Unit ms. */
  readonly serverCpuMs: number;
  readonly bytes: readonly number[];
}

export async function benchFlow(product: Product, options: BenchOptions): Promise<Section> {
  const round = (): Promise<Round> => measure(product, options.samples);
  const { quietest, all } = await quietestOf(options.rounds, round, ({ floor }) => floor.p99);
  return {
    name: 'flow',
    title: 'bench:flow, from `create_flow` to `flow_created`',
    lines: describe(quietest, all),
  };
}

async function measure(product: Product, samples: number): Promise<Round> {
  const total = WARM_UP + samples + (BLOCKS + 1) * BLOCK_FLOWS;
  const account = await seedAccount(product, {
    clients: CLIENTS,
    resourcesPerClient: Math.ceil(total / CLIENTS),
  });
  const pairs = shuffledByClient(account.pairs);
  const flows = await FlowOpener.start(product, account, 1);
  await flows.openAll(pairs.splice(0, BLOCK_FLOWS), AT_ONCE);
  const echo = await Echo.start(flows.frames);
  await echo.many(BLOCK_FLOWS, AT_ONCE);

  const ours: number[] = [];
  const floor: number[] = [];
  for (const [index, pair] of pairs.splice(0, WARM_UP + samples).entries()) {
    if (index === WARM_UP) ours.length = floor.length = 0;
    if (index >= WARM_UP) await rest();
    ours.push(await flows.open(pair));
    if (index >= WARM_UP) await rest();
    floor.push(await echo.once());
  }

  const oursPerSecond: number[] = [];
  const floorPerSecond: number[] = [];
  let serverCpuMs = 0;
  for (let block = 0; block < BLOCKS; block += 1) {
    await pause(BLOCK_PAUSE_MS);
    const before = await product.metrics();
    oursPerSecond.push(await perSecond(() => flows.openAll(pairs.splice(0, BLOCK_FLOWS), AT_ONCE)));
    await pause(BLOCK_PAUSE_MS);
    serverCpuMs += spentBetween(before, await product.metrics(), CPU_SECONDS) * 1000;
    floorPerSecond.push(await perSecond(() => echo.many(BLOCK_FLOWS, AT_ONCE)));
  }
  const bytes = Object.values(flows.frames).map((frame: string) => Buffer.byteLength(frame));
  await echo.close();
  await flows.close();
  return {
    ours: summarize(ours),
    floor: summarize(floor),
    oursPerSecond,
    floorPerSecond,
    serverCpuMs: serverCpuMs / (BLOCKS * BLOCK_FLOWS),
    bytes,
  };
}

/** Client after client, so that no one socket carries a whole block. */
function shuffledByClient(pairs: readonly Pair[]): Pair[] {
  const byClient = Array.from({ length: CLIENTS }, (_, client) => pairs.filter((pair) => pair.client === client));
  return (byClient[0] ?? []).flatMap((_, i) => byClient.flatMap((own) => own[i] ?? []));
}

async function perSecond(block: () => Promise<void>): Promise<number> {
  const startedAt = performance.now();
  await block();
  return (BLOCK_FLOWS / (performance.now() - startedAt)) * 1000;
}

/** The four hops without a product in the middle. Answers come in the order of the questions. */
class Echo {
  readonly #waiting: ((at: number) => void)[] = [];

  private constructor(
    private readonly child: ChildProgram,
    private readonly client: BenchPeer,
    private readonly gateway: BenchPeer,
    private readonly frames: FlowFrames,
  ) {
    client.onFrame = (_frame, at) => this.#waiting.shift()?.(at);
    gateway.onFrame = ({ payload }) => {
      const { ref } = payload as { readonly ref: string };
      gateway.sendText(JSON.stringify({ topic: 'gateway', event: 'flow_authorized', payload: { ref }, ref: 1 }));
    };
  }

  static async start(frames: FlowFrames): Promise<Echo> {
    const child = await startChild('bare-relay', { toGateway: frames.authorizeFlow, toClient: frames.flowCreated });
    const [client, gateway] = [`${child.url}/client`, `${child.url}/gateway`];
    return new Echo(child, await BenchPeer.connect(client), await BenchPeer.connect(gateway), { ...frames });
  }

  once(): Promise<number> {
    return patiently('the echo', (resolve) => {
      const askedAt = performance.now();
      this.#waiting.push((at) => {
        resolve(at - askedAt);
      });
      this.client.sendText(this.frames.createFlow);
    });
  }

  async many(count: number, atOnce: number): Promise<void> {
    let left = count;
    const lane = async (): Promise<void> => {
      while (left-- > 0) await this.once();
    };
    await Promise.all(Array.from({ length: atOnce }, lane));
  }

  async close(): Promise<void> {
    await Promise.all([this.client.close(), this.gateway.close()]);
    await this.child.stop();
  }
}

function describe(quietest: Round, all: readonly Round[]): string[] {
  const { ours, floor, oursPerSecond, floorPerSecond, serverCpuMs, bytes } = quietest;
  const ourRate = summarize(oursPerSecond).p50;
  const floorRate = summarize(floorPerSecond).p50;
  return [
    ...summaryTable([
      ['`create_flow` → `flow_created`, one at a time', ours],
      ['floor: four hops over bare `ws`, one at a time', floor],
    ]),
    '',
    `| with ${AT_ONCE} unanswered | flows/s, median of ${BLOCKS} blocks | range |`,
    '|---|---:|---:|',
    `| ours | ${whole(ourRate)} | ${range(oursPerSecond, whole)} |`,
    `| floor | ${whole(floorRate)} | ${range(floorPerSecond, whole)} |`,
    '',
    `- Ours to floor: ${ratio(ours.p50, floor.p50)} at p50, ${ratio(ours.p99, floor.p99)} at p99; ` +
      `${ratio(floorRate, ourRate)} the time of the floor per flow when pipelined. Aim: within 1.5×.`,
    `- Processor time of the server: ${ms(serverCpuMs)} ms per pipelined flow, writing its row included.`,
    `- ${ours.count} samples of each, in turn, after ${WARM_UP + BLOCK_FLOWS} of warm-up; ${CLIENTS} clients, one gateway, ` +
      `${BLOCK_FLOWS} flows a block; every flow is new and recorded. Bytes of the four frames: ${bytes.join(', ')}.`,
    ...noiseOf(all),
  ];
}

function noiseOf(all: readonly Round[]): string[] {
  if (all.length === 1) return ['- One round.'];
  return [
    `- The quietest of ${all.length} rounds (lowest p99 of the floor). Over all of them: ours p50 ` +
      `${range(all.map(({ ours }) => ours.p50))}, floor p50 ${range(all.map(({ floor }) => floor.p50))}; flows/s ours ` +
      `${range(
        all.map((round) => summarize(round.oursPerSecond).p50),
        whole,
      )}, floor ${range(
        all.map((round) => summarize(round.floorPerSecond).p50),
        whole,
      )}.`,
  ];
}

function whole(value: number): string {
  return String(Math.round(value));
}
