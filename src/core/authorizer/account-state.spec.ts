import { beforeEach, describe, expect, it } from '@jest/globals';
import {
  ACTOR,
  aClient,
  aGroup,
  aLink,
  aMembership,
  anAccountInUse,
  anActor,
  aPolicy,
  aResource,
  aSite,
  aToken,
  CLIENT,
  deleted,
  GROUP,
  idOf,
  inserted,
  POLICY,
  rawChange,
  rawRows,
  RESOURCE,
  SITE,
  someFacts,
  TOKEN,
  truncated,
  updated,
} from '../../../test/support/builders.js';
import { printRow } from '../changes/print-row.js';
import { UnreadableRowError } from '../changes/parse-row.js';
import type { ClientId, GroupId, MembershipId, PolicyId, ResourceId, TokenId } from '../model/ids.js';
import { ACCOUNT_TABLES, type AccountTable } from '../model/rows.js';
import { AccountState } from './account-state.js';
import type { StateDelta } from './state-delta.js';

/** The tables a step changed, and how often. */
function counts(delta: StateDelta): Partial<Record<AccountTable, number>> {
  return Object.fromEntries(
    ACCOUNT_TABLES.flatMap((table) => (delta[table].length > 0 ? [[table, delta[table].length]] : [])),
  );
}

const rawAccount = (): ReturnType<typeof rawRows> => rawRows(anAccountInUse());

