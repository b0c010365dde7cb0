/** How does the server fare right now: what holds our slot back, and what is about to run out? For `doctor`. */
import { sql } from 'kysely';
import type { Database } from './open-database.js';

/** A transaction that has written something and is open. */
export interface OpenTransaction {
  /** Undefined for a prepared one. */
  readonly pid: number | undefined;
  /** Only of a prepared one. */
  readonly gid: string | undefined;
  readonly database: string;
  readonly user: string;
  readonly forSeconds: number;
}

export interface RunningFacts {
  readonly version: number;
  /** As `SHOW` prints them, those that matter to us and that this version has. */
  readonly settings: Readonly<Record<string, string>>;
  readonly wal_sender_timeout_ms: number;
  /** Unit MB; negative without a limit. */
  readonly keep_size_mb: number;
  /** 0: never, and before PostgreSQL 18. */
  readonly idle_slot_timeout: number;
  /** What ordinary roles may open. */
  readonly max_connections: number;
  readonly connections: number;
  /** Of our slot; null when there is none. */
  readonly slot_is_ours: boolean | null;
  /** How long the reader of our slot takes to acknowledge; null while nobody reads it. */
  readonly lag_seconds: number | null;
  readonly open: readonly OpenTransaction[];
  /** Physical slots that a standby reads, by name. */
  readonly standby_slots: readonly string[];
}

/** Every name is a setting of PostgreSQL; those a version does not know are left out. */
const SETTINGS = [
  ...['wal_level', 'max_slot_wal_keep_size', 'max_replication_slots', 'max_wal_senders', 'wal_sender_timeout'],
  ...['max_connections', 'idle_replication_slot_timeout', 'synchronized_standby_slots', 'synchronous_standby_names'],
];

/** Transactions that are open for longer than `openForMs`, of the whole server: making a slot waits for all of them. */
export function runningFacts(database: Database, slot: string, openForMs: number): Promise<RunningFacts> {
  return database.ask('running-facts', async (db) => {
    const { rows } = await sql<Omit<RunningFacts, 'open'>>`
      SELECT current_setting('server_version_num')::int AS version,
        (SELECT json_object_agg(name, current_setting(name)) FROM pg_settings
          WHERE name IN (${sql.join(SETTINGS)})) AS settings,
        (SELECT setting::int FROM pg_settings WHERE name = 'wal_sender_timeout') AS wal_sender_timeout_ms,
        (SELECT setting::int FROM pg_settings WHERE name = 'max_slot_wal_keep_size') AS keep_size_mb,
        coalesce((SELECT setting::int FROM pg_settings WHERE name = 'idle_replication_slot_timeout'), 0)
          AS idle_slot_timeout,
        (SELECT sum(CASE name WHEN 'max_connections' THEN setting::int ELSE -setting::int END)::int FROM pg_settings
          WHERE name IN ('max_connections', 'superuser_reserved_connections', 'reserved_connections')) AS max_connections,
        (SELECT count(*)::int FROM pg_stat_activity WHERE backend_type = 'client backend') AS connections,
        (SELECT coalesce(plugin = 'pgoutput' AND database = current_database(), false) FROM pg_replication_slots
          WHERE slot_name = ${slot}) AS slot_is_ours,
        (SELECT coalesce(extract(epoch FROM r.flush_lag), 0)::float8 FROM pg_replication_slots s
          JOIN pg_stat_replication r ON r.pid = s.active_pid WHERE s.slot_name = ${slot}) AS lag_seconds,
        ARRAY(SELECT slot_name::text FROM pg_replication_slots WHERE slot_type = 'physical' AND active ORDER BY 1)
          AS standby_slots`.execute(db);
    const [facts] = rows;
    if (!facts) throw new Error('the server answered nothing about itself');

    const open = await sql<{ pid: number | null; gid: string | null; database: string; user: string; for: number }>`
      SELECT * FROM (
        SELECT pid, NULL AS gid, coalesce(datname, '') AS database, coalesce(usename, '') AS "user",
          extract(epoch FROM clock_timestamp() - xact_start)::float8 AS for
        FROM pg_stat_activity WHERE backend_xid IS NOT NULL AND xact_start IS NOT NULL
        UNION ALL
        SELECT NULL, gid, database, owner, extract(epoch FROM clock_timestamp() - prepared)::float8 FROM pg_prepared_xacts
      ) AS open WHERE open.for * 1000 >= ${openForMs} ORDER BY open.for DESC`.execute(db);
    return {
      ...facts,
      open: open.rows.map(({ pid, gid, database: name, user, for: forSeconds }) => ({
        ...{ pid: pid ?? undefined, gid: gid ?? undefined, database: name, user, forSeconds },
      })),
    };
  });
}
