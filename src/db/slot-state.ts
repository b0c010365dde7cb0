/** How is our slot doing, and how large has the event store grown? */
import { sql } from 'kysely';
import type { SlotFacts } from '../core/ports/slot-status.js';
import type { Database } from './open-database.js';

/** `undefined` when there is no such slot. Columns that only newer versions have are taken from the row as JSON. */
export function slotState(database: Database, slot: string): Promise<SlotFacts | undefined> {
  return database.ask('slot-state', async (db) => {
    const { rows } = await sql<SlotFacts>`
      SELECT s.active_pid AS "activePid", s.confirmed_flush_lsn IS NOT NULL AS "isMade", s.wal_status AS "walStatus", s.safe_wal_size::float8 AS "safeWalBytes",
        greatest(coalesce(pg_wal_lsn_diff(log.ends_at, s.restart_lsn), 0), 0)::float8 AS "retainedBytes",
        greatest(coalesce(pg_wal_lsn_diff(log.ends_at, s.confirmed_flush_lsn), 0), 0)::float8 AS "lagBytes",
        to_jsonb(s) ->> 'invalidation_reason' AS invalidation,
        coalesce((to_jsonb(s) ->> 'failover')::boolean, false) AS failover
      FROM pg_replication_slots s, LATERAL (SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn()
        ELSE pg_current_wal_lsn() END AS ends_at) log
      WHERE s.slot_name = ${slot}`.execute(db);
    return rows[0];
  });
}

export interface ChangeLogSize {
  readonly bytes: number;
  /** The planner's estimate: counting a large log takes long. */
  readonly entries: number;
}

/** `undefined` before the first migration. */
export function changeLogSize(database: Database): Promise<ChangeLogSize | undefined> {
  return database.ask('change-log-size', async (db) => {
    const { rows } = await sql<ChangeLogSize>`
      SELECT pg_total_relation_size(oid)::float8 AS bytes, greatest(reltuples, 0)::float8 AS entries
      FROM pg_class WHERE oid = to_regclass('change_log')`.execute(db);
    return rows[0];
  });
}
