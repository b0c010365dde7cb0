import { beforeEach, describe, expect, it } from '@jest/globals';
import { aFlowRecord } from '../../test/support/builders.js';
import { StoreUnderTest, turns } from '../../test/support/store-under-test.js';
import type { ModelTransaction } from '../../test/support/model-database.js';
import type { Flow } from '../core/authorizer/flow-table.js';
import type { Commit } from '../core/changes/commit.js';
import type { FlowRecord } from '../core/model/flow.js';
import type { AccountId, ConnectionId, FlowId, GatewayId, ResourceId } from '../core/model/ids.js';
import type { AccountHandle } from '../core/ports/account-stores.js';
import type { Cut } from '../core/ports/account-streams.js';
import { CONNECT_MESSAGE } from '../core/ports/connects.js';

const ACCOUNT = 'a0000000-0000-4000-8000-000000000001' as AccountId;
const OTHER = 'a0000000-0000-4000-8000-000000000002' as AccountId;
const GROUP = 'b0000000-0000-4000-8000-000000000001';
const GATEWAY = 'c0000000-0000-4000-8000-000000000001' as GatewayId;
const FLOW = 'd0000000-0000-4000-8000-000000000001';

let test: StoreUnderTest;

beforeEach(async () => {
  test = new StoreUnderTest();
  test.db.run((tx) => {
    for (const id of [ACCOUNT, OTHER]) {
      tx.set('accounts', { id, name: 'a', slug: 'a', config: '{}', disabled_at: null });
    }
    named('as it began')(tx);
  });
  test.streamAll();
  await test.settle();
});

const named =
  (name: string, accountId = ACCOUNT) =>
  (tx: ModelTransaction): ModelTransaction =>
    tx.set('groups', { account_id: accountId, id: GROUP, name });

const nameIn = (handle: AccountHandle): string | undefined => handle.state.row('groups', GROUP)?.name;

async function joined(accountId = ACCOUNT): Promise<AccountHandle> {
  const opening = test.registry.open(accountId);
  await test.answerReads();
  return opening;
}

/** Committed and streamed, and still invisible to snapshots: what a synchronous standby that is away does (E3). */
function streamedTooEarly(write: (tx: ModelTransaction) => unknown): ModelTransaction {
  const tx = test.db.begin();
  write(tx);
  test.db.commit(tx);
  test.streamAll();
  return tx;
}

