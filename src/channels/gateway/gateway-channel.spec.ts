import { describe, expect, it } from '@jest/globals';
import {
  aFlowRecord,
  aGateway,
  aGatewayToken,
  aLink,
  aMembership,
  anAccount,
  anAccountInUse,
  anActor,
  aPolicy,
  aResource,
  aSite,
  aToken,
  CLIENT,
  deleted,
  duringHours,
  GATEWAY,
  idOf,
  inserted,
  MONDAY_9,
  POLICY,
  rawChange,
  rawFlow,
  RESOURCE,
  SITE,
  truncated,
  updated,
} from '../../../test/support/builders.js';
import { ChannelHouse, secondsAfterStart, type JoinedGateway, withFlow } from '../../../test/support/channel-house.js';
import type { ClientId, FlowId, MembershipId, PolicyId, ResourceId, SiteId } from '../../core/model/ids.js';

const HOUR = 3_600_000;
const DAY = 24 * HOUR;
const PAIR = { client_id: CLIENT, resource_id: RESOURCE };
const REJECT = ['reject_access', PAIR];
const UNTIL_17 = duringHours('M/9-17/UTC');
const UNTIL_22 = duringHours('M/9-22/UTC');
const WIKI = idOf<ResourceId>('wiki');
const PARIS = idOf<SiteId>('paris');
const CUT_BY_HAND = rawChange('update', 'flows', rawFlow(aFlowRecord()), rawFlow(aFlowRecord(), { at: MONDAY_9 }));

const rowsWith = (conditions: ReturnType<typeof duringHours>[]) =>
  anAccountInUse().map((row) => (row[0] === 'policies' ? (['policies', aPolicy({ conditions })] as const) : row));