describe('AccountState', () => {
  let state: AccountState;

  beforeEach(() => {
    state = new AccountState();
    state.replaceAll(rawAccount());
  });

  it('STORE-1: a step is the net effect of a commit, one difference per row', () => {
    const first = aPolicy({ description: 'first' });
    const second = aPolicy({ description: 'second' });
    const delta = state.apply([updated('policies', aPolicy(), first), updated('policies', first, second)]);
    expect(counts(delta)).toEqual({ policies: 1 });
    expect(delta.policies).toEqual([{ before: aPolicy(), after: second }]);
  });

  it('a row inserted and deleted in one commit was never there', () => {
    const group = aGroup({ id: idOf<GroupId>('ops') });
    expect(counts(state.apply([inserted('groups', group), deleted('groups', group)]))).toEqual({});
    expect(state.row('groups', group.id)).toBeUndefined();
  });

  it('a row deleted and inserted again unchanged is no change, and stays the same object', () => {
    const before = state.row('policies', POLICY);
    const compiled = [...state.policiesOfResource(RESOURCE)];
    expect(counts(state.apply([deleted('policies', aPolicy()), inserted('policies', aPolicy())]))).toEqual({});
    expect(state.row('policies', POLICY)).toBe(before);
    expect([...state.policiesOfResource(RESOURCE)][0]).toBe(compiled[0]);
  });

  it('an edit that is undone in the same commit is no change', () => {
    const renamed = aResource({ name: 'Renamed' });
    const delta = state.apply([updated('resources', aResource(), renamed), updated('resources', renamed, aResource())]);
    expect(counts(delta)).toEqual({});
  });

  it('a row that changes its key is gone under the old one and there under the new one', () => {
    const renamed = aPolicy({ id: idOf<PolicyId>('other') });
    const delta = state.apply([updated('policies', aPolicy(), renamed)]);
    expect(delta.policies).toEqual([
      { before: aPolicy(), after: undefined },
      { before: undefined, after: renamed },
    ]);
    expect([...state.policiesOfGroup(GROUP)].map(({ row }) => row.id)).toEqual([renamed.id]);
  });

  it('TRUNCATE deletes what was there, and what the same commit inserts after it stays', () => {
    const [ops, sre] = [aGroup({ id: idOf<GroupId>('ops') }), aGroup({ id: idOf<GroupId>('sre') })];
    const delta = state.apply([inserted('groups', ops), truncated('groups', 'flows'), inserted('groups', sre)]);
    expect(delta.groups).toEqual(
      expect.arrayContaining([
        { before: aGroup(), after: undefined },
        { before: undefined, after: sre },
      ]),
    );
    expect(counts(delta)).toEqual({ groups: 2 });
    expect([...state.rows('groups')]).toEqual([sre]);
  });

  it('TRUNCATE and COPY of the same rows is no change', () => {
    expect(counts(state.apply([truncated('policies'), inserted('policies', aPolicy())]))).toEqual({});
  });

  it('a row without a readable id throws, and nothing of its commit is applied', () => {
    const bad = rawChange('insert', 'groups', null, { ...printRow(aGroup()), id: 'not-a-uuid' });
    const changes = [deleted('policies', aPolicy()), updated('actors', anActor(), anActor({ name: 'Bob' })), bad];
    expect(() => state.apply(changes)).toThrow(UnreadableRowError);
    expect(state.row('policies', POLICY)).toEqual(aPolicy());
    expect(state.row('actors', ACTOR)?.name).toBe('Alice');
    expect(state.policiesOfResource(RESOURCE).size).toBe(1);
    expect([...state.faults()]).toEqual([]);
  });

  it('changes of flows are no rows of the account', () => {
    expect(counts(state.apply([rawChange('delete', 'flows', {}, null)]))).toEqual({});
  });

  it('D17: a membership that comes back under another id keeps its actor in the group', () => {
    const again = aMembership({ id: idOf<MembershipId>('again') });
    state.apply([deleted('memberships', aMembership()), inserted('memberships', again)]);
    expect(state.groupsOfActor(ACTOR).get(GROUP)).toBe(again.id);
    expect([...state.actorsOfGroup(GROUP)]).toEqual([ACTOR]);
    state.apply([deleted('memberships', again)]);
    expect(state.groupsOfActor(ACTOR).size).toBe(0);
    expect(state.actorsOfGroup(GROUP).size).toBe(0);
  });

  it('a client counts for the token of its latest connection alone', () => {
    const other = idOf<TokenId>('other');
    state.setConnection(someFacts());
    state.setConnection(someFacts({ tokenId: other }));
    expect([...state.clientsOfToken(TOKEN)]).toEqual([]);
    expect([...state.clientsOfToken(other)]).toEqual([CLIENT]);
  });

  it('a client that is handed to another actor is found there and no longer here', () => {
    const other = idOf<typeof ACTOR>('bob');
    state.apply([updated('clients', aClient(), aClient({ actorId: other }))]);
    expect(state.clientsOfActor(ACTOR).size).toBe(0);
    expect([...state.clientsOfActor(other)]).toEqual([CLIENT]);
  });

  it('a link to a site that is not there serves nobody', () => {
    const first = aSite({ id: idOf('aarau') });
    state.apply([inserted('sites', first), inserted('resource_sites', aLink({ siteId: first.id }))]);
    expect(state.served(RESOURCE)?.sites.map(({ id }) => id)).toEqual([first.id, SITE]);
    state.apply([deleted('sites', first)]);
    state.apply([deleted('sites', aSite())]);
    expect(state.served(RESOURCE)).toBeUndefined();
    expect(state.offer(RESOURCE)).toMatchObject({ served: undefined });
    expect(state.isServedBySite(RESOURCE, SITE)).toBe(false);
  });

  it('a site that serves 200,000 resources can be renamed', () => {
    const links = Array.from({ length: 200_000 }, (_, i) => printRow(aLink({ resourceId: idOf(String(i)) })));
    state.replaceAll(new Map([...rawAccount(), ['resource_sites', [...links, printRow(aLink())]]]));
    expect(state.served(RESOURCE)?.sites).toEqual([aSite()]);
    state.apply([updated('sites', aSite(), aSite({ name: 'Renamed' }))]);
    expect(state.served(RESOURCE)?.sites).toEqual([aSite({ name: 'Renamed' })]);
  });

  it('a compiled policy is replaced as a whole when its row changes', () => {
    const [before] = state.policiesOfResource(RESOURCE);
    state.apply([updated('policies', aPolicy(), aPolicy({ conditions: 'unreadable' }))]);
    const [after] = state.policiesOfResource(RESOURCE);
    expect(before?.conditions.faults).toEqual([]);
    expect(after?.conditions.faults).toHaveLength(1);
    expect(state.policiesOfGroup(GROUP).size).toBe(1);
  });

  describe('faults (D15)', () => {
    const spoiled = { ...printRow(aResource()), filters: 'tcp' };

    beforeEach(() => {
      state.apply([rawChange('update', 'resources', printRow(aResource()), spoiled)]);
    });

    it('an unreadable row is absent and named, once', () => {
      expect(state.resource(RESOURCE)).toBeUndefined();
      expect([...state.faults()]).toEqual([expect.objectContaining({ table: 'resources', key: RESOURCE })]);
      expect(state.takeNewFaults()).toHaveLength(1);
      expect(state.takeNewFaults()).toHaveLength(0);
    });

    it('a condition that can never be met is named with its policy, which stays', () => {
      state.takeNewFaults();
      const policy = aPolicy({ conditions: [{ property: 'remote_ip', operator: 'is_in_cidr', values: ['nowhere'] }] });
      state.apply([updated('policies', aPolicy(), policy)]);
      expect(state.row('policies', POLICY)).toEqual(policy);
      expect(state.takeNewFaults()).toEqual([expect.objectContaining({ table: 'policies', key: POLICY })]);
    });

    it('a row that stays unreadable through an edit or a resync is not named again', () => {
      state.takeNewFaults();
      state.apply([rawChange('update', 'resources', spoiled, { ...spoiled, name: 'Renamed' })]);
      expect(state.takeNewFaults()).toHaveLength(0);
    });

    it('a row that cannot be read in the state it is replaced with is absent and named here as well', () => {
      const fresh = new AccountState();
      fresh.replaceAll(rawAccount());
      fresh.replaceWith(state);
      expect(fresh.resource(RESOURCE)).toBeUndefined();
      expect([...fresh.faults()]).toEqual([...state.faults()]);
    });

    it('a row that is repaired is back', () => {
      const delta = state.apply([rawChange('update', 'resources', spoiled, printRow(aResource()))]);
      expect(delta.resources).toEqual([{ before: undefined, after: aResource() }]);
      expect([...state.faults()]).toEqual([]);
    });

    it.each([
      ['is deleted', () => state.apply([rawChange('delete', 'resources', spoiled, null)])],
      ['is truncated', () => state.apply([truncated('resources')])],
      ['is gone when the account is read again', () => state.replaceAll(new Map())],
      ['is gone from the state it is replaced with', () => state.replaceWith(new AccountState())],
    ])('an unreadable row that %s is forgotten', (_what, step) => {
      step();
      expect([...state.faults()]).toEqual([]);
    });
  });

  describe('reading the account again (D14)', () => {
    it('replaceAll with the same rows changes nothing', () => {
      expect(counts(state.replaceAll(rawAccount()))).toEqual({});
    });

    it('replaceWith takes over rows and keeps what is equal as it was', () => {
      const fresh = new AccountState();
      fresh.replaceAll(rawAccount());
      fresh.apply([updated('resources', aResource(), aResource({ name: 'Wiki' })), deleted('tokens', aToken())]);
      const policy = state.row('policies', POLICY);
      const delta = state.replaceWith(fresh);
      expect(counts(delta)).toEqual({ resources: 1, tokens: 1 });
      expect(state.row('policies', POLICY)).toBe(policy);
      expect(state.resource(RESOURCE)?.name).toBe('Wiki');
    });

    it('keeps the facts of connections: no read of the account knows better', () => {
      state.setConnection(someFacts());
      state.replaceWith(new AccountState());
      expect(state.connection(CLIENT)).toEqual(someFacts());
    });
  });

  it('has no answer for what it does not know', () => {
    const nobody = idOf<ClientId>('nobody');
    expect(state.row('clients', nobody)).toBeUndefined();
    expect(state.served(idOf<ResourceId>('none'))).toBeUndefined();
    expect(state.offer(idOf<ResourceId>('none'))).toBeUndefined();
    expect(state.connection(nobody)).toBeUndefined();
  });
});