describe('a join (ORD-2)', () => {
  it('keeps a commit that comes between the start of the join and its snapshot, once', async () => {
    const opening = test.registry.open(ACCOUNT);
    test.db.run(named('meanwhile'));
    test.streamAll();
    await test.answerReads();
    expect(nameIn(await opening)).toBe('meanwhile');
  });

  it('keeps a commit that comes between its snapshot and its rows', async () => {
    const opening = test.registry.open(ACCOUNT);
    test.db.takeSnapshot();
    test.db.run(named('meanwhile'));
    test.streamAll();
    test.db.answer();
    expect(nameIn(await opening)).toBe('meanwhile');
  });

  it('takes from what came meanwhile only what the snapshot lacks: the last of three may still be on its way', async () => {
    const opening = test.registry.open(ACCOUNT);
    for (const name of ['first', 'second', 'third']) test.db.run(named(name));
    test.stream();
    test.db.takeSnapshot();
    test.db.answer();
    const handle = await opening;
    expect(nameIn(handle)).toBe('third');
    test.stream();
    expect(nameIn(handle)).toBe('third');
    test.streamAll();
    expect(nameIn(handle)).toBe('third');
  });

  it('E3: has a commit that was streamed before it began and is not visible yet', async () => {
    const tx = streamedTooEarly(named('invisible'));
    const handle = await joined();
    expect(nameIn(handle)).toBe('invisible');
    test.db.show(tx);
    await test.settle();
    expect(nameIn(handle)).toBe('invisible');
  });

  it('E3: also when all it did was to TRUNCATE', async () => {
    streamedTooEarly((tx) => tx.truncate('groups'));
    expect(nameIn(await joined())).toBeUndefined();
  });

  it('waits for a snapshot in which nothing is missing that the slot never streams', async () => {
    const tx = test.db.begin();
    named('before the slot')(tx);
    test.startSnapshot = { xmax: tx.xid + 1n, running: new Set() };
    const opening = test.registry.open(ACCOUNT);
    test.db.takeSnapshot();
    test.db.answer();
    await turns();
    test.db.show(tx);
    test.clock.advance(10);
    await test.answerReads();
    expect(nameIn(await opening)).toBe('before the slot');
  });

  it('G1: passes over what the snapshot contained and nothing else, by transaction and not by position', async () => {
    const long = test.db.begin();
    test.db.run(named('seen'));
    const handle = await joined();
    named('not seen')(long);
    test.db.commit(long);
    test.stream();
    expect(nameIn(handle)).toBe('seen');
    expect(test.streams.steps).toEqual([]);
    test.stream();
    expect(nameIn(handle)).toBe('not seen');
  });

  it('asks the database nothing while its account is live', async () => {
    await joined();
    await test.registry.open(ACCOUNT);
    expect(test.db.waitingReads).toBe(0);
  });

  it('that comes during another one shares its read', async () => {
    const both = Promise.all([test.registry.open(ACCOUNT), test.registry.open(ACCOUNT)]);
    await turns();
    expect(test.db.waitingReads).toBe(1);
    await test.answerReads();
    const [a, b] = await both;
    expect(a.state).toBe(b.state);
  });

  it('that cannot be read fails for all who wait, and the next one reads again', async () => {
    const waiting = [test.registry.open(ACCOUNT), test.registry.open(ACCOUNT)];
    test.db.fail(new Error('down'));
    expect((await Promise.allSettled(waiting)).map(({ status }) => status)).toEqual(['rejected', 'rejected']);
    expect(nameIn(await joined())).toBe('as it began');
    test.db.run(named('later'));
    test.streamAll();
    expect(nameIn(await joined())).toBe('later');
  });

  it('waits its turn: only so many accounts are read at once, also after one that failed', async () => {
    test = new StoreUnderTest({ hydrationConcurrency: 1 });
    const first = test.registry.open(ACCOUNT);
    const second = test.registry.open(OTHER);
    await turns();
    expect(test.db.waitingReads).toBe(1);
    test.db.fail(new Error('down'));
    await expect(first).rejects.toThrow('down');
    await test.answerReads();
    expect((await second).state).toBeDefined();
  });
});

describe('a store without channels', () => {
  it('STORE-2: is kept for its time, so that a reconnect does not read, and dropped after', async () => {
    (await joined()).release();
    test.clock.advance(59_999);
    const again = await test.registry.open(ACCOUNT);
    test.clock.advance(120_000);
    test.db.run(named('kept up to date'));
    test.streamAll();
    expect(nameIn(again)).toBe('kept up to date');
    again.release();
    test.clock.advance(60_000);
    const opening = test.registry.open(ACCOUNT);
    await turns();
    expect(test.db.waitingReads).toBe(1);
    await test.answerReads();
    expect((await opening).state).not.toBe(again.state);
  });

  it('has its whole time again after each visit', async () => {
    const { state, release } = await joined();
    release();
    test.clock.advance(59_999);
    (await joined()).release();
    test.clock.advance(59_999);
    expect((await joined()).state).toBe(state);
  });

  it('is kept while another channel holds it, however often one lets go', async () => {
    const [one, two] = [await joined(), await joined()];
    one.release();
    one.release();
    test.clock.advance(120_000);
    expect((await test.registry.open(ACCOUNT)).state).toBe(two.state);
  });
});

