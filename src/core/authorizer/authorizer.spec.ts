import { beforeEach, describe, expect, it } from '@jest/globals';
import {
  aClient,
  aGateway,
  aGroup,
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
  rawRows,
  RESOURCE,
  someFacts,
  TOKEN,
  truncated,
  updated,
  type AnyRow,
} from '../../../test/support/builders.js';
import type { Change } from '../changes/commit.js';
import { UnreadableRowError } from '../changes/parse-row.js';
import { printRow } from '../changes/print-row.js';
import { shapeOf } from '../model/flow.js';
import type {
  ActorId,
  ClientId,
  FlowId,
  GatewayId,
  GroupId,
  MembershipId,
  PolicyId,
  ResourceId,
  SiteId,
  TokenId,
} from '../model/ids.js';
import { Authorizer } from './authorizer.js';
import { FlowTable } from './flow-table.js';

const NOW = MONDAY_9;
const OTHER = idOf<ResourceId>('wiki');
const HOUR = 3_600_000;

/** The account in use, with a second resource that nobody reaches yet. */
function anAuthorizer(): Authorizer {
  const rows: AnyRow[] = [
    ...anAccountInUse(),
    ['resources', aResource({ id: OTHER, name: 'Wiki' })],
    ['resource_sites', aLink({ resourceId: OTHER })],
  ];
  return Authorizer.fromRows(rawRows(rows), [someFacts()]);
}

const ALLOWED = {
  verdict: 'allow',
  policyId: POLICY,
  membershipId: idOf<MembershipId>('member'),
  tokenId: TOKEN,
  until: null,
};