describe('a flow', () => {
  it('D19, D21: is registered, pushed and queued to be recorded in the step that asks for it', async () => {
    const house = new ChannelHouse();
    const gateway = await house.gateway();
    const client = await house.client();
    client.asksFor();
    expect(gateway.socket.take()).toEqual([
      ['init', expect.objectContaining({ authorizations: [] })],
      [
        'authorize_flow',
        expect.objectContaining({
          client: expect.objectContaining({ id: CLIENT, public_key: 'client key' }),
          resource: expect.objectContaining({ id: RESOURCE }),
          expires_at: secondsAfterStart(14 * DAY),
        }),
      ],
    ]);
    expect(house.store.flows.get(GATEWAY, CLIENT, RESOURCE)).toBeDefined();
    expect(house.flowRecords.added).toHaveLength(1);
    expect(client.socket.events()).toEqual(['init']);
  });

  it('the client hears of it when the gateway has answered, of the same secrets', async () => {
    const house = new ChannelHouse();
    const gateway = await house.gateway();
    const client = await house.client();
    client.asksFor();
    const asked = gateway.socket.heard.at(-1)?.[1] as Record<string, unknown>;
    gateway.answers();
    expect(gateway.socket.replies).toEqual(['ok']);
    const created = client.socket.heard.at(-1);
    expect(created).toEqual([
      'flow_created',
      expect.objectContaining({ resource_id: RESOURCE, gateway_id: GATEWAY, gateway_group_id: SITE }),
    ]);
    expect(created?.[1]).toMatchObject({
      client_ice_credentials: asked['client_ice_credentials'],
      gateway_ice_credentials: asked['gateway_ice_credentials'],
    });
  });

  it('asked for again it is pushed again, without another row or expiry', async () => {
    const { house, gateway, client } = await withFlow();
    house.later(HOUR);
    client.asksFor();
    expect(gateway.socket.events()).toEqual(['authorize_flow']);
    expect(house.flowRecords.added).toHaveLength(1);
    expect(house.store.flows.size).toBe(1);
  });

  it('D14: is not made, and the request not answered, while memory is not proven', async () => {
    const house = new ChannelHouse();
    const gateway = await house.gateway();
    const client = await house.client();
    house.mayGrant = false;
    client.asksFor();
    expect([gateway.socket.events(), client.socket.events()]).toEqual([['init'], ['init']]);
  });

  it('D21: a gateway before 1.4.13 never prunes, so its client waits for the row', async () => {
    const house = new ChannelHouse();
    const gateway = await house.gateway({ version: '1.4.12' });
    const client = await house.client();
    client.asksFor();
    gateway.answers();
    expect(client.socket.events()).toEqual(['init']);
    await house.flowRecords.flush();
    expect(client.socket.events()).toEqual(['flow_created']);
  });

  it('D21: when the pair has moved meanwhile, the client of such a gateway waits for the row that counts', async () => {
    const house = new ChannelHouse();
    const gateway = await house.gateway({ version: '1.4.12' });
    const client = await house.client();
    client.asksFor();
    gateway.answers();
    house.commit(updated('tokens', aToken(), aToken({ expiresAt: MONDAY_9 + DAY })));
    const [first, second] = house.flowRecords.added;
    if (!first || !second) throw new Error('not moved');
    house.flowRecords.written(first.id);
    expect(client.socket.events()).toEqual(['init']);
    house.flowRecords.written(second.id);
    expect(client.socket.events()).toEqual(['flow_created']);
  });

  it('D21: a row of the past that cannot be written takes nothing back', async () => {
    const { house, gateway, client } = await withFlow();
    house.commit(updated('tokens', aToken(), aToken({ expiresAt: MONDAY_9 + DAY })));
    const [, moved] = house.flowRecords.added;
    house.commit(updated('tokens', aToken({ expiresAt: MONDAY_9 + DAY }), aToken()));
    if (!moved) throw new Error('not moved');
    gateway.socket.take();
    house.flowRecords.unwritable(moved.id);
    house.turn();
    expect([gateway.socket.take(), client.socket.take()]).toEqual([[], []]);
  });

  it('D21: a row that cannot be written takes the pair back and toggles the client', async () => {
    const house = new ChannelHouse();
    const gateway = await house.gateway();
    const client = await house.client();
    client.asksFor();
    gateway.answers();
    const [record] = house.flowRecords.added;
    if (!record) throw new Error('nothing recorded');
    house.flowRecords.unwritable(record.id);
    house.turn();
    expect(gateway.socket.events()).toEqual(['init', 'authorize_flow', 'reject_access']);
    expect(client.socket.events()).toEqual(['init', 'flow_created', 'resource_deleted', 'resource_created_or_updated']);
    expect(house.store.flows.size).toBe(0);
  });
});

