/**
 * The fault battery (reliability.md 3.2) as data: one row per fault, with the figure it must meet. What cannot be done by one
 * process on one machine says why. Each nemesis resolves once the fault is over; what it delayed must then be made good, and
 * everybody be connected again, within `graceMs`.
 */
import { WebSocket } from 'ws';
import type { Client } from 'pg';
import { randomUUID } from 'node:crypto';
import type { SeededRandom } from '../support/seeded-random.js';
import { keyOf } from '../support/raw-peer.js';
import type { ChaosAccount } from './chaos-account.js';
import { dropSlotInUse } from '../support/drop-slot.js';
import { restore } from './operations.js';
import { pause, within } from './pause.js';
import { MAX_TX_CHANGES, PUBLICATION_PREFIX, SLOT, type World } from './world.js';

interface FaultText {
  readonly id: string;
  readonly what: string;
  readonly how: string;
  readonly expected: string;
  readonly pass: string;
}

export interface RunnableFault extends FaultText {
  /** From the end of the fault until everything is exact and everybody connected. */
  readonly graceMs: number;
  /** How often it is chosen, against the others. */
  readonly weight: number;
  readonly inject: (world: World, random: SeededRandom) => Promise<FaultNote | void>;
}

export interface FaultNote {
  /** From when on the product heard nothing of the database: once it is stale it may grant nothing until the repair. */
  readonly silentSince: number;
}

export interface FaultElsewhere extends FaultText {
  readonly notHere: string;
}

export type Fault = RunnableFault | FaultElsewhere;

export function isRunnable(fault: Fault): fault is RunnableFault {
  return 'inject' in fault;
}

const TWO_NODES = 'needs two nodes: this version is one process for one database';

