/** What leaves the database by age. In batches, so that no statement holds locks or the stream for long. */
import { sql } from 'kysely';
import type { EpochMs } from '../core/model/time.js';
import type { Database } from './open-database.js';

/** Larger: longer statements. Smaller: more of them. */
const BATCH = 5_000;

/** Deletes flows that expired before `expiredBefore`; returns how many. The stream shows it as an echo (D8a). */
export function deleteExpiredFlows(database: Database, expiredBefore: EpochMs): Promise<number> {
  return inBatches(() =>
    database.ask('delete-expired-flows', async (db) => {
      const { numAffectedRows } = await sql`
        DELETE FROM flows WHERE ctid = ANY (ARRAY(
          SELECT ctid FROM flows WHERE expires_at < ${new Date(expiredBefore)} LIMIT ${BATCH}))
        AND expires_at < ${new Date(expiredBefore)}`.execute(db);
      return Number(numAffectedRows ?? 0n);
    }),
  );
}

/** Deletes what was recorded before `recordedBefore`; returns how many. `CHANGE_LOG_RETENTION_DAYS` 0 means: never call it. */
export function deleteOldChangeLog(database: Database, recordedBefore: EpochMs): Promise<number> {
  return inBatches(() =>
    database.ask('delete-old-change-log', async (db) => {
      const { numAffectedRows } = await sql`
        DELETE FROM change_log WHERE ctid = ANY (ARRAY(
          SELECT ctid FROM change_log WHERE recorded_at < ${new Date(recordedBefore)} LIMIT ${BATCH}))`.execute(db);
      return Number(numAffectedRows ?? 0n);
    }),
  );
}

async function inBatches(deleteBatch: () => Promise<number>): Promise<number> {
  for (let total = 0; ;) {
    const deleted = await deleteBatch();
    total += deleted;
    if (deleted < BATCH) return total;
  }
}
