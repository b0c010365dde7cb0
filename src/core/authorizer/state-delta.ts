import type { AccountTable, AccountTables } from '../model/rows.js';

/** One row before and after a step; at least one side is there, and the two differ. */
export interface RowDelta<Row> {
  readonly before: Row | undefined;
  readonly after: Row | undefined;
}

/**
 * What one step really changed, by table: the net effect of a whole commit, whatever happened in between. Deleting and
 * re-inserting an equal row is no change; an edit that is undone in the same commit is none either.
 */
export type StateDelta = { readonly [T in AccountTable]: readonly RowDelta<AccountTables[T]>[] };