export const FAULTS: readonly Fault[] = [
  {
    id: 'F1',
    what: 'the process is killed',
    how: 'SIGKILL at any moment, started again 0 to 1.5 s later',
    expected: 'peers rejoin; nothing committed is lost, also not what was committed meanwhile',
    pass: 'exact; everybody back within 5 s of the start',
    graceMs: 5_000,
    weight: 4,
    inject: async (world, random) => {
      await world.killProduct();
      await pause(random.between(0, 1_500));
      await world.startProduct();
    },
  },
  {
    id: 'F2',
    what: 'the process is killed at chosen points',
    how: 'after receive, apply and push; inside `init`, the judging of stored flows, a resync and a fan-out',
    expected: 'replay, idempotent',
    pass: 'exact at all points; everybody back within 5 s of the start',
    graceMs: 5_000,
    weight: 4,
    inject: (world, random) => killAt(world, random, random.pick(KILL_POINTS)),
  },
  {
    id: 'F3',
    what: 'the WAL sender is killed',
    how: 'pg_terminate_backend, 1 to 5 times, 0.3 to 2 s apart',
    expected: 'reconnects with back-off and goes on where it had acknowledged',
    pass: 'exact; caught up within 2 s',
    graceMs: 2_000,
    weight: 4,
    inject: async (world, random) => {
      for (let times = random.between(1, 5); times > 0; times -= 1) {
        await mustSql(world, (sql) => sql.query('SELECT pg_terminate_backend(pid) FROM pg_stat_replication'));
        await pause(random.between(300, 2_000));
      }
    },
  },
  {
    id: 'F4',
    what: 'PostgreSQL is restarted',
    how: 'fast or immediate shutdown (a crash with recovery), started at once',
    expected: 'pool and stream recover; the process lives; every COMMIT of unknown end is resolved',
    pass: 'a fast shutdown ends by itself; exact within 10 s of the first connection',
    graceMs: 10_000,
    weight: 4,
    inject: async (world, random) => {
      const mode = random.pick(['fast', 'immediate'] as const);
      if (!(await world.postgres.restart(mode))) throw new Error('a fast shutdown did not end within 10 s');
    },
  },
  {
    id: 'F5',
    what: 'the slot is dropped',
    how: 'product killed or stopped, slot dropped, 1 s of commits, started; or dropped under it with flows cut by hand unheard',
    expected: 'a new slot, everything read again',
    pass: 'exact within 15 s',
    graceMs: 15_000,
    weight: 2,
    inject: (world, random) =>
      withoutSlot(world, async () => {
        if (random.chance(0.5)) {
          await dropSlotUnderIt(world, random);
          return;
        }
        await (random.chance(0.5) ? world.killProduct() : world.stopProduct());
        await mustSql(world, dropSlot);
        await pause(1_000);
        await world.startProduct();
      }),
  },
  {
    id: 'F6',
    what: 'the slot is invalidated',
    how: 'product stopped, max_slot_wal_keep_size = 48MB, eight WAL segments, CHECKPOINT: wal_status is lost',
    expected: 'recognised, dropped, made again, everything read again; no crash loop',
    pass: 'exact within 15 s',
    graceMs: 15_000,
    weight: 1,
    inject: (world) =>
      withoutSlot(world, async () => {
        await world.killProduct();
        // The witness has a slot as well, which must not need any old segment when the limit comes.
        world.workload.hold();
        await pause(500);
        await mustSql(world, (sql) => world.witness.catchUp(sql));
        await world.postgres.restart('fast', { max_slot_wal_keep_size: '48MB' });
        await mustSql(world, (sql) => loseSlot(world, sql));
        await world.postgres.restart('fast');
        world.workload.resume();
        await world.startProduct();
      }),
  },
  {
    id: 'F7',
    what: 'the publication is dropped and made again',
    how: 'DROP PUBLICATION, 0.5 s of commits, CREATE PUBLICATION, while the product streams',
    expected: 'noticed: a new slot, everything read again',
    pass: 'exact within 15 s',
    graceMs: 15_000,
    weight: 1.5,
    inject: (world) =>
      withoutSlot(world, async () => {
        const tables = await mustSql(world, publishedTables);
        await mustSql(world, (sql) => sql.query(`DROP PUBLICATION ${PUBLICATION_PREFIX}_changes`));
        await pause(500);
        // The product may have been faster.
        await mustSql(world, (sql) =>
          sql.query(`CREATE PUBLICATION ${PUBLICATION_PREFIX}_changes FOR TABLE ${tables}`).catch(() => undefined),
        );
        await pause(3_000);
      }),
  },
  {
    id: 'F8',
    what: 'the slot cannot be made at once',
    how: 'F5 with a transaction that wrote and stays open for 3 s after the start',
    expected: 'not ready while it is being made, ready soon after',
    pass: 'ready within 2 s of the end of the transaction, exact within 15 s',
    graceMs: 15_000,
    weight: 1,
    inject: (world) =>
      withoutSlot(world, async () => {
        await world.killProduct();
        await mustSql(world, dropSlot);
        await mustSql(world, async (sql) => {
          await sql.query(`BEGIN; SELECT pg_logical_emit_message(true, 'long', '')`);
          const started = world.startProduct();
          await pause(3_000);
          await sql.query('COMMIT');
          if (!(await within(2_000, () => settled(started))))
            throw new Error('not ready 2 s after the transaction ended');
          await started;
        });
      }),
  },
  {
    id: 'F9',
    what: 'the database has no connection left',
    how: 'all of max_connections taken for 2 to 5 s; half the time the pool of the product is ended first',
    expected: 'joins are put off; channels and authorization in memory go on',
    pass: 'no wrong grant; recovers within 5 s',
    graceMs: 5_000,
    weight: 2,
    inject: exhaustConnections,
  },
  {
    id: 'F10',
    what: 'a huge transaction',
    how: `one commit of three times MAX_TX_CHANGES (${MAX_TX_CHANGES} here) rows, twice`,
    expected: 'not held in memory: the account is read again',
    pass: 'exact within 5 s; memory and stalls are the bench’s to measure',
    graceMs: 5_000,
    weight: 1.5,
    inject: async (world, random) => {
      const account = random.pick(world.accounts);
      await insertTooMany(world, account);
      await mustSql(world, (sql) =>
        sql.query(`DELETE FROM policies ${account.row('policy', 0)};
          DELETE FROM groups WHERE account_id = '${account.id}' AND name = 'acct${account.number}-bulk'`),
      );
    },
  },
  {
    id: 'F11',
    what: 'many memberships go by cascade',
    how: 'a group of 400 actors with policies on two resources is deleted',
    expected: 'one difference per channel',
    pass: 'exact within 5 s; a million of them are the bench’s to measure',
    graceMs: 5_000,
    weight: 1,
    inject: (world, random) =>
      crowd(world, random, (sql, group) => sql.query(`DELETE FROM groups WHERE id = '${group}'`)),
  },
  {
    id: 'F12',
    what: 'values that are stored apart and not sent again',
    how: 'conditions of 16 kB that hold, then five updates of other columns',
    expected: 'the value is taken from the old row',
    pass: 'exact; 1 s',
    graceMs: 1_000,
    weight: 1.5,
    inject: async (world, random) => {
      const account = random.pick(world.accounts);
      const values = Array.from({ length: 400 }, () => randomUUID());
      const conditions = JSON.stringify([{ property: 'provider_id', operator: 'is_not_in', values }]);
      await mustSql(world, async (sql) => {
        const policies = `account_id = '${account.id}' AND group_id = '${account.idOf('group', random.pick(account.groups))}'`;
        await sql.query(`UPDATE policies SET conditions = '${conditions}' WHERE ${policies}`);
        for (const disabledAt of ['now()', 'NULL', 'now()', 'NULL']) {
          await sql.query(`UPDATE policies SET disabled_at = ${disabledAt} WHERE ${policies}`);
          await pause(random.between(0, 300));
        }
        await sql.query(`UPDATE policies SET description = 'acct${account.number}-' WHERE ${policies}`);
      });
    },
  },
  {
    id: 'F13',
    what: 'a published table without identity',
    how: 'add it to the publication',
    expected: 'refused',
    pass: 'a check',
    notHere: 'not a fault of running: test/pg/migrations.pg.spec.ts and the check at the start refuse it',
  },
  {
    id: 'F14',
    what: 'DDL while streaming',
    how: 'column added, written, dropped; CHECK added and dropped; column type changed; identity DEFAULT and back',
    expected: 'tables are described anew; unknown columns are passed over',
    pass: 'no crash; exact within 5 s',
    graceMs: 5_000,
    weight: 1.5,
    inject: alterTables,
  },
  {
    id: 'F15',
    what: 'TRUNCATE',
    how: 'of policies, memberships, resource_sites or flows; 1 to 2 s later everything is put back',
    expected: 'as the deletion of every row',
    pass: 'all rejects within 5 s',
    graceMs: 5_000,
    weight: 1.5,
    inject: async (world, random) => {
      const table = random.pick(['policies', 'memberships', 'resource_sites', 'flows']);
      await mustSql(world, (sql) => sql.query(`TRUNCATE ${table}`));
      await pause(random.between(1_000, 2_000));
      await giveBack(world);
    },
  },
  {
    id: 'F16',
    what: 'hand edits',
    how: 'rows switched off until infinity and on again, resurrected, keys and names of strange letters, 20 in a row',
    expected: 'as any other change',
    pass: 'exact; 1 s',
    graceMs: 1_000,
    weight: 1.5,
    inject: editByHand,
  },
  {
    id: 'F17',
    what: 'COPY, and transactions that overlap',
    how: 'a group of 400 actors in one statement; 30 times A writes, B writes and commits, A commits',
    expected: 'no change is lost',
    pass: 'exact; 2 s',
    graceMs: 2_000,
    weight: 1.5,
    inject: async (world, random) => {
      await crowd(world, random, (sql, group) => sql.query(`DELETE FROM memberships WHERE group_id = '${group}'`));
      await overlap(world, random);
    },
  },
  {
    id: 'F18',
    what: 'work that is rolled back, or committed later',
    how: '20 transactions that take everything away and are rolled back; one prepared, committed 1 to 2 s later',
    expected: 'no effect until it is committed',
    pass: 'no frame of what was rolled back',
    graceMs: 1_000,
    weight: 1.5,
    inject: rollBack,
  },
  {
    id: 'F19',
    what: 'an account is disabled, or deleted',
    how: 'for 1 to 3 s, with its peers connected',
    expected: 'its clients are disconnected, its gateways reject',
    pass: 'exact within 5 s of its return',
    graceMs: 5_000,
    weight: 2,
    inject: async (world, random) => {
      const account = random.pick(world.accounts);
      const where = `WHERE id = '${account.id}'`;
      await mustSql(world, (sql) =>
        sql.query(
          random.chance(0.5) ? `DELETE FROM accounts ${where}` : `UPDATE accounts SET disabled_at = now() ${where}`,
        ),
      );
      await pause(random.between(1_000, 3_000));
      await giveBack(world);
    },
  },
  {
    id: 'F20',
    what: 'no line between product and database',
    how: 'silent, reset, refused or slow (50 ms each way) for 2, 4, 8, 12 or 35 s',
    expected: 'no flow is authorized once the stream is stale; noticed also when TCP notices nothing',
    pass: 'no grant on old state; exact within 10 s of the repair',
    graceMs: 10_000,
    weight: 4,
    inject: async (world, random) => {
      const line = world.toDatabase;
      const how = random.pick(['silence', 'silence', 'cut', 'refuse', 'slow'] as const);
      const silentSince = performance.now();
      if (how === 'slow') line.slow(50);
      else line[how]();
      await pause(how === 'cut' ? 500 : 1_000 * random.pick([2, 4, 8, 12, ...(random.chance(0.2) ? [35] : [])]));
      line.heal();
      return how === 'silence' || how === 'refuse' ? { silentSince } : undefined;
    },
  },
  {
    id: 'F21',
    what: 'nothing comes from the database, everything reaches it',
    how: 'one direction silent for 3 to 12 s',
    expected: 'noticed by the silence',
    pass: 'no grant on old state; exact within 10 s of the repair',
    graceMs: 10_000,
    weight: 2,
    inject: async (world, random) => {
      const silentSince = performance.now();
      world.toDatabase.silence(['fromTarget']);
      await pause(random.between(3_000, 12_000));
      world.toDatabase.heal();
      return { silentSince };
    },
  },
  {
    id: 'F22',
    what: 'no line between peers and product',
    how: 'silent in one or both directions, reset or refused, for 1 to 12 s',
    expected: 'half-open sockets are closed by heartbeat; a rejoin is exact',
    pass: 'exact within 5 s of the repair',
    graceMs: 5_000,
    weight: 3,
    inject: async (world, random) => {
      const line = world.toProduct;
      const how = random.pick(['both', 'toTarget', 'fromTarget', 'cut', 'refuse'] as const);
      if (how === 'cut' || how === 'refuse') line[how]();
      else if (how === 'both') line.silence();
      else line.silence([how]);
      await pause(how === 'cut' ? 500 : random.between(1_000, 12_000));
      line.heal();
    },
  },
  {
    id: 'F23',
    what: 'no line between two nodes',
    how: 'network namespaces',
    expected: 'only the owner of the slot goes on',
    pass: 'S1, S2',
    notHere: TWO_NODES,
  },
  {
    id: 'F24',
    what: 'the process is stopped',
    how: 'SIGSTOP for 2 to 8 s with wal_sender_timeout = 3s, then SIGCONT',
    expected: 'reconnects and goes on',
    pass: 'exact within 5 s',
    graceMs: 5_000,
    weight: 3,
    inject: async (world, random) => {
      await setServer(world, 'wal_sender_timeout', '3s');
      world.signal('SIGSTOP');
      await pause(random.between(2_000, 8_000));
      world.signal('SIGCONT');
      await setServer(world, 'wal_sender_timeout', undefined);
    },
  },
  {
    id: 'F25',
    what: 'the clock of the product jumps',
    how: 'two hours or a day ahead, or two hours behind, for 2 to 6 s, then right again',
    expected: 'tokens by the wall clock, no crash, no mass disconnect',
    pass: 'exact within 5 s of the correction',
    graceMs: 5_000,
    weight: 1.5,
    inject: async (world, random) => {
      world.setClock(random.pick([-2, 2, 24]) * 3_600_000);
      await pause(random.between(2_000, 6_000));
      world.setClock(0);
    },
  },
  {
    id: 'F26',
    what: 'peers that stop reading',
    how: 'one gateway and two clients of an account take nothing for 3 to 12 s, while 300 long renames are addressed to them',
    expected: 'they are cut off at the limit; the others notice nothing',
    pass: 'exact within 5 s after they read again',
    graceMs: 5_000,
    weight: 2,
    inject: async (world, random) => {
      const account = random.pick(world.accounts);
      const own = world.peers.filter(({ device }) => device.account === account.number);
      const frozen = [random.pick(own.filter(({ gateway }) => gateway)), random.pick(own), random.pick(own)];
      for (const peer of frozen) peer.freeze();
      await mustSql(world, async (sql) => {
        for (let times = 0; times < 300; times += 1) {
          await sql.query(`UPDATE resources SET name = '${account.tag(world.workload.serial())}',
            address_description = repeat('acct${account.number}-', 60) ${account.row('resource', random.pick(account.resources))}`);
        }
      });
      await pause(random.between(3_000, 12_000));
      for (const peer of frozen) peer.thaw();
    },
  },
  {
    id: 'F27',
    what: 'reconnect storm',
    how: 'every peer loses its socket at once, three times',
    expected: 'bounded hydrations, everybody exact',
    pass: 'everybody back within 5 s; 5,000 peers are the bench’s to measure',
    graceMs: 5_000,
    weight: 2,
    inject: async (world, random) => {
      for (let times = 0; times < 3; times += 1) {
        for (const peer of world.peers) peer.drop();
        await pause(random.between(50, 600));
      }
    },
  },
  {
    id: 'F28',
    what: 'duplicates',
    how: 'another process joins as three of the clients, five times',
    expected: 'the newest wins; nobody is served twice',
    pass: 'exact within 5 s after it has gone',
    graceMs: 5_000,
    weight: 1.5,
    inject: async (world, random) => {
      for (let times = 0; times < 5; times += 1) {
        await Promise.all([0, 1, 2].map(() => twinOf(world, random)));
        await pause(random.between(100, 500));
      }
    },
  },
  {
    id: 'F29',
    what: 'a second join on a socket',
    how: 'every third peer joins again',
    expected: 'the second replaces the first',
    pass: 'exact; 2 s',
    graceMs: 2_000,
    weight: 1,
    inject: async (world, random) => {
      for (const peer of world.peers) if (random.chance(0.33)) peer.joinAgain();
      await pause(500);
    },
  },
  {
    id: 'F30',
    what: 'half-open sockets',
    how: 'the line to the product falls silent and the peers give their sockets up; 3 to 12 s later it is repaired',
    expected: 'the product closes what it holds of them; the rejoin is exact',
    pass: 'exact within 5 s of the repair',
    graceMs: 5_000,
    weight: 2,
    inject: async (world, random) => {
      world.toProduct.silence();
      for (const peer of world.peers) peer.drop();
      await pause(random.between(3_000, 12_000));
      world.toProduct.heal();
    },
  },
  {
    id: 'F31',
    what: 'two nodes want the slot',
    how: 'both started, the owner killed again and again',
    expected: 'one owner',
    pass: 'takeover within 3 s',
    notHere: TWO_NODES,
  },
  {
    id: 'F32',
    what: 'a crash inside a fan-out',
    how: 'SIGKILL after 1 to 20 rejects and deletions, of a commit that takes a group and all it may from many',
    expected: 'the rest is made good',
    pass: 'exact; everybody back within 5 s of the start',
    graceMs: 5_000,
    weight: 1.5,
    inject: (world, random) =>
      crowd(world, random, async (sql, group) => {
        const killed = killAt(world, random, 'in-fan-out');
        await sql.query(`DELETE FROM groups WHERE id = '${group}'`);
        await killed;
      }),
  },
  {
    id: 'F33',
    what: 'the database takes no writes',
    how: 'default_transaction_read_only for 2 to 6 s; or event store and flows locked so long, with a kill in half of them',
    expected: 'joins are put off; no wrong grant; nothing is acknowledged that is not on record',
    pass: 'exact within 5 s; a full disk needs a mount of its own and is left out',
    graceMs: 5_000,
    weight: 1.5,
    inject: (world, random) => (random.chance(0.5) ? lockRecords(world, random) : refuseWrites(world, random)),
  },
  {
    id: 'F34',
    what: 'rows nobody can read',
    how: 'conditions, filters and times of nonsense in rows of one account',
    expected: 'they grant nothing; the stream goes on',
    pass: 'exact; 1 s',
    graceMs: 1_000,
    weight: 1.5,
    inject: poison,
  },
  {
    id: 'F35',
    what: 'a handler throws',
    how: 'in a store, in the step or the request of a channel, 1 to 5 times one after the other',
    expected: 'its socket is closed, its peer rejoins; of a store, all of the account',
    pass: 'no zombie; everybody back within 5 s',
    graceMs: 5_000,
    weight: 3,
    inject: async (world, random) => {
      for (let times = random.between(1, 5); times > 0; times -= 1) {
        const point = random.pick(THROW_POINTS);
        if (!(await world.throwInProductAt(point, random.between(1, 20), 10_000))) throw new Error(`not at ${point}`);
      }
    },
  },
  {
    id: 'F36',
    what: 'the process is restarted in order',
    how: 'SIGTERM, drain of 1 s, started again at once',
    expected: 'exit 0, sockets closed one by one, the epoch clean',
    pass: 'exact; everybody back within 5 s of the start',
    graceMs: 5_000,
    weight: 3,
    inject: async (world) => {
      const exit = await world.stopProduct();
      if (exit.code !== 0) throw new Error(`SIGTERM ended it with ${exit.code ?? exit.signal}`);
      await world.startProduct();
    },
  },
];