describe('cuts (D8a)', () => {
  const flow = (parts: Readonly<Record<string, string>> = {}) => ({
    ...{ account_id: ACCOUNT, id: FLOW, gateway_id: GATEWAY, client_id: GROUP, resource_id: GROUP, policy_id: GROUP },
    ...{ membership_id: GROUP, token_id: GROUP, client_remote_ip: null, gateway_remote_ip: null },
    resource_shape: '{"type":"internet","address":null,"ip_stack":null}',
    ...{ created_at: '2026-01-05 08:00:00+00', expires_at: '2026-01-06 08:00:00+00' },
    ...{ revoked_at: null, revoked_position: null },
    ...parts,
  });
  const cuts = () => test.streams.steps.flatMap(({ impacts }) => impacts.gateways.get(GATEWAY)?.cuts ?? []);

  beforeEach(() => {
    test.streams.gateways.add(GATEWAY);
    test.db.run((tx) => tx.set('flows', flow()));
    test.streamAll();
  });

  it('are told although the snapshot contained them: they are events, not rows', async () => {
    test.db.run((tx) => tx.set('flows', flow({ revoked_at: '2026-01-05 08:30:00+00' })));
    await joined();
    test.streamAll();
    expect(cuts()).toMatchObject([{ kind: 'flow', flowId: FLOW, wasClosed: false }]);
  });

  it('of an account that nobody is connected to: a deleted row is put back, so that its gateway hears of it', () => {
    test.db.run((tx) => tx.remove('flows', flow()));
    test.streamAll();
    const record = { id: FLOW, gatewayId: GATEWAY, expiresAt: Date.UTC(2026, 0, 6, 8) };
    const cause = { position: test.streamedTo, committedAt: expect.any(Number) };
    expect(test.putBack).toMatchObject([[record, { cause, isConnected: true }, expect.any(Function)]]);
  });

  it('ACK-2: a deleted row and a truncated history hold the commit back until that is written', () => {
    test.db.run((tx) => tx.remove('flows', flow()));
    test.streamAll();
    expect(test.receipts.receiptedPosition()).toBe(test.streamedTo - 1n);
    test.putBack[0]?.[2]();
    expect(test.receipts.receiptedPosition()).toBeGreaterThan(test.streamedTo);
    test.db.run((tx) => tx.truncate('flows'));
    test.streamAll();
    expect(test.receipts.receiptedPosition()).toBe(test.streamedTo - 1n);
    expect(test.forgets).toEqual([[null, expect.any(Function)]]);
    test.forgets[0]?.[1]();
    expect(test.receipts.receiptedPosition()).toBeGreaterThan(test.streamedTo);
  });

  it('of a gateway that is away: the row says so', () => {
    test.streams.gateways.clear();
    test.db.run((tx) => tx.remove('flows', flow()));
    test.streamAll();
    expect(test.putBack).toMatchObject([[{ id: FLOW }, { isConnected: false }, expect.any(Function)]]);
  });

  it('that were streamed and are not visible yet are named to whoever reads flows, until they are', async () => {
    const handle = await joined();
    const tx = streamedTooEarly((cut) => cut.set('flows', flow({ revoked_at: '2026-01-05 08:30:00+00' })));
    expect(handle.cutsNotYetVisible()).toMatchObject([{ flowId: FLOW }]);
    test.db.show(tx);
    await test.settle();
    expect(handle.cutsNotYetVisible()).toEqual([]);
  });
});