describe('an answer of the gateway', () => {
  it('S2, B12: after a revocation is to no ref any more and opens nothing', async () => {
    const house = new ChannelHouse();
    const gateway = await house.gateway();
    const client = await house.client();
    client.asksFor();
    const asked = gateway.socket.heard.at(-1);
    house.commit(deleted('policies', aPolicy()));
    gateway.answers(asked);
    house.turn();
    expect(gateway.socket.replies).toEqual(['invalid_ref']);
    expect(gateway.socket.events()).toEqual(['init', 'authorize_flow', 'reject_access']);
    expect(client.socket.events()).toEqual(['init', 'resource_deleted']);
  });

  it('S2: after a new address opens nothing, although the client still has the resource and is not toggled', async () => {
    const house = new ChannelHouse();
    const gateway = await house.gateway();
    const client = await house.client();
    client.asksFor();
    const asked = gateway.socket.heard.at(-1);
    house.commit(updated('resources', aResource(), aResource({ address: 'git.acme.example' })));
    gateway.answers(asked);
    expect(client.socket.events()).toEqual(['init']);
    house.turn();
    expect(client.socket.events()).toEqual(['resource_created_or_updated']);
  });

  it('S2: to a flow that was taken and given again opens only what was asked for since', async () => {
    const house = new ChannelHouse();
    const gateway = await house.gateway();
    const client = await house.client();
    client.asksFor();
    const first = gateway.socket.heard.at(-1);
    house.commit(deleted('policies', aPolicy()));
    house.commit(inserted('policies', aPolicy()));
    client.asksFor();
    const second = gateway.socket.heard.at(-1);
    gateway.answers(first);
    expect(client.socket.events()).not.toContain('flow_created');
    gateway.answers(second);
    expect(client.socket.events()).toEqual(['flow_created']);
  });

  it('D20b: to a request from before a toggle opens nothing', async () => {
    const house = new ChannelHouse();
    const gateway = await house.gateway();
    const client = await house.client();
    client.asksFor();
    const first = gateway.socket.heard.at(-1);
    client.channel.toggle(RESOURCE);
    gateway.answers(first);
    expect(client.socket.events()).toEqual(['init', 'resource_deleted', 'resource_created_or_updated']);
    client.asksFor();
    gateway.answers();
    expect(client.socket.events()).toEqual(['flow_created']);
  });

  it('D29: is good once, for a minute, and only with a ref we made for this gateway', async () => {
    const house = new ChannelHouse();
    const gateway = await house.gateway();
    const client = await house.client();
    client.asksFor();
    const [asked] = gateway.socket.heard.slice(-1);
    gateway.answers(asked);
    gateway.answers(asked);
    gateway.says('flow_authorized', { ref: 'v1.made-up' });
    client.asksFor();
    house.later(60_001);
    gateway.answers();
    expect(gateway.socket.replies).toEqual(['ok', 'invalid_ref', 'invalid_ref', 'invalid_ref']);
    expect(client.socket.events().filter((event) => event === 'flow_created')).toHaveLength(1);
  });

  it('D29, B12: never reaches a later connection of the client', async () => {
    const house = new ChannelHouse();
    const gateway = await house.gateway();
    const client = await house.client();
    client.asksFor();
    const again = await house.client({}, 'again');
    gateway.answers();
    expect(gateway.socket.replies).toEqual(['invalid_ref']);
    expect(client.socket.events()).toEqual(['init', 'closed 1000']);
    expect(again.socket.events()).toEqual(['init']);
  });

  it('B12: after its client has left is to no ref any more', async () => {
    const house = new ChannelHouse();
    const gateway = await house.gateway();
    const client = await house.client();
    client.asksFor();
    client.socket.close(1000);
    gateway.answers();
    expect(gateway.socket.replies).toEqual(['invalid_ref']);
  });
});

