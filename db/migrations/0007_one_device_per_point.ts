/**
 * A public key belongs to one device of its account, and two texts that mean one point are one key: X25519 ignores the
 * highest bit of the last byte, which `set_bit` counts as 255.
 */
import { sql } from 'kysely';
import type { Kysely } from 'kysely';

export async function up(db: Kysely<unknown>): Promise<void> {
  for (const table of ['client_sessions', 'gateway_sessions']) {
    const taken = `${table}_public_key_is_taken`;
    await sql`
      ALTER TABLE ${sql.table(table)} DROP CONSTRAINT ${sql.ref(taken)};
      CREATE UNIQUE INDEX ${sql.ref(taken)} ON ${sql.table(table)}
        (account_id, set_bit(decode(public_key, 'base64'), 255, 0));
    `.execute(db);
  }
}
