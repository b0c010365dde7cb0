import { beforeEach, describe, expect, it } from '@jest/globals';
import {
  ACTOR,
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
  duringHours,
  GATEWAY,
  GROUP,
  idOf,
  inserted,
  MONDAY_9,
  POLICY,
  RESOURCE,
  someFacts,
  TOKEN,
  updated,
} from '../../../test/support/builders.js';
import type { Change } from '../changes/commit.js';
import type { ActorId, GroupId, MembershipId, PolicyId, ResourceId } from '../model/ids.js';
import type { ConditionSource } from '../model/rows.js';
import { AccountState } from './account-state.js';
import { authorize, authorizeFlow, candidateResources, subjectOf, type Decision } from './authorize.js';

const HOUR = 3_600_000;
const DAY = 24 * HOUR;
const A = idOf<PolicyId>('a');
const B = idOf<PolicyId>('b');

const remoteIp: ConditionSource = { property: 'remote_ip', operator: 'is_in_cidr', values: ['10.0.0.0/8'] };
const region: ConditionSource = { property: 'remote_ip_location_region', operator: 'is_in', values: ['US'] };
const verified: ConditionSource = { property: 'client_verified', operator: 'is', values: ['true'] };

describe('authorizeFlow', () => {
  let state: AccountState;

  beforeEach(() => {
    state = new AccountState();
    state.apply(anAccountInUse().map(([table, row]) => inserted(table, row)));
    state.setConnection(someFacts());
  });

  const decideAfter = (...changes: Change[]): Decision => {
    state.apply(changes);
    return authorizeFlow(state, CLIENT, GATEWAY, RESOURCE, MONDAY_9);
  };

  it('allows what everything justifies, without end when nothing ends it', () => {
    expect(decideAfter()).toEqual({
      verdict: 'allow',
      policyId: POLICY,
      membershipId: idOf<MembershipId>('member'),
      tokenId: TOKEN,
      until: null,
    });
  });

  const NOW = { disabledAt: MONDAY_9 };
  it.each<[reason: string, what: string, change: Change]>([
    ['account-gone', 'the account is deleted', deleted('accounts', anAccount())],
    ['account-disabled', 'the account is disabled', updated('accounts', anAccount(), anAccount(NOW))],
    ['client-gone', 'the client is deleted', deleted('clients', aClient())],
    ['actor-gone', 'the actor is deleted', deleted('actors', anActor())],
    ['actor-disabled', 'the actor is disabled', updated('actors', anActor(), anActor(NOW))],
    ['token-gone', 'the token is deleted', deleted('tokens', aToken())],
    ['token-gone', 'the token is of another kind', updated('tokens', aToken(), aToken({ kind: 'api' }))],
    [
      'token-gone',
      'the token speaks for somebody else',
      updated('tokens', aToken(), aToken({ actorId: idOf<ActorId>('bob') })),
    ],
    ['token-expired', 'the token ends now', updated('tokens', aToken(), aToken({ expiresAt: MONDAY_9 }))],
    ['identity-gone', 'the identity is deleted', deleted('identities', anIdentity())],
    [
      'identity-gone',
      "the identity becomes somebody else's",
      updated('identities', anIdentity(), anIdentity({ actorId: idOf<ActorId>('bob') })),
    ],
    ['provider-disabled', 'the provider is disabled', updated('auth_providers', aProvider(), aProvider(NOW))],
    ['provider-disabled', 'the provider is gone', deleted('auth_providers', aProvider())],
    ['site-not-served', 'the gateway is deleted', deleted('gateways', aGateway())],
    ['site-not-served', 'the resource leaves the site', deleted('resource_sites', aLink())],
    ['site-not-served', 'the site is deleted', deleted('sites', aSite())],
    ['site-not-served', 'the gateway moves away', updated('gateways', aGateway(), aGateway({ siteId: idOf('paris') }))],
    ['not-found', 'the resource is deleted', deleted('resources', aResource())],
    ['not-found', 'the policy is deleted', deleted('policies', aPolicy())],
    ['not-found', 'the policy is disabled', updated('policies', aPolicy(), aPolicy(NOW))],
    ['not-found', 'the membership is deleted', deleted('memberships', aMembership())],
    ['not-found', 'the policy moves away', updated('policies', aPolicy(), aPolicy({ groupId: idOf<GroupId>('ops') }))],
    ['forbidden', 'the policy cannot be read', updated('policies', aPolicy(), aPolicy({ conditions: 'unreadable' }))],
  ])('D17: denies with %s when %s', (reason, _what, change) => {
    expect(decideAfter(change)).toMatchObject({ verdict: 'deny', reason });
  });

  it('D17: denies a client that never connected', () => {
    expect(subjectOf(new AccountState(), CLIENT, MONDAY_9)).toBe('account-gone');
    const fresh = new AccountState();
    fresh.apply(anAccountInUse().map(([table, row]) => inserted(table, row)));
    expect(authorizeFlow(fresh, CLIENT, GATEWAY, RESOURCE, MONDAY_9)).toMatchObject({ reason: 'never-connected' });
  });

  it('a token lasts until just before its end', () => {
    state.apply([updated('tokens', aToken(), aToken({ expiresAt: MONDAY_9 + 1 }))]);
    expect(authorizeFlow(state, CLIENT, GATEWAY, RESOURCE, MONDAY_9)).toMatchObject({ until: MONDAY_9 + 1 });
    expect(authorizeFlow(state, CLIENT, GATEWAY, RESOURCE, MONDAY_9 + 1)).toMatchObject({ reason: 'token-expired' });
  });

  it('a service account has no identity, and needs none', () => {
    expect(decideAfter(updated('tokens', aToken(), aToken({ identityId: null })))).toMatchObject({ verdict: 'allow' });
  });

  it('a token that has ended says so before anything that hangs on it', () => {
    const ended = updated('tokens', aToken(), aToken({ expiresAt: MONDAY_9 }));
    expect(decideAfter(ended, deleted('identities', anIdentity()))).toMatchObject({ reason: 'token-expired' });
    expect(decideAfter(deleted('clients', aClient()))).toMatchObject({ reason: 'client-gone' });
  });

  it('what is violated is told of policies for the actor’s own groups alone', () => {
    const forOthers = aPolicy({ id: B, groupId: idOf('ops'), conditions: [verified] });
    const forUs = updated('policies', aPolicy(), aPolicy({ conditions: [region] }));
    expect(decideAfter(forUs, inserted('policies', forOthers))).toMatchObject({
      reason: 'forbidden',
      violated: ['remote_ip_location_region'],
    });
  });

  describe('among several policies (domain.md 2.5)', () => {
    const weekday = new Date(MONDAY_9).getUTCDay();
    const letter = 'UMTWRFS'.charAt(weekday);
    /** Until a full hour of today. */
    const until = (hour: number): ConditionSource => duringHours(`${letter}/0-${hour}/UTC`);
    const atHour = (hour: number): number => MONDAY_9 + (hour - 9) * HOUR;
    const policies = (a: ConditionSource[] | undefined, b: ConditionSource[] | undefined): Change[] => [
      deleted('policies', aPolicy()),
      ...(a ? [inserted('policies', aPolicy({ id: A, conditions: a }))] : []),
      ...(b ? [inserted('policies', aPolicy({ id: B, conditions: b }))] : []),
    ];
    const tokenEnds = (expiresAt: number): Change => updated('tokens', aToken(), aToken({ expiresAt }));

    it.each<[string, Change[], PolicyId, number]>([
      ['one without end beats one until 17:00', policies([until(17)], []), B, MONDAY_9 + 7 * DAY],
      ['22:00 beats 17:00', policies([until(17)], [until(22)]), B, atHour(22)],
      ['equal ones: the smaller id', policies([until(17)], [until(17)]), A, atHour(17)],
      ['equal ones without end: the smaller id', policies([], []), A, MONDAY_9 + 7 * DAY],
      ['a conforming one beats a longer one that is violated', policies([until(17)], [verified]), A, atHour(17)],
      [
        'of two windows in one policy the earlier end counts',
        policies([until(22), until(17)], undefined),
        A,
        atHour(17),
      ],
    ])('%s', (_what, changes, policyId, end) => {
      expect(decideAfter(...changes, tokenEnds(MONDAY_9 + 7 * DAY))).toMatchObject({ policyId, until: end });
    });

    it('AUTH-2: the token caps the policy', () => {
      expect(decideAfter(...policies([until(22)], undefined), tokenEnds(atHour(18)))).toMatchObject({
        until: atHour(18),
      });
    });

    it('the longest policy is chosen before the token caps it', () => {
      expect(decideAfter(...policies([until(17)], [until(22)]), tokenEnds(atHour(12)))).toMatchObject({
        policyId: B,
        until: atHour(12),
      });
    });

    it('every violated property is named once, by policy id and then as listed', () => {
      expect(decideAfter(...policies([remoteIp], [remoteIp, verified]))).toEqual({
        verdict: 'deny',
        reason: 'forbidden',
        violated: ['remote_ip', 'client_verified'],
      });
    });

    it('domain.md 2.4: what is violated comes in the order of the list', () => {
      const night = duringHours(`${letter}/20-21/UTC`);
      expect(decideAfter(...policies([region, remoteIp, night], undefined))).toMatchObject({
        violated: ['remote_ip_location_region', 'remote_ip', 'current_utc_datetime'],
      });
    });

    it('a policy of a group the actor is not in neither grants nor is named', () => {
      const other = aPolicy({ id: B, groupId: idOf<GroupId>('ops'), conditions: [verified] });
      expect(decideAfter(deleted('policies', aPolicy()), inserted('policies', other))).toMatchObject({
        reason: 'not-found',
        violated: [],
      });
    });

    it('a disabled policy neither grants nor is named', () => {
      const off = aPolicy({ id: B, disabledAt: MONDAY_9, conditions: [verified] });
      expect(decideAfter(deleted('policies', aPolicy()), inserted('policies', off))).toMatchObject({
        reason: 'not-found',
      });
    });

    it('the window that ends now still holds, and ends now', () => {
      state.apply(policies([until(9)], undefined));
      expect(authorizeFlow(state, CLIENT, GATEWAY, RESOURCE, MONDAY_9)).toMatchObject({ until: MONDAY_9 });
      expect(authorizeFlow(state, CLIENT, GATEWAY, RESOURCE, MONDAY_9 + 1)).toMatchObject({ reason: 'forbidden' });
    });
  });

  it('the list of a client uses the same rule without a gateway', () => {
    const subject = subjectOf(state, CLIENT, MONDAY_9);
    if (typeof subject === 'string') throw new Error(subject);
    state.apply([deleted('gateways', aGateway())]);
    expect(authorize(state, subject, RESOURCE, MONDAY_9).verdict).toBe('allow');
    expect(authorize(state, subject, idOf<ResourceId>('none'), MONDAY_9)).toMatchObject({ reason: 'not-found' });
  });

  it('candidates are what any enabled policy of the actor names, conforming or not', () => {
    const [wiki, blog] = [idOf<ResourceId>('wiki'), idOf<ResourceId>('blog')];
    state.apply([
      inserted('policies', aPolicy({ id: A, resourceId: wiki, conditions: [verified] })),
      inserted('policies', aPolicy({ id: B, resourceId: blog, disabledAt: MONDAY_9 })),
    ]);
    expect(state.groupsOfActor(ACTOR).has(GROUP)).toBe(true);
    expect(candidateResources(state, aClient())).toEqual(new Set([RESOURCE, wiki]));
  });
});
