/** Which stored rows count as absent, in part or whole, because their content does not parse? For `doctor` (D15). */
import { COLUMNS } from '../core/changes/columns.js';
import type { RawRow } from '../core/changes/commit.js';
import { parseRow } from '../core/changes/parse-row.js';
import { ACCOUNT_TABLES } from '../core/model/rows.js';
import type { AccountTable } from '../core/model/rows.js';
import type { Database, RawQuery } from './open-database.js';

export interface UnreadableRow {
  readonly table: AccountTable;
  /** Its key columns, for a WHERE clause. */
  readonly key: Readonly<Record<string, string | null>>;
  /** The column, with the place inside it. */
  readonly part: string;
  readonly problem: string;
}

/** Looks at every row of every account; a fault each. Stops at `limit` faults. */
export function unreadableRows(database: Database, limit: number): Promise<readonly UnreadableRow[]> {
  return database.inSnapshot('unreadable-rows', async (query) => {
    const found: UnreadableRow[] = [];
    for (const table of ACCOUNT_TABLES) {
      for await (const raw of everyRow(query, table)) {
        found.push(...faultsOf(table, raw));
        if (found.length >= limit) return found.slice(0, limit);
      }
    }
    return found;
  });
}

/** Rows held at once. Fewer: more round trips. */
const FETCH = 5_000;

async function* everyRow(query: RawQuery, table: AccountTable): AsyncGenerator<RawRow> {
  await query(`DECLARE every_row NO SCROLL CURSOR FOR SELECT ${COLUMNS[table].join(', ')} FROM ${table}`);
  for (;;) {
    const rows = await query(`FETCH ${FETCH} FROM every_row`);
    yield* rows;
    if (rows.length < FETCH) break;
  }
  await query('CLOSE every_row');
}

function faultsOf(table: AccountTable, raw: RawRow): UnreadableRow[] {
  const key = Object.fromEntries(KEYS.filter((column) => column in raw).map((column) => [column, raw[column] ?? null]));
  return parseRow(table, raw).faults.map(({ part, problem }) => ({ table, key, part, problem }));
}

const KEYS = ['account_id', 'id'];
