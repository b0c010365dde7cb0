import { beforeEach, describe, expect, it } from '@jest/globals';
import {
  aClient,
  aFlowRecord,
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
import { type FlowRecord, shapeOf } from '../model/flow.js';
import type { ClientId, FlowId, GatewayId, GroupId, MembershipId, PolicyId, ResourceId } from '../model/ids.js';
import { AccountState } from './account-state.js';
import { FlowTable, type Flow, type Grant } from './flow-table.js';

const aGrant = (of: Partial<Grant> = {}): Grant => ({
  flowId: idOf<FlowId>('flow'),
  policyId: POLICY,
  membershipId: idOf<MembershipId>('member'),
  tokenId: TOKEN,
  expiresAt: MONDAY_9,
  isUnlimited: false,
  ...of,
});

const aFlow = (of: Partial<Flow> = {}): Flow => ({
  gatewayId: GATEWAY,
  clientId: CLIENT,
  resourceId: RESOURCE,
  shape: shapeOf(aResource()),
  grant: aGrant(),
  record: null,
  formerRecords: [],
  ...of,
});

describe('FlowTable', () => {
  let table: FlowTable;
  let flow: Flow;

  beforeEach(() => {
    table = new FlowTable();
    flow = table.register(aFlow());
  });

  it('finds a flow by its pair, gateway, client and resource', () => {
    expect(table.get(GATEWAY, CLIENT, RESOURCE)).toBe(flow);
    expect([...table.ofGateway(GATEWAY)]).toEqual([flow]);
    expect([...table.ofClient(CLIENT)]).toEqual([flow]);
    expect([...table.ofResource(RESOURCE)]).toEqual([flow]);
    expect(table.size).toBe(1);
  });

  it('tells pairs apart by each of their three parts', () => {
    const others = [
      { gatewayId: idOf<GatewayId>('other') },
      { clientId: idOf<ClientId>('other') },
      { resourceId: idOf<ResourceId>('other') },
    ].map((of) => table.register(aFlow(of)));
    for (const each of [flow, ...others]) expect(table.get(each.gatewayId, each.clientId, each.resourceId)).toBe(each);
    expect(table.size).toBe(4);
  });

  it('forgets a removed flow everywhere, and removing it again does nothing', () => {
    table.remove(flow);
    table.remove(flow);
    expect([table.size, table.ofGateway(GATEWAY).size, table.ofClient(CLIENT).size]).toEqual([0, 0, 0]);
    expect(table.ofResource(RESOURCE).size).toBe(0);
    expect(table.isRegistered(flow)).toBe(false);
  });

  it('a removed flow never takes its successor of the same pair with it', () => {
    table.remove(flow);
    const next = table.register(aFlow());
    table.remove(flow);
    expect(table.get(GATEWAY, CLIENT, RESOURCE)).toBe(next);
    expect([table.isRegistered(flow), table.isRegistered(next)]).toEqual([false, true]);
  });

  it('knows which rows are in the database, also of grants it has moved on from, until they expire', () => {
    expect(table.records(MONDAY_9)).toEqual([]);
    const [first, second, third] = ['first', 'second', 'third'].map((name, i) =>
      aFlowRecord({ id: idOf<FlowId>(name), expiresAt: MONDAY_9 + i }),
    ) as [FlowRecord, FlowRecord, FlowRecord];
    table.regrant(flow, aGrant({ flowId: first.id }));
    table.recorded(flow, first);
    expect([flow.record, table.records(0)]).toEqual([first, [first]]);
    table.regrant(flow, aGrant({ flowId: second.id }));
    table.regrant(flow, aGrant({ flowId: third.id }));
    expect(flow.record).toBeNull();
    table.recorded(flow, second); // came late
    table.recorded(flow, third);
    expect([flow.record, table.records(0)]).toEqual([third, [first, second, third]]);
    expect(table.records(MONDAY_9)).toEqual([second, third]);
    table.closed(second.id);
    table.closed(third.id); // nothing: it is the present one
    expect(table.records(0)).toEqual([first, third]);
    table.remove(flow);
    table.closed(first.id);
    table.recorded(flow, second);
    expect(table.records(0)).toEqual([]);
  });

  describe('touchedBy', () => {
    let state: AccountState;

    beforeEach(() => {
      state = new AccountState();
      state.apply(anAccountInUse().map(([name, row]) => inserted(name, row)));
      state.setConnection(someFacts());
    });

    const touched = (...changes: Change[]): Flow[] => [
      ...(table.touchedBy(state.apply(changes), state).get(GATEWAY) ?? []),
    ];

    it.each<[string, Change]>([
      ['the account is disabled', updated('accounts', anAccount(), anAccount({ disabledAt: MONDAY_9 }))],
      ['the account is deleted', deleted('accounts', anAccount())],
      ['its actor changes', updated('actors', anActor(), anActor({ disabledAt: MONDAY_9 }))],
      ['its identity goes', deleted('identities', anIdentity())],
      ['its provider is disabled', updated('auth_providers', aProvider(), aProvider({ disabledAt: MONDAY_9 }))],
      ['its token goes', deleted('tokens', aToken())],
      ['its token gets another end', updated('tokens', aToken(), aToken({ expiresAt: MONDAY_9 }))],
      ['its client goes', deleted('clients', aClient())],
      ['its client is verified', updated('clients', aClient(), aClient({ verifiedAt: MONDAY_9 }))],
      ['its gateway goes', deleted('gateways', aGateway())],
      ['its resource changes', updated('resources', aResource(), aResource({ address: 'a.example.org' }))],
      ['its resource leaves the site', deleted('resource_sites', aLink())],
      ['the site goes', deleted('sites', aSite())],
      ['its membership goes', deleted('memberships', aMembership())],
      ['its policy goes', deleted('policies', aPolicy())],
      ['its policy gets conditions', updated('policies', aPolicy(), aPolicy({ conditions: 'unreadable' }))],
      [
        'its policy moves to another group (AUTH-1)',
        updated('policies', aPolicy(), aPolicy({ groupId: idOf<GroupId>('ops') })),
      ],
      [
        'its policy moves to another resource (AUTH-1)',
        updated('policies', aPolicy(), aPolicy({ resourceId: idOf<ResourceId>('wiki') })),
      ],
      [
        'another policy of its group is made for the resource',
        inserted('policies', aPolicy({ id: idOf<PolicyId>('longer') })),
      ],
    ])('finds the flow when %s', (_what, change) => {
      expect(touched(change)).toEqual([flow]);
    });

    it.each<[string, Change]>([
      ['the account is renamed', updated('accounts', anAccount(), anAccount({ name: 'New' }))],
      ['the site is renamed', updated('sites', aSite(), aSite({ name: 'New' }))],
      [
        'somebody else joins the group',
        inserted('memberships', aMembership({ id: idOf<MembershipId>('other'), actorId: idOf('bob') })),
      ],
      [
        'a policy of another group is made for the resource',
        inserted('policies', aPolicy({ id: idOf<PolicyId>('other'), groupId: idOf<GroupId>('ops') })),
      ],
      [
        'a policy of its group is made for another resource',
        inserted('policies', aPolicy({ id: idOf<PolicyId>('other'), resourceId: idOf<ResourceId>('wiki') })),
      ],
    ])('D16: costs nothing when %s', (_what, change) => {
      expect(touched(change)).toEqual([]);
    });

    it('finds every flow once, in a commit that takes everything away', () => {
      const all = [...anAccountInUse()].reverse().map(([name, row]) => deleted(name, row));
      expect(touched(...all)).toEqual([flow]);
    });

    it('after a regrant the new policy leads to the flow, and the old one no longer does', () => {
      const other = aPolicy({ id: idOf<PolicyId>('longer'), groupId: GROUP });
      state.apply([inserted('policies', other)]);
      table.regrant(flow, aGrant({ policyId: other.id }));
      expect(touched(deleted('policies', aPolicy()))).toEqual([]);
      expect(touched(deleted('policies', other))).toEqual([flow]);
    });

    it('leaves flows of other clients and resources alone', () => {
      table.register(aFlow({ clientId: idOf<ClientId>('phone') }));
      table.register(aFlow({ resourceId: idOf<ResourceId>('wiki') }));
      expect(touched(updated('clients', aClient(), aClient({ verifiedAt: MONDAY_9 })))).toHaveLength(2);
      expect(touched(updated('resources', aResource(), aResource({ name: 'New' })))).toHaveLength(2);
      expect(touched(deleted('policies', aPolicy()))).toHaveLength(3);
    });
  });
});
