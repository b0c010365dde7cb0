/** Brings a database to the newest schema, publications included. Safe to run by several processes at once. */
import { Migrator, sql } from 'kysely';
import type { Database, Queries } from './open-database.js';
import { openDatabase } from './open-database.js';
import { MIGRATIONS } from './migrations.js';
import { reconcilePublications } from './publications.js';

export interface MigrateOptions {
  /** Default `portcullis`. */
  readonly publicationPrefix?: string;
  /** Our replication slot; dropped when a publication had to be made again, see below. */
  readonly slot?: string;
}

/** Returns the names of the migrations it applied, in order; empty when there was nothing to do. */
export async function migrateToLatest(databaseUrl: string, options: MigrateOptions = {}): Promise<readonly string[]> {
  const database = openDatabase(databaseUrl, { max: 2 });
  try {
    const applied = await database.ask('migrate', applyMigrations);
    const changes = await reconcilePublications(database, options.publicationPrefix ?? 'portcullis');
    const isMadeAgain = changes.some(({ what }) => what === 'created');
    if (isMadeAgain && options.slot !== undefined) await dropIdleSlot(database, options.slot);
    return applied;
  } finally {
    await database.close();
  }
}

/**
 * A slot that is older than its publication cannot decode what was written while there was none: PostgreSQL up to 17
 * fails at that place for good (events.md B.3.11), PostgreSQL 18 leaves the rows out in silence. The server makes a new
 * slot at its start. One that is in use is left alone: its server notices by itself.
 */
async function dropIdleSlot(database: Database, slot: string): Promise<void> {
  await database.ask('drop-idle-slot', (db) =>
    sql`
      SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots
      WHERE slot_name = ${slot} AND database = current_database() AND NOT active`.execute(db),
  );
}

/** Names of migrations this program knows and the database has not. */
export function missingMigrations(database: Database): Promise<readonly string[]> {
  return database.ask('missing-migrations', async (db) => {
    const known = await migratorOf(db).getMigrations();
    return known.filter((migration) => !migration.executedAt).map((migration) => migration.name);
  });
}

/** kysely holds an advisory lock and runs all of them in one transaction: all or nothing. */
async function applyMigrations(db: Queries): Promise<readonly string[]> {
  const { error, results } = await migratorOf(db).migrateToLatest();
  if (error) {
    const failed = results?.find((result) => result.status === 'Error')?.migrationName;
    throw new Error(failed === undefined ? 'the migrations did not run' : `migration ${failed} failed`, {
      cause: error,
    });
  }
  return (results ?? []).map((result) => result.migrationName);
}

function migratorOf(db: Queries): Migrator {
  return new Migrator({ db, provider: { getMigrations: () => Promise.resolve({ ...MIGRATIONS }) } });
}
