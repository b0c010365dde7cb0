/**
 * Which tables the stream carries, which column names a row's account, and which columns the program cannot do without.
 * A needed column that is gone makes every row of its table unreadable (D15); a column not listed may come and go.
 */
import { COLUMNS } from '../core/changes/columns.js';
import type { StreamTable } from '../core/changes/commit.js';

/** The schema of the published tables; a table of the same name elsewhere is not ours. */
export const STREAM_SCHEMA = 'public';

const NEEDED: Readonly<Record<StreamTable, readonly string[]>> = {
  ...COLUMNS,
  // What recognises an operator's cut and our own echo of one (D8a).
  flows: ['account_id', 'id', 'gateway_id', 'client_id', 'resource_id', 'expires_at', 'revoked_at', 'revoked_position'],
};

export function isStreamTable(name: string): name is StreamTable {
  return Object.hasOwn(NEEDED, name);
}

export function neededColumns(table: StreamTable): readonly string[] {
  return NEEDED[table];
}

export function accountColumn(table: StreamTable): string {
  return table === 'accounts' ? 'id' : 'account_id';
}
