import { parsePosition, type Position } from '../core/model/position.js';

/** Its one column is `position`: asked after rows, everything that those show had committed before it. */
export const SELECT_INSERT_POSITION = 'SELECT pg_current_wal_insert_lsn() AS position';

/** Of the answer. Throws when there is none. */
export function insertPosition(row: Readonly<Record<string, unknown>> | undefined): Position {
  const position = parsePosition(String(row?.['position']));
  if (position === undefined) throw new Error('the server named no WAL insert position');
  return position;
}
