import { readdirSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { ACCOUNT_TABLES } from '../../src/core/model/rows.js';
import { COLUMNS } from '../../src/core/changes/columns.js';
import { migrateToLatest } from '../../src/db/migrate.js';
import { MIGRATIONS } from '../../src/db/migrations.js';
import type { Database } from '../../src/db/open-database.js';
import { openDatabase } from '../../src/db/open-database.js';
import { reconcilePublications } from '../../src/db/publications.js';
import { insertAccount } from '../support/account-rows.js';
import type { AccountIds } from '../support/account-rows.js';
import { createMigratedDatabase, createTestDatabase } from '../support/test-database.js';
import type { TestDatabase } from '../support/test-database.js';

const NIL = '00000000-0000-0000-0000-000000000000';

let test: TestDatabase;
let database: Database;
let ours: AccountIds;
let theirs: AccountIds;

beforeAll(async () => {
  test = await createMigratedDatabase();
  database = openDatabase(test.url, { max: 2 });
  ours = await insertAccount(test);
  theirs = await insertAccount(test);
});

afterAll(async () => {
  await database.close();
  await test.drop();
});

describe('migrating', () => {
  it('lists every file of db/migrations, in order', () => {
    const folder = new URL('../../db/migrations', import.meta.url);
    const files = readdirSync(folder).map((file) => file.replace(/\.ts$/, ''));
    expect(Object.keys(MIGRATIONS)).toEqual(files.sort());
  });

  it('applies each migration once, also when two processes start together', async () => {
    const empty = await createTestDatabase();
    try {
      const applied = await Promise.all([migrateToLatest(empty.url), migrateToLatest(empty.url)]);
      expect(applied.flat()).toEqual(Object.keys(MIGRATIONS));
      expect(await migrateToLatest(empty.url)).toEqual([]);
    } finally {
      await empty.drop();
    }
  });
});

describe('rows that cannot be stored', () => {
  it.each([
    ['memberships', 'group_id', () => [ours.actorId, theirs.groupId], 'memberships_group_is_of_the_account'],
    ['memberships', 'group_id', () => [theirs.actorId, ours.groupId], 'memberships_actor_is_of_the_account'],
  ])('D5: a reference to another account, from %s.%s', async (_table, _column, values, constraint) => {
    await expect(
      test.query('INSERT INTO memberships (account_id, actor_id, group_id) VALUES ($1, $2, $3)', [
        ours.accountId,
        ...values(),
      ]),
    ).rejects.toMatchObject({ constraint });
  });

  it('D5: every foreign key between account tables includes the account', async () => {
    const { rows } = await test.query<{ name: string }>(`
      SELECT conname AS name FROM pg_constraint
      WHERE contype = 'f' AND connamespace = 'public'::regnamespace
        AND confrelid NOT IN ('accounts'::regclass, 'tokens'::regclass, 'timelines'::regclass)
        AND NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = conrelid AND attnum = ANY (conkey) AND attname = 'account_id')`);
    expect(rows).toEqual([]);
  });

  it('D4: every foreign key of an account row cascades', async () => {
    const { rows } = await test.query(`
      SELECT conname FROM pg_constraint WHERE contype = 'f' AND connamespace = 'public'::regnamespace
        AND confdeltype <> 'c' AND conrelid <> 'change_log'::regclass`);
    expect(rows).toEqual([]);
  });

  it('D4: the nil uuid as an id, in every table that has one', async () => {
    const { rows } = await test.query<{ table: string; definition: string }>(`
      SELECT relname AS table, string_agg(pg_get_constraintdef(pg_constraint.oid), ' ') AS definition
      FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid AND attname = 'id' AND atttypid = 'uuid'::regtype
        LEFT JOIN pg_constraint ON conrelid = pg_class.oid AND conname = relname || '_id_is_not_nil'
      WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' GROUP BY relname ORDER BY relname`);
    expect(rows.map((row) => row.table)).toEqual(
      [...ACCOUNT_TABLES, 'flows'].filter((t) => t !== 'resource_sites').sort(),
    );
    for (const row of rows) expect(row.definition).toContain(NIL);
    await expect(
      test.query('INSERT INTO groups (account_id, id) VALUES ($1, $2)', [ours.accountId, NIL]),
    ).rejects.toThrow('groups_id_is_not_nil');
  });

  it.each([
    [`UPDATE policies SET conditions = '{"property": "region"}'`, 'policies_conditions_is_a_list'],
    [`UPDATE accounts SET config = '[]'`, 'accounts_config_is_an_object'],
    [`UPDATE accounts SET slug = 'Has Spaces'`, 'accounts_slug_is_3_to_100_of_a_z_0_9_underscore'],
    [`UPDATE resources SET address = NULL`, 'resources_address_is_null_only_for_internet'],
    [`UPDATE resources SET address = 'wiki.example.com'`, 'resources_cidr_has_a_network_as_address'],
    [`UPDATE resources SET address = '10.0.0.0'`, 'resources_cidr_has_a_network_as_address'],
    [`UPDATE resources SET type = 'ip', address = '10.0.0.0/8'`, 'resources_ip_has_one_address_as_address'],
    [`UPDATE resources SET type = 'ip', address = 'nonsense'`, 'resources_ip_has_one_address_as_address'],
    [`UPDATE resources SET ip_stack = 'dual'`, 'resources_ip_stack_is_for_dns_dual_ipv4_only_or_ipv6_only'],
    [`UPDATE resources SET type = 'internet', address = NULL`, 'resources_one_internet_resource_per_account', 2],
    [`UPDATE tokens SET account_id = NULL`, 'tokens_only_relay_tokens_have_no_account'],
    [`UPDATE tokens SET site_id = NULL WHERE kind = 'gateway'`, 'tokens_gateway_tokens_have_a_site_and_no_others'],
  ])('says by name what is wrong: %s', async (statement, constraint, copies = 1) => {
    const copy = `INSERT INTO resources (account_id, type, address) SELECT account_id, type, address FROM resources`;
    await expect(test.sql(`${copies > 1 ? `${copy};` : ''} ${statement}`)).rejects.toMatchObject({ constraint });
  });

  it('D15: takes hand-typed rubbish inside a list, which is judged when it is read', async () => {
    const { rowCount } = await test.query(
      `UPDATE policies SET conditions = '[17, {"property": null}]' WHERE account_id = $1`,
      [ours.accountId],
    );
    expect(rowCount).toBe(1);
  });
});

describe('rows made by hand', () => {
  it('a resource has an ip stack exactly while it is a dns resource', async () => {
    const stackOf = async (statement: string): Promise<unknown> =>
      (await test.query<{ ip_stack: string | null }>(statement, [ours.accountId])).rows[0]?.ip_stack;
    expect(
      await stackOf(
        `INSERT INTO resources (account_id, name, address) VALUES ($1, 'wiki', 'wiki.corp') RETURNING ip_stack`,
      ),
    ).toBe('dual');
    const changed = `WHERE account_id = $1 AND name = 'wiki' RETURNING ip_stack`;
    expect(await stackOf(`UPDATE resources SET type = 'ip', address = '10.0.0.1' ${changed}`)).toBeNull();
    expect(await stackOf(`UPDATE resources SET type = 'dns', address = 'wiki.corp' ${changed}`)).toBe('dual');
  });

  it('updated_at moves when a row changes, and an update to the same values changes nothing', async () => {
    const update = (name: string) =>
      test.query<{ moved: boolean; at: string }>(
        `UPDATE sites SET name = $2 WHERE account_id = $1 RETURNING updated_at = now() AS moved`,
        [ours.accountId, name],
      );
    await test.query(`UPDATE sites SET name = 'Oslo' WHERE account_id = $1`, [ours.accountId]);
    expect((await update('Oslo')).rows[0]?.moved).toBe(false);
    expect((await update('Bergen')).rows[0]?.moved).toBe(true);
  });

  it('an account leaves nothing behind but the log', async () => {
    const gone = await insertAccount(test);
    await test.query('INSERT INTO clients (account_id, actor_id) VALUES ($1, $2)', [gone.accountId, gone.actorId]);
    await test.query('INSERT INTO gateways (account_id, site_id) VALUES ($1, $2)', [gone.accountId, gone.siteId]);
    await test.query('DELETE FROM accounts WHERE id = $1', [gone.accountId]);
    for (const table of [...ACCOUNT_TABLES.filter((name) => name !== 'accounts'), 'addresses', 'flows']) {
      const { rowCount } = await test.query(`SELECT FROM ${table} WHERE account_id = $1`, [gone.accountId]);
      expect([table, rowCount]).toEqual([table, 0]);
    }
  });
});

describe('addresses', () => {
  const addClient = async (ids: AccountIds, ipv4: string | null = null) =>
    (
      await test.query<{ id: string; ipv4: string; ipv6: string }>(
        'INSERT INTO clients (account_id, actor_id, ipv4) VALUES ($1, $2, $3) RETURNING id, ipv4, ipv6',
        [ids.accountId, ids.actorId, ipv4],
      )
    ).rows[0];

  it('start at .1, are shared by clients and gateways, and print without a prefix', async () => {
    const ids = await insertAccount(test);
    expect(await addClient(ids)).toMatchObject({ ipv4: '100.64.0.1', ipv6: 'fd00:2021:1111::1' });
    const gateway = await test.query(
      'INSERT INTO gateways (account_id, site_id) VALUES ($1, $2) RETURNING ipv4, ipv6',
      [ids.accountId, ids.siteId],
    );
    expect(gateway.rows[0]).toEqual({ ipv4: '100.64.0.2', ipv6: 'fd00:2021:1111::2' });
  });

  it('wrap at the end of the range to the first gap, and are freed with their device', async () => {
    const ids = await insertAccount(test);
    const first = await addClient(ids);
    await addClient(ids, '100.95.255.254');
    expect(await addClient(ids)).toMatchObject({ ipv4: '100.64.0.2' });
    await test.query('DELETE FROM clients WHERE account_id = $1 AND id = $2', [ids.accountId, first?.id]);
    expect(await addClient(ids)).toMatchObject({ ipv4: '100.64.0.1' });
    expect(await addClient(ids)).toMatchObject({ ipv4: '100.64.0.3' });
  });

  it('chosen by hand are refused when taken, and leave when changed', async () => {
    const ids = await insertAccount(test);
    const client = await addClient(ids, '100.64.7.7');
    await expect(addClient(ids, '100.64.7.7')).rejects.toMatchObject({ constraint: 'addresses_pkey' });
    await test.query(`UPDATE clients SET ipv4 = '100.64.8.8' WHERE account_id = $1 AND id = $2`, [
      ids.accountId,
      client?.id,
    ]);
    const { rows } = await test.query(
      'SELECT address FROM addresses WHERE account_id = $1 ORDER BY addresses.address',
      [ids.accountId],
    );
    expect(rows).toEqual([{ address: '100.64.8.8' }, { address: 'fd00:2021:1111::1' }]);
  });
});

describe('what is published', () => {
  it('D6: every published table and flows has REPLICA IDENTITY FULL', async () => {
    const { rows } = await test.query<{ name: string; identity: string }>(`
      SELECT DISTINCT tablename AS name, relreplident AS identity FROM pg_publication_tables
      JOIN pg_class ON pg_class.oid = format('%I.%I', schemaname, tablename)::regclass ORDER BY 1`);
    expect(rows).toEqual([...ACCOUNT_TABLES, 'flows'].sort().map((name) => ({ name, identity: 'f' })));
  });

  it('D7: flows publish their edits alone, the account tables everything', async () => {
    const { rows } = await test.query(`
      SELECT pubname, pubinsert, pubupdate, pubdelete, pubtruncate,
        (SELECT array_agg(tablename::text ORDER BY tablename) FROM pg_publication_tables
          WHERE pg_publication_tables.pubname = pg_publication.pubname) AS tables
      FROM pg_publication ORDER BY pubname`);
    expect(rows).toEqual([
      { pubname: 'portcullis_changes', pubinsert: true, ...everythingElse, tables: [...ACCOUNT_TABLES].sort() },
      { pubname: 'portcullis_flow_edits', pubinsert: false, ...everythingElse, tables: ['flows'] },
    ]);
  });

  it('D8b: no published column holds a secret or what changes at every connect', async () => {
    const { rows } = await test.query<{ column: string }>(`
      SELECT DISTINCT attname AS column FROM pg_publication_tables, unnest(attnames) AS attname ORDER BY 1`);
    const columns = rows.map((row) => row.column);
    const secretOrSession = /secret|digest|salt|hash|psk|password|public_key|last_seen|user_agent|epoch/;
    expect(columns.filter((column) => secretOrSession.test(column))).toEqual([]);
    expect(columns).toEqual(expect.arrayContaining(Object.values(COLUMNS).flat()));
  });

  it('D7: reconciling puts back what a person changed, says so, and then has nothing to do', async () => {
    await test.sql(`
      ALTER PUBLICATION portcullis_changes DROP TABLE policies;
      ALTER PUBLICATION portcullis_changes DROP TABLE actors;
      ALTER PUBLICATION portcullis_changes ADD TABLE actors WHERE (disabled_at IS NULL);
      ALTER PUBLICATION portcullis_changes ADD TABLE token_secrets;
      ALTER PUBLICATION portcullis_flow_edits SET (publish = 'insert');`);
    expect(await reconcilePublications(database, 'portcullis')).toEqual([
      { publication: 'portcullis_changes', what: 'table-added', table: 'public.policies' },
      { publication: 'portcullis_changes', what: 'table-dropped', table: 'public.token_secrets' },
      { publication: 'portcullis_changes', what: 'row-or-column-filter-removed', table: 'public.actors' },
      { publication: 'portcullis_flow_edits', what: 'publish-options-set' },
    ]);
    expect(await reconcilePublications(database, 'portcullis')).toEqual([]);
  });

  it('D7: a missing publication, or one for all tables, is made again', async () => {
    await test.sql(`DROP PUBLICATION portcullis_changes; CREATE PUBLICATION portcullis_changes FOR ALL TABLES;
      DROP PUBLICATION portcullis_flow_edits`);
    expect(await reconcilePublications(database, 'portcullis')).toEqual([
      { publication: 'portcullis_changes', what: 'created' },
      { publication: 'portcullis_flow_edits', what: 'created' },
    ]);
    expect(await reconcilePublications(database, 'portcullis')).toEqual([]);
  });

  it('D7: the prefix is a plain name, so that it needs no quoting anywhere', () => {
    expect(() => reconcilePublications(database, 'x"; DROP TABLE accounts; --')).toThrow(RangeError);
  });
});

const everythingElse = { pubupdate: true, pubdelete: true, pubtruncate: true };
