import { describe, expect, it } from '@jest/globals';
import {
  aClient,
  aFlowRecord,
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
  ACCOUNT,
  CLIENT,
  deleted,
  duringHours,
  idOf,
  inserted,
  MONDAY_9,
  rawChange,
  rawFlow,
  RESOURCE,
  SITE,
  updated,
} from '../../../test/support/builders.js';
import { ChannelHouse, settled } from '../../../test/support/channel-house.js';
import type { Change } from '../../core/changes/commit.js';
import type { PolicyId, ResourceId, SiteId } from '../../core/model/ids.js';

const HOUR = 3_600_000;
const DAY = 24 * HOUR;
const WIKI = idOf<ResourceId>('wiki');
const PARIS = idOf<SiteId>('paris');

const SHOWN = [
  'resource_created_or_updated',
  expect.objectContaining({ id: RESOURCE, gateway_groups: [{ id: SITE, name: 'Berlin' }] }),
];
const TAKEN = ['resource_deleted', RESOURCE];

/** A second resource for the same group. */
const wiki = (conditions: ReturnType<typeof duringHours>[] = []): Change[] => [
  inserted('resources', aResource({ id: WIKI, name: 'Wiki' })),
  inserted('resource_sites', aLink({ resourceId: WIKI })),
  inserted('policies', aPolicy({ id: idOf<PolicyId>('wiki'), resourceId: WIKI, conditions })),
];

async function joined(...before: Change[]) {
  const house = new ChannelHouse();
  house.commit(...before);
  const client = await house.client();
  return { house, client };
}

/** Joined, and nothing unread. */
async function live(...before: Change[]) {
  const { house, client } = await joined(...before);
  expect(client.socket.events()).toEqual(['init']);
  return { house, client };
}

describe('a joining client', () => {
  it('is told its interface and what it may see', async () => {
    const { client } = await joined(...wiki());
    expect(client.socket.take()).toEqual([
      [
        'init',
        expect.objectContaining({
          interface: expect.objectContaining({ ipv4: aClient().ipv4, ipv6: aClient().ipv6 }),
          resources: [expect.objectContaining({ id: RESOURCE }), expect.objectContaining({ id: WIKI })],
        }),
      ],
    ]);
  });

  it.each<[string, Change]>([
    ['without a site', deleted('resource_sites', aLink())],
    [
      'of a policy that is violated',
      updated('policies', aPolicy(), aPolicy({ conditions: [duringHours('T/9-17/UTC')] })),
    ],
    ['of a disabled policy', updated('policies', aPolicy(), aPolicy({ disabledAt: MONDAY_9 }))],
    ['of a group it left', deleted('memberships', aMembership())],
  ])('is not told of a resource %s', async (_what, change) => {
    const { client } = await joined(change);
    expect(client.socket.take()).toEqual([['init', expect.objectContaining({ resources: [] })]]);
  });

  it('is not told of a resource that its version cannot use', async () => {
    const house = new ChannelHouse();
    house.commit(updated('resources', aResource(), aResource({ type: 'internet', address: null, ipStack: null })));
    const old = await house.client({ version: '1.2.9' });
    expect(old.socket.take()).toEqual([['init', expect.objectContaining({ resources: [] })]]);
  });

  it.each<[string, Change, string[]]>([
    ['its token is gone', deleted('tokens', aToken()), ['disconnect', 'closed 1000']],
    [
      'its token has ended',
      updated('tokens', aToken(), aToken({ expiresAt: MONDAY_9 })),
      ['disconnect', 'closed 1000'],
    ],
    ['its row is gone', deleted('clients', aClient()), ['closed 1000']],
    ['its actor is disabled', updated('actors', anActor(), anActor({ disabledAt: MONDAY_9 })), ['closed 1000']],
    [
      'its provider is disabled',
      updated('auth_providers', aProvider(), aProvider({ disabledAt: MONDAY_9 })),
      ['closed 1000'],
    ],
    ['the account is disabled', updated('accounts', anAccount(), anAccount({ disabledAt: MONDAY_9 })), ['closed 1000']],
  ])('D24: hears no `init` when %s', async (_what, change, events) => {
    const { house, client } = await joined(change);
    expect(client.socket.events()).toEqual(events);
    expect([house.released, house.clock.pending]).toEqual([1, 0]);
    expect(house.presence.client(ACCOUNT, CLIENT)).toBeUndefined();
  });

  it('D13: that the stream has not shown in time is closed to come again', async () => {
    const house = new ChannelHouse();
    house.sawConnect = Promise.resolve(false);
    expect((await house.client({ mustSeeConnect: true })).socket.events()).toEqual(['closed 1012']);
  });

  it('D24: is closed, never refused, when its account cannot be read', async () => {
    const house = new ChannelHouse();
    house.services.stores.open = () => Promise.reject(new Error('no database'));
    expect((await house.client()).socket.events()).toEqual(['closed 1012']);
  });

  it('that leaves while its account is read holds nothing afterwards', async () => {
    const house = new ChannelHouse();
    const client = house.connectClient();
    client.socket.close(1000);
    await settled();
    expect(client.socket.events()).toEqual(['closed 1000']);
    expect([house.released, house.streams.liveClients(ACCOUNT).size, house.clock.pending]).toEqual([1, 0, 0]);
    expect(house.presence.client(ACCOUNT, CLIENT)).toBeUndefined();
  });

  it('whose socket dies of its `init` waits for nothing', async () => {
    const house = new ChannelHouse();
    house.commit(
      updated('tokens', aToken(), aToken({ expiresAt: MONDAY_9 + DAY })),
      ...wiki([duringHours('M/9-17/UTC')]),
    );
    house.connectClient({}, 'client', 'init');
    await settled();
    expect([house.released, house.clock.pending]).toEqual([1, 0]);
  });

  it('D23: takes the place of an older connection, which hears no `disconnect`', async () => {
    const { house, client } = await live();
    const newer = await house.client({}, 'newer');
    expect([client.socket.events(), newer.socket.events()]).toEqual([['closed 1000'], ['init']]);
    house.commit(deleted('policies', aPolicy()));
    house.turn();
    expect(newer.socket.take()).toEqual([TAKEN]);
  });

  it('D23: is closed itself when a newer connection was faster, and changes nothing', async () => {
    const house = new ChannelHouse();
    await house.client({ upgradeNumber: 9, region: 'DE' });
    const older = await house.client({ upgradeNumber: 8, region: 'FR' }, 'older');
    expect(older.socket.events()).toEqual(['closed 1000']);
    expect(house.store.state.connection(CLIENT)?.region).toBe('DE');
  });
});

