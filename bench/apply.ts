/**
 * What one commit of many rows does to a server with many clients: 10,000 memberships of one group come, and go again,
 * while 1,000 of those actors are connected. Reported only; there is no floor for it.
 */
import { randomUUID } from 'node:crypto';
import { type BenchOptions, pause, quietestOf } from './bench.js';
import { BenchPeer } from './bench-peer.js';
import { type Product, spentBetween } from './product.js';
import { ms, range, type Section } from './report.js';
import { seedAccount, type SeededAccount } from './seeded-account.js';

const CONNECTED = 1_000;
const MEMBERSHIPS = 10_000;
/** For views, history and event store to come to rest before the next commit. */
const REST_MS = 1_000;

/** Unit ms. */
interface Effect {
  readonly decodeMs: number;
  readonly applyMs: number;
  /** Longest the server's event loop was away. */
  readonly stallMs: number;
  /** From the reply to COMMIT to the last client's push. */
  readonly lastClientMs: number;
}

interface Round {
  readonly insert: Effect;
  readonly remove: Effect;
}

export async function benchApply(product: Product, options: BenchOptions): Promise<Section> {
  const account = await seedAccount(product, { clients: CONNECTED, resourcesPerClient: 1 });
  const groupId = await seedCrowd(product, account);
  const clients: BenchPeer[] = [];
  for (const { token } of account.clients) {
    clients.push(await BenchPeer.join(product.wsUrl, { role: 'client', token, externalId: randomUUID() }));
  }
  const ids = [account.accountId, groupId];
  const round = async (): Promise<Round> => ({
    insert: await effectOf(product, clients, 'resource_created_or_updated', INSERT, ids),
    remove: await effectOf(
      product,
      clients,
      'resource_deleted',
      'DELETE FROM memberships WHERE account_id = $1 AND group_id = $2',
      ids,
    ),
  });
  await round(); // warm-up
  const { quietest, all } = await quietestOf(
    options.rounds,
    round,
    ({ insert, remove }) => insert.stallMs + remove.stallMs,
  );
  await Promise.all(clients.map((client) => client.close()));
  return {
    name: 'apply',
    title: `bench:apply, one commit of ${MEMBERSHIPS} memberships, ${CONNECTED} clients connected`,
    lines: describe(quietest, all),
  };
}

const INSERT = `INSERT INTO memberships (account_id, actor_id, group_id)
  SELECT account_id, id, $2 FROM actors WHERE account_id = $1 LIMIT ${MEMBERSHIPS}`;

/** As many more actors as it takes, and a group that reaches one resource. Connected clients' actors are among them. */
async function seedCrowd({ sql }: Product, { accountId, pairs }: SeededAccount): Promise<string> {
  const groupId = randomUUID();
  await sql.query('INSERT INTO actors (account_id) SELECT $1 FROM generate_series(1, $2::int)', [
    ...[accountId, MEMBERSHIPS - CONNECTED],
  ]);
  await sql.query('INSERT INTO groups (account_id, id) VALUES ($1, $2)', [accountId, groupId]);
  const resourceId = randomUUID();
  await sql.query(
    "INSERT INTO resources (account_id, id, type, name, address) VALUES ($1, $2, 'dns', 'Crowd', 'crowd.example')",
    [accountId, resourceId],
  );
  await sql.query(
    'INSERT INTO resource_sites SELECT account_id, $2, site_id FROM resource_sites WHERE resource_id = $1',
    [pairs[0]?.resourceId, resourceId],
  );
  await sql.query('INSERT INTO policies (account_id, group_id, resource_id) VALUES ($1, $2, $3)', [
    ...[accountId, groupId, resourceId],
  ]);
  return groupId;
}

async function effectOf(
  product: Product,
  clients: readonly BenchPeer[],
  event: string,
  statement: string,
  params: readonly unknown[],
): Promise<Effect> {
  await product.settled();
  await pause(REST_MS);
  const before = await product.metrics(); // starts the watch on the event loop anew
  let lastAt = 0;
  const told = Promise.all(
    clients.map(
      (client) =>
        new Promise<void>((resolve) => {
          client.onFrame = (frame, at) => {
            if (frame.event !== event) return;
            lastAt = Math.max(lastAt, at);
            resolve();
          };
        }),
    ),
  );
  const { rowCount } = await product.sql.query(statement, [...params]);
  if (rowCount !== MEMBERSHIPS) throw new Error(`${rowCount} rows instead of ${MEMBERSHIPS}`);
  const repliedAt = performance.now();
  await told;
  const after = await product.metrics();
  const spent = (name: string): number => spentBetween(before, after, name);
  return {
    decodeMs: spent('portcullis_commit_decode_ms_sum'),
    applyMs: spent('portcullis_commit_apply_ms_sum'),
    stallMs: (after.get('nodejs_eventloop_lag_max_seconds') ?? NaN) * 1000,
    lastClientMs: lastAt - repliedAt,
  };
}

function describe({ insert, remove }: Round, all: readonly Round[]): string[] {
  const row = (name: string, of: (round: Round) => Effect): string => {
    const { decodeMs, applyMs, stallMs, lastClientMs } = of({ insert, remove });
    return `| ${name} | ${[decodeMs, applyMs, stallMs, lastClientMs].map((value) => ms(value)).join(' | ')} |`;
  };
  const rate = Math.round((MEMBERSHIPS / (insert.decodeMs + insert.applyMs)) * 1000);
  return [
    '| ms | decode | apply and fan out | longest stall of the event loop | last client told, after the reply |',
    '|---|---:|---:|---:|---:|',
    row('inserted', (round) => round.insert),
    row('deleted', (round) => round.remove),
    '',
    `- Decoded and applied: about ${rate} memberships a second of event-loop time.`,
    `- Stall over ${all.length} rounds: inserted ${range(all.map((round) => round.insert.stallMs))}, deleted ` +
      `${range(all.map((round) => round.remove.stallMs))} (as Node's own monitor saw it, 10 ms resolution).`,
  ];
}
