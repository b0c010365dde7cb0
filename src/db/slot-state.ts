/** How is our slot doing, and how large has the event store grown? For `doctor`. */
import { sql } from 'kysely';
import type { Database } from './open-database.js';

export interface SlotState {
  readonly active: boolean;
  /** WAL the server keeps for us. */
  readonly lagBytes: number;
  /** `reserved`, `extended`, `unreserved` or `lost`. */
  readonly walStatus: string;
  /** What may still be written before the slot is lost; null without a limit. */
  readonly safeWalBytes: number | null;
}

/** `undefined` when there is no such slot. */
export function slotState(database: Database, slot: string): Promise<SlotState | undefined> {
  return database.ask('slot-state', async (db) => {
    const { rows } = await sql<SlotState>`
      SELECT active, wal_status AS "walStatus", safe_wal_size::float8 AS "safeWalBytes",
        coalesce(pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn()
          ELSE pg_current_wal_lsn() END, confirmed_flush_lsn), 0)::float8 AS "lagBytes"
      FROM pg_replication_slots WHERE slot_name = ${slot}`.execute(db);
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
