/** How the faults of the battery are done: whatever takes more than a statement or two. Each resolves once it is over. */
import { WebSocket } from 'ws';
import type { Client } from 'pg';
import { keyOf } from '../support/raw-peer.js';
import { dropSlotInUse } from '../support/drop-slot.js';
import type { SeededRandom } from '../support/seeded-random.js';
import type { ChaosAccount } from './chaos-account.js';
import { anOpenFlow, restore } from './operations.js';
import { pause, within } from './pause.js';
import { MAX_TX_CHANGES, PUBLICATION_PREFIX, SLOT, type World } from './world.js';

/** Points of `test/support/failpoints.mjs`. */
export const KILL_POINTS = [
  'received',
  'applied',
  'pushed',
  'in-init',
  'in-reconcile',
  'in-resync',
  'in-fan-out',
] as const;
export const THROW_POINTS = [
  ...['store-step', 'gateway-step', 'gateway-step-done', 'client-step'],
  ...['gateway-frame', 'client-frame', 'flow-request'],
] as const;

/** Past the bad lines; again until the database is there. */
export async function mustSql<Result>(world: World, work: (sql: Client) => Promise<Result>): Promise<Result> {
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
export async function killAt(world: World, random: SeededRandom, point: (typeof KILL_POINTS)[number]): Promise<void> {
  const atMost = { 'in-init': 10, 'in-reconcile': 3, 'in-resync': 1 } as Readonly<Record<string, number>>;
  const killed = world.killProductAt(point, random.between(1, atMost[point] ?? 20), 10_000);
  if (point === 'in-init' || point === 'in-reconcile') world.toProduct.cut();
  if (point === 'in-resync') await insertTooMany(world, random, random.pick(world.accounts));
  if (!(await killed)) throw new Error(`never came to ${point}`);
  await pause(random.between(0, 1_500));
  await world.startProduct();
}

/** In one commit more rows than the product holds, with a hand's cut before, between or behind them. */
export async function insertTooMany(world: World, random: SeededRandom, { id, number }: ChaosAccount): Promise<void> {
  const statements = [1, 2].map(
    () => `INSERT INTO groups (account_id, name)
      SELECT '${id}', 'acct${number}-bulk' FROM generate_series(1, ${2 * MAX_TX_CHANGES})`,
  );
  const cut = random.pick(['DELETE FROM flows', 'UPDATE flows SET revoked_at = now()']);
  statements.splice(random.between(0, 2), 0, `${cut} WHERE ${anOpenFlow({ id })}`);
  await mustSql(world, (sql) => sql.query(statements.join('; ')));
}

/** Rows of the table are left out from here until somebody puts the publication right: the product, or the hand again. */
export async function alterPublication(world: World, random: SeededRandom): Promise<void> {
  const table = random.pick(['policies', 'memberships', 'resources', 'resource_sites']);
  const publication = `ALTER PUBLICATION ${PUBLICATION_PREFIX}_changes`;
  const [take, give] = random.pick([
    [`DROP TABLE ${table}`, `ADD TABLE ${table}`],
    [`SET (publish = 'insert, truncate')`, `SET (publish = 'insert, update, delete, truncate')`],
  ] as const);
  await mustSql(world, (sql) => sql.query(`${publication} ${take}`));
  await pause(500);
  // The product may have been faster.
  if (random.chance(0.5)) await mustSql(world, (sql) => sql.query(`${publication} ${give}`).catch(() => undefined));
  await pause(3_000);
}

export async function withoutSlot(world: World, fault: () => Promise<void>): Promise<void> {
  world.slotIsForfeit();
  await fault();
  if (!(await within(15_000, () => world.isReady()))) throw new Error('not ready 15 s after its slot was lost');
  await world.slotIsWhole();
}

/** The next slot begins behind the transaction in which the hand cuts. */
export async function dropSlotUnderIt(world: World, random: SeededRandom): Promise<void> {
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

export async function dropSlot(sql: Client): Promise<void> {
  const gone = await within(10_000, async () => {
    const { rowCount } = await sql.query(
      `SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = $1 AND NOT active`,
      [SLOT],
    );
    return (rowCount ?? 0) > 0;
  });
  if (!gone) throw new Error('the slot could not be dropped');
}

export async function loseSlot(world: World, sql: Client): Promise<void> {
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

export async function publishedTables(sql: Client): Promise<string> {
  const { rows } = await sql.query<{ tables: string }>(
    `SELECT string_agg(quote_ident(tablename), ', ') AS tables FROM pg_publication_tables WHERE pubname = $1`,
    [`${PUBLICATION_PREFIX}_changes`],
  );
  return rows[0]?.tables ?? '';
}

export async function exhaustConnections(world: World, random: SeededRandom): Promise<void> {
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

export async function refuseWrites(world: World, random: SeededRandom): Promise<void> {
  await setServer(world, 'default_transaction_read_only', 'on');
  if (random.chance(0.5)) for (const peer of world.peers) peer.drop();
  await pause(random.between(2_000, 6_000));
  await setServer(world, 'default_transaction_read_only', undefined);
}

/** Everybody else can write, so the stream goes on and its record does not. */
export async function lockRecords(world: World, random: SeededRandom): Promise<void> {
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
export async function crowd(
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
export async function overlap(world: World, random: SeededRandom): Promise<void> {
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

export async function giveBack(world: World): Promise<void> {
  for (const account of world.accounts) {
    await mustSql(world, (sql) => sql.query(restore(account, world.workload.serial).join(';\n')));
  }
}

export async function alterTables(world: World, random: SeededRandom): Promise<void> {
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

export async function editByHand(world: World, random: SeededRandom): Promise<void> {
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

export async function rollBack(world: World, random: SeededRandom): Promise<void> {
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

export async function poison(world: World, random: SeededRandom): Promise<void> {
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
export async function setServer(world: World, name: string, value: string | undefined): Promise<void> {
  await mustSql(world, async (sql) => {
    await sql.query('SET default_transaction_read_only TO off');
    await sql.query(value === undefined ? `ALTER SYSTEM RESET ${name}` : `ALTER SYSTEM SET ${name} = '${value}'`);
    await sql.query('SELECT pg_reload_conf()');
  });
}

/** Joins with a client's own name and key, and leaves. */
export async function twinOf(world: World, random: SeededRandom): Promise<void> {
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

export async function settled(promise: Promise<unknown>): Promise<boolean> {
  return Promise.race([promise.then(() => true), pause(10).then(() => false)]);
}