describe('a resync (D14)', () => {
  const unreadable = (tx: ModelTransaction): ModelTransaction => {
    tx.unreadable.add(ACCOUNT);
    return named('unreadable')(tx);
  };

  it('accepts only a snapshot that contains the owed transaction; until then nothing is granted', async () => {
    const handle = await joined();
    expect(handle.mayGrant()).toBe(true);
    const tx = streamedTooEarly(unreadable);
    expect(handle.mayGrant()).toBe(false);
    await test.answerReads();
    expect(handle.mayGrant()).toBe(false);
    test.db.show(tx);
    test.clock.advance(10);
    await test.answerReads();
    expect(handle.mayGrant()).toBe(true);
    expect(nameIn(handle)).toBe('unreadable');
  });

  it('waits for every owed transaction: a newer one may be visible before an older one', async () => {
    const handle = await joined();
    const older = streamedTooEarly(unreadable);
    const newer = streamedTooEarly((tx) => {
      tx.unreadable.add(ACCOUNT);
      tx.set('sites', { account_id: ACCOUNT, id: GROUP, name: 'newer', managed_by: 'account' });
    });
    test.db.show(newer);
    await test.answerReads();
    expect(handle.mayGrant()).toBe(false);
    test.db.show(older);
    test.clock.advance(10);
    await test.answerReads();
    expect(handle.mayGrant()).toBe(true);
    expect(nameIn(handle)).toBe('unreadable');
  });

  it('ACK-2: speaks for the commit that owed it, whatever was applied after', async () => {
    await joined();
    test.streams.gateways.add(GATEWAY);
    const slug = (text: string) => (tx: ModelTransaction) =>
      tx.set('accounts', { id: ACCOUNT, name: 'a', slug: text, config: '{}', disabled_at: null });
    const owing = test.db.run((tx) => {
      tx.unreadable.add(ACCOUNT);
      slug('b')(tx);
    });
    test.db.run(named('after'));
    test.streamAll();
    await test.answerReads();
    const steps = test.streams.steps.filter(({ impacts }) => impacts.gateways.get(GATEWAY)?.slugChanged);
    expect(steps.map(({ step }) => step)).toMatchObject([{ position: owing, committedAt: expect.any(Number) }]);
  });

  it('does not trust a read that began before the stream broke', async () => {
    const handle = await joined();
    test.registry.resyncAll('broken once', 'commits');
    test.db.takeSnapshot();
    // Committed where nobody listened, and never streamed.
    test.db.run(named('missed'));
    test.db.nextCommit();
    test.registry.resyncAll('broken twice', 'commits');
    test.db.answer();
    await turns();
    expect(handle.mayGrant()).toBe(false);
    test.clock.advance(10);
    await test.answerReads();
    expect(nameIn(handle)).toBe('missed');
    expect(handle.mayGrant()).toBe(true);
  });

  it('G3: counts as an interruption until it is paid, and a commit that is too large does not', async () => {
    await joined();
    test.registry.resyncAll('slot lost', 'commits');
    expect(test.registry.reconciling()).toBe(1);
    await test.answerReads();
    expect(test.registry.reconciling()).toBe(0);
    test.db.run(named('huge'));
    const commit = test.db.nextCommit();
    if (!commit) throw new Error('no commit');
    test.registry.accept({ ...commit, byAccount: new Map(), resync: new Set([ACCOUNT]) });
    expect(test.registry.reconciling()).toBe(0);
    await test.answerReads();
  });

  it('is owed by a join under way as well', async () => {
    const opening = test.registry.open(ACCOUNT);
    test.db.takeSnapshot();
    test.db.run(named('missed'));
    test.db.nextCommit();
    test.registry.resyncAll('broken', 'commits');
    test.db.answer();
    const handle = await opening;
    expect(handle.mayGrant()).toBe(false);
    await test.answerReads();
    expect(nameIn(handle)).toBe('missed');
    expect(handle.mayGrant()).toBe(true);
  });

  it('keeps nobody from hearing of a revocation meanwhile, and loses nothing that comes while it reads', async () => {
    const handle = await joined();
    test.registry.resyncAll('broken', 'commits');
    test.db.takeSnapshot();
    test.db.run((tx) => tx.remove('groups', { account_id: ACCOUNT, id: GROUP }));
    test.streamAll();
    expect(nameIn(handle)).toBeUndefined();
    await test.answerReads();
    expect(nameIn(handle)).toBeUndefined();
    expect(handle.mayGrant()).toBe(true);
  });

  it('E3: keeps what was streamed before it and is not visible yet', async () => {
    const handle = await joined();
    streamedTooEarly(named('invisible'));
    test.registry.resyncAll('broken', 'commits');
    await test.answerReads();
    expect(nameIn(handle)).toBe('invisible');
  });

  it('tells the difference as one step', async () => {
    await joined();
    test.streams.gateways.add(GATEWAY);
    test.db.run((tx) => tx.set('accounts', { id: ACCOUNT, name: 'a', slug: 'moved', config: '{}', disabled_at: null }));
    test.db.run((tx) => tx.remove('groups', { account_id: ACCOUNT, id: GROUP }));
    while (test.db.nextCommit());
    test.registry.resyncAll('slot lost', 'commits');
    await test.answerReads();
    expect(test.streams.steps).toHaveLength(1);
    expect(test.streams.steps[0]?.impacts.gateways.get(GATEWAY)).toMatchObject({ slugChanged: true });
  });

  describe('after a gap (CUT-1)', () => {
    const recordOf = (id: string): FlowRecord =>
      aFlowRecord({ id: id as FlowId, gatewayId: GATEWAY, resourceId: id as ResourceId });
    const row = (id: string, revokedReason?: string | null) => (tx: ModelTransaction) =>
      tx.set('flows', {
        ...{ account_id: ACCOUNT, id },
        ...(revokedReason !== undefined && { revoked_at: '2026-01-05 08:30:00+00', revoked_reason: revokedReason }),
      });
    const hold = (handle: AccountHandle, record: FlowRecord): Flow => {
      const { id: flowId, clientId, resourceId, shape, policyId, membershipId, tokenId, expiresAt } = record;
      const grant = { flowId, policyId, membershipId, tokenId, expiresAt, isUnlimited: false };
      return handle.flows.register({ gatewayId: GATEWAY, clientId, resourceId, shape, grant }, record);
    };
    /** What the step that pays tells the gateway. */
    const cutsAfter = async (): Promise<readonly Cut[] | undefined> => {
      test.registry.resyncAll('slot lost', 'commits');
      await test.answerReads();
      return test.streams.steps[0]?.impacts.gateways.get(GATEWAY)?.cuts;
    };
    let handle: AccountHandle;

    beforeEach(async () => {
      handle = await joined();
      test.streams.gateways.add(GATEWAY);
    });

    it('finds what hands did to rows of flows unheard, before anything else is decided, and where the gap begins', async () => {
      const before = test.streamedTo;
      for (const id of ['kept', 'closed', 'deleted', 'moved on']) hold(handle, recordOf(id));
      test.db.run(row('kept'));
      test.db.run(row('closed', null));
      test.db.run(row('moved on', 'moved'));
      while (test.db.nextCommit());
      const cuts = await cutsAfter();
      expect(handle.gaps()).toBe(1);
      expect(cuts).toMatchObject([
        { kind: 'flow', flowId: 'closed', wasClosed: false },
        { kind: 'flow', flowId: 'deleted', wasClosed: false },
        { kind: 'gap', heard: { upTo: before, at: expect.any(Number) } },
      ]);
      expect(test.putBack.map(([record, { isConnected }]) => [record.id, isConnected])).toEqual([
        ['closed', true],
        ['deleted', true],
      ]);
      expect(test.forgets).toEqual([[null, expect.any(Function)]]);
    });

    it('finds the cut of a row that the flow has moved on from since', async () => {
      const flow = hold(handle, recordOf('cut'));
      const { policyId, membershipId, tokenId, expiresAt } = flow.grant;
      handle.flows.regrant(flow, {
        flowId: 'next' as FlowId,
        policyId,
        membershipId,
        tokenId,
        expiresAt,
        isUnlimited: false,
      });
      handle.flows.recorded(flow, { ...recordOf('next'), resourceId: flow.resourceId });
      test.db.run(row('cut', 'cut-by-hand'));
      test.db.run(row('next'));
      while (test.db.nextCommit());
      expect(await cutsAfter()).toMatchObject([{ flowId: 'cut', resourceId: flow.resourceId }, { kind: 'gap' }]);
    });

    describe('of a row that the flow has moved on from', () => {
      beforeEach(() => {
        const flow = hold(handle, recordOf('former'));
        handle.flows.regrant(flow, { ...flow.grant, flowId: 'next' as FlowId });
        const closed = { revoked_at: 'now', revoked_reason: 'moved', revoked_position: '0/0' };
        test.db.run((tx) => tx.set('flows', { account_id: ACCOUNT, id: 'former', revoked_at: null }));
        test.db.run((tx) => tx.set('flows', { account_id: ACCOUNT, id: 'former', ...closed }));
      });

      it('needs nothing once our closing is heard: what a hand did before was heard before', () => {
        expect(handle.flows.records(0)).toHaveLength(1);
        test.streamAll();
        expect(handle.flows.records(0)).toEqual([]);
      });

      it('needs it until it is looked up when the closing is heard behind a gap', async () => {
        test.registry.resyncAll('slot lost', 'commits');
        test.streamAll();
        expect(handle.flows.records(0)).toHaveLength(1);
        await test.answerReads();
        expect(handle.flows.records(0)).toEqual([]);
      });
    });

    it('judges by what was heard before the first of several gaps, also when another branch of history began in between', async () => {
      hold(handle, recordOf('kept'));
      test.db.run(row('kept'));
      while (test.db.nextCommit());
      test.registry.passed(test.db.end);
      const heard = { upTo: test.db.end, at: test.clock.now() };
      test.registry.resyncAll('slot lost', 'commits');
      test.clock.advance(5);
      test.registry.passed(test.db.end + 10n);
      test.registry.resyncAll('failover', 'branch');
      test.registry.resyncAll('slot made', 'commits');
      await test.answerReads(); // of a read that is too old
      test.clock.advance(10);
      await test.answerReads();
      expect(test.streams.steps[0]?.impacts.gateways.get(GATEWAY)?.cuts).toEqual([{ kind: 'gap', heard }]);
    });

    it('goes back to where whoever knows better says that the gap began', async () => {
      const heard = { upTo: 7n, at: 3 };
      test.registry.resyncAll('publications were altered', 'commits', heard);
      await test.answerReads();
      expect(test.streams.steps[0]?.impacts.gateways.get(GATEWAY)?.cuts).toEqual([{ kind: 'gap', heard }]);
    });

    describe('ORD-6: or a commit whose rows were not kept or could not be read', () => {
      const hidden = (hiddenCuts: Commit['hiddenCuts']) => (tx: ModelTransaction) => {
        tx.unreadable.add(ACCOUNT);
        tx.hiddenCuts = hiddenCuts;
      };

      it.each([
        ['the account', new Set([ACCOUNT]), ACCOUNT],
        ['any account', 'all', null],
      ] as const)(
        'that may cut flows of %s: they are looked up, and who is away will be told',
        async (_of, of, told) => {
          for (const id of ['kept', 'cut']) hold(handle, recordOf(id));
          test.db.run(row('kept'));
          test.streamAll();
          test.db.run((tx) => {
            row('cut', null)(tx);
            hidden(of)(tx);
          });
          test.streamAll();
          expect([handle.gaps(), handle.mayGrant()]).toEqual([1, false]);
          expect(test.forgets).toEqual([[told, expect.any(Function)]]);
          expect(test.receipts.receiptedPosition()).toBe(test.streamedTo - 1n);
          await test.answerReads();
          expect(test.streams.steps[0]).toMatchObject({ step: { position: test.streamedTo } });
          expect(test.streams.steps[0]?.impacts.gateways.get(GATEWAY)?.cuts).toMatchObject([
            { kind: 'flow', flowId: 'cut', wasClosed: false },
            { kind: 'gap', heard: { upTo: test.streamedTo - 1n } },
          ]);
          expect(handle.mayGrant()).toBe(true);
        },
      );

      it('that a read contained before it was heard, which looked for no cuts: they are looked up all the same', async () => {
        hold(handle, recordOf('cut'));
        test.db.run(row('cut'));
        test.streamAll();
        test.db.run((tx) => {
          row('cut', null)(tx);
          hidden(new Set([ACCOUNT]))(tx);
        });
        test.registry.resyncAll('the server was restarted', 'nothing');
        await test.answerReads();
        test.streamAll();
        await test.answerReads();
        expect(test.streams.steps[0]?.impacts.gateways.get(GATEWAY)?.cuts).toMatchObject([
          { kind: 'flow', flowId: 'cut' },
          { kind: 'gap' },
        ]);
      });

      it('that may cut flows of another one: nothing is looked up', async () => {
        hold(handle, recordOf('gone'));
        test.db.run(hidden(new Set([OTHER])));
        test.streamAll();
        await test.answerReads();
        expect([handle.gaps(), test.streams.steps]).toEqual([0, []]);
        expect(test.forgets).toEqual([[OTHER, expect.any(Function)]]);
      });
    });

    it('takes no flow for cut that went with its account', async () => {
      hold(handle, recordOf('gone'));
      test.db.run((tx) => tx.remove('accounts', { id: ACCOUNT }));
      while (test.db.nextCommit());
      expect(await cutsAfter()).toMatchObject([{ kind: 'gap' }]);
      expect(test.putBack).toEqual([]);
    });
  });

  it('that no commit was missed by looks for no cuts', async () => {
    const handle = await joined();
    const { clientId, resourceId, shape, id: flowId, ...record } = aFlowRecord({ gatewayId: GATEWAY });
    const grant = { ...record, flowId, isUnlimited: false };
    handle.flows.register({ gatewayId: GATEWAY, clientId, resourceId, shape, grant }, aFlowRecord());
    test.registry.resyncAll('the server was restarted', 'nothing');
    await test.answerReads();
    expect([handle.gaps(), test.streams.steps, test.putBack, test.forgets]).toEqual([0, [], [], []]);
  });

  it('that cannot be completed in its time fails closed, and who comes again reads afresh', async () => {
    const handle = await joined();
    test.registry.resyncAll('broken', 'commits');
    for (let waitedMs = 0; test.streams.failed.length === 0 && waitedMs < 70_000; waitedMs += 1000) {
      await turns();
      test.db.fail(new Error('down'));
      await turns();
      test.clock.advance(1000);
    }
    expect(test.streams.failed).toEqual([ACCOUNT]);
    expect((await joined()).state).not.toBe(handle.state);
  });

  it('on another branch of history forgets positions, transaction ids and what was not visible yet', async () => {
    const lost = streamedTooEarly(named('on the lost branch'));
    const handle = await joined();
    expect(nameIn(handle)).toBe('on the lost branch');
    test.registry.resyncAll('failover', 'branch');
    await test.answerReads();
    expect(nameIn(handle)).toBe('as it began');

    // The new branch gives out the same id again, at a lower position.
    const commit: Commit = {
      ...{ position: 5n, xid: lost.xid, committedAt: 0, global: [], truncates: [], messages: [] },
      ...{ resync: new Set<AccountId>(), hiddenCuts: new Set<AccountId>(), changeCount: 1 },
      byAccount: new Map([
        [
          ACCOUNT,
          [
            {
              ...{ kind: 'update', table: 'groups', seq: 0 },
              ...{ old: null, new: { account_id: ACCOUNT, id: GROUP, name: 'new branch' } },
            },
          ],
        ],
      ]),
    };
    test.registry.accept(commit);
    expect(nameIn(handle)).toBe('new branch');
    expect(handle.position()).toBe(5n);
    expect(test.registry.appliedPosition()).toBe(5n);
  });
});