/** Points of `test/support/failpoints.mjs`. */
const KILL_POINTS = ['received', 'applied', 'pushed', 'in-init', 'in-reconcile', 'in-resync', 'in-fan-out'] as const;
const THROW_POINTS = [
  ...['store-step', 'gateway-step', 'gateway-step-done', 'client-step'],
  ...['gateway-frame', 'client-frame', 'flow-request'],
] as const;

// ---- how they are done ----------------------------------------------------------------------------------------------

/** Past the bad lines; again until the database is there. */
async function mustSql<Result>(world: World, work: (sql: Client) => Promise<Result>): Promise<Result> {
  let done: { readonly result: Result } | undefined;
  let why: unknown;
  await within(10_000, async () => {
    const result = await world
      .withSql(async (sql) => ({ result: await work(sql) }))
      .catch((error: unknown) => void (why = error));
    done = result ?? undefined;
    return done !== undefined;
  });
  if (!done) throw new Error('the statements of a fault could not be done', { cause: why });
  return done.result;
}

/** Killed at one of the first times it comes there; what brings it there is brought about. */
async function killAt(world: World, random: SeededRandom, point: (typeof KILL_POINTS)[number]): Promise<void> {
  const atMost = { 'in-init': 10, 'in-reconcile': 3, 'in-resync': 1 } as Readonly<Record<string, number>>;
  const killed = world.killProductAt(point, random.between(1, atMost[point] ?? 20), 10_000);
  if (point === 'in-init' || point === 'in-reconcile') world.toProduct.cut();
  if (point === 'in-resync') await insertTooMany(world, random.pick(world.accounts));
  if (!(await killed)) throw new Error(`never came to ${point}`);
  await pause(random.between(0, 1_500));
  await world.startProduct();
}

