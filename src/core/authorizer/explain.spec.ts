import { describe, expect, it } from '@jest/globals';
import {
  aClient,
  aLink,
  anAccountInUse,
  anActor,
  aPolicy,
  aToken,
  CLIENT,
  deleted,
  duringHours,
  GROUP,
  idOf,
  inserted,
  MONDAY_9,
  POLICY,
  rawRows,
  RESOURCE,
  someFacts,
  TOKEN,
  updated,
} from '../../../test/support/builders.js';
import type { Change } from '../changes/commit.js';
import type { ConnectionFacts } from '../model/connection-facts.js';
import type { GroupId, MembershipId, PolicyId, ResourceId } from '../model/ids.js';
import type { ConditionSource } from '../model/rows.js';
import { AccountState } from './account-state.js';
import { explain, printExplanation } from './explain.js';

const HOUR = 3_600_000;

function after(changes: readonly Change[], facts: Partial<ConnectionFacts> = {}): AccountState {
  const state = new AccountState();
  state.replaceAll(rawRows(anAccountInUse()));
  state.setConnection(someFacts(facts));
  state.apply(changes);
  return state;
}

const condition = (property: string, operator: string, ...values: string[]): ConditionSource => ({
  property,
  operator,
  values,
});

/** The one policy with these conditions, for a client of these facts. */
function conditionsOf(conditions: readonly ConditionSource[], facts: Partial<ConnectionFacts> = {}) {
  const state = after([updated('policies', aPolicy(), aPolicy({ conditions }))], facts);
  return explain(state, CLIENT, RESOURCE, MONDAY_9).policies[0]?.conditions;
}

describe('an explanation', () => {
  it('says who asked, where the resource is, and which policy granted', () => {
    const explanation = explain(after([]), CLIENT, RESOURCE, MONDAY_9);
    expect(JSON.parse(JSON.stringify(explanation))).toEqual({
      at: MONDAY_9,
      decision: {
        ...{ verdict: 'allow', policyId: POLICY, membershipId: idOf<MembershipId>('member') },
        ...{ tokenId: TOKEN, until: null },
      },
      client: { id: CLIENT, name: 'laptop' },
      resource: { id: RESOURCE, name: 'GitLab' },
      subject: {
        actor: { id: anActor().id, name: 'Alice' },
        ...{ tokenId: TOKEN, tokenExpiresAt: null, remoteIp: '192.0.2.7', region: 'DE' },
        ...{ providerId: idOf('oidc'), verifiedAt: null },
      },
      sites: [{ id: aLink().siteId, name: 'Berlin' }],
      policies: [
        {
          ...{ id: POLICY, group: { id: GROUP, name: 'Devs' }, membershipId: idOf<MembershipId>('member') },
          ...{ verdict: 'chosen', until: null, problem: null, conditions: [] },
        },
      ],
    });
  });

  it('looks at every policy that names the resource, by id', () => {
    const strangers = idOf<GroupId>('none');
    const noon = duringHours('M/9-12/UTC');
    const state = after([
      inserted('policies', aPolicy({ id: idOf<PolicyId>('a'), conditions: [noon] })),
      inserted('policies', aPolicy({ id: idOf<PolicyId>('b'), groupId: strangers })),
      inserted('policies', aPolicy({ id: idOf<PolicyId>('c'), disabledAt: 0, groupId: strangers })),
      inserted('policies', aPolicy({ id: idOf<PolicyId>('d'), conditions: [duringHours('M/10-12/UTC')] })),
      inserted('policies', aPolicy({ id: idOf<PolicyId>('e'), conditions: 'unreadable' })),
      inserted('policies', aPolicy({ id: idOf<PolicyId>('f'), resourceId: idOf<ResourceId>('wiki') })),
    ]);
    const { policies } = explain(state, CLIENT, RESOURCE, MONDAY_9);
    expect(policies.map(({ verdict, until, problem }) => [verdict, until, problem])).toEqual([
      ['conforms', MONDAY_9 + 3 * HOUR, null],
      ['not-a-member', null, null],
      ['disabled', null, null],
      ['violated', null, null],
      ['violated', null, 'not a list of {property, operator, values}'],
      ['chosen', null, null],
    ]);
    expect(policies[1]?.group).toEqual({ id: strangers, name: null });
  });

  it('a policy without fault grants nothing where no site serves the resource', () => {
    const { decision, policies, sites } = explain(
      after([deleted('resource_sites', aLink())]),
      CLIENT,
      RESOURCE,
      MONDAY_9,
    );
    expect([decision.verdict, sites, policies[0]?.verdict]).toEqual(['deny', [], 'conforms']);
  });

  it('says of every condition what was compared with what', () => {
    const list = [
      condition('remote_ip_location_region', 'is_in', 'DE'),
      condition('remote_ip', 'is_in_cidr', '10.0.0.0/8'),
      condition('provider_id', 'is_not_in', idOf('none')),
      duringHours('M/9-10/UTC'),
      condition('client_verified', 'is', 'true'),
      condition('moon', 'is', 'full'),
      condition('remote_ip', 'is', 'x'),
    ];
    const told = conditionsOf(list);
    expect(told?.map(({ verdict, actual, until }) => [verdict, actual, until])).toEqual([
      ['holds', 'DE', null],
      ['violated', '192.0.2.7', null],
      ['holds', idOf('oidc'), null],
      ['holds', '2026-01-05T09:00:00Z', MONDAY_9 + HOUR],
      ['violated', 'not verified', null],
      ['unreadable', 'nothing', null],
      ['unreadable', '192.0.2.7', null],
    ]);
    expect(told?.map(({ property, operator, values }) => ({ property, operator, values }))).toEqual(list);
    expect(told?.map(({ problem }) => problem)).toEqual([
      ...[null, null, null, null, null],
      'unknown property "moon"',
      'remote_ip: unknown operator "is"',
    ]);
  });

  it('says what is not known', () => {
    const list = [condition('remote_ip_location_region', 'is_in', 'DE'), condition('remote_ip', 'is_in_cidr', '::/0')];
    expect(conditionsOf(list, { region: 'xx', remoteIp: null })?.map(({ actual }) => actual)).toEqual([
      'unknown',
      'unknown',
    ]);
  });

  it('of a session without identity, and of a verified client', () => {
    const state = after([
      updated('tokens', aToken(), aToken({ identityId: null })),
      updated('clients', aClient(), aClient({ verifiedAt: MONDAY_9 })),
      updated(
        'policies',
        aPolicy(),
        aPolicy({ conditions: [condition('provider_id', 'is_not_in'), condition('client_verified', 'is', 'true')] }),
      ),
    ]);
    const { policies } = explain(state, CLIENT, RESOURCE, MONDAY_9);
    expect(policies[0]?.conditions.map(({ actual }) => actual)).toEqual(['none', 'verified at 2026-01-05T09:00:00Z']);
  });

  it('looks at no policy where nobody may act as the client', () => {
    const state = after([updated('actors', anActor(), anActor({ disabledAt: 0 }))]);
    expect(explain(state, CLIENT, RESOURCE, MONDAY_9)).toMatchObject({
      decision: { reason: 'actor-disabled' },
      subject: null,
      policies: [],
    });
  });
});

