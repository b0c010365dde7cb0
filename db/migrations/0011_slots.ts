/** What must be known of a replication slot and is not in the server's row of it. Not published. */
import { sql } from 'kysely';
import type { Kysely } from 'kysely';

export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    CREATE TABLE slots (
      name text PRIMARY KEY,
      -- The version of our publications when it was made: it leaves out what an alteration since then leaves out.
      publications text NOT NULL
    );
  `.execute(db);
}