/** In one commit more rows than the product holds. */
async function insertTooMany(world: World, { id, number }: ChaosAccount): Promise<void> {
  await mustSql(world, (sql) =>
    sql.query(`INSERT INTO groups (account_id, name)
      SELECT '${id}', 'acct${number}-bulk' FROM generate_series(1, ${3 * MAX_TX_CHANGES})`),
  );
}

async function withoutSlot(world: World, fault: () => Promise<void>): Promise<void> {
  world.slotIsForfeit();
  await fault();
  if (!(await within(15_000, () => world.isReady()))) throw new Error('not ready 15 s after its slot was lost');
  await world.slotIsWhole();
}

/** The next slot begins behind the transaction in which the hand cuts. */
async function dropSlotUnderIt(world: World, random: SeededRandom): Promise<void> {
  const { id } = random.pick(world.accounts);
  const cut = random.chance(0.5) ? 'DELETE FROM flows' : 'UPDATE flows SET revoked_at = now()';
  await mustSql(world, (sql) =>
    sql.query(`${cut} WHERE account_id = '${id}' AND revoked_at IS NULL; ${dropSlotInUse(SLOT)}`),
  );
  // It is ready until it notices: only then is there a slot that has everything again.
  const isMade = await within(15_000, async () =>
    mustSql(world, async (sql) => {
      const { rowCount } = await sql.query('SELECT FROM pg_replication_slots WHERE slot_name = $1 AND active', [SLOT]);
      return rowCount === 1;
    }),
  );
  if (!isMade) throw new Error('no slot 15 s after it was dropped');
}