describe('D20: a held pair', () => {
  it('S1, ORD-4: is rejected inside the commit that takes its last reason, before any client hears', async () => {
    const { house, gateway } = await withFlow();
    house.commit(deleted('policies', aPolicy()));
    expect(gateway.socket.take()).toEqual([REJECT]);
    house.turn();
    expect(house.heard).toEqual(['gateway reject_access', 'client resource_deleted']);
    expect(house.flowRecords.closings).toMatchObject([{ reason: 'unjustified', cause: { position: 101n } }]);
  });

  it('ACK-2: its commit is held back until the gateway is proven to have read the reject, or is cut off', async () => {
    for (const end of ['pong', 'silence'] as const) {
      const { house, gateway } = await withFlow();
      gateway.socket.answersPings = false;
      house.commit(deleted('policies', aPolicy()));
      expect(house.openReceipts.receiptedPosition()).toBe(100n);
      expect(house.flowRecords.closings).toMatchObject([
        { cause: { position: 101n, committedAt: MONDAY_9 }, pushedAt: MONDAY_9 },
      ]);
      if (end === 'pong') gateway.socket.pongs();
      else house.later(10_000);
      expect(house.openReceipts.receiptedPosition()).toBeGreaterThan(101n);
      expect(gateway.socket.closedWith).toBe(end === 'pong' ? undefined : 1006);
      expect(house.flowRecords.deliveries).toMatchObject([{ how: end === 'pong' ? 'receipted' : 'no-receipt' }]);
    }
  });

  it('that ends with time is followed by a ping as well, and holds nothing back', async () => {
    const { house, gateway } = await withFlow();
    gateway.socket.answersPings = false;
    house.commit(updated('tokens', aToken(), aToken({ expiresAt: MONDAY_9 + HOUR })));
    house.later(HOUR + 1);
    expect(gateway.socket.barriers).toBe(1);
    expect(house.openReceipts.receiptedPosition()).toBeGreaterThan(102n);
    gateway.socket.pongs();
    expect(house.flowRecords.deliveries.map(({ how }) => how)).toEqual(['receipted', 'receipted']);
  });

  it('S3: A, B, A: is rejected for each that it leaves, and not held in the end', async () => {
    const { house, gateway, client } = await withFlow();
    const there = aPolicy({ resourceId: WIKI });
    house.commit(updated('policies', aPolicy(), there));
    house.commit(updated('policies', there, aPolicy()));
    house.turn();
    expect(gateway.socket.take()).toEqual([REJECT]);
    expect(house.store.flows.size).toBe(0);
    // The client sees no net change, but its gateway lost the pair: it must ask again.
    expect(client.socket.events()).toEqual(['resource_deleted', 'resource_created_or_updated']);
  });

  it('D17: does not notice that its membership came back under another id', async () => {
    const { house, gateway, client } = await withFlow();
    const again = aMembership({ id: idOf<MembershipId>('again') });
    house.commit(deleted('memberships', aMembership()), inserted('memberships', again));
    house.turn();
    expect([gateway.socket.take(), client.socket.take(), house.flowRecords.closings]).toEqual([[], [], []]);
  });

  it('D8: that another policy justifies as long is recorded anew and not pushed', async () => {
    const { house, gateway, client } = await withFlow();
    house.commit(inserted('policies', aPolicy({ id: idOf<PolicyId>('zz') })));
    house.commit(deleted('policies', aPolicy()));
    house.turn();
    expect([gateway.socket.take(), client.socket.take()]).toEqual([[], []]);
    expect(house.flowRecords.takeReasons()).toEqual(['moved']);
    expect(house.flowRecords.added.map(({ policyId }) => policyId)).toEqual([POLICY, idOf('zz')]);
  });

  it('is rejected without a toggle when the address changes: the client makes a new flow by itself', async () => {
    const { house, gateway, client } = await withFlow();
    house.commit(updated('resources', aResource(), aResource({ address: 'git.acme.example' })));
    house.turn();
    expect(gateway.socket.take()).toEqual([REJECT]);
    expect(client.socket.events()).toEqual(['resource_created_or_updated']);
    expect(house.flowRecords.takeReasons()).toEqual(['resource-changed']);
  });

  it('is rejected when the site leaves, and the client moves to the other site', async () => {
    const { house, gateway, client } = await withFlow();
    house.commit(
      inserted('sites', aSite({ id: PARIS })),
      inserted('resource_sites', aLink({ siteId: PARIS })),
      deleted('resource_sites', aLink()),
    );
    house.turn();
    expect(gateway.socket.take()).toEqual([REJECT]);
    expect(client.socket.events()).toEqual(['resource_deleted', 'resource_created_or_updated']);
    expect(house.flowRecords.takeReasons()).toEqual(['site-left-resource']);
  });

  it('stays when the resource gets another name or filters: the gateway is told the new form', async () => {
    const { house, gateway, client } = await withFlow();
    const renamed = aResource({ name: 'Git', filters: [{ protocol: 'tcp', ports: [{ from: 443, to: 443 }] }] });
    house.commit(updated('resources', aResource(), renamed));
    house.commit(updated('resources', renamed, { ...renamed, addressDescription: 'not for gateways' }));
    house.turn();
    expect(gateway.socket.take()).toEqual([['resource_updated', expect.objectContaining({ name: 'Git' })]]);
    expect(client.socket.events()).toEqual(['resource_created_or_updated']);
  });

  it('D8a, D20b: that an operator cuts is rejected and toggled, with no search for another policy', async () => {
    const { house, gateway, client } = await withFlow();
    const [row] = house.flowRecords.added;
    if (!row) throw new Error('nothing recorded');
    house.commit(rawChange('update', 'flows', rawFlow(row), rawFlow(row, { at: MONDAY_9 })));
    house.turn();
    expect(house.heard).toEqual([
      'gateway reject_access',
      'client resource_deleted',
      'client resource_created_or_updated',
    ]);
    client.asksFor();
    expect(gateway.socket.events()).toEqual(['reject_access', 'authorize_flow']);
  });

  it('CUT-1: the reject of a pair ends the row that the hand has cut, also one that was deleted before it was read', async () => {
    const { house, gateway } = await withFlow();
    const former = aFlowRecord({ id: 'read by nobody' as FlowId });
    house.commit(rawChange('delete', 'flows', rawFlow(former), null));
    expect(gateway.socket.events()).toEqual(['reject_access']);
    expect(house.flowRecords.deliveries.map(({ flowId }) => flowId).sort()).toEqual(
      [former.id, ...house.flowRecords.added.map(({ id }) => id)].sort(),
    );
  });

  it('D8a: TRUNCATE flows rejects every pair', async () => {
    const { house, gateway } = await withFlow();
    house.commit(truncated('flows'));
    expect(gateway.socket.take()).toEqual([REJECT]);
    expect(house.store.flows.size).toBe(0);
  });

  it('D8a: the echo of our own closing is nothing', async () => {
    const { house, gateway } = await withFlow();
    const [row] = house.flowRecords.added;
    if (!row) throw new Error('nothing recorded');
    house.commit(rawChange('update', 'flows', rawFlow(row), rawFlow(row, { at: MONDAY_9, position: '0/0' })));
    expect(gateway.socket.take()).toEqual([]);
  });

  it('that loses its row and every reason in one commit is rejected once', async () => {
    const { house, gateway } = await withFlow();
    const kept = ['accounts', 'gateways', 'tokens'];
    const gone = anAccountInUse().filter(([table]) => !kept.includes(table));
    house.commit(...gone.map(([table, row]) => deleted(table, row)), CUT_BY_HAND);
    expect(gateway.socket.take()).toEqual([REJECT]);
    expect(house.flowRecords.takeReasons()).toEqual(['cut-by-hand']);
  });

  it('D13: is decided again with the facts of a newer connection', async () => {
    const german = { property: 'remote_ip_location_region', operator: 'is_in', values: ['DE'] };
    const { house, gateway } = await withFlow({ rows: rowsWith([german]) });
    await house.client({ region: 'FR' }, 'again');
    expect(gateway.socket.take()).toEqual([REJECT]);
  });
});

