/**
 * Everybody loses the socket at one moment and is back within a second or two: how long until all have their `init` again,
 * what the database is asked for it, and how much memory it takes.
 */
import { randomUUID } from 'node:crypto';
import { type BenchOptions, patiently, pause } from './bench.js';
import type { PeerIdentity } from './bench-peer.js';
import { type Partner, startPartner } from './child-program.js';
import { rssOf, watchRss } from './memory.js';
import type { CrowdInput, CrowdSaid, Drop } from './peer-crowd.js';
import { CPU_SECONDS, type Product, spentBetween } from './product.js';
import { type Section, summaryTable } from './report.js';
import { seedAccount } from './seeded-account.js';
import { summarize, type Summary } from './statistics.js';

const ACCOUNTS = 50;
const CLIENTS_PER_ACCOUNT = 90;
const GATEWAYS_PER_ACCOUNT = 10;
const PEERS = ACCOUNTS * (CLIENTS_PER_ACCOUNT + GATEWAYS_PER_ACCOUNT);
/** Peers come back at random moments within it. */
const WITHIN_MS = 1_000;
const BACK_WITHIN_MS = 180_000;
const SETTLE_MS = 3_000;
/** The one question that reads an account's rows of access; all its tables are one set. */
const ACCESS_QUESTION = 'hydrate-account';

type Back = Extract<CrowdSaid, { readonly kind: 'back' }>;

interface Found {
  readonly back: Summary;
  readonly refused: number;
  readonly accessReads: number;
  readonly statements: readonly (readonly [question: string, count: number])[];
  readonly cpuSeconds: number;
  readonly rssBefore: number;
  readonly rssMost: number;
}

export async function benchStorm(product: Product, _options: BenchOptions): Promise<Section> {
  const peers: PeerIdentity[] = [];
  for (let i = 0; i < ACCOUNTS; i += 1) {
    const account = await seedAccount(product, { clients: CLIENTS_PER_ACCOUNT, resourcesPerClient: 1 });
    const client = ({ token }: { readonly token: string }): PeerIdentity => ({
      ...{ role: 'client', token, externalId: randomUUID() },
    });
    const gateway = (): PeerIdentity => ({ role: 'gateway', token: account.gatewayToken, externalId: randomUUID() });
    peers.push(...account.clients.map(client), ...Array.from({ length: GATEWAYS_PER_ACCOUNT }, gateway));
  }
  const input: CrowdInput = { serverUrl: product.wsUrl, peers };
  const crowd = await startPartner<CrowdSaid>('peer-crowd', input);
  const found = await storm(product, crowd);
  await crowd.stop();
  if (found.accessReads > ACCOUNTS) throw new Error(`${found.accessReads} accounts were read for ${ACCOUNTS}`);
  return {
    name: 'storm',
    title: `bench:storm, ${PEERS} peers in ${ACCOUNTS} accounts dropped at once`,
    lines: describe(found),
  };
}

async function storm(product: Product, crowd: Partner<CrowdSaid>): Promise<Found> {
  await product.settled();
  await pause(SETTLE_MS);
  const before = await product.metrics();
  const rssBefore = rssOf(product.serverPid);
  const memory = watchRss(product.serverPid);
  const whenBack = (resolve: (back: Back) => void): void => {
    crowd.onMessage = (said) => {
      if (said.kind === 'back') resolve(said);
    };
    crowd.send({ withinMs: WITHIN_MS } satisfies Drop);
  };
  const { afterMs, refused } = await patiently('all to be back', whenBack, BACK_WITHIN_MS);
  const after = await product.metrics();
  const statements = statementsBetween(before, after);
  return {
    ...{ back: summarize(afterMs), refused, statements, rssBefore, rssMost: memory.stop() },
    accessReads: statements.find(([question]) => question === ACCESS_QUESTION)?.[1] ?? 0,
    cpuSeconds: spentBetween(before, after, CPU_SECONDS),
  };
}

const STATEMENT_COUNT = /^portcullis_query_ms_count\{question="(.+)"\}$/;

function statementsBetween(
  before: ReadonlyMap<string, number>,
  after: ReadonlyMap<string, number>,
): (readonly [question: string, count: number])[] {
  return [...after]
    .flatMap(([key, value]) => {
      const question = STATEMENT_COUNT.exec(key)?.[1];
      const count = value - (before.get(key) ?? 0);
      return question === undefined || count === 0 ? [] : [[question, count] as const];
    })
    .sort(([, a], [, b]) => b - a);
}

function describe({ back, refused, accessReads, statements, cpuSeconds, rssBefore, rssMost }: Found): string[] {
  const mib = (bytes: number): string => `${(bytes / 2 ** 20).toFixed(0)} MiB`;
  return [
    ...summaryTable([['from the drop to `init` again', back]]),
    '',
    `- All ${back.count} were back ${(back.max / 1000).toFixed(1)} s after the drop (each tries at a random moment within ` +
      `${WITHIN_MS / 1000} s). Refused or cut off, and tried again after 1 to 2 s: ${refused} times.`,
    `- Accounts read: ${accessReads} of ${ACCOUNTS} (they stay in memory for 60 s; more than one read of an account fails this bench).`,
    `- All statements: ${statements.map(([question, count]) => `${count} \`${question}\``).join(', ')}.`,
    `- Processor time of the server: ${cpuSeconds.toFixed(1)} s, ${((cpuSeconds * 1000) / PEERS).toFixed(2)} ms for each peer.`,
    `- Memory of the server: ${mib(rssMost)} at most, ${mib(rssBefore)} before the drop (RSS).`,
  ];
}
