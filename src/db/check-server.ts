/**
 * Says what keeps this server, role or database from serving as our event source, and how to put each right. Run before the
 * first migration (only what concerns the server can be seen then) and after it.
 */
import { sql } from 'kysely';
import { ACCOUNT_TABLES } from '../core/model/rows.js';
import type { Database, Queries } from './open-database.js';
import { missingMigrations } from './migrate.js';
import { publicationNames } from './publications.js';
import { faultsOf } from './server-faults.js';
import type { Installation, ServerFacts, ServerFault } from './server-faults.js';

export type { ServerFault };

/** Every fault at once; empty when nothing is wrong. */
export async function checkServer(database: Database, options: Installation): Promise<readonly ServerFault[]> {
  const facts = await database.ask('check-server', (db) => readFacts(db, options));
  const faults = faultsOf(facts, options);
  if (facts.in_recovery) return faults; // nothing can be migrated there

  const missing = await missingMigrations(database);
  if (missing.length === 0) return faults;
  const what = `not migrated: ${missing.join(', ')}`;
  return [...faults, { code: 'migrations', severity: 'fault', what, fix: 'portcullis migrate' }];
}

async function readFacts(db: Queries, { prefix, slot }: Installation): Promise<ServerFacts> {
  const names = publicationNames(prefix);
  const tables = sql.join([...ACCOUNT_TABLES, 'flows'].map((table) => sql.lit(table)));
  const { rows } = await sql<ServerFacts>`
    SELECT current_setting('server_version_num')::int AS version,
      pg_is_in_recovery() AS in_recovery,
      current_setting('wal_level') AS wal_level,
      EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = ${slot}) AS has_slot,
      EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = ${slot} AND active) AS slot_active,
      (SELECT count(*)::int FROM pg_replication_slots) AS slots,
      current_setting('max_replication_slots')::int AS max_slots,
      (SELECT count(*)::int FROM pg_stat_replication) AS senders,
      current_setting('max_wal_senders')::int AS max_senders,
      (SELECT setting::int FROM pg_settings WHERE name = 'max_slot_wal_keep_size') AS keep_size_mb,
      (SELECT setting::int FROM pg_settings WHERE name = 'temp_file_limit') AS temp_file_limit_kb,
      current_user AS role,
      (SELECT rolreplication OR rolsuper FROM pg_roles WHERE rolname = current_user) AS may_replicate,
      has_database_privilege(current_database(), 'CREATE') AS may_create,
      current_database() AS database,
      (SELECT count(*)::int FROM pg_publication WHERE pubname IN (${names.changes}, ${names.flowEdits})) AS publications,
      ARRAY(SELECT relname::text FROM pg_class
        WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND relname IN (${tables})
          AND relreplident <> 'f' ORDER BY relname) AS not_full`.execute(db);
  const [facts] = rows;
  if (!facts) throw new Error('the server answered nothing about itself');
  return facts;
}
