import { describe, expect, it } from '@jest/globals';
import {
  aClient,
  aFlowRecord,
  aGateway,
  aGatewayToken,
  anAccount,
  aPolicy,
  aToken,
  CLIENT,
  deleted,
  GATEWAY,
  idOf,
  MONDAY_9,
  rawChange,
  rawFlow,
  RESOURCE,
  truncated,
  updated,
} from '../../../test/support/builders.js';
import {
  ChannelHouse,
  secondsAfterStart,
  settled,
  type JoinedGateway,
  withFlow,
} from '../../../test/support/channel-house.js';
import type { StoredFlow } from '../../core/model/flow.js';
import { NIL_UUID, type FlowId, type ResourceId } from '../../core/model/ids.js';

const HOUR = 3_600_000;
const DAY = 24 * HOUR;
const PAIR = { client_id: CLIENT, resource_id: RESOURCE };
const REJECT = ['reject_access', PAIR];
const WIKI = idOf<ResourceId>('wiki');
const CUT_BY_HAND = rawChange('update', 'flows', rawFlow(aFlowRecord()), rawFlow(aFlowRecord(), { at: MONDAY_9 }));
const DELETED_BY_HAND = rawChange('delete', 'flows', rawFlow(aFlowRecord()), null);

const stored = (of: Partial<StoredFlow> = {}): StoredFlow => ({
  ...aFlowRecord(),
  ...{ revokedAt: null, isCutByHand: false, pushedAt: null, deliveredAt: null, ...of },
});

