/**
 * The fault battery (reliability.md 3.2) as data: one row per fault, with the figure it must meet. What cannot be done by one
 * process on one machine says why. Each nemesis resolves once the fault is over; what it delayed must then be made good, and
 * everybody be connected again, within `graceMs`.
 */
import { randomUUID } from 'node:crypto';
import type { SeededRandom } from '../support/seeded-random.js';
import { pause, within } from './pause.js';
import {
  alterPublication,
  alterTables,
  crowd,
  dropSlot,
  dropSlotUnderIt,
  editByHand,
  exhaustConnections,
  giveBack,
  insertTooMany,
  KILL_POINTS,
  killAt,
  lockRecords,
  loseSlot,
  mustSql,
  overlap,
  poison,
  publishedTables,
  refuseWrites,
  rollBack,
  setServer,
  settled,
  THROW_POINTS,
  twinOf,
  withoutSlot,
} from './fault-hands.js';
import { MAX_TX_CHANGES, PUBLICATION_PREFIX, type World } from './world.js';

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
    what: 'the publication is dropped and made again, or altered',
    how: 'DROP PUBLICATION, 0.5 s of commits, CREATE PUBLICATION; or ALTER PUBLICATION, put right by hand in half of them; while the product streams',
    expected: 'noticed: a new slot, everything read again',
    pass: 'exact within 15 s',
    graceMs: 15_000,
    weight: 2,
    inject: (world, random) =>
      withoutSlot(world, async () => {
        if (random.chance(0.5)) {
          await alterPublication(world, random);
          return;
        }
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
    how: `one commit of four times MAX_TX_CHANGES (${MAX_TX_CHANGES} here) rows, twice, in one of them a cut by hand`,
    expected: 'not held in memory: the account is read again, and with it the flows held',
    pass: 'exact within 5 s; memory and stalls are the bench’s to measure',
    graceMs: 5_000,
    weight: 1.5,
    inject: async (world, random) => {
      const account = random.pick(world.accounts);
      await insertTooMany(world, random, account);
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