describe('VIEW-1: the view of a live client', () => {
  it('is brought up to date at the next turn, not inside the commit', async () => {
    const { house, client } = await live();
    house.commit(deleted('policies', aPolicy()));
    expect(client.socket.take()).toEqual([]);
    house.turn();
    expect(client.socket.take()).toEqual([TAKEN]);
  });

  it('ORD-3: is brought up to date before any frame is handled', async () => {
    const { house, client } = await live();
    house.commit(deleted('policies', aPolicy()));
    client.asksFor();
    expect(client.socket.take()).toEqual([
      TAKEN,
      ['flow_creation_failed', { resource_id: RESOURCE, reason: 'not_found' }],
    ]);
    house.turn();
    expect(client.socket.take()).toEqual([]);
  });

  it('says nothing of what is undone before it is looked at', async () => {
    const { house, client } = await live();
    house.commit(deleted('memberships', aMembership()));
    house.commit(inserted('memberships', aMembership()));
    house.turn();
    expect(client.socket.take()).toEqual([]);
  });

  it('domain.md 11.2: two policies grant it: the first to go is not noticed, the second is', async () => {
    const second = aPolicy({ id: idOf<PolicyId>('second') });
    const { house, client } = await live(inserted('policies', second));
    house.commit(deleted('policies', aPolicy()));
    house.turn();
    expect(client.socket.take()).toEqual([]);
    house.commit(deleted('policies', second));
    house.turn();
    expect(client.socket.take()).toEqual([TAKEN]);
  });

  it('D12: says what is gone before what is new, each by id', async () => {
    const { house, client } = await live();
    house.commit(...wiki());
    house.commit(deleted('policies', aPolicy()));
    house.turn();
    expect(client.socket.take()).toEqual([
      TAKEN,
      ['resource_created_or_updated', expect.objectContaining({ id: WIKI })],
    ]);
  });

  it.each<[string, Change, unknown[]]>([
    [
      'renamed',
      updated('resources', aResource(), aResource({ name: 'New' })),
      [['resource_created_or_updated', expect.objectContaining({ name: 'New' })]],
    ],
    [
      'at another address',
      updated('resources', aResource(), aResource({ address: 'new.acme.example' })),
      [['resource_created_or_updated', expect.objectContaining({ address: 'new.acme.example' })]],
    ],
    [
      'of another type',
      updated('resources', aResource(), aResource({ type: 'cidr', address: '10.0.0.0/8', ipStack: null })),
      [TAKEN, ['resource_created_or_updated', expect.objectContaining({ type: 'cidr' })]],
    ],
    ['without its site', deleted('resource_sites', aLink()), [TAKEN]],
    [
      'at a renamed site',
      updated('sites', aSite(), aSite({ name: 'New' })),
      [['resource_created_or_updated', expect.objectContaining({ gateway_groups: [{ id: SITE, name: 'New' }] })]],
    ],
  ])('decisions 5: a resource %s', async (_what, change, heard) => {
    const { house, client } = await live();
    house.commit(change);
    house.turn();
    expect(client.socket.take()).toEqual(heard);
  });

  it('decisions 5: a resource that moves to another site is removed and added', async () => {
    const { house, client } = await live(inserted('sites', aSite({ id: PARIS, name: 'Paris' })));
    house.commit(deleted('resource_sites', aLink()), inserted('resource_sites', aLink({ siteId: PARIS })));
    house.turn();
    expect(client.socket.take()).toEqual([
      TAKEN,
      ['resource_created_or_updated', expect.objectContaining({ gateway_groups: [{ id: PARIS, name: 'Paris' }] })],
    ]);
  });

  it('D18: follows a window that opens and closes, to the millisecond', async () => {
    const { house, client } = await live(...wiki([duringHours('M/12-13/UTC')]));
    house.later(3 * HOUR - 1);
    expect(client.socket.take()).toEqual([]);
    house.later(1);
    expect(client.socket.take()).toEqual([['resource_created_or_updated', expect.objectContaining({ id: WIKI })]]);
    house.later(HOUR);
    expect(client.socket.take()).toEqual([]); // the end still belongs to it
    house.later(1);
    expect(client.socket.take()).toEqual([['resource_deleted', WIKI]]);
    house.later(7 * DAY - HOUR - 1);
    expect(client.socket.take()).toEqual([['resource_created_or_updated', expect.objectContaining({ id: WIKI })]]);
  });

  it('follows a window of a policy that came after `init`', async () => {
    const { house, client } = await live();
    house.commit(...wiki([duringHours('M/12-13/UTC')]));
    house.turn();
    house.later(3 * HOUR);
    expect(client.socket.take()).toEqual([['resource_created_or_updated', expect.objectContaining({ id: WIKI })]]);
  });

  it('ACK-1: names the commit it has not looked at', async () => {
    const { house, client } = await live();
    expect(house.views.oldestPosition()).toBeUndefined();
    house.commit(deleted('policies', aPolicy()));
    const missed = house.store.position;
    house.commit(inserted('policies', aPolicy()));
    expect([client.channel.unseenSince(), house.views.oldestPosition()]).toEqual([missed, missed]);
    house.turn();
    expect(house.views.oldestPosition()).toBeUndefined();
  });
});

