import { beforeEach, describe, expect, it } from '@jest/globals';
import {
  aClient,
  aGateway,
  aLink,
  aMembership,
  anAccount,
  anAccountInUse,
  anActor,
  anIdentity,
  aPolicy,
  aProvider,
  aResource,
  aSite,
  aToken,
  CLIENT,
  deleted,
  idOf,
  inserted,
  MONDAY_9,
  RESOURCE,
  someFacts,
  truncated,
  updated,
} from '../../../test/support/builders.js';
import type { Change } from '../changes/commit.js';
import type { ClientId, GroupId, PolicyId } from '../model/ids.js';
import { AccountState } from './account-state.js';
import { clientImpacts, mergeImpact, noImpact, type ClientImpact } from './client-impact.js';

describe('clientImpacts', () => {
  let state: AccountState;

  beforeEach(() => {
    state = new AccountState();
    state.apply(anAccountInUse().map(([table, row]) => inserted(table, row)));
    state.setConnection(someFacts());
  });

  const impactOf = (...changes: Change[]): ClientImpact | undefined =>
    clientImpacts(state.apply(changes), state, new Set([CLIENT])).get(CLIENT);

  it('a group larger than the crowd is met by looking at the crowd: members are marked, others are not', () => {
    const others = ['a', 'b', 'c'].map((name) => aMembership({ id: idOf(`m${name}`), actorId: idOf(`actor${name}`) }));
    const stranger = aClient({ id: idOf<ClientId>('other'), actorId: idOf('other') });
    const gone = idOf<ClientId>('gone');
    state.apply([...others.map((row) => inserted('memberships', row)), inserted('clients', stranger)]);
    const delta = state.apply([deleted('policies', aPolicy())]);
    expect([...clientImpacts(delta, state, new Set([gone, stranger.id, CLIENT])).keys()]).toEqual([CLIENT]);
  });

  it.each<[string, Change[]]>([
    ['the account is disabled', [updated('accounts', anAccount(), anAccount({ disabledAt: MONDAY_9 }))]],
    ['the account is deleted', [deleted('accounts', anAccount())]],
    ['everything is deleted with the account', anAccountInUse().map(([table, row]) => deleted(table, row))],
    ['its actor is disabled', [updated('actors', anActor(), anActor({ disabledAt: MONDAY_9 }))]],
    [
      'its actor is deleted, and client and token with it',
      [deleted('actors', anActor()), deleted('clients', aClient()), deleted('tokens', aToken())],
    ],
    ['its provider is disabled', [updated('auth_providers', aProvider(), aProvider({ disabledAt: MONDAY_9 }))]],
    ['its provider is deleted', [deleted('auth_providers', aProvider()), deleted('identities', anIdentity())]],
    ['its identity is deleted', [deleted('identities', anIdentity())]],
    [
      'its identity is deleted, and the token with it',
      [deleted('identities', anIdentity()), deleted('tokens', aToken())],
    ],
    ['actors are truncated', [truncated('actors')]],
  ])('closes the client without `disconnect` when %s', (_what, changes) => {
    expect(impactOf(...changes)?.ending).toBe('refused-on-retry');
  });

  it('signs the client out when its token is deleted, and only then', () => {
    expect(impactOf(deleted('tokens', aToken()))?.ending).toBe('token-deleted');
  });

  it('closes a deleted client, also when its token goes with it', () => {
    expect(impactOf(deleted('clients', aClient()), deleted('tokens', aToken()))?.ending).toBe('client-deleted');
  });

  it.each<[string, Change, Partial<ClientImpact>]>([
    ['its membership goes', deleted('memberships', aMembership()), { resources: new Set([RESOURCE]) }],
    ['it is verified', updated('clients', aClient(), aClient({ verifiedAt: MONDAY_9 })), { everything: true }],
    [
      'its token gets an end',
      updated('tokens', aToken(), aToken({ expiresAt: MONDAY_9 })),
      { everything: true, token: true },
    ],
    [
      'its addresses change',
      updated('clients', aClient(), aClient({ ipv4: '100.64.0.9' })),
      { everything: true, interface: true },
    ],
    [
      'the search domain changes',
      updated('accounts', anAccount(), anAccount({ config: { searchDomain: 'acme.example', upstreamDns: [] } })),
      { interface: true },
    ],
    ['a policy goes', deleted('policies', aPolicy()), { resources: new Set([RESOURCE]) }],
    [
      'a policy leaves its group (AUTH-1)',
      updated('policies', aPolicy(), aPolicy({ groupId: idOf<GroupId>('ops') })),
      { resources: new Set([RESOURCE]) },
    ],
    [
      'a policy comes to its group',
      inserted('policies', aPolicy({ id: idOf<PolicyId>('new') })),
      { resources: new Set([RESOURCE]) },
    ],
    [
      'the resource is renamed',
      updated('resources', aResource(), aResource({ name: 'New' })),
      { resources: new Set([RESOURCE]) },
    ],
    ['the resource leaves its site', deleted('resource_sites', aLink()), { resources: new Set([RESOURCE]) }],
    ['the site is renamed', updated('sites', aSite(), aSite({ name: 'New' })), { resources: new Set([RESOURCE]) }],
  ])('looks again when %s', (_what, change, looks) => {
    expect(impactOf(change)).toEqual({ ...noImpact(), ...looks });
  });

  it.each<[string, Change]>([
    ['the account is renamed', updated('accounts', anAccount(), anAccount({ name: 'New', slug: 'new' }))],
    ['a gateway goes', deleted('gateways', aGateway())],
    ['its actor is renamed', updated('actors', anActor(), anActor({ name: 'New' }))],
    ['its provider is renamed', updated('auth_providers', aProvider(), aProvider({ name: 'New' }))],
    ['somebody else joins', inserted('memberships', aMembership({ id: idOf('other'), actorId: idOf('bob') }))],
    ['a policy of another group comes', inserted('policies', aPolicy({ id: idOf('other'), groupId: idOf('ops') }))],
  ])('leaves the client alone when %s', (_what, change) => {
    expect(impactOf(change)).toBeUndefined();
  });

  it('finds members of a group that is larger than the number of live clients', () => {
    const others = Array.from({ length: 20 }, (_, i) => aMembership({ id: idOf(`m${i}`), actorId: idOf(`b${i}`) }));
    state.apply(others.map((row) => inserted('memberships', row)));
    expect(impactOf(deleted('policies', aPolicy()))?.resources).toEqual(new Set([RESOURCE]));
  });

  it('AUTH-1: a membership that goes together with a policy of its group looks at what the policy named', () => {
    const elsewhere = aPolicy({ id: idOf<PolicyId>('p2'), groupId: idOf<GroupId>('ops') });
    state.apply([inserted('policies', elsewhere)]);
    const changes = [deleted('memberships', aMembership()), deleted('policies', aPolicy())];
    expect(impactOf(...changes, deleted('policies', elsewhere))?.resources).toEqual(new Set([RESOURCE]));
  });

  it('concerns nobody who is not connected', () => {
    const delta = state.apply([deleted('policies', aPolicy()), deleted('memberships', aMembership())]);
    expect(clientImpacts(delta, state, new Set([idOf<ClientId>('phone')])).size).toBe(0);
    expect(clientImpacts(delta, state, new Set()).size).toBe(0);
  });

  it('an impact takes up another one; the first ending stands', () => {
    const impact: ClientImpact = { ...noImpact(), ending: 'refused-on-retry' };
    mergeImpact(impact, {
      everything: true,
      resources: new Set([RESOURCE]),
      interface: true,
      token: true,
      ending: 'token-deleted',
    });
    expect(impact).toEqual({
      everything: true,
      resources: new Set([RESOURCE]),
      interface: true,
      token: true,
      ending: 'refused-on-retry',
    });
  });
});