describe('what may be acknowledged (ACK-1)', () => {
  const settled = () => test.registry.settledPosition();
  const applied = () => test.registry.appliedPosition();

  it('is everything streamed when nothing is outstanding, keepalives included', async () => {
    await test.settle();
    expect([settled(), applied()]).toEqual([test.db.end, test.db.end]);
    test.registry.passed(test.db.end + 500n);
    expect([settled(), applied()]).toEqual([test.db.end + 500n, test.db.end + 500n]);
  });

  it('ends before the oldest commit that is not visible yet, which is applied all the same', async () => {
    const tx = streamedTooEarly(named('invisible'));
    const position = tx.position ?? 0n;
    test.db.run(named('other', OTHER));
    test.streamAll();
    await test.settle();
    expect([settled(), applied()]).toEqual([position - 1n, test.db.end]);
    test.db.show(tx);
    await test.settle();
    expect(settled()).toBe(test.db.end);
  });

  it('ends before what waits for a hydration, of that account alone', async () => {
    const opening = test.registry.open(ACCOUNT);
    test.db.takeSnapshot();
    test.db.run(named('other', OTHER));
    test.streamAll();
    await test.settle();
    expect([settled(), applied()]).toEqual([test.db.end, test.db.end]);
    const waiting = test.db.run(named('waiting'));
    test.streamAll();
    await test.settle();
    expect([settled(), applied()]).toEqual([waiting - 1n, waiting - 1n]);
    test.db.answer();
    await opening;
    await turns();
    expect([settled(), applied()]).toEqual([waiting, waiting]);
  });

  it('ends before the commit that owes a resync until it is paid, whatever was applied after', async () => {
    await joined();
    const owing = test.db.run((tx) => {
      tx.unreadable.add(ACCOUNT);
      named('unreadable')(tx);
    });
    test.db.run((tx) => tx.set('sites', { account_id: ACCOUNT, id: GROUP, name: 'after', managed_by: 'account' }));
    test.streamAll();
    await test.settle();
    expect([settled(), applied()]).toEqual([owing - 1n, owing - 1n]);
    await test.answerReads();
    expect([settled(), applied()]).toEqual([test.db.end, test.db.end]);
  });

  it('ends before a commit that some client view has not shown', async () => {
    await test.settle();
    test.viewBacklog = test.db.end;
    expect([settled(), applied()]).toEqual([test.db.end - 1n, test.db.end - 1n]);
  });

  it('counts the bytes of what it holds, and none when all is settled (D16a)', async () => {
    const tx = streamedTooEarly(named('invisible'));
    expect(test.registry.pendingBytes()).toBeGreaterThan(0);
    test.db.show(tx);
    await test.settle();
    expect(test.registry.pendingBytes()).toBe(0);
  });
});