describe('its text', () => {
  const text = (state: AccountState, resourceId = RESOURCE): string[] =>
    printExplanation(explain(state, CLIENT, resourceId, MONDAY_9)).split('\n');

  it('says everything, one fact a line', () => {
    const listed = aPolicy({
      id: idOf<PolicyId>('p2'),
      conditions: [duringHours('M/9-10/UTC', 'T/9-10/UTC'), condition('moon', 'is', 'full')],
    });
    const state = after([
      updated('policies', aPolicy(), aPolicy({ conditions: [duringHours('M/9-10/UTC')] })),
      inserted('policies', listed),
      inserted('policies', aPolicy({ id: idOf<PolicyId>('p3'), groupId: idOf<GroupId>('none') })),
      inserted('policies', aPolicy({ id: idOf<PolicyId>('p4'), conditions: 'unreadable' })),
      updated('tokens', aToken(), aToken({ expiresAt: MONDAY_9 + 2 * HOUR })),
    ]);
    expect(text(state)).toEqual([
      `"laptop" (${CLIENT}) to "GitLab" (${RESOURCE}) at 2026-01-05T09:00:00Z: allowed by policy ${POLICY} until 2026-01-05T10:00:00Z`,
      `  who: actor "Alice" (${anActor().id}), token ${TOKEN} until 2026-01-05T11:00:00Z, from 192.0.2.7 in DE, provider ${idOf('oidc')}, not verified`,
      `  sites: "Berlin" (${aLink().siteId})`,
      `  policy ${idOf('p2')} for "Devs" (${GROUP}): violated`,
      '    holds until 2026-01-05T10:00:00Z: current_utc_datetime is_in_day_of_week_time_ranges [M/9-10/UTC, T/9-10/UTC], is 2026-01-05T09:00:00Z',
      '    unreadable: moon is [full], is nothing (unknown property "moon")',
      `  policy ${idOf('p3')} for ${idOf('none')}: not-a-member`,
      `  policy ${idOf('p4')} for "Devs" (${GROUP}): violated, conditions unreadable: not a list of {property, operator, values}`,
      `  policy ${POLICY} for "Devs" (${GROUP}): chosen until 2026-01-05T10:00:00Z`,
      '    holds until 2026-01-05T10:00:00Z: current_utc_datetime is_in_day_of_week_time_ranges [M/9-10/UTC], is 2026-01-05T09:00:00Z',
    ]);
  });

  it('of a denial names the reason and what was violated', () => {
    const near = aPolicy({ conditions: [condition('remote_ip_location_region', 'is_in', 'FR')] });
    const denied = after(
      [updated('policies', aPolicy(), near), updated('clients', aClient(), aClient({ verifiedAt: 0 }))],
      {
        remoteIp: 'x',
        region: null,
      },
    );
    const [verdict, who] = text(denied);
    expect(verdict).toMatch(/: denied, forbidden \(remote_ip_location_region\)$/);
    expect(who).toMatch(/without end, from an unknown address in an unknown region, provider .*, verified at 1970/);
  });

  it('of a session without provider, of no sites, of no policy and of a client that is gone', () => {
    const nowhere = after([
      updated('tokens', aToken(), aToken({ identityId: null })),
      deleted('resource_sites', aLink()),
      deleted('policies', aPolicy()),
    ]);
    expect(text(nowhere)).toEqual([
      expect.stringMatching(/: denied, not-found$/),
      expect.stringMatching(/provider none, not verified$/),
      '  sites: none',
      '  no policy names the resource',
    ]);
    const gone = after([deleted('clients', aClient())]);
    expect(text(gone, idOf<ResourceId>('none'))).toEqual([
      `${CLIENT} to ${idOf('none')} at 2026-01-05T09:00:00Z: denied, client-gone`,
      '  sites: none',
    ]);
  });
});
