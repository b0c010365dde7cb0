/**
 * Edits of an account as the changes that a commit with them would show, for a preview: whole rows, and whatever a delete
 * takes with it by the foreign keys of the schema.
 */
import type { Change, RowChange } from '../changes/commit.js';
import { keyOf } from '../changes/parse-row.js';
import { printRow } from '../changes/print-row.js';
import type { AccountTable, AccountTables } from '../model/rows.js';
import type { AccountState } from './account-state.js';

export type AccountEdit = {
  [T in AccountTable]:
    | { readonly kind: 'put'; readonly table: T; readonly row: AccountTables[T] }
    /** `key`: the row's id; of `resource_sites` `<resource id>/<site id>`. */
    | { readonly kind: 'delete'; readonly table: T; readonly key: string };
}[AccountTable];

/**
 * Deleting what is not there is no change. A delete looks at every row of the tables that refer to it. What the state does
 * not hold cannot follow: the groups that a directory provider owns.
 * Throws UnreadableRowError when an id of a row to put is no UUID.
 */
export function changesOfEdits(state: AccountState, edits: readonly AccountEdit[]): Change[] {
  const draft = state.fork();
  const changes: RowChange[] = [];
  const show = (change: Omit<RowChange, 'seq'>): void => {
    const numbered = { ...change, seq: changes.length };
    changes.push(numbered);
    draft.apply([numbered]);
  };
  const remove = (table: AccountTable, key: string): void => {
    const row = draft.row(table, key);
    if (!row) return;
    show({ kind: 'delete', table, old: printRow(row), new: null });
    for (const [child, refersTo] of CHILDREN[table]) {
      const referring = [...draft.rows(child)].filter((other) => refersTo(other) === key);
      for (const other of referring) remove(child, keyOf(child, other));
    }
  };
  try {
    for (const edit of edits) {
      if (edit.kind === 'delete') {
        remove(edit.table, edit.key);
        continue;
      }
      const old = draft.row(edit.table, keyOf(edit.table, edit.row));
      show({
        kind: old ? 'update' : 'insert',
        table: edit.table,
        old: old ? printRow(old) : null,
        new: printRow(edit.row),
      });
    }
    return changes;
  } finally {
    draft.release();
  }
}

type Reference = readonly [child: AccountTable, refersTo: (row: AccountTables[AccountTable]) => string | null];

function child<T extends AccountTable>(table: T, refersTo: (row: AccountTables[T]) => string | null): Reference {
  return [table, refersTo as Reference[1]];
}

const OF_THE_ACCOUNT = [
  ...['actors', 'auth_providers', 'groups', 'sites', 'resources', 'tokens'],
] as const satisfies readonly AccountTable[];

/** Foreign keys that cascade. Source: db/migrations 0001 to 0004. */
const CHILDREN: { readonly [T in AccountTable]: readonly Reference[] } = {
  accounts: OF_THE_ACCOUNT.map((table) => child(table, (row) => row.accountId)),
  actors: [
    child('identities', (row) => row.actorId),
    child('memberships', (row) => row.actorId),
    child('clients', (row) => row.actorId),
    child('tokens', (row) => row.actorId),
  ],
  auth_providers: [child('identities', (row) => row.providerId)],
  identities: [child('tokens', (row) => row.identityId)],
  groups: [child('memberships', (row) => row.groupId), child('policies', (row) => row.groupId)],
  memberships: [],
  sites: [
    child('gateways', (row) => row.siteId),
    child('resource_sites', (row) => row.siteId),
    child('tokens', (row) => row.siteId),
  ],
  gateways: [],
  clients: [],
  resources: [child('resource_sites', (row) => row.resourceId), child('policies', (row) => row.resourceId)],
  resource_sites: [],
  policies: [],
  tokens: [],
};
