/**
 * What a peer costs that only stays connected, and whether 5,000 of them are all kept: memory per peer beside that of bare
 * `ws` sockets, every heartbeat answered, and one peer that stops reading while much is pushed to it.
 */
import { once } from 'node:events';
import { WebSocket } from 'ws';
import { type BenchOptions, patiently, pause } from './bench.js';
import { BenchPeer } from './bench-peer.js';
import { startChild } from './child-program.js';
import { rssOf } from './memory.js';
import type { Product } from './product.js';
import { ms, type Section, summaryTable } from './report.js';
import { seedAccount, type SeededAccount } from './seeded-account.js';
import { summarize, type Summary } from './statistics.js';

const ACCOUNTS = 10;
const CLIENTS_PER_ACCOUNT = 500;
const PEERS = ACCOUNTS * CLIENTS_PER_ACCOUNT;
/** Upgrades at once: below the server's own bound. */
const AT_ONCE = 50;
/** For what connecting left behind to be collected. */
const SETTLE_MS = 5_000;
/** Commits that rename what the slow reader sees, each a push of some 900 bytes to it. */
const PUSHES = 20_000;

export async function benchIdle(product: Product, _options: BenchOptions): Promise<Section> {
  const accounts: SeededAccount[] = [];
  for (let i = 0; i < ACCOUNTS; i += 1) {
    accounts.push(await seedAccount(product, { clients: CLIENTS_PER_ACCOUNT, resourcesPerClient: 1 }));
  }
  const devices = accounts.flatMap(({ clients }, a) => clients.map(({ token }, c) => ({ token, name: `${a}/${c}` })));

  const before = await memoryOf(product);
  const startedAt = performance.now();
  const peers = await inBatches(devices, ({ token, name }) =>
    BenchPeer.join(product.wsUrl, { role: 'client', token, externalId: name }),
  );
  const joinedAfterMs = performance.now() - startedAt;
  await pause(SETTLE_MS);
  const after = await memoryOf(product);

  const quiet = await heartbeatsOf(peers);
  const [slow, reader, ...others] = peers;
  if (!slow || !reader) throw new Error('nobody has joined');
  const whileReading = await heartbeatsWhilePushing(product, accounts[0], 1, others);
  slow.stopReading();
  const whileSlow = await heartbeatsWhilePushing(product, accounts[0], 0, others);
  const cutOff = (await product.metrics()).get('portcullis_sockets_closed_total{role="client",why="too-slow"}') ?? 0;
  const closed = others.filter((peer) => peer.isClosed).length;
  if (cutOff !== 1 || closed > 0) throw new Error(`${cutOff} cut off as too slow, ${closed} others closed`);
  await Promise.all([reader, ...others].map((peer) => peer.close()));
  return {
    name: 'idle',
    title: `bench:idle, ${PEERS} clients in ${ACCOUNTS} accounts on one process`,
    lines: describe({
      ...{ before, after, joinedAfterMs, quiet, whileReading, whileSlow },
      floorBytes: await floorBytes(),
    }),
  };
}

interface Memory {
  readonly rss: number;
  readonly heap: number;
}

async function memoryOf(product: Product): Promise<Memory> {
  const metrics = await product.metrics();
  const of = (name: string): number => metrics.get(name) ?? NaN;
  return { rss: of('process_resident_memory_bytes'), heap: of('nodejs_heap_size_used_bytes') };
}

async function inBatches<From, To>(all: readonly From[], make: (from: From) => Promise<To>): Promise<To[]> {
  const made: To[] = [];
  for (let i = 0; i < all.length; i += AT_ONCE) {
    made.push(...(await Promise.all(all.slice(i, i + AT_ONCE).map(make))));
  }
  return made;
}

/** Every peer sends one, spread over a second; how long each answer took. Fails when one does not come. */
async function heartbeatsOf(peers: readonly BenchPeer[]): Promise<Summary> {
  const times = await Promise.all(
    peers.map(async (peer, i) => {
      await pause((i / peers.length) * 1000);
      const sentAt = performance.now();
      await patiently<unknown>('the answer to a heartbeat', (resolve) => {
        void peer.next('phx_reply').then(resolve);
        peer.heartbeat();
      });
      return performance.now() - sentAt;
    }),
  );
  return summarize(times);
}

/** Much is pushed to one client, which reads it or does not, while all others send heartbeats. */
async function heartbeatsWhilePushing(
  product: Product,
  account: SeededAccount | undefined,
  client: number,
  others: readonly BenchPeer[],
): Promise<Summary> {
  const resourceId = account?.pairs.find((pair) => pair.client === client)?.resourceId;
  const beating = heartbeatsOf(others);
  for (let i = 0; i < PUSHES; i += 100) {
    const renames = Array.from(
      { length: 100 },
      (_, j) =>
        `UPDATE resources SET name = '${i + j}', address_description = repeat('x', 500) WHERE id = '${resourceId}'`,
    );
    await product.sql.query(renames.map((rename) => `BEGIN; ${rename}; COMMIT`).join(';'));
  }
  await product.settled();
  return beating;
}

/** Bytes of RSS that each idle socket costs a bare `ws` server in a process of its own. */
async function floorBytes(): Promise<number> {
  const bare = await startChild('bare-relay', { toGateway: '', toClient: '' });
  const before = rssOf(bare.pid);
  const sockets = await inBatches(Array.from({ length: PEERS }), async () => {
    const ws = new WebSocket(`${bare.url}/gateway`, { perMessageDeflate: false });
    await once(ws, 'open');
    return ws;
  });
  await pause(SETTLE_MS);
  const grown = rssOf(bare.pid) - before;
  for (const socket of sockets) socket.terminate();
  await bare.stop();
  return grown / PEERS;
}

interface Found {
  readonly before: Memory;
  readonly after: Memory;
  readonly joinedAfterMs: number;
  readonly quiet: Summary;
  readonly whileReading: Summary;
  readonly whileSlow: Summary;
  readonly floorBytes: number;
}

function describe(found: Found): string[] {
  const { before, after, joinedAfterMs, quiet, whileReading, whileSlow, floorBytes: floor } = found;
  const kib = (bytes: number): string => `${(bytes / 1024).toFixed(1)} KiB`;
  const perPeer = (after.rss - before.rss) / PEERS;
  return [
    ...summaryTable([
      ['answer to a heartbeat, all idle', quiet],
      [`while ${PUSHES} commits are pushed to one that reads`, whileReading],
      ['while they are pushed to one that has stopped reading', whileSlow],
    ]),
    '',
    `- Memory per peer: ${kib(perPeer)} of RSS (${kib((after.heap - before.heap) / PEERS)} of heap in use), a bare \`ws\` ` +
      `socket ${kib(floor)}: ${(perPeer / floor).toFixed(1)}×. The whole process: ${(after.rss / 2 ** 20).toFixed(0)} MiB.`,
    `- ${PEERS} joins took ${(joinedAfterMs / 1000).toFixed(1)} s, ${AT_ONCE} at a time: ${ms(joinedAfterMs / PEERS)} ms each, ` +
      'device and session rows included.',
    `- Every heartbeat was answered. The one that stopped reading was cut off, and nobody else (else this bench fails).`,
  ];
}
