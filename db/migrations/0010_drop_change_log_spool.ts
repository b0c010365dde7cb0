/** The rows of a transaction too large for memory are read again from the log: nothing waits in a table any more. */
import { sql } from 'kysely';
import type { Kysely } from 'kysely';

export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`DROP TABLE change_log_spool`.execute(db);
}
