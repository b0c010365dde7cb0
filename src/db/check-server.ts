/**
 * Says what keeps this server, role or database from serving as our event source, and how to put each right. Run before the
 * first migration (only what concerns the server can be seen then) and after it.
 */
import { sql } from 'kysely';
import { ACCOUNT_TABLES } from '../core/model/rows.js';
import type { Database, Queries } from './open-database.js';
import { missingMigrations } from './migrate.js';
import { publicationNames } from './publications.js';

export interface ServerFault {
  readonly code:
    | 'version'
    | 'in-recovery'
    | 'wal-level'
    | 'replication-slots'
    | 'wal-senders'
    | 'role-replication'
    | 'role-create'
    | 'wal-keep-size'
    | 'migrations'
    | 'publication'
    | 'replica-identity';
  /** A warning does not keep the server from starting. */
  readonly severity: 'fault' | 'warning';
  readonly what: string;
  /** The statement or command that puts it right. */
  readonly fix: string;
}

export interface CheckOptions {
  readonly prefix: string;
  readonly slot: string;
}

/** Every fault at once, worst first within its kind; empty when nothing is wrong. */
export async function checkServer(database: Database, options: CheckOptions): Promise<readonly ServerFault[]> {
  const facts = await database.ask('check-server', (db) => readFacts(db, options));
  const faults = [...serverFaults(facts), ...roleFaults(facts), ...diskFaults(facts, options.slot)];
  if (facts.in_recovery) return faults; // nothing can be migrated there

  const missing = await missingMigrations(database);
  if (missing.length > 0) faults.push(fault('migrations', `not migrated: ${missing.join(', ')}`, 'portcullis migrate'));
  return [...faults, ...publicationFaults(facts, options.prefix), ...identityFaults(facts)];
}

interface Facts {
  readonly version: number;
  readonly in_recovery: boolean;
  readonly wal_level: string;
  readonly has_slot: boolean;
  readonly slot_active: boolean;
  readonly slots: number;
  readonly max_slots: number;
  readonly senders: number;
  readonly max_senders: number;
  readonly keep_size_mb: number;
  readonly role: string;
  readonly may_replicate: boolean;
  readonly may_create: boolean;
  readonly database: string;
  readonly publications: number;
  readonly not_full: readonly string[];
}

async function readFacts(db: Queries, { prefix, slot }: CheckOptions): Promise<Facts> {
  const names = publicationNames(prefix);
  const tables = sql.join([...ACCOUNT_TABLES, 'flows'].map((table) => sql.lit(table)));
  const { rows } = await sql<Facts>`
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

function serverFaults(facts: Facts): ServerFault[] {
  const faults: ServerFault[] = [];
  if (facts.version < 150_000) {
    const version = `${Math.floor(facts.version / 10_000)}`;
    faults.push(fault('version', `PostgreSQL ${version} is too old`, 'use PostgreSQL 15 to 18'));
  }
  if (facts.in_recovery) {
    faults.push(
      fault('in-recovery', 'this server is a standby', 'set DATABASE_URL to the primary, or SELECT pg_promote();'),
    );
  }
  if (facts.wal_level !== 'logical') {
    faults.push(
      fault(
        'wal-level',
        `wal_level is ${facts.wal_level}, logical decoding needs logical`,
        'ALTER SYSTEM SET wal_level = logical; then restart PostgreSQL',
      ),
    );
  }
  if (!facts.has_slot && facts.slots >= facts.max_slots) {
    faults.push(
      fault(
        'replication-slots',
        `all ${facts.max_slots} replication slots are taken`,
        `ALTER SYSTEM SET max_replication_slots = ${facts.max_slots + 5}; then restart PostgreSQL`,
      ),
    );
  }
  if (!facts.slot_active && facts.senders >= facts.max_senders) {
    faults.push(
      fault(
        'wal-senders',
        `all ${facts.max_senders} WAL senders are busy`,
        `ALTER SYSTEM SET max_wal_senders = ${facts.max_senders + 5}; then restart PostgreSQL`,
      ),
    );
  }
  return faults;
}

function roleFaults(facts: Facts): ServerFault[] {
  const role = quoted(facts.role);
  const faults: ServerFault[] = [];
  if (!facts.may_replicate) {
    faults.push(fault('role-replication', `role ${role} may not replicate`, `ALTER ROLE ${role} REPLICATION;`));
  }
  if (!facts.may_create) {
    faults.push(
      fault(
        'role-create',
        `role ${role} may not create publications in this database`,
        `GRANT CREATE ON DATABASE ${quoted(facts.database)} TO ${role};`,
      ),
    );
  }
  return faults;
}

/** A slot nobody reads holds WAL until the disk is full; with a limit it is lost instead, and we resync (D10, D14). */
function diskFaults(facts: Facts, slot: string): ServerFault[] {
  if (facts.keep_size_mb >= 0) return [];
  return [
    {
      code: 'wal-keep-size',
      severity: 'warning',
      what: `max_slot_wal_keep_size is -1: while nobody reads the slot "${slot}" its WAL can fill the disk`,
      fix: `ALTER SYSTEM SET max_slot_wal_keep_size = '4GB'; SELECT pg_reload_conf();`,
    },
  ];
}

function publicationFaults(facts: Facts, prefix: string): ServerFault[] {
  if (facts.publications === 2) return [];
  const names = publicationNames(prefix);
  const what = `publication ${names.changes} or ${names.flowEdits} is missing`;
  return [fault('publication', what, 'portcullis migrate')];
}

function identityFaults(facts: Facts): ServerFault[] {
  return facts.not_full.map((table) =>
    fault(
      'replica-identity',
      `${table} does not publish whole old rows`,
      `ALTER TABLE ${quoted(table)} REPLICA IDENTITY FULL;`,
    ),
  );
}

function fault(code: ServerFault['code'], what: string, fix: string): ServerFault {
  return { code, severity: 'fault', what, fix };
}

function quoted(identifier: string): string {
  return `"${identifier.replaceAll('"', '""')}"`;
}
