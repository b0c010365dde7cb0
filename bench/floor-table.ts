/** Rows whose deletes only a bare reader hears of: the product knows nothing of their table. */
import type { Client } from 'pg';

export const FLOOR_PUBLICATION = 'bench_floor';

/** Columns and indexes as `policies` has them, in a publication of its own. */
export async function makeFloorTable(sql: Client): Promise<void> {
  await sql.query(`
    CREATE TABLE bench_floor (LIKE policies INCLUDING DEFAULTS INCLUDING INDEXES);
    ALTER TABLE bench_floor REPLICA IDENTITY FULL;
    CREATE PUBLICATION ${FLOOR_PUBLICATION} FOR TABLE bench_floor`);
}

/** As many rows as the account has policies; their ids. */
export async function fillFloorTable(sql: Client, accountId: string): Promise<string[]> {
  const { rows } = await sql.query<{ id: string }>(
    `INSERT INTO bench_floor (account_id, group_id, resource_id)
     SELECT account_id, group_id, resource_id FROM policies WHERE account_id = $1 RETURNING id`,
    [accountId],
  );
  return rows.map(({ id }) => id);
}