async function dropSlot(sql: Client): Promise<void> {
  const gone = await within(10_000, async () => {
    const { rowCount } = await sql.query(
      `SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = $1 AND NOT active`,
      [SLOT],
    );
    return (rowCount ?? 0) > 0;
  });
  if (!gone) throw new Error('the slot could not be dropped');
}

async function loseSlot(world: World, sql: Client): Promise<void> {
  for (let segment = 0; segment < 8; segment += 1) {
    await sql.query(`SELECT pg_logical_emit_message(true, 'fill', ''); SELECT pg_switch_wal()`);
    await world.witness.catchUp(sql);
  }
  if (!(await within(5_000, () => world.witness.catchUp(sql)))) throw new Error('the witness still needs old segments');
  await sql.query('CHECKPOINT');
  const { rows } = await sql.query<{ status: string }>(
    'SELECT wal_status AS status FROM pg_replication_slots WHERE slot_name = $1',
    [SLOT],
  );
  if (rows[0]?.status !== 'lost') throw new Error(`the slot is ${rows[0]?.status}, not lost`);
}

async function publishedTables(sql: Client): Promise<string> {
  const { rows } = await sql.query<{ tables: string }>(
    `SELECT string_agg(quote_ident(tablename), ', ') AS tables FROM pg_publication_tables WHERE pubname = $1`,
    [`${PUBLICATION_PREFIX}_changes`],
  );
  return rows[0]?.tables ?? '';
}

