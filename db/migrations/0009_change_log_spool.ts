/** Where the rows of a transaction too large for memory wait for its commit. Not published. */
import { sql } from 'kysely';
import type { Kysely } from 'kysely';

export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    -- The position of a commit is known only at its end, so these rows go to change_log when it has come. Logged, not
    -- unlogged: a server that crashes between the last row and the commit must not lose what is not sent again.
    CREATE TABLE change_log_spool (
      timeline_epoch int NOT NULL,
      xid bigint NOT NULL,
      seq int NOT NULL,
      account_id uuid,
      table_name text NOT NULL,
      op text NOT NULL,
      old_row jsonb,
      new_row jsonb,
      PRIMARY KEY (timeline_epoch, xid, seq)
    );
  `.execute(db);
}
