import { beforeEach, describe, expect, it, jest } from '@jest/globals';
import {
  ACCOUNT,
  ACTOR,
  anAccountInUse,
  aPolicy,
  aResource,
  GROUP,
  idOf,
  POLICY,
  rawRows,
  RESOURCE,
  SITE,
} from '../../../test/support/builders.js';
import { UnreadableRowError } from '../changes/parse-row.js';
import { printRow } from '../changes/print-row.js';
import type { IdentityId, PolicyId, ProviderId } from '../model/ids.js';
import { ACCOUNT_TABLES, type AccountTable } from '../model/rows.js';
import { changesOfEdits, type AccountEdit } from './account-edits.js';
import { AccountState } from './account-state.js';

describe('changes of edits', () => {
  let state: AccountState;

  beforeEach(() => {
    state = new AccountState();
    state.replaceAll(rawRows(anAccountInUse()));
  });

  /** The tables of what a delete takes along, in order. */
  function deletedWith(table: AccountTable, key: string): string[] {
    const changes = changesOfEdits(state, [{ kind: 'delete', table, key }]);
    expect(changes.map(({ seq }) => seq)).toEqual(changes.map((_, seq) => seq));
    return changes.map((change) => (change.kind === 'delete' ? change.table : change.kind));
  }

  it('a row put in is an insert, in the place of another an update, and edits build on one another', () => {
    const added = aPolicy({ id: idOf<PolicyId>('p2') });
    const edits: AccountEdit[] = [
      { kind: 'put', table: 'policies', row: added },
      { kind: 'put', table: 'policies', row: { ...added, description: 'more' } },
      { kind: 'put', table: 'resources', row: aResource({ name: 'New' }) },
      { kind: 'delete', table: 'policies', key: added.id },
    ];
    expect(changesOfEdits(state, edits)).toEqual([
      { kind: 'insert', table: 'policies', seq: 0, old: null, new: printRow(added) },
      {
        ...{ kind: 'update', table: 'policies', seq: 1 },
        ...{ old: printRow(added), new: printRow({ ...added, description: 'more' }) },
      },
      {
        ...{ kind: 'update', table: 'resources', seq: 2 },
        ...{ old: printRow(aResource()), new: printRow(aResource({ name: 'New' })) },
      },
      {
        ...{ kind: 'delete', table: 'policies', seq: 3 },
        ...{ old: printRow({ ...added, description: 'more' }), new: null },
      },
    ]);
    expect(state.row('policies', added.id)).toBeUndefined();
  });

  it('a row without a proper id is refused, and leaves no fork behind', () => {
    const forks = jest.spyOn(AccountState.prototype, 'fork');
    const released = jest.spyOn(AccountState.prototype, 'release');
    const row = aPolicy({ id: 'x' as PolicyId });
    expect(() => changesOfEdits(state, [{ kind: 'put', table: 'policies', row }])).toThrow(UnreadableRowError);
    expect(released.mock.contexts).toEqual(forks.mock.results.map(({ value }) => value));
    expect(released).toHaveBeenCalledTimes(1);
    jest.restoreAllMocks();
  });

  it('deleting what is not there is no change', () => {
    expect(deletedWith('policies', idOf('none'))).toEqual([]);
  });

  it.each<[AccountTable, string, string[]]>([
    ['actors', ACTOR, ['actors', 'identities', 'tokens', 'memberships', 'clients']],
    ['auth_providers', idOf<ProviderId>('oidc'), ['auth_providers', 'identities', 'tokens']],
    ['identities', idOf<IdentityId>('alice'), ['identities', 'tokens']],
    ['groups', GROUP, ['groups', 'memberships', 'policies']],
    ['sites', SITE, ['sites', 'gateways', 'resource_sites', 'tokens']],
    ['resources', RESOURCE, ['resources', 'resource_sites', 'policies']],
    ['policies', POLICY, ['policies']],
    ['resource_sites', `${RESOURCE}/${SITE}`, ['resource_sites']],
  ])('deleting one of %s takes along what refers to it', (table, key, tables) => {
    expect(deletedWith(table, key)).toEqual(tables);
  });

  it('deleting the account takes everything', () => {
    const changes = changesOfEdits(state, [{ kind: 'delete', table: 'accounts', key: ACCOUNT }]);
    expect(changes).toHaveLength(anAccountInUse().length);
    state.apply(changes);
    expect(ACCOUNT_TABLES.filter((table) => state.count(table) > 0)).toEqual([]);
  });
});