describe('Authorizer', () => {
  let authorizer: Authorizer;

  beforeEach(() => {
    authorizer = anAuthorizer();
  });

  /** What the commit changed for the one client. */
  function difference(...changes: Change[]) {
    const { access } = authorizer.apply(changes, NOW);
    expect([...access.keys()].filter((id) => id !== CLIENT)).toEqual([]);
    const of = access.get(CLIENT);
    return (
      of && { gained: [...of.gained.keys()], lost: Object.fromEntries(of.lost), moved: Object.fromEntries(of.moved) }
    );
  }

  describe('questions', () => {
    it('are answered alike for a client id and its subject', () => {
      const subject = authorizer.subjectOf(CLIENT, NOW);
      if (typeof subject === 'string') throw new Error(subject);
      expect(authorizer.authorize(CLIENT, RESOURCE, NOW)).toEqual(ALLOWED);
      expect(authorizer.authorize(subject, RESOURCE, NOW)).toEqual(ALLOWED);
      expect(authorizer.authorizeFlow(CLIENT, GATEWAY, RESOURCE, NOW)).toEqual(ALLOWED);
      expect(authorizer.accessOf(CLIENT, NOW)).toEqual(new Map([[RESOURCE, ALLOWED]]));
      expect(authorizer.whoCanReach(RESOURCE, NOW)).toEqual(new Map([[CLIENT, ALLOWED]]));
    });

    it('say why nobody may act as a client', () => {
      const stranger = idOf<ClientId>('nobody');
      expect(authorizer.subjectOf(stranger, NOW)).toBe('client-gone');
      expect(authorizer.authorize(stranger, RESOURCE, NOW)).toEqual({
        verdict: 'deny',
        reason: 'client-gone',
        violated: [],
      });
      expect(authorizer.accessOf(stranger, NOW).size).toBe(0);
      expect(authorizer.nextTransition(stranger, NOW)).toBeUndefined();
    });

    it('VIEW-1: a resource that no site serves is in nobody’s access, and the decision says so', () => {
      authorizer.apply([deleted('resource_sites', aLink())], NOW);
      expect(authorizer.authorize(CLIENT, RESOURCE, NOW)).toEqual({
        verdict: 'deny',
        reason: 'site-not-served',
        violated: [],
      });
      expect(authorizer.accessOf(CLIENT, NOW).size).toBe(0);
      expect(authorizer.whoCanReach(RESOURCE, NOW).size).toBe(0);
    });

    it('a resource whose sites are gone is served by none', () => {
      authorizer.apply([deleted('sites', aSite())], NOW);
      expect(authorizer.authorize(CLIENT, RESOURCE, NOW)).toMatchObject({ reason: 'site-not-served' });
    });

    it('list by id, whatever the order of the rows', () => {
      const policy = aPolicy({ id: idOf<PolicyId>('p2'), resourceId: OTHER });
      const client = aClient({ id: idOf<ClientId>('a') });
      authorizer.apply([inserted('policies', policy), inserted('clients', client)], NOW);
      authorizer.connect(someFacts({ clientId: client.id }), NOW);
      expect([...authorizer.accessOf(CLIENT, NOW).keys()]).toEqual([RESOURCE, OTHER]);
      expect([...authorizer.whoCanReach(RESOURCE, NOW).keys()]).toEqual([client.id, CLIENT]);
    });

    it('allow nothing to a client that never connected', () => {
      const unheard = Authorizer.fromRows(rawRows(anAccountInUse()));
      expect(unheard.authorize(CLIENT, RESOURCE, NOW)).toMatchObject({ reason: 'never-connected' });
    });

    it('name what cannot be read', () => {
      const spoiled = { ...printRow(aPolicy()), conditions: '{}' };
      authorizer.apply([{ kind: 'update', table: 'policies', seq: 0, old: printRow(aPolicy()), new: spoiled }], NOW);
      expect([...authorizer.faults()]).toMatchObject([{ table: 'policies', key: POLICY, part: 'conditions' }]);
      expect(authorizer.accessOf(CLIENT, NOW).size).toBe(0);
    });
  });

  describe('the next transition', () => {
    it('is the first of the token’s end and all windows of policies that concern the client', () => {
      expect(authorizer.nextTransition(CLIENT, NOW)).toBeUndefined();
      const expiring = aToken({ expiresAt: NOW + 5 * HOUR });
      authorizer.apply([updated('tokens', aToken(), expiring)], NOW);
      expect(authorizer.nextTransition(CLIENT, NOW)).toBe(NOW + 5 * HOUR);
      const windowed = aPolicy({ conditions: [duringHours('M/9-10/UTC')] });
      authorizer.apply([updated('policies', aPolicy(), windowed)], NOW);
      expect(authorizer.nextTransition(CLIENT, NOW)).toBe(NOW + HOUR + 1);
      authorizer.apply([updated('policies', windowed, { ...windowed, disabledAt: NOW })], NOW);
      expect(authorizer.nextTransition(CLIENT, NOW)).toBe(NOW + 5 * HOUR);
    });
  });

  describe('AUTH-3: what a commit changed', () => {
    it('is nothing for whoever is not concerned, and for an edit that grants the same', () => {
      expect(difference(inserted('groups', aGroup({ id: idOf<GroupId>('ops') })))).toBeUndefined();
      expect(difference(updated('resources', aResource(), aResource({ name: 'New' })))).toBeUndefined();
      const again = aMembership({ id: idOf<MembershipId>('again') });
      expect(difference(deleted('memberships', aMembership()), inserted('memberships', again))).toBeUndefined();
    });

    it('a policy gone and one that comes', () => {
      const toOther = aPolicy({ id: idOf<PolicyId>('p2'), resourceId: OTHER });
      expect(difference(deleted('policies', aPolicy()), inserted('policies', toOther))).toEqual({
        gained: [OTHER],
        lost: { [RESOURCE]: { verdict: 'deny', reason: 'not-found', violated: [] } },
        moved: {},
      });
    });

    it('another policy, or another end', () => {
      const longer = aPolicy({ id: idOf<PolicyId>('a') });
      expect(difference(inserted('policies', longer))?.moved).toEqual({
        [RESOURCE]: { before: ALLOWED, after: { ...ALLOWED, policyId: longer.id } },
      });
      expect(difference(updated('tokens', aToken(), aToken({ expiresAt: NOW + HOUR })))?.moved).toMatchObject({
        [RESOURCE]: { before: { until: null }, after: { until: NOW + HOUR } },
      });
    });

    it.each<[string, Change[], string]>([
      ['the account disabled', [updated('accounts', anAccount(), anAccount({ disabledAt: NOW }))], 'account-disabled'],
      ['the account deleted', [deleted('accounts', anAccount())], 'account-gone'],
      ['the actor disabled', [updated('actors', anActor(), anActor({ disabledAt: NOW }))], 'actor-disabled'],
      ['the actor deleted', [deleted('actors', anActor())], 'actor-gone'],
      [
        'the provider disabled',
        [updated('auth_providers', aProvider(), aProvider({ disabledAt: NOW }))],
        'provider-disabled',
      ],
      ['the provider deleted', [deleted('auth_providers', aProvider())], 'provider-disabled'],
      ['the identity deleted', [deleted('identities', anIdentity())], 'identity-gone'],
      ['the token deleted', [deleted('tokens', aToken())], 'token-gone'],
      ['the token expired', [updated('tokens', aToken(), aToken({ expiresAt: NOW }))], 'token-expired'],
      ['the client deleted', [deleted('clients', aClient())], 'client-gone'],
      ['the membership deleted', [deleted('memberships', aMembership())], 'not-found'],
      ['the resource deleted', [deleted('resources', aResource())], 'not-found'],
      ['the site deleted', [deleted('sites', aSite())], 'site-not-served'],
      ['policies truncated', [truncated('policies')], 'not-found'],
    ])('%s takes everything, and the reverse gives it back', (_what, changes, reason) => {
      const before = authorizer.snapshot();
      expect(difference(...changes)?.lost).toEqual({ [RESOURCE]: { verdict: 'deny', reason, violated: [] } });
      const back = before.differenceTo(authorizer, NOW);
      expect([...(back.get(CLIENT)?.lost.keys() ?? [])]).toEqual([RESOURCE]);
      const [change] = changes;
      const undone: Change[] =
        change?.kind === 'truncate' ? [inserted('policies', aPolicy())] : changes.map(reversed).reverse();
      expect(difference(...undone)).toEqual({ gained: [RESOURCE], lost: {}, moved: {} });
      expect(before.differenceTo(authorizer, NOW).size).toBe(0);
      before.release();
    });

    it('a connection from elsewhere', () => {
      const near = aPolicy({
        conditions: [{ property: 'remote_ip_location_region', operator: 'is_in', values: ['DE'] }],
      });
      authorizer.apply([updated('policies', aPolicy(), near)], NOW);
      const violated = ['remote_ip_location_region'];
      expect(authorizer.connect(someFacts({ region: 'FR' }), NOW).get(CLIENT)?.lost).toEqual(
        new Map([[RESOURCE, { verdict: 'deny', reason: 'forbidden', violated }]]),
      );
      expect([...(authorizer.connect(someFacts(), NOW).get(CLIENT)?.gained.keys() ?? [])]).toEqual([RESOURCE]);
    });

    it('a row that cannot be identified changes nothing', () => {
      const broken = { ...printRow(aPolicy()), id: 'x' };
      const insert: Change = { kind: 'insert', table: 'policies', seq: 0, old: null, new: broken };
      expect(() => authorizer.apply([deleted('policies', aPolicy()), insert], NOW)).toThrow(UnreadableRowError);
      expect(authorizer.accessOf(CLIENT, NOW).size).toBe(1);
    });
  });

  describe('STORE-3: a snapshot', () => {
    it('answers as the account was, and throws once it is released', () => {
      const before = authorizer.snapshot();
      authorizer.apply([deleted('policies', aPolicy())], NOW);
      authorizer.connect(someFacts({ region: 'FR' }), NOW);
      expect(before.authorize(CLIENT, RESOURCE, NOW)).toEqual(ALLOWED);
      expect(before.explain(CLIENT, RESOURCE, NOW).subject?.region).toBe('DE');
      expect(authorizer.authorize(CLIENT, RESOURCE, NOW)).toMatchObject({ reason: 'not-found' });
      before.release();
      before.release();
      expect(() => before.authorize(CLIENT, RESOURCE, NOW)).toThrow('the snapshot was released');
    });

    it('differs from a later one by what came between, and from an account built elsewhere by all that differs', () => {
      const first = authorizer.snapshot();
      const toOther = aPolicy({ id: idOf<PolicyId>('p2'), resourceId: OTHER });
      authorizer.apply([inserted('policies', toOther)], NOW);
      const second = authorizer.snapshot();
      authorizer.connect(someFacts({ tokenId: idOf<TokenId>('none') }), NOW);
      const third = authorizer.snapshot();
      const lostOrGained = (of: ReturnType<typeof first.differenceTo>) =>
        [...of.values()].map(({ gained, lost }) => [[...gained.keys()], [...lost.keys()]]);
      expect(lostOrGained(first.differenceTo(second, NOW))).toEqual([[[OTHER], []]]);
      expect(lostOrGained(second.differenceTo(first, NOW))).toEqual([[[], [OTHER]]]);
      expect(lostOrGained(first.differenceTo(third, NOW))).toEqual([[[], [RESOURCE]]]);
      expect(lostOrGained(third.differenceTo(authorizer, NOW))).toEqual([]);
      expect(lostOrGained(authorizer.differenceTo(second, NOW))).toEqual([[[RESOURCE, OTHER], []]]);
      expect(lostOrGained(anAuthorizer().differenceTo(second, NOW))).toEqual([[[OTHER], []]]);
    });

    it('of a snapshot is one as well', () => {
      const first = authorizer.snapshot();
      const again = first.snapshot();
      authorizer.apply([deleted('policies', aPolicy())], NOW);
      expect(again.authorize(CLIENT, RESOURCE, NOW)).toEqual(ALLOWED);
    });
  });

  describe('a preview', () => {
    function flowsOf(...gateways: GatewayId[]): FlowTable {
      const flows = new FlowTable();
      for (const gatewayId of gateways) {
        const grant = { flowId: 'f' as FlowId, policyId: POLICY, membershipId: ALLOWED.membershipId, tokenId: TOKEN };
        flows.register({
          ...{ gatewayId, clientId: CLIENT, resourceId: RESOURCE, shape: shapeOf(aResource()) },
          grant: { ...grant, expiresAt: NOW + HOUR, isUnlimited: true },
        });
      }
      return flows;
    }

    it('says what a commit would do, and does nothing', () => {
      const changes = [deleted('policies', aPolicy())];
      const { access, delta, cut } = authorizer.preview(changes, NOW, flowsOf(GATEWAY));
      expect(cut).toMatchObject([{ flow: { gatewayId: GATEWAY, resourceId: RESOURCE }, why: 'not-found' }]);
      expect(authorizer.authorize(CLIENT, RESOURCE, NOW)).toEqual(ALLOWED);
      const applied = authorizer.apply(changes, NOW);
      expect({ access, delta }).toEqual(applied);
    });

    it('names only flows that are justified now and would not be', () => {
      const elsewhere = idOf<GatewayId>('gone');
      const changes = [deleted('policies', aPolicy())];
      expect(authorizer.preview(changes, NOW, flowsOf(GATEWAY, elsewhere)).cut).toHaveLength(1);
      const longer = [inserted('policies', aPolicy({ id: idOf<PolicyId>('a') }))];
      expect(authorizer.preview(longer, NOW, flowsOf(GATEWAY)).cut).toEqual([]);
      expect(authorizer.preview(changes, NOW).cut).toEqual([]);
    });

    it('names flows whose gateway was told another address', () => {
      const moved = [updated('resources', aResource(), aResource({ address: 'new.acme.example' }))];
      expect(authorizer.preview(moved, NOW, flowsOf(GATEWAY)).cut).toMatchObject([{ why: 'resource-changed' }]);
      expect(authorizer.preview([deleted('resources', aResource())], NOW, flowsOf(GATEWAY)).cut).toMatchObject([
        { why: 'not-found' },
      ]);
    });

    it('of changes that cannot be read throws, and leaves nothing behind', () => {
      const broken = { ...printRow(aPolicy()), id: 'x' };
      const insert: Change = { kind: 'insert', table: 'policies', seq: 0, old: null, new: broken };
      expect(() => authorizer.preview([insert], NOW)).toThrow(UnreadableRowError);
      expect(authorizer.authorize(CLIENT, RESOURCE, NOW)).toEqual(ALLOWED);
    });

    it('of edits takes along what the schema deletes', () => {
      const changes = authorizer.changesOf([{ kind: 'delete', table: 'groups', key: GROUP }]);
      const { access } = authorizer.preview(changes, NOW);
      expect([...(access.get(CLIENT)?.lost.keys() ?? [])]).toEqual([RESOURCE]);
    });

    it('can be made of a snapshot as well', () => {
      const snapshot = authorizer.snapshot();
      authorizer.apply([deleted('policies', aPolicy())], NOW);
      const toOther = inserted('policies', aPolicy({ id: idOf<PolicyId>('p2'), resourceId: OTHER }));
      expect([...(snapshot.preview([toOther], NOW).access.get(CLIENT)?.gained.keys() ?? [])]).toEqual([OTHER]);
      expect(snapshot.accessOf(CLIENT, NOW).size).toBe(1);
    });
  });

  it('an account whose clients come one after the other gives each what is its own', () => {
    const bob = anActor({ id: idOf<ActorId>('bob') });
    const phone = aClient({ id: idOf<ClientId>('phone'), actorId: bob.id });
    const token = aToken({ id: idOf<TokenId>('bobs'), actorId: bob.id, identityId: null });
    const site = aSite({ id: idOf<SiteId>('paris') });
    const gateway = aGateway({ id: idOf<GatewayId>('paris'), siteId: site.id });
    authorizer.apply(
      [
        inserted('actors', bob),
        inserted('clients', phone),
        inserted('tokens', token),
        inserted('sites', site),
        inserted('gateways', gateway),
      ],
      NOW,
    );
    expect(authorizer.connect(someFacts({ clientId: phone.id, tokenId: token.id }), NOW).size).toBe(0);
    const joins = inserted('memberships', aMembership({ id: idOf<MembershipId>('bob'), actorId: bob.id }));
    expect([...authorizer.apply([joins], NOW).access.keys()]).toEqual([phone.id]);
    expect(authorizer.authorizeFlow(phone.id, gateway.id, RESOURCE, NOW)).toMatchObject({ reason: 'site-not-served' });
    expect(authorizer.authorizeFlow(phone.id, GATEWAY, RESOURCE, NOW)).toMatchObject({ verdict: 'allow' });
  });
});

function reversed(change: Change): Change {
  if (change.kind === 'truncate') return change;
  const kinds = { insert: 'delete', update: 'update', delete: 'insert' } as const;
  return { ...change, kind: kinds[change.kind], old: change.new, new: change.old };
}