async function exhaustConnections(world: World, random: SeededRandom): Promise<void> {
  const taken: Client[] = [];
  if (random.chance(0.5)) {
    await mustSql(world, (sql) =>
      sql.query(
        `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()`,
      ),
    );
  }
  const endsAt = performance.now() + random.between(2_000, 5_000);
  while (performance.now() < endsAt) {
    const client = await world.postgres.connect().catch(() => undefined);
    if (client) taken.push(client);
    else await pause(50);
  }
  await Promise.all(taken.map((client) => client.end().catch(() => undefined)));
}

async function refuseWrites(world: World, random: SeededRandom): Promise<void> {
  await setServer(world, 'default_transaction_read_only', 'on');
  if (random.chance(0.5)) for (const peer of world.peers) peer.drop();
  await pause(random.between(2_000, 6_000));
  await setServer(world, 'default_transaction_read_only', undefined);
}

/** Everybody else can write, so the stream goes on and its record does not. */
async function lockRecords(world: World, random: SeededRandom): Promise<void> {
  await mustSql(world, async (sql) => {
    await sql.query('BEGIN; LOCK TABLE change_log, flows IN SHARE MODE');
    await pause(random.between(2_000, 6_000));
    await world.sampleAck();
    if (random.chance(0.5)) await world.killProduct();
    await sql.query('ROLLBACK');
  });
  await world.mustRun();
}