describe('D20b: the toggle of a client', () => {
  const toggled = [TAKEN, SHOWN];

  it('removes and adds what it has', async () => {
    const { house, client } = await live();
    client.channel.toggle(RESOURCE);
    house.turn();
    expect(client.socket.take()).toEqual(toggled);
  });

  it('comes after the init of a client that was away when its gateway lost the pair, once', async () => {
    const { house, client } = await live();
    client.socket.close(1000);
    house.presence.toggle(ACCOUNT, CLIENT, RESOURCE);
    const again = await house.client({}, 'again');
    house.turn();
    expect(again.socket.events()).toEqual(['init', 'resource_deleted', 'resource_created_or_updated']);
    again.socket.close(1000);
    const third = await house.client({}, 'third');
    house.turn();
    expect(third.socket.events()).toEqual(['init']);
  });

  it('is nothing for what it does not have, or no longer', async () => {
    const { house, client } = await live();
    client.channel.toggle(WIKI);
    client.channel.toggle(RESOURCE);
    house.commit(deleted('policies', aPolicy()));
    house.turn();
    expect(client.socket.take()).toEqual([TAKEN]);
  });

  it('is not lost when the resource is also renamed: an update alone makes no client ask again', async () => {
    const { house, client } = await live();
    client.channel.toggle(RESOURCE);
    house.commit(updated('resources', aResource(), aResource({ name: 'New' })));
    house.turn();
    expect(client.socket.take()).toEqual([
      TAKEN,
      ['resource_created_or_updated', expect.objectContaining({ name: 'New' })],
    ]);
  });

  it('D12: takes its place among the other removals and additions', async () => {
    const { house, client } = await live();
    client.channel.toggle(RESOURCE);
    const first = idOf<ResourceId>('atlas');
    house.commit(
      inserted('resources', aResource({ id: first })),
      inserted('resource_sites', aLink({ resourceId: first })),
      inserted('policies', aPolicy({ id: idOf<PolicyId>('atlas'), resourceId: first })),
      ...wiki(),
    );
    house.turn();
    const added = client.socket.take().slice(1) as [string, { id: string }][];
    expect(added.map(([, { id }]) => id)).toEqual([first, RESOURCE, WIKI]);
  });

  it('comes once however often it was asked for', async () => {
    const { house, client } = await live();
    for (let i = 0; i < 3; i += 1) client.channel.toggle(RESOURCE);
    house.turn();
    expect(client.socket.take()).toEqual(toggled);
  });

  it('at the end of a window takes the resource away, and gives it back only when it opens', async () => {
    const { house, client } = await live(
      updated('policies', aPolicy(), aPolicy({ conditions: [duringHours('M/9-17/UTC')] })),
    );
    house.clock.advance(8 * HOUR + 1);
    client.channel.toggle(RESOURCE);
    house.turn();
    expect(client.socket.take()).toEqual([TAKEN]);
  });
});

