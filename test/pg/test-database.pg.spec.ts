import { describe, it, expect, jest } from '@jest/globals';
import { createMigratedDatabase, createTestDatabase } from '../support/test-database.js';

jest.setTimeout(30_000);

describe('databases for tests', () => {
  it('one that still has a slot, a session and a prepared transaction can be dropped', async () => {
    const db = await createTestDatabase();
    const witness = await createTestDatabase();
    await db.sql(`CREATE TABLE t (n int); INSERT INTO t VALUES (1)`);
    await db.query(`SELECT pg_create_logical_replication_slot($1, 'pgoutput')`, [`slot_${db.name}`]);
    await db.sql(`BEGIN; INSERT INTO t VALUES (2); PREPARE TRANSACTION 'left behind'`);
    const { rows } = await db.query<{ n: number }>('SELECT n FROM t WHERE n > $1', [0]);
    expect(rows).toEqual([{ n: 1 }]);

    await db.drop();

    const left = await witness.query(
      `SELECT datname FROM pg_database WHERE datname = $1
       UNION ALL SELECT slot_name FROM pg_replication_slots WHERE slot_name = 'slot_' || $1`,
      [db.name],
    );
    expect(left.rows).toEqual([]);
    await witness.drop();
  });

  it('migrated ones are equal, with publications, and do not share rows', async () => {
    const [one, two] = await Promise.all([createMigratedDatabase(), createMigratedDatabase()]);
    const publications = 'SELECT pubname FROM pg_publication ORDER BY pubname';
    expect((await one.query(publications)).rows).toEqual([
      { pubname: 'portcullis_changes' },
      { pubname: 'portcullis_flow_edits' },
    ]);
    expect((await two.query(publications)).rows).toHaveLength(2);

    await one.query(`INSERT INTO accounts (name, slug) VALUES ('One', 'one')`);
    expect((await one.query('SELECT FROM accounts')).rowCount).toBe(1);
    expect((await two.query('SELECT FROM accounts')).rowCount).toBe(0);
    await Promise.all([one.drop(), two.drop()]);
  });
});