/** A group of strangers with a claim on two resources; then whatever `end` does to it, and they are gone. */
async function crowd(
  world: World,
  random: SeededRandom,
  end: (sql: Client, group: string) => Promise<unknown>,
): Promise<void> {
  const account = random.pick(world.accounts);
  const group = account.idOf('group', 99);
  const name = `acct${account.number}-crowd`;
  await mustSql(world, async (sql) => {
    await sql.query(`
      INSERT INTO groups (account_id, id, name) VALUES ('${account.id}', '${group}', '${name}') ON CONFLICT DO NOTHING;
      INSERT INTO actors (account_id, name) SELECT '${account.id}', '${name}' FROM generate_series(1, 400);
      INSERT INTO policies (account_id, group_id, resource_id)
        SELECT '${account.id}', '${group}', id FROM resources WHERE account_id = '${account.id}' LIMIT 2`);
    await sql.query(`
      INSERT INTO memberships (account_id, actor_id, group_id) SELECT '${account.id}', id, '${group}' FROM actors
        WHERE account_id = '${account.id}' ON CONFLICT DO NOTHING`);
    await pause(300);
    await end(sql, group);
    await pause(300);
    await sql.query(`DELETE FROM groups WHERE id = '${group}';
      DELETE FROM actors WHERE account_id = '${account.id}' AND name = '${name}'`);
  });
}

/** The change that is written first is committed last. */
async function overlap(world: World, random: SeededRandom): Promise<void> {
  const account = random.pick(world.accounts);
  await mustSql(world, (a) =>
    mustSql(world, async (b) => {
      // A writer may wait for the first and hold what the second wants: the server cannot see that it is we who wait.
      await b.query('SET lock_timeout = 500');
      for (let times = 0; times < 30; times += 1) {
        const [first, second] = [random.between(0, 3), random.between(4, 7)];
        await a.query(
          `BEGIN; UPDATE resources SET name = '${account.tag(world.workload.serial())}' ${account.row('resource', first)}`,
        );
        const name = account.tag(world.workload.serial());
        await b
          .query(`UPDATE resources SET name = '${name}' ${account.row('resource', second)}`)
          .catch((error: unknown) => {
            if ((error as { code?: string }).code !== LOCK_NOT_AVAILABLE) throw error;
          })
          .finally(() => a.query('COMMIT'));
      }
    }),
  );
}

const LOCK_NOT_AVAILABLE = '55P03';

async function giveBack(world: World): Promise<void> {
  for (const account of world.accounts) {
    await mustSql(world, (sql) => sql.query(restore(account, world.workload.serial).join(';\n')));
  }
}

async function alterTables(world: World, random: SeededRandom): Promise<void> {
  const table = random.pick(['policies', 'memberships', 'resources', 'groups']);
  const account = random.pick(world.accounts);
  const touch = `UPDATE ${table} SET created_at = now() WHERE account_id = '${account.id}'`;
  const statements = [
    `ALTER TABLE ${table} ADD COLUMN note text DEFAULT 'new'`,
    `UPDATE ${table} SET note = 'written' WHERE account_id = '${account.id}'`,
    `ALTER TABLE ${table} ADD CONSTRAINT note_is_short CHECK (length(note) < 100)`,
    `ALTER TABLE ${table} ALTER COLUMN note TYPE varchar(200)`,
    touch,
    `ALTER TABLE ${table} DROP COLUMN note`,
    touch,
    `ALTER TABLE ${table} REPLICA IDENTITY DEFAULT`,
    touch,
    `ALTER TABLE ${table} REPLICA IDENTITY FULL`,
    touch,
  ];
  for (const statement of statements) {
    await mustSql(world, (sql) => sql.query(statement));
    await pause(random.between(0, 300));
  }
}

async function editByHand(world: World, random: SeededRandom): Promise<void> {
  const account = random.pick(world.accounts);
  for (let times = 0; times < 20; times += 1) {
    const [group, resource, actor] = [
      random.pick(account.groups),
      random.pick(account.resources),
      random.pick(account.actors),
    ];
    const policy = account.row('policy', group * 16 + resource);
    const name = `${account.tag(world.workload.serial())} '' \u202e"\\ \u{1f512} é`;
    const statement = random.pick([
      `UPDATE policies SET disabled_at = 'infinity' ${policy}`,
      `UPDATE policies SET disabled_at = '-infinity' ${policy}`,
      `UPDATE policies SET disabled_at = NULL ${policy}`,
      `UPDATE resources SET name = '${name}' ${account.row('resource', resource)}`,
      `DELETE FROM policies ${policy}; ${account.policy(group, resource)}`,
      `DELETE FROM memberships WHERE actor_id = '${account.idOf('actor', actor)}'; ${account.membership(actor, group, 7)}`,
      `UPDATE memberships SET id = gen_random_uuid() WHERE actor_id = '${account.idOf('actor', actor)}'`,
      `UPDATE policies SET id = gen_random_uuid() ${policy}`,
      `UPDATE tokens SET expires_at = 'infinity' WHERE id = '${account.idOf('clientToken', actor)}'`,
    ]);
    await mustSql(world, (sql) => sql.query(statement).catch(() => undefined)); // a row that is taken is refused
  }
  await giveBack(world);
}

