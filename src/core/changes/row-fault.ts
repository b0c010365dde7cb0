/** What could not be read of a row. Names the part, never a secret; values in it are cut short. */
import { PortalError } from '../support/portal-error.js';

/** For logs, counters and `doctor`: the row or this part of it counts as absent (D15). */
export interface RowFault {
  /** The column, with the place inside it: `filters[0].ports`. */
  readonly part: string;
  readonly problem: string;
}

/** Not even the row's ids can be read: nobody can say which row this is, so its account is read again (D14, D15). */
export class UnreadableRowError extends PortalError {
  readonly code = 'ROW_UNREADABLE';
  readonly reaction = 'resync';

  constructor(
    readonly table: string,
    readonly column: string,
  ) {
    super(`column ${column} of a row of ${table} is missing or not a UUID`);
  }
}

/** A value as part of a fault: escaped and cut short. */
export function excerpt(value: unknown): string {
  const text = typeof value === 'string' ? value : (JSON.stringify(value) ?? 'nothing');
  return JSON.stringify(text.slice(0, 40));
}