describe('a request of a live client', () => {
  const failed = (resourceId: string, reason: string) => ['flow_creation_failed', { resource_id: resourceId, reason }];

  it('for what it cannot know is `not_found`, whether it exists or not', async () => {
    const { client } = await live(inserted('resources', aResource({ id: WIKI })));
    client.asksFor(idOf('none'));
    client.asksFor(WIKI);
    expect(client.socket.take()).toEqual([failed(idOf('none'), 'not_found'), failed(WIKI, 'not_found')]);
  });

  it('for what a condition forbids names what is violated', async () => {
    const { client } = await live(...wiki([duringHours('T/9-17/UTC')]));
    client.asksFor(WIKI);
    expect(client.socket.take()).toEqual([
      [
        'flow_creation_failed',
        { resource_id: WIKI, reason: 'forbidden', violated_properties: ['current_utc_datetime'] },
      ],
    ]);
  });

  it('for what is hidden from it is `not_found`', async () => {
    const { client } = await live(deleted('resource_sites', aLink()));
    client.asksFor();
    expect(client.socket.take()).toEqual([failed(RESOURCE, 'not_found')]);
  });

  it('D26: without a gateway is `offline`, once in two seconds', async () => {
    const { house, client } = await live();
    client.asksFor();
    client.asksFor();
    house.later(2000);
    client.asksFor();
    expect(client.socket.take()).toEqual([failed(RESOURCE, 'offline'), failed(RESOURCE, 'offline')]);
  });

  it('D33: a gateway too old for it does not count', async () => {
    const { house, client } = await live();
    const gateway = await house.gateway({ version: '1.3.2' });
    client.asksFor();
    expect(client.socket.take()).toEqual([failed(RESOURCE, 'offline')]);
    expect(gateway.socket.events()).toEqual(['init']);
  });

  it('a gateway of another site does not count', async () => {
    const { house, client } = await live(inserted('sites', aSite({ id: PARIS })));
    await house.gateway();
    house.commit(deleted('resource_sites', aLink()), inserted('resource_sites', aLink({ siteId: PARIS })));
    client.asksFor();
    expect(client.socket.take().at(-1)).toEqual(failed(RESOURCE, 'offline'));
  });

  it('D14: is not answered at all while memory is unproven', async () => {
    const { house, client } = await live();
    house.mayGrant = false;
    client.asksFor();
    expect(client.socket.take()).toEqual([]);
  });

  it('that nobody knows is an error, and closes nothing', async () => {
    const { client } = await live();
    client.says('make_coffee', {});
    client.says('create_flow', { resource_id: 'not-a-uuid' });
    expect([client.socket.replies, client.socket.closedWith]).toEqual([
      ['unknown_message', 'unknown_message'],
      undefined,
    ]);
  });
});