async function rollBack(world: World, random: SeededRandom): Promise<void> {
  const account = random.pick(world.accounts);
  const rename = (): string =>
    `UPDATE resources SET name = '${account.tag(world.workload.serial())}' WHERE account_id = '${account.id}'`;
  await mustSql(world, async (sql) => {
    for (let times = 0; times < 20; times += 1) {
      await sql.query(`BEGIN; ${rename()}; DELETE FROM policies WHERE account_id = '${account.id}'; ROLLBACK`);
      await sql.query(
        `BEGIN; SAVEPOINT a; ${rename()}; ROLLBACK TO a; DELETE FROM memberships WHERE account_id = '${account.id}'; ROLLBACK`,
      );
    }
    const gid = `chaos_f18_${random.between(0, 1e9)}`;
    await sql.query(
      `BEGIN; UPDATE policies SET disabled_at = now() ${account.row('policy', 0)}; PREPARE TRANSACTION '${gid}'`,
    );
    await pause(random.between(1_000, 2_000));
    await sql.query(`COMMIT PREPARED '${gid}'`);
  });
}

async function poison(world: World, random: SeededRandom): Promise<void> {
  const account = random.pick(world.accounts);
  const [group, resource, actor] = [
    random.pick(account.groups),
    random.pick(account.resources),
    random.pick(account.actors),
  ];
  const policies = `account_id = '${account.id}' AND group_id = '${account.idOf('group', group)}'`;
  for (const statement of [
    `UPDATE policies SET conditions = '[{"property": 1}]' WHERE ${policies}`,
    `UPDATE policies SET conditions = '[[], null, 17, "x"]' WHERE ${policies}`,
    `UPDATE resources SET filters = '[{"protocol": "sctp"}]' ${account.row('resource', resource)}`,
    `UPDATE policies SET disabled_at = '294276-12-31' WHERE ${policies}`,
    `UPDATE clients SET verified_at = '-infinity' WHERE account_id = '${account.id}'`,
    `UPDATE tokens SET expires_at = '294276-12-31' WHERE id = '${account.idOf('clientToken', actor)}'`,
    `UPDATE accounts SET config = '{"search_domain": 5, "clients_upstream_dns": "x"}' WHERE id = '${account.id}'`,
  ]) {
    await mustSql(world, (sql) => sql.query(statement));
    await pause(random.between(0, 400));
  }
  await mustSql(world, (sql) => sql.query(`UPDATE resources SET filters = '[]' WHERE account_id = '${account.id}'`));
  await giveBack(world);
}

/** @param value undefined: as it was */
async function setServer(world: World, name: string, value: string | undefined): Promise<void> {
  await mustSql(world, async (sql) => {
    await sql.query('SET default_transaction_read_only TO off');
    await sql.query(value === undefined ? `ALTER SYSTEM RESET ${name}` : `ALTER SYSTEM SET ${name} = '${value}'`);
    await sql.query('SELECT pg_reload_conf()');
  });
}

/** Joins with a client's own name and key, and leaves. */
async function twinOf(world: World, random: SeededRandom): Promise<void> {
  const { device } = random.pick(world.peers.filter(({ client }) => client));
  const query = new URLSearchParams({
    ...{ token: device.token, external_id: device.externalId, public_key: keyOf(device.externalId) },
  });
  const socket = new WebSocket(`ws://127.0.0.1:${world.toProduct.port}/client/websocket?${query.toString()}`, {
    headers: { 'user-agent': 'test connlib/1.5.3' },
  });
  const ended = new Promise<void>((resolve) => {
    socket.on('error', () => {
      resolve();
    });
    socket.on('close', () => {
      resolve();
    });
  });
  socket.on('open', () => {
    socket.send(JSON.stringify({ topic: 'client', event: 'phx_join', payload: null, ref: 0 }));
  });
  await Promise.race([ended, pause(random.between(100, 400))]);
  socket.terminate();
}

async function settled(promise: Promise<unknown>): Promise<boolean> {
  return Promise.race([promise.then(() => true), pause(10).then(() => false)]);
}