describe('D20a: the expiry a gateway holds', () => {
  const OTHER = aPolicy({ id: idOf<PolicyId>('other'), conditions: [UNTIL_22] });

  it('follows a longer policy at once', async () => {
    const { house, gateway } = await withFlow({ rows: rowsWith([UNTIL_17]) });
    house.commit(inserted('policies', OTHER));
    const expires_at = secondsAfterStart(13 * HOUR);
    expect(gateway.socket.take()).toEqual([['access_authorization_expiry_updated', { ...PAIR, expires_at }]]);
    house.later(12 * HOUR);
    expect(gateway.socket.take()).toEqual([]);
  });

  it('follows a shorter one at once', async () => {
    const { house, gateway } = await withFlow();
    house.commit(updated('tokens', aToken(), aToken({ expiresAt: MONDAY_9 + HOUR })));
    const expires_at = secondsAfterStart(HOUR);
    expect(gateway.socket.take()).toEqual([['access_authorization_expiry_updated', { ...PAIR, expires_at }]]);
  });

  it('S10: ends with a reject of ours, and the client hears of it', async () => {
    const { house, gateway, client } = await withFlow({ rows: rowsWith([UNTIL_17]) });
    house.later(8 * HOUR - 1);
    expect(gateway.socket.take()).toEqual([]);
    house.later(2);
    expect(gateway.socket.take()).toEqual([REJECT]);
    expect(client.socket.events()).toEqual(['resource_deleted']);
    expect(house.store.flows.size).toBe(0);
    expect(house.flowRecords.takeReasons()).toEqual(['expired']);
  });

  it('S10: ends with the token, which signs the client out', async () => {
    const rows = anAccountInUse().map((row) =>
      row[0] === 'tokens' && row[1].kind === 'client'
        ? (['tokens', aToken({ expiresAt: MONDAY_9 + HOUR })] as const)
        : row,
    );
    const { house, gateway, client } = await withFlow({ rows });
    house.later(HOUR + 1);
    expect(gateway.socket.take()).toEqual([REJECT]);
    expect(client.socket.events()).toEqual(['disconnect', 'closed 1000']);
  });

  it('moves when a longer window opens while the pair is held (D18)', async () => {
    const { house, gateway } = await withFlow({ rows: rowsWith([UNTIL_17]) });
    house.commit(
      inserted('policies', aPolicy({ id: idOf<PolicyId>('late'), conditions: [duringHours('M/12-20/UTC')] })),
    );
    expect(gateway.socket.take()).toEqual([]);
    house.later(3 * HOUR);
    const expires_at = secondsAfterStart(11 * HOUR);
    expect(gateway.socket.take()).toEqual([['access_authorization_expiry_updated', { ...PAIR, expires_at }]]);
  });

  it('without any end is renewed long before its date', async () => {
    const { house, gateway, client } = await withFlow();
    house.later(14 * DAY - 60_000);
    const events = gateway.socket.take();
    expect(events).toEqual([['access_authorization_expiry_updated', expect.objectContaining(PAIR)]]);
    house.later(2 * 60_000);
    expect([gateway.socket.take(), client.socket.take()]).toEqual([[], []]);
  });

  describe('before 1.4.14, where nothing moves it', () => {
    const version = '1.4.13';

    it('a longer policy pushes nothing, and the pair ends when the gateway believes', async () => {
      const { house, gateway, client } = await withFlow({ version, rows: rowsWith([UNTIL_17]) });
      house.commit(inserted('policies', OTHER));
      expect(gateway.socket.take()).toEqual([]);
      house.later(8 * HOUR + 1);
      expect(gateway.socket.take()).toEqual([REJECT]);
      expect(client.socket.events()).toEqual(['resource_deleted', 'resource_created_or_updated']);
      client.asksFor();
      expect(gateway.socket.take()).toEqual([
        ['authorize_flow', expect.objectContaining({ expires_at: secondsAfterStart(13 * HOUR) })],
      ]);
    });

    it('a shorter one is ended by our own timer', async () => {
      const { house, gateway } = await withFlow({ version, rows: rowsWith([UNTIL_22]) });
      house.commit(updated('policies', aPolicy({ conditions: [UNTIL_22] }), aPolicy({ conditions: [UNTIL_17] })));
      expect(gateway.socket.take()).toEqual([]);
      house.later(8 * HOUR + 1);
      expect(gateway.socket.take()).toEqual([REJECT]);
    });

    it('a repeated `authorize_flow` does not move it', async () => {
      const { house, gateway, client } = await withFlow({ version, rows: rowsWith([UNTIL_17]) });
      house.commit(inserted('policies', OTHER));
      client.asksFor();
      expect(gateway.socket.events()).toEqual(['authorize_flow']);
      house.later(8 * HOUR + 1);
      expect(gateway.socket.take()).toEqual([REJECT]);
    });
  });
});

