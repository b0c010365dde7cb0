import { ACCOUNT_TABLES, type AccountTable, type AccountTables } from '../model/rows.js';

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

/** The row as it is, or as it was when it is gone: for what both share. */
export function eitherRow<Row>({ before, after }: RowDelta<Row>): Row {
  return (after ?? before) as Row; // at least one side is there
}

/** The row as it was and as it is, where it is there (AUTH-1). */
export function bothRows<Row>({ before, after }: RowDelta<Row>): Row[] {
  return [before, after].filter((row) => row !== undefined);
}

export const NO_DELTA = Object.fromEntries(ACCOUNT_TABLES.map((table) => [table, []])) as unknown as StateDelta;
