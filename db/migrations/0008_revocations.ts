/**
 * What became of each grant that was taken back: the time of the commit that did it (its position is there already), when
 * the gateway was told, and how that ended. Until `delivered_at` is set, the gateway is told again at each of its joins.
 * `flows` stays published as it is, by its edits and with REPLICA IDENTITY FULL.
 */
import { sql } from 'kysely';
import type { Kysely } from 'kysely';

export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    ALTER TABLE flows
      ADD COLUMN revoked_committed_at timestamptz,
      ADD COLUMN pushed_at timestamptz,
      ADD COLUMN delivery text
        CONSTRAINT flows_delivery_is_how_a_rejection_ended
        CHECK (delivery IN ('receipted', 'no-receipt', 'socket-closed', 'unreceipted', 'not-connected'));
    CREATE INDEX flows_by_revocation ON flows (revoked_at) WHERE revoked_at IS NOT NULL;
  `.execute(db);
}