describe('a commit', () => {
  it('D12: that fails for one account closes that account, and reaches the others', async () => {
    const [ours, theirs] = [await joined(), await joined(OTHER)];
    test.streams.gateways.add(GATEWAY);
    test.streams.onPublish = ({ accountId }) => {
      if (accountId === ACCOUNT) throw new Error('a defect');
    };
    test.db.run((tx) => {
      for (const id of [ACCOUNT, OTHER]) {
        tx.set('accounts', { id, name: 'a', slug: 'moved', config: '{}', disabled_at: null });
      }
    });
    test.streamAll();
    expect(test.streams.failed).toEqual([ACCOUNT]);
    expect(theirs.state.account?.slug).toBe('moved');
    expect((await joined()).state).not.toBe(ours.state);
  });

  it('D14: nothing is granted while the stream is not proven fresh', async () => {
    const handle = await joined();
    test.isFresh = false;
    expect(handle.mayGrant()).toBe(false);
  });
});

describe('the message of a connect (D13)', () => {
  const ID = 'e0000000-0000-4000-8000-000000000001' as ConnectionId;
  const message = (): Commit => ({
    ...{ position: test.db.end + 1n, xid: 1n, committedAt: 0, byAccount: new Map(), global: [], truncates: [] },
    ...{ messages: [{ prefix: CONNECT_MESSAGE, content: ID }], changeCount: 0 },
    ...{ resync: new Set<AccountId>(), hiddenCuts: new Set<AccountId>() },
  });

  it('wakes who waits for it, and is not missed when it was faster', async () => {
    const handle = await joined();
    const timers = test.clock.pending;
    const waiting = handle.sawConnect(ID, 2000);
    test.registry.accept(message());
    expect(await waiting).toBe(true);
    expect(await handle.sawConnect(ID, 2000)).toBe(true);
    expect(test.clock.pending).toBe(timers);
  });

  it('that does not come is waited for no longer than said', async () => {
    const handle = await joined();
    const waiting = handle.sawConnect(ID, 2000);
    test.clock.advance(2000);
    expect(await waiting).toBe(false);
  });
});
