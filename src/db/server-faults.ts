/** What facts about a server, role and database mean for us, and the statement that puts each fault right. Asks nothing. */
import { publicationNames } from './publications.js';

export interface ServerFault {
  readonly code:
    | 'version'
    | 'in-recovery'
    | 'wal-level'
    | 'replication-slots'
    | 'spare-slot'
    | 'wal-senders'
    | 'role-replication'
    | 'role-create'
    | 'wal-keep-size'
    | 'temp-file-limit'
    | 'migrations'
    | 'publication'
    | 'replica-identity';
  /** A warning does not keep the server from starting. */
  readonly severity: 'fault' | 'warning';
  readonly what: string;
  /** The statement or command that puts it right. */
  readonly fix: string;
}

export interface ServerFacts {
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
  /** Of one session; -1: none. */
  readonly temp_file_limit_kb: number;
  readonly role: string;
  readonly may_replicate: boolean;
  readonly may_create: boolean;
  readonly database: string;
  readonly publications: number;
  readonly not_full: readonly string[];
}

export interface Installation {
  readonly prefix: string;
  readonly slot: string;
  /** Who polls needs no WAL sender. */
  readonly mode: 'stream' | 'poll';
}

/** Worst first within its kind. */
export function faultsOf(facts: ServerFacts, { prefix, slot, mode }: Installation): readonly ServerFault[] {
  const always = [...serverFaults(facts, mode), ...roleFaults(facts), ...diskFaults(facts, slot), ...tempFaults(facts)];
  // A standby has what its primary has: nothing can be made or altered there.
  return facts.in_recovery ? always : [...always, ...publicationFaults(facts, prefix), ...identityFaults(facts)];
}

function serverFaults(facts: ServerFacts, mode: Installation['mode']): ServerFault[] {
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
    faults.push(fault('replication-slots', `all ${facts.max_slots} replication slots are taken`, moreSlots(facts)));
  }
  if (facts.has_slot && facts.slots >= facts.max_slots) {
    faults.push({
      code: 'spare-slot',
      severity: 'warning',
      what: 'no replication slot is free: a transaction too large for memory waits for one before it can be recorded',
      fix: moreSlots(facts),
    });
  }
  if (mode === 'stream' && !facts.slot_active && facts.senders >= facts.max_senders) {
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

function roleFaults(facts: ServerFacts): ServerFault[] {
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
function diskFaults(facts: ServerFacts, slot: string): ServerFault[] {
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

/** About as much as a transaction of ten million small rows takes when it is read again to be recorded. */
const ENOUGH_TEMP_KB = 4 * 1024 * 1024;

function tempFaults({ temp_file_limit_kb: limit, role }: ServerFacts): ServerFault[] {
  if (limit < 0 || limit >= ENOUGH_TEMP_KB) return [];
  return [
    {
      code: 'temp-file-limit',
      severity: 'warning',
      what: `temp_file_limit is ${Math.floor(limit / 1024)} MB: a transaction larger than that cannot be recorded, and holds back the log`,
      fix: `ALTER ROLE ${quoted(role)} SET temp_file_limit = -1;`,
    },
  ];
}

function publicationFaults(facts: ServerFacts, prefix: string): ServerFault[] {
  if (facts.publications === 2) return [];
  const names = publicationNames(prefix);
  const what = `publication ${names.changes} or ${names.flowEdits} is missing`;
  return [fault('publication', what, 'portcullis migrate')];
}

function identityFaults(facts: ServerFacts): ServerFault[] {
  return facts.not_full.map((table) =>
    fault(
      'replica-identity',
      `${table} does not publish whole old rows`,
      `ALTER TABLE ${quoted(table)} REPLICA IDENTITY FULL;`,
    ),
  );
}

function moreSlots({ max_slots: most }: ServerFacts): string {
  return `ALTER SYSTEM SET max_replication_slots = ${most + 5}; then restart PostgreSQL`;
}

function fault(code: ServerFault['code'], what: string, fix: string): ServerFault {
  return { code, severity: 'fault', what, fix };
}

function quoted(identifier: string): string {
  return `"${identifier.replaceAll('"', '""')}"`;
}