describe('D34: unanswered requests', () => {
  const names = ['r1', 'r2', 'r3', 'r4'] as const;
  const resources = names.map((name) => idOf<ResourceId>(name));

  async function withLimit(maxUnansweredFlows: number) {
    const rows = names.flatMap((name) => {
      const resourceId = idOf<ResourceId>(name);
      return [
        ['resources', aResource({ id: resourceId })] as const,
        ['resource_sites', aLink({ resourceId })] as const,
        ['policies', aPolicy({ id: idOf<PolicyId>(name), resourceId })] as const,
      ];
    });
    const house = new ChannelHouse([...anAccountInUse(), ...rows], { maxUnansweredFlows });
    const gateway = await house.gateway();
    const client = await house.client();
    gateway.socket.take();
    client.socket.take();
    return { house, gateway, client };
  }
  const asked = (gateway: JoinedGateway): unknown[] =>
    gateway.socket.heard
      .filter(([event]) => event === 'authorize_flow')
      .map(([, payload]) => (payload as { resource: { id: string } }).resource.id);

  it('are never more than the limit; each answer lets the next one through, in order', async () => {
    const { gateway, client } = await withLimit(2);
    for (const id of resources) client.asksFor(id);
    expect(asked(gateway)).toEqual(resources.slice(0, 2));
    gateway.answers(gateway.socket.heard[0]);
    expect(asked(gateway)).toEqual(resources.slice(0, 3));
    gateway.answers(gateway.socket.heard[0]); // answered already
    expect(asked(gateway)).toEqual(resources.slice(0, 3));
    gateway.answers(gateway.socket.heard[1]);
    gateway.answers(gateway.socket.heard[2]);
    expect(asked(gateway)).toEqual(resources);
  });

  it('one that waited is decided when its turn comes', async () => {
    const { house, gateway, client } = await withLimit(1);
    for (const id of resources.slice(0, 3)) client.asksFor(id);
    const taken = aPolicy({ id: idOf<PolicyId>('r2'), resourceId: idOf('r2') });
    house.commit(deleted('policies', taken));
    gateway.answers();
    expect(asked(gateway)).toEqual([resources[0], resources[2]]);
  });

  it('one that waited ten seconds is dropped', async () => {
    const { house, gateway, client } = await withLimit(1);
    for (const id of resources.slice(0, 2)) client.asksFor(id);
    house.later(10_001);
    gateway.answers();
    expect(asked(gateway)).toEqual([resources[0]]);
  });

  it('one that a gateway never answers holds its place for a minute', async () => {
    const { house, gateway, client } = await withLimit(1);
    client.asksFor(resources[0]);
    house.later(60_001);
    client.asksFor(resources[1]);
    expect(asked(gateway)).toEqual(resources.slice(0, 2));
  });

  it('one of a client that has left is not sent', async () => {
    const { gateway, client } = await withLimit(1);
    for (const id of resources.slice(0, 2)) client.asksFor(id);
    client.socket.close(1000);
    gateway.answers();
    expect(asked(gateway)).toEqual([resources[0]]);
  });
});

