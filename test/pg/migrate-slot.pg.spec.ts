/** A slot that outlives its publication loses rows; making the publication again must not pass over that. */
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { migrateToLatest } from '../../src/db/migrate.js';
import { createMigratedDatabase, type TestDatabase } from '../support/test-database.js';

let db: TestDatabase;

beforeEach(async () => {
  db = await createMigratedDatabase();
  await db.query('SELECT pg_create_logical_replication_slot($1, $2)', [db.name, 'pgoutput']);
});

afterEach(() => db.drop());

async function slots(): Promise<unknown[]> {
  return (await db.query('SELECT slot_name FROM pg_replication_slots WHERE database = $1', [db.name])).rows;
}

describe('migrateToLatest', () => {
  it('drops an idle slot when its publication had to be made again (events.md B.3.11)', async () => {
    await db.sql('DROP PUBLICATION portcullis_changes');
    await migrateToLatest(db.url, { slot: db.name });
    expect(await slots()).toEqual([]);
  });

  it('leaves the slot alone when nothing was missing, so that it goes on where it stopped', async () => {
    await migrateToLatest(db.url, { slot: db.name });
    expect(await slots()).toHaveLength(1);
  });
});