describe('decisions 5: a live client', () => {
  const config = { searchDomain: 'acme.example', upstreamDns: [] };

  it('hears of a new configuration, once', async () => {
    const { house, client } = await live();
    house.commit(updated('accounts', anAccount(), anAccount({ config })));
    house.turn();
    expect(client.socket.take()).toEqual([
      ['config_changed', { interface: expect.objectContaining({ search_domain: 'acme.example' }) }],
    ]);
    house.commit(updated('accounts', anAccount({ config }), anAccount({ config, name: 'New', slug: 'new' })));
    house.turn();
    expect(client.socket.take()).toEqual([]);
  });

  it('hears nothing of a configuration that came and went', async () => {
    const { house, client } = await live();
    house.commit(updated('accounts', anAccount(), anAccount({ config })));
    house.commit(updated('accounts', anAccount({ config }), anAccount()));
    house.turn();
    expect(client.socket.take()).toEqual([]);
  });

  it('is signed out when its token is deleted', async () => {
    const { house, client } = await live();
    house.commit(deleted('tokens', aToken()));
    expect(client.socket.events()).toEqual(['disconnect', 'closed 1000']);
  });

  it.each<[string, Change[]]>([
    ['its row is deleted', [deleted('clients', aClient())]],
    ['its actor is disabled', [updated('actors', anActor(), anActor({ disabledAt: MONDAY_9 }))]],
    [
      'its actor is deleted',
      [deleted('actors', anActor()), deleted('tokens', aToken()), deleted('clients', aClient())],
    ],
    ['its identity is deleted', [deleted('identities', anIdentity()), deleted('tokens', aToken())]],
    ['its provider is disabled', [updated('auth_providers', aProvider(), aProvider({ disabledAt: MONDAY_9 }))]],
    ['the account is disabled', [updated('accounts', anAccount(), anAccount({ disabledAt: MONDAY_9 }))]],
    ['the account is deleted', anAccountInUse().map(([table, row]) => deleted(table, row))],
  ])('is closed inside the commit, without `disconnect`, when %s', async (_what, changes) => {
    const { house, client } = await live();
    house.commit(...changes);
    expect(client.socket.events()).toEqual(['closed 1000']);
  });

  it('S10: is signed out at the end of its token, wherever that is moved', async () => {
    const { house, client } = await live(updated('tokens', aToken(), aToken({ expiresAt: MONDAY_9 + HOUR })));
    house.commit(updated('tokens', aToken({ expiresAt: MONDAY_9 + HOUR }), aToken({ expiresAt: MONDAY_9 + 40 * DAY })));
    house.turn();
    house.later(40 * DAY - 1);
    expect(client.socket.take()).toEqual([]);
    house.later(1);
    expect(client.socket.events()).toEqual(['disconnect', 'closed 1000']);
  });

  it('is signed out at once when its token is made to have ended', async () => {
    const { house, client } = await live();
    house.commit(updated('tokens', aToken(), aToken({ expiresAt: MONDAY_9 - 1 })));
    house.turn();
    expect(client.socket.events()).toEqual(['disconnect', 'closed 1000']);
  });

  it('hears nothing of the history of flows', async () => {
    const { house, client } = await live();
    house.commit(rawChange('delete', 'flows', rawFlow(aFlowRecord()), null));
    house.turn();
    expect(client.socket.take()).toEqual([]);
  });

  it('D24: is closed when its view cannot be brought up to date', async () => {
    const { house, client } = await live();
    client.socket.push = () => {
      throw new Error('no');
    };
    house.commit(deleted('policies', aPolicy()));
    house.turn();
    expect(client.socket.closedWith).toBe(1011);
  });

  it('that left is told nothing and waits for nothing', async () => {
    const { house, client } = await live(
      updated('tokens', aToken(), aToken({ expiresAt: MONDAY_9 + DAY })),
      ...wiki([duringHours('M/9-17/UTC')]),
    );
    house.commit(deleted('policies', aPolicy()));
    client.socket.close(1000);
    house.turn();
    expect(client.socket.events()).toEqual(['closed 1000']);
    expect([house.clock.pending, house.released, house.views.oldestPosition()]).toEqual([0, 1, undefined]);
    expect([house.presence.client(ACCOUNT, CLIENT), house.streams.liveClients(ACCOUNT).size]).toEqual([undefined, 0]);
    client.channel.toggle(RESOURCE);
    client.asksFor();
    house.turn();
    expect(client.socket.events()).toEqual([]);
  });
});