describe('a live gateway', () => {
  it('decisions 5: its token is deleted: its pairs are rejected where they must, it is signed out and closed', async () => {
    const { house, gateway } = await withFlow();
    house.commit(deleted('tokens', aGatewayToken()));
    expect(gateway.socket.events()).toEqual(['disconnect', 'closed 1000']);
  });

  it('its token ends: it is signed out then', async () => {
    const rows = anAccountInUse().map((row) =>
      row[0] === 'tokens' && row[1].kind === 'gateway'
        ? (['tokens', aGatewayToken({ expiresAt: MONDAY_9 + HOUR })] as const)
        : row,
    );
    const house = new ChannelHouse(rows);
    const gateway = await house.gateway();
    house.later(HOUR - 1);
    expect(gateway.socket.events()).toEqual(['init']);
    house.later(1);
    expect(gateway.socket.events()).toEqual(['disconnect', 'closed 1000']);
  });

  it('its row is deleted: reject, then close without `disconnect`', async () => {
    const { house, gateway, client } = await withFlow();
    house.commit(deleted('gateways', aGateway()));
    house.turn();
    expect(gateway.socket.events()).toEqual(['reject_access', 'closed 1000']);
    expect(client.socket.events()).toEqual(['resource_deleted', 'resource_created_or_updated']);
  });

  it('the account is disabled: reject, and it stays', async () => {
    const { house, gateway, client } = await withFlow();
    house.commit(updated('accounts', anAccount(), anAccount({ disabledAt: MONDAY_9 })));
    expect(gateway.socket.events()).toEqual(['reject_access']);
    expect(client.socket.events()).toEqual(['closed 1000']);
  });

  it('the account is deleted: reject and close', async () => {
    const { house, gateway } = await withFlow();
    house.commit(...[...anAccountInUse()].map(([table, row]) => deleted(table, row)));
    expect(gateway.socket.events()).toEqual(['reject_access', 'closed 1000']);
  });

  it('the slug changes: `init` again, with every pair', async () => {
    const { house, gateway } = await withFlow();
    house.commit(updated('accounts', anAccount(), anAccount({ slug: 'new' })));
    expect(gateway.socket.take()).toEqual([
      ['init', expect.objectContaining({ account_slug: 'new', authorizations: [expect.objectContaining(PAIR)] })],
      ['resource_updated', expect.objectContaining({ id: RESOURCE })],
    ]);
  });

  it('actor or site renamed: nothing', async () => {
    const { house, gateway } = await withFlow();
    house.commit(
      updated('actors', anActor(), anActor({ name: 'New' })),
      updated('sites', aSite(), aSite({ name: 'New' })),
    );
    expect(gateway.socket.take()).toEqual([]);
  });

  it('that leaves closes no row: the gateway goes on serving; nothing of it stays here', async () => {
    const { house, gateway, client } = await withFlow();
    const timers = house.clock.pending;
    gateway.socket.close(1000);
    expect([house.store.flows.size, house.flowRecords.closings, house.released]).toEqual([0, [], 1]);
    expect(house.clock.pending).toBeLessThan(timers);
    expect(house.streams.liveGateways(anAccount().id).size).toBe(0);
    client.asksFor();
    expect(client.socket.events()).toEqual(['flow_creation_failed']);
    house.commit(deleted('policies', aPolicy()));
    house.turn();
    expect(client.socket.events()).toEqual(['resource_deleted']);
  });

  it.each(['reject_access', 'access_authorization_expiry_updated', 'authorize_flow'])(
    'whose socket dies of `%s` leaves nothing behind',
    async (event) => {
      const { house, gateway, client } = await withFlow();
      client.socket.close(1000);
      expect(house.clock.pending).toBe(1);
      gateway.socket.diesAt = event;
      if (event === 'reject_access') house.commit(deleted('policies', aPolicy()));
      if (event === 'authorize_flow') (await house.client()).asksFor();
      else house.commit(updated('tokens', aToken(), aToken({ expiresAt: MONDAY_9 + HOUR })));
      expect(gateway.socket.closedWith).toBe(1006);
      expect([house.store.flows.size, house.clock.pending]).toEqual([0, 0]);
    },
  );

  it('D24: is closed when one of its tasks throws', async () => {
    const house = new ChannelHouse();
    const gateway = await house.gateway();
    const client = await house.client();
    house.flowRecords.add = () => {
      throw new Error('no');
    };
    client.asksFor();
    expect(gateway.socket.events()).toEqual(['init', 'closed 1011']);
    expect(client.socket.closedWith).toBeUndefined();
    expect(house.store.flows.size).toBe(0);
  });

  it('D12: one that throws in a commit is closed, and the others hear of it', async () => {
    const { house, gateway } = await withFlow();
    const other = await house.client({ clientId: idOf<ClientId>('phone'), tokenId: idOf('phone') }, 'phone');
    expect(other.socket.closedWith).toBe(1000); // unknown: it has no row
    house.flowRecords.close = () => {
      throw new Error('no');
    };
    house.commit(deleted('policies', aPolicy()));
    house.turn();
    expect(gateway.socket.events()).toEqual(['reject_access', 'closed 1011']);
    expect(house.heard.at(-1)).toBe('client resource_deleted');
  });

  it('D32: passes ICE candidates between pairs that share or ask for a flow, and no others', async () => {
    const house = new ChannelHouse();
    const gateway = await house.gateway();
    const client = await house.client();
    const toClient = { candidates: ['a'], client_ids: [CLIENT] };
    const toGateway = { candidates: ['b'], gateway_ids: [GATEWAY] };
    gateway.says('broadcast_ice_candidates', toClient);
    client.says('broadcast_ice_candidates', toGateway);
    expect([gateway.socket.events(), client.socket.events()]).toEqual([['init'], ['init']]);
    client.asksFor();
    gateway.says('broadcast_ice_candidates', toClient);
    client.says('broadcast_invalidated_ice_candidates', toGateway);
    expect(client.socket.take()).toEqual([['ice_candidates', { gateway_id: GATEWAY, candidates: ['a'] }]]);
    expect(gateway.socket.take().slice(1)).toEqual([
      ['invalidate_ice_candidates', { client_id: CLIENT, candidates: ['b'] }],
    ]);
  });
});