describe('a joining gateway (D22)', () => {
  const authorizations = (gateway: JoinedGateway): unknown =>
    (gateway.socket.heard.find(([event]) => event === 'init')?.[1] as { authorizations: unknown }).authorizations;

  async function joining(rows: readonly StoredFlow[], prepare: (house: ChannelHouse) => void = () => undefined) {
    const house = new ChannelHouse();
    house.store.connected({ clientId: CLIENT, tokenId: aToken().id, region: null, remoteIp: null, connectedAt: 0 }, 0);
    house.flowRecords.stored = [...rows];
    prepare(house);
    const gateway = await house.gateway();
    return { house, gateway };
  }

  it('is told what is still justified, with its expiry, and the form of each resource', async () => {
    const { house, gateway } = await joining([stored()]);
    expect(authorizations(gateway)).toEqual([{ ...PAIR, expires_at: secondsAfterStart(14 * DAY) }]);
    expect(gateway.socket.events()).toEqual(['init', 'resource_updated']);
    expect(house.store.flows.get(GATEWAY, CLIENT, RESOURCE)?.grant.flowId).toBe(aFlowRecord().id);
    expect(house.flowRecords.closings).toEqual([]);
    house.commit(deleted('policies', aPolicy()));
    expect(gateway.socket.take()).toEqual([REJECT]);
  });

  it('is told the expiry that is right now, and the row is moved', async () => {
    const { house, gateway } = await joining([stored()], (h) =>
      h.commit(updated('tokens', aToken(), aToken({ expiresAt: MONDAY_9 + HOUR }))),
    );
    expect(authorizations(gateway)).toEqual([{ ...PAIR, expires_at: secondsAfterStart(HOUR) }]);
    expect(house.flowRecords.takeReasons()).toEqual(['moved']);
  });

  it.each<[string, StoredFlow, (house: ChannelHouse) => void]>([
    ['its policy is gone', stored(), (h) => h.commit(deleted('policies', aPolicy()))],
    [
      'its resource has another address',
      stored({ shape: { type: 'dns', address: 'old.acme.example', ipStack: 'dual' } }),
      () => undefined,
    ],
    ['its row was closed meanwhile', stored({ revokedAt: MONDAY_9 }), () => undefined],
    ['its client is gone', stored(), (h) => h.commit(deleted('clients', aClient()))],
  ])('rejects a pair when %s, and lists a placeholder for its client', async (_what, row, prepare) => {
    const { house, gateway } = await joining([row], prepare);
    expect(authorizations(gateway)).toEqual([expect.objectContaining({ client_id: CLIENT, resource_id: NIL_UUID })]);
    expect(gateway.socket.take().slice(1)).toEqual([REJECT]);
    expect(house.store.flows.size).toBe(0);
  });

  it('follows the rejects with one ping, whose answer delivers them all; until then they are told at each join', async () => {
    const [closed, open] = [stored({ revokedAt: MONDAY_9 }), stored({ id: idOf<FlowId>('two'), resourceId: WIKI })];
    const house = new ChannelHouse();
    house.flowRecords.stored = [closed, open];
    const silent = house.connectGateway({}, 'silent');
    silent.socket.answersPings = false;
    await settled();
    expect(silent.socket.events()).toEqual(['init', 'reject_access', 'reject_access']);
    expect([silent.socket.barriers, house.flowRecords.deliveries]).toEqual([1, []]);
    expect(house.flowRecords.closings).toMatchObject([
      { flowId: open.id, cause: { position: 100n, committedAt: null }, pushedAt: MONDAY_9 },
    ]);

    const second = house.connectGateway({}, 'second');
    second.socket.answersPings = false;
    await settled();
    expect(house.flowRecords.deliveries.splice(0)).toMatchObject([
      { flowId: closed.id, how: 'socket-closed' },
      { flowId: open.id, how: 'socket-closed' },
    ]);
    expect(second.socket.events()).toEqual(['init', 'reject_access', 'reject_access']);
    second.socket.pongs();
    expect(house.flowRecords.deliveries).toMatchObject([
      { flowId: closed.id, how: 'receipted' },
      { flowId: open.id, how: 'receipted' },
    ]);
  });

  it('S1: of a pair granted anew with another address, it may hold the old one until it is proven to have dropped that', async () => {
    const old = { type: 'dns', address: 'old.acme.example', ipStack: 'dual' } as const;
    const former = stored({ id: idOf('former'), createdAt: MONDAY_9 - HOUR, revokedAt: MONDAY_9, shape: old });
    const { house, gateway } = await joining([former, stored()]);
    expect(gateway.socket.take().slice(1)).toEqual([REJECT]);
    expect(house.flowRecords.takeReasons()).toEqual(['resource-changed']);
    expect(house.flowRecords.deliveries).toMatchObject([{ how: 'receipted' }, { how: 'receipted' }]);

    const proven = await joining([{ ...former, deliveredAt: MONDAY_9 }, stored()]);
    expect(proven.gateway.socket.events()).toEqual(['init', 'resource_updated']);
  });

  it('hears nothing any more of a pair that it is proven to have dropped, and is asked nothing', async () => {
    const receipted = stored({ revokedAt: MONDAY_9, pushedAt: MONDAY_9, deliveredAt: MONDAY_9 });
    const { gateway } = await joining([receipted]);
    expect(authorizations(gateway)).toEqual([]);
    expect([gateway.socket.events(), gateway.socket.barriers]).toEqual([['init'], 0]);
  });

  it('is told of a pair whose last row was never written: the one before says it moved, and no reject covers that', async () => {
    const moved = stored({ revokedAt: MONDAY_9 });
    const before = stored({ id: idOf<FlowId>('old'), createdAt: MONDAY_9 - HOUR, revokedAt: MONDAY_9, deliveredAt: 1 });
    const { gateway, house } = await joining([before, moved]);
    expect(gateway.socket.take().slice(1)).toEqual([REJECT]);
    expect(house.flowRecords.deliveries).toMatchObject([{ flowId: moved.id, how: 'receipted' }]);
  });

  it('D8: the reject that ends a pair covers all its rows, those it moved on from before and after the join', async () => {
    const former = stored({ id: idOf<FlowId>('former'), createdAt: MONDAY_9 - HOUR, revokedAt: MONDAY_9 });
    const { gateway, house } = await joining([former, stored()]);
    expect(gateway.socket.events()).toEqual(['init', 'resource_updated']);
    house.commit(updated('tokens', aToken(), aToken({ expiresAt: MONDAY_9 + DAY })));
    house.commit(deleted('policies', aPolicy()));
    expect(gateway.socket.events()).toEqual(['access_authorization_expiry_updated', 'reject_access']);
    const ids = [former.id, aFlowRecord().id, house.flowRecords.added[0]?.id];
    expect(house.flowRecords.deliveries).toMatchObject(ids.map((flowId) => ({ flowId, how: 'receipted' })));
  });

  it('is told of clients of an unclean epoch until it is proven to have read that', async () => {
    const house = new ChannelHouse();
    house.flowRecords.unclean = [CLIENT];
    const silent = house.connectGateway({}, 'silent');
    silent.socket.answersPings = false;
    await settled();
    expect(authorizations(silent)).toEqual([expect.objectContaining({ client_id: CLIENT, resource_id: NIL_UUID })]);
    expect([silent.socket.barriers, house.flowRecords.told]).toEqual([1, []]);
    silent.socket.pongs();
    expect(house.flowRecords.told).toEqual([GATEWAY]);
  });

  it('that was told before the history was truncated is told again at its next join', async () => {
    const house = new ChannelHouse();
    house.flowRecords.unclean = [CLIENT];
    const silent = house.connectGateway({}, 'silent');
    silent.socket.answersPings = false;
    await settled();
    house.commit(truncated('flows'));
    silent.socket.pongs();
    expect(house.flowRecords.told).toEqual([]);
  });

  it('of two open rows of a pair the newer counts, and the other is closed as replaced', async () => {
    const older = stored({ id: idOf<FlowId>('older'), createdAt: MONDAY_9 - HOUR });
    const { house, gateway } = await joining([older, stored()]);
    expect(authorizations(gateway)).toHaveLength(1);
    expect(house.flowRecords.closings).toMatchObject([{ flowId: older.id, reason: 'replaced' }]);
  });

  it.each([
    ['cut', CUT_BY_HAND],
    ['deleted', DELETED_BY_HAND],
    ['truncated', truncated('flows')],
  ])('a row that is %s while the rows are read is unjustified', async (_what, change) => {
    let read = (): void => undefined;
    const { house, gateway } = await joining([stored()], (h) => {
      h.flowRecords.holdRead = new Promise((resolve) => (read = resolve));
    });
    house.commit(change);
    read();
    await settled();
    expect(gateway.socket.take().slice(1)).toEqual([REJECT]);
  });

  it('S1: a row that was deleted before it could be read is rejected all the same', async () => {
    let read = (): void => undefined;
    const { house, gateway } = await joining([], (h) => {
      h.flowRecords.holdRead = new Promise((resolve) => (read = resolve));
    });
    house.commit(DELETED_BY_HAND);
    read();
    await settled();
    expect(authorizations(gateway)).toEqual([expect.objectContaining({ client_id: CLIENT, resource_id: NIL_UUID })]);
    expect(gateway.socket.take().slice(1)).toEqual([REJECT]);
  });

  it('S1, D8a: of a history truncated before it could be read, the clients are read again and named', async () => {
    let read = (): void => undefined;
    const { house, gateway } = await joining([], (h) => {
      h.flowRecords.holdRead = new Promise((resolve) => (read = resolve));
    });
    house.flowRecords.unclean = [CLIENT]; // as the store has it written when the commit comes
    house.commit(truncated('flows'));
    read();
    await settled();
    expect(authorizations(gateway)).toEqual([expect.objectContaining({ client_id: CLIENT, resource_id: NIL_UUID })]);
    expect(house.flowRecords.reads).toBe(2);
  });

  it('S1, D8a: what was truncated before it joined and is heard of after: the clients are named in another `init`', async () => {
    const { house, gateway } = await joining([], (h) => {
      h.flowRecords.readUpTo = h.store.position + 1_000n; // where the TRUNCATE had committed by then
    });
    gateway.socket.take();
    house.flowRecords.unclean = [CLIENT]; // as the store has it written when the commit comes
    house.commit(truncated('flows'));
    await settled();
    expect(authorizations(gateway)).toEqual([expect.objectContaining({ client_id: CLIENT, resource_id: NIL_UUID })]);
    expect(house.flowRecords.told).toEqual([GATEWAY]);
  });

  it.each([
    ['behind what was heard', 1n, 0, true],
    ['after that was heard, on a branch of lower positions', -1n, -1, true],
    ['before', 0n, 0, false],
  ])('CUT-1: that joined %s is told of the clients of rows that went unheard', async (_when, behind, late, isTold) => {
    const upTo = 5_000n;
    const { house, gateway } = await joining([], (h) => {
      h.flowRecords.readUpTo = upTo + behind;
    });
    gateway.socket.take();
    house.flowRecords.unclean = [CLIENT];
    house.afterGap({ upTo, at: house.clock.now() + late });
    await settled();
    expect(gateway.socket.events()).toEqual(isTold ? ['init'] : []);
    expect(house.flowRecords.told).toEqual(isTold ? [GATEWAY] : []);
  });

  it('S1: truncated once more while it is read who must be told, reads again', async () => {
    const { house, gateway } = await joining([], (h) => {
      h.flowRecords.readUpTo = h.store.position + 1n; // the first, and not the second
    });
    gateway.socket.take();
    house.commit(truncated('flows'));
    await Promise.resolve(); // the reading has begun
    house.flowRecords.unclean = [CLIENT];
    house.commit(truncated('flows'));
    await settled();
    expect(gateway.socket.events()).toEqual(['init']);
  });

  it('is told nothing more when nobody may hold more', async () => {
    const { house, gateway } = await joining([], (h) => {
      h.flowRecords.readUpTo = h.store.position + 1_000n;
    });
    gateway.socket.take();
    house.commit(truncated('flows'));
    await settled();
    expect(gateway.socket.events()).toEqual([]);
  });

  it('ORD-6: while an account is owed a resync nobody goes live: the row may be open that a hand has closed', async () => {
    let read = (): void => undefined;
    const { house, gateway } = await joining([stored()], (h) => {
      h.flowRecords.holdRead = new Promise((resolve) => (read = resolve));
    });
    house.mayGrant = false;
    read();
    await settled();
    expect(gateway.socket.events()).toEqual(['closed 1012']);
  });

  const moved = stored({ id: 'moved on to' as FlowId, createdAt: MONDAY_9 });
  it.each<[string, Partial<StoredFlow>, boolean]>([
    ['closed by a hand', { revokedAt: MONDAY_9, isCutByHand: true }, true],
    ['closed by us', { revokedAt: MONDAY_9 }, false],
    [
      'closed by a hand, which the gateway was told',
      { revokedAt: MONDAY_9, isCutByHand: true, pushedAt: MONDAY_9 },
      false,
    ],
  ])('CUT-1: a pair that moved on from a row %s', async (_how, former, isCut) => {
    const { house, gateway } = await joining([stored(former), moved]);
    expect(gateway.socket.events()).toEqual(isCut ? ['init', 'reject_access'] : ['init', 'resource_updated']);
    expect(house.store.flows.size).toBe(isCut ? 0 : 1);
    const closed = house.flowRecords.closings.filter(({ flowId }) => flowId === moved.id);
    expect(closed.map(({ reason }) => reason)).toEqual(isCut ? ['cut-by-hand'] : []);
  });

  it.each([
    ['an open row', {}, true],
    ['a row that it had closed', { revoked_at: '2026-01-05 09:00:00+00' }, true],
    ['a row that we had closed', { revoked_at: '2026-01-05 09:00:00+00', revoked_reason: 'moved' }, false],
    ['one of which we told', { revoked_at: '2026-01-05 09:00:00+00', pushed_at: '2026-01-05 09:00:00+00' }, false],
  ])('CUT-1: a pair that moved on from %s which a hand deletes while it is read', async (_what, revoked, isCut) => {
    let read = (): void => undefined;
    const { house, gateway } = await joining([moved], (h) => {
      h.flowRecords.holdRead = new Promise((resolve) => (read = resolve));
    });
    house.commit(rawChange('delete', 'flows', { ...rawFlow(aFlowRecord()), ...revoked }, null));
    read();
    await settled();
    expect(house.store.flows.size).toBe(isCut ? 0 : 1);
    expect(gateway.socket.events().includes('reject_access')).toBe(isCut);
  });

  it('D8a: what was read before commits went by unheard is read again', async () => {
    let read = (): void => undefined;
    const { house, gateway } = await joining([stored()], (h) => {
      h.flowRecords.holdRead = new Promise((resolve) => (read = resolve));
    });
    house.gaps = 1;
    house.flowRecords.stored = [stored({ revokedAt: MONDAY_9 })];
    read();
    await settled();
    expect(gateway.socket.take().slice(1)).toEqual([REJECT]);
    expect(house.flowRecords.reads).toBe(2);
  });

  it('S6: judges by the state at the moment of `init`, whatever was committed while it waited', async () => {
    let read = (): void => undefined;
    const { house, gateway } = await joining([stored()], (h) => {
      h.flowRecords.holdRead = new Promise((resolve) => (read = resolve));
    });
    house.commit(deleted('policies', aPolicy()));
    read();
    await settled();
    expect(gateway.socket.take().slice(1)).toEqual([REJECT]);
  });

  it('D19: can be chosen only once its `init` is written', async () => {
    const house = new ChannelHouse();
    let read = (): void => undefined;
    house.flowRecords.holdRead = new Promise((resolve) => (read = resolve));
    const gateway = await house.gateway();
    const client = await house.client();
    client.asksFor();
    expect(client.socket.events()).toEqual(['init', 'flow_creation_failed']);
    read();
    await settled();
    client.asksFor();
    expect(gateway.socket.events()).toEqual(['init', 'authorize_flow']);
  });

  it('D20b: a client that is connected and has no other flow asks again for what its gateway lost', async () => {
    const house = new ChannelHouse();
    const client = await house.client();
    house.flowRecords.stored = [stored({ revokedAt: MONDAY_9 })];
    await house.gateway();
    house.turn();
    expect(client.socket.events()).toEqual(['init', 'resource_deleted', 'resource_created_or_updated']);
  });

  it('a socket that dies of its `init` is not there to be chosen, holds nothing and waits for nothing', async () => {
    const house = new ChannelHouse();
    house.flowRecords.stored = [stored()];
    house.store.connected({ clientId: CLIENT, tokenId: aToken().id, region: null, remoteIp: null, connectedAt: 0 }, 0);
    house.connectGateway({}, 'gateway', 'init');
    await settled();
    expect([...house.presence.gateways(anAccount().id)]).toEqual([]);
    expect([house.store.flows.size, house.clock.pending, house.released]).toEqual([0, 0, 1]);
  });

  it('without its token it is signed out, without its row it is closed', async () => {
    const signedOut = new ChannelHouse();
    signedOut.commit(deleted('tokens', aGatewayToken()));
    expect((await signedOut.gateway()).socket.events()).toEqual(['disconnect', 'closed 1000']);
    const gone = new ChannelHouse();
    gone.commit(deleted('gateways', aGateway()));
    expect((await gone.gateway()).socket.events()).toEqual(['closed 1000']);
  });

  it('that the stream has not shown in time, or while memory is unproven, is closed to come again', async () => {
    const unseen = new ChannelHouse();
    unseen.sawConnect = Promise.resolve(false);
    expect((await unseen.gateway({ mustSeeConnect: true })).socket.events()).toEqual(['closed 1012']);
    const stale = new ChannelHouse();
    stale.mayGrant = false;
    expect((await stale.gateway()).socket.events()).toEqual(['closed 1012']);
  });

  describe('whose device has another socket (D23, S11)', () => {
    it('evicts the older one, and takes over what it held', async () => {
      const { house, gateway, client } = await withFlow();
      house.flowRecords.stored = house.flowRecords.added.map((row) => stored(row));
      const newer = await house.gateway({}, 'newer');
      expect(gateway.socket.events()).toEqual(['closed 1000']);
      expect(authorizations(newer)).toEqual([expect.objectContaining(PAIR)]);
      house.commit(deleted('policies', aPolicy()));
      expect(newer.socket.events()).toEqual(['init', 'resource_updated', 'reject_access']);
      expect(client.socket.closedWith).toBeUndefined();
    });

    it('is itself closed when a newer one was faster', async () => {
      const house = new ChannelHouse();
      const newer = await house.gateway({ upgradeNumber: 9 });
      const older = await house.gateway({ upgradeNumber: 8 }, 'older');
      expect(older.socket.events()).toEqual(['closed 1000']);
      expect(newer.socket.closedWith).toBeUndefined();
    });

    it('S1: knows of what the older one was granted while the newer one was reading', async () => {
      const house = new ChannelHouse();
      const client = await house.client();
      let first = (): void => undefined;
      house.flowRecords.holdRead = new Promise((resolve) => (first = resolve));
      await house.gateway({}, 'older');
      let second = (): void => undefined;
      house.flowRecords.holdRead = new Promise((resolve) => (second = resolve));
      const newer = await house.gateway({}, 'newer');
      first();
      await settled();
      client.asksFor();
      expect(house.heard).toContain('older authorize_flow');
      house.flowRecords.stored = house.flowRecords.added.map((row) => stored(row));
      house.flowRecords.holdRead = Promise.resolve();
      second();
      await settled();
      expect(authorizations(newer)).toEqual([expect.objectContaining(PAIR)]);
    });
  });
});
