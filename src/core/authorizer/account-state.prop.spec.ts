import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import {
  ACTORS,
  denseAccount,
  edit,
  FakeDatabase,
  GROUPS,
  IDENTITIES,
  PROVIDERS,
  RESOURCES,
  runs,
  SITES,
} from '../../../test/support/histories.js';
import { ACCOUNT_TABLES } from '../model/rows.js';
import { AccountState } from './account-state.js';
import type { StateDelta } from './state-delta.js';

/** Commits of one to five edits. */
const history = fc.array(fc.array(edit, { minLength: 1, maxLength: 5 }), { maxLength: 20 });

function rowsOf(state: AccountState): Map<string, unknown> {
  const rows = new Map<string, unknown>();
  for (const table of ACCOUNT_TABLES) {
    for (const row of state.rows(table))
      rows.set(`${table} ${'id' in row ? row.id : `${row.resourceId}/${row.siteId}`}`, row);
  }
  return rows;
}

/** Every index, as plain sorted values. */
function indexesOf(state: AccountState): unknown {
  const sorted = (ids: Iterable<string>): string[] => [...ids].sort();
  const policies = (of: Iterable<{ readonly row: { readonly id: string } }>): string[] =>
    sorted([...of].map((p) => p.row.id));
  return {
    policiesOfResource: RESOURCES.map((id) => policies(state.policiesOfResource(id))),
    policiesOfGroup: GROUPS.map((id) => policies(state.policiesOfGroup(id))),
    groupsOfActor: ACTORS.map((id) => [...state.groupsOfActor(id)].sort()),
    actorsOfGroup: GROUPS.map((id) => sorted(state.actorsOfGroup(id))),
    clientsOfActor: ACTORS.map((id) => sorted(state.clientsOfActor(id))),
    tokensOfIdentity: IDENTITIES.map((id) => sorted(state.tokensOfIdentity(id))),
    identitiesOfProvider: PROVIDERS.map((id) => sorted(state.identitiesOfProvider(id))),
    served: RESOURCES.map((id) => state.served(id)),
    offers: RESOURCES.map((id) => [state.offer(id)?.served, state.offer(id)?.policies.map((policy) => policy.id)]),
    resourcesOfSite: SITES.map((id) => sorted(state.resourcesOfSite(id))),
    servedBy: RESOURCES.map((id) => SITES.map((site) => state.isServedBySite(id, site))),
    account: state.account,
    faults: [...state.faults()].map(({ table, key, part }) => `${table}/${key} ${part}`).sort(),
  };
}

function readOf(database: FakeDatabase): AccountState {
  const state = new AccountState();
  state.replaceAll(database.raw());
  return state;
}

/** What must be in the difference of two sets of rows, by plain comparison. */
function differenceOf(before: Map<string, unknown>, after: Map<string, unknown>): Map<string, unknown> {
  const difference = new Map<string, unknown>();
  for (const key of new Set([...before.keys(), ...after.keys()])) {
    const [old, now] = [before.get(key), after.get(key)];
    if (JSON.stringify(old) !== JSON.stringify(now)) difference.set(key, { before: old, after: now });
  }
  return difference;
}

function namedDelta(delta: StateDelta): Map<string, unknown> {
  const named = new Map<string, unknown>();
  for (const table of ACCOUNT_TABLES) {
    for (const { before, after } of delta[table]) {
      const row = before ?? after;
      if (!row) throw new Error('an empty difference');
      named.set(`${table} ${'id' in row ? row.id : `${row.resourceId}/${row.siteId}`}`, { before, after });
    }
  }
  return named;
}

describe('AccountState', () => {
  it('STORE-1: commit by commit it equals the database read anew, indexes and faults included', () => {
    fc.assert(
      fc.property(history, (commits) => {
        const database = new FakeDatabase(denseAccount());
        const state = readOf(database);
        for (const edits of commits) {
          const before = rowsOf(state);
          const delta = state.apply(edits.flatMap((one) => database.edit(one)));
          const fresh = readOf(database);
          expect(rowsOf(state)).toEqual(rowsOf(fresh));
          expect(indexesOf(state)).toEqual(indexesOf(fresh));
          expect(namedDelta(delta)).toEqual(differenceOf(before, rowsOf(state)));
        }
      }),
      { numRuns: runs(60) },
    );
  });

  it.each(['replaceAll', 'replaceWith'] as const)('D14: %s gives the exact difference to what was held', (how) => {
    fc.assert(
      fc.property(history, history, (ours, theirs) => {
        const [mine, other] = [new FakeDatabase(denseAccount()), new FakeDatabase(denseAccount())];
        for (const one of ours.flat()) mine.edit(one);
        for (const one of theirs.flat()) other.edit(one);
        const state = readOf(mine);
        const before = rowsOf(state);
        const delta = how === 'replaceAll' ? state.replaceAll(other.raw()) : state.replaceWith(readOf(other));
        const fresh = readOf(other);
        expect(rowsOf(state)).toEqual(rowsOf(fresh));
        expect(indexesOf(state)).toEqual(indexesOf(fresh));
        expect(namedDelta(delta)).toEqual(differenceOf(before, rowsOf(fresh)));
      }),
      { numRuns: runs(60) },
    );
  });
});
