import { beforeEach, describe, expect, it } from '@jest/globals';
import { aFlowRecord } from '../../test/support/builders.js';
import type { ModelTransaction } from '../../test/support/model-database.js';
import { ACCOUNT, GROUP, named, nameIn, OTHER, StoreUnderTest, turns } from '../../test/support/store-under-test.js';
import type { Flow } from '../core/authorizer/flow-table.js';
import type { Commit } from '../core/changes/commit.js';
import type { FlowRecord } from '../core/model/flow.js';
import type { AccountId, FlowId, GatewayId, ResourceId } from '../core/model/ids.js';
import type { AccountHandle } from '../core/ports/account-stores.js';
import type { Cut } from '../core/ports/account-streams.js';

const GATEWAY = 'c0000000-0000-4000-8000-000000000001' as GatewayId;

let test: StoreUnderTest;

beforeEach(async () => {
  test = await StoreUnderTest.ofSmallAccounts();
});

describe('a resync (D14)', () => {
  const unreadable = (tx: ModelTransaction): ModelTransaction => {
    tx.unreadable.add(ACCOUNT);
    return named('unreadable')(tx);
  };

  it('accepts only a snapshot that contains the owed transaction; until then nothing is granted', async () => {
    const handle = await test.joined();
    expect(handle.mayGrant()).toBe(true);
    const tx = test.streamedTooEarly(unreadable);
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
    const handle = await test.joined();
    const older = test.streamedTooEarly(unreadable);
    const newer = test.streamedTooEarly((tx) => {
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
    await test.joined();
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
    const handle = await test.joined();
    test.registry.resyncAll('broken once', 'commits');
    await turns();
    expect(test.db.takeSnapshot()).toBe(true);
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
    await test.joined();
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
    const handle = await test.joined();
    test.registry.resyncAll('broken', 'commits');
    await turns();
    expect(test.db.takeSnapshot()).toBe(true);
    test.db.run((tx) => tx.remove('groups', { account_id: ACCOUNT, id: GROUP }));
    test.streamAll();
    expect(nameIn(handle)).toBeUndefined();
    await test.answerReads();
    expect(nameIn(handle)).toBeUndefined();
    expect(handle.mayGrant()).toBe(true);
  });

  it('E3: keeps what was streamed before it and is not visible yet', async () => {
    const handle = await test.joined();
    test.streamedTooEarly(named('invisible'));
    test.registry.resyncAll('broken', 'commits');
    await test.answerReads();
    expect(nameIn(handle)).toBe('invisible');
  });

  it('tells the difference as one step', async () => {
    await test.joined();
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
      handle = await test.joined();
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

    it('goes back to the earlier of two gaps, whichever is noticed first', async () => {
      test.registry.resyncAll('slot lost', 'commits', { upTo: 9n, at: 2 });
      test.registry.resyncAll('a publication was altered', 'commits', { upTo: 7n, at: 3 });
      await test.answerReads();
      test.clock.advance(10);
      await test.answerReads();
      expect(test.streams.steps[0]?.impacts.gateways.get(GATEWAY)?.cuts).toEqual([
        { kind: 'gap', heard: { upTo: 7n, at: 2 } },
      ]);
    });

    it('waits for the rows of flows that are on their way to the database, and does not wait for ever', async () => {
      const flow = hold(handle, recordOf('kept'));
      handle.flows.regrant(flow, { ...flow.grant, flowId: 'on its way' as FlowId });
      test.db.run(row('on its way', 'cut-by-hand'));
      let written = (): void => undefined;
      test.flush = () => new Promise((done) => (written = done));
      test.registry.resyncAll('slot lost', 'commits');
      await test.answerReads();
      expect(test.streams.steps).toEqual([]);
      test.clock.advance(1_000);
      await turns();
      test.clock.advance(10); // it is tried again
      await turns();
      handle.flows.recorded(flow, { ...recordOf('on its way'), resourceId: flow.resourceId });
      written();
      await test.answerReads();
      expect(test.streams.steps[0]?.impacts.gateways.get(GATEWAY)?.cuts).toMatchObject([
        { flowId: 'kept' },
        { flowId: 'on its way' },
        { kind: 'gap' },
      ]);
    });

    it('goes back to where whoever knows better says that the gap began', async () => {
      const heard = { upTo: 7n, at: 3 };
      test.registry.resyncAll('a publication was altered', 'commits', heard);
      await test.answerReads();
      expect(test.streams.steps[0]?.impacts.gateways.get(GATEWAY)?.cuts).toEqual([{ kind: 'gap', heard }]);
    });

    describe('ORD-6: or a commit whose rows were not kept or could not be read', () => {
      const hidden = (hiddenCuts: Commit['hiddenCuts']) => (tx: ModelTransaction) => {
        for (const accountId of [ACCOUNT, OTHER]) tx.unreadable.add(accountId);
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
          const at = test.streamedTo;
          expect(test.streams.steps[0]).toMatchObject({ step: { position: at } });
          expect(test.putBack).toMatchObject([[{ id: 'cut' }, { cause: { position: at } }, expect.any(Function)]]);
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

      it('that a read under way contains: only one begun after it looks up what the account holds', async () => {
        hold(handle, recordOf('cut'));
        test.db.run(row('cut'));
        test.streamAll();
        test.registry.resyncAll('the server was restarted', 'nothing');
        await turns();
        test.db.run((tx) => {
          row('cut', null)(tx);
          hidden(new Set([ACCOUNT]))(tx);
        });
        test.db.takeSnapshot();
        test.streamAll();
        test.db.answer();
        await turns();
        expect([test.streams.steps, handle.mayGrant()]).toEqual([[], false]);
        await test.answerReads();
        expect(test.streams.steps[0]?.impacts.gateways.get(GATEWAY)?.cuts).toMatchObject([
          { kind: 'flow', flowId: 'cut' },
          { kind: 'gap' },
        ]);
        expect(handle.mayGrant()).toBe(true);
      });

      it('that cuts the row of a flow which moves on before the read under way is merged: the next one still asks for it', async () => {
        const flow = hold(handle, recordOf('cut'));
        test.db.run(row('cut'));
        test.streamAll();
        test.registry.resyncAll('slot lost', 'commits');
        await turns();
        expect(test.db.takeSnapshot()).toBe(true);
        test.db.run((tx) => {
          row('cut', null)(tx);
          hidden(new Set([ACCOUNT]))(tx);
        });
        test.streamAll();
        handle.flows.regrant(flow, { ...flow.grant, flowId: 'next' as FlowId });
        test.db.answer();
        await test.answerReads();
        expect(test.streams.steps.at(-1)?.impacts.gateways.get(GATEWAY)?.cuts).toMatchObject([
          { kind: 'flow', flowId: 'cut' },
          { kind: 'gap' },
        ]);
      });

      it('heard while a read fails: the next one waits for the rows on their way as well', async () => {
        const flow = hold(handle, recordOf('former'));
        test.db.run(row('former'));
        test.db.run(row('on its way'));
        test.streamAll();
        handle.flows.regrant(flow, { ...flow.grant, flowId: 'on its way' as FlowId });
        test.flush = async () => {
          handle.flows.recorded(flow, { ...recordOf('on its way'), resourceId: flow.resourceId });
        };
        test.registry.resyncAll('the server was restarted', 'nothing');
        await turns();
        test.db.run((tx) => {
          row('on its way', null)(tx);
          hidden(new Set([ACCOUNT]))(tx);
        });
        test.streamAll();
        test.db.fail(new Error('down'));
        await turns();
        test.clock.advance(10);
        await test.answerReads();
        expect(test.streams.steps[0]?.impacts.gateways.get(GATEWAY)?.cuts).toMatchObject([
          { kind: 'flow', flowId: 'on its way' },
          { kind: 'gap' },
        ]);
      });

      it('that never end: each is looked up, though no read is the last', async () => {
        const ids = ['first', 'second', 'third'];
        for (const id of ids) hold(handle, recordOf(id));
        for (const id of ids) test.db.run(row(id));
        test.streamAll();
        const hide = (id?: string) => {
          test.db.run((tx) => {
            if (id !== undefined) row(id, null)(tx);
            hidden(new Set([ACCOUNT]))(tx);
          });
          test.streamAll();
        };
        const cuts = () => test.streams.steps.flatMap(({ impacts }) => impacts.gateways.get(GATEWAY)?.cuts ?? []);
        hide('first');
        for (const next of ['second', 'third', undefined]) {
          await turns();
          test.db.takeSnapshot();
          hide(next); // one more, before the rows arrive
          test.db.answer();
        }
        await turns();
        const found = cuts().flatMap((cut) => (cut.kind === 'flow' ? cut.flowId : []));
        expect(ids.filter((id) => found.includes(id as FlowId))).toEqual(ids);
        expect(handle.mayGrant()).toBe(false);
      });

      it('that a read under way is not to pay, and another branch of history begins: the gap still begins before it', async () => {
        hold(handle, recordOf('kept'));
        test.db.run(row('kept'));
        test.streamAll();
        test.registry.resyncAll('the server was restarted', 'nothing');
        await turns();
        test.db.run(hidden(new Set([ACCOUNT])));
        test.streamAll();
        const heard = { upTo: test.streamedTo - 1n, at: test.clock.now() };
        test.registry.resyncAll('failover', 'branch', { upTo: test.streamedTo + 5n, at: test.clock.now() + 5 });
        for (let reads = 0; reads < 2; reads += 1) {
          await test.answerReads();
          test.clock.advance(10);
        }
        await test.answerReads();
        expect(test.streams.steps[0]?.impacts.gateways.get(GATEWAY)?.cuts).toEqual([{ kind: 'gap', heard }]);
      });

      it('that are very many: the history counts as gone for all', () => {
        const many = Array.from({ length: 101 }, (_, n) => `account ${n}` as AccountId);
        test.db.run(hidden(new Set(many)));
        test.streamAll();
        expect(test.forgets).toEqual([[null, expect.any(Function)]]);
      });

      it('that kept no row at all is in the ring all the same: who opens before it is visible knows of it', async () => {
        const tx = test.streamedTooEarly(hidden('all'));
        const { mayGrant } = await test.joined(OTHER);
        expect([mayGrant(), test.registry.settledPosition() < test.streamedTo]).toEqual([false, true]);
        test.db.show(tx);
        test.clock.advance(250);
        await test.answerReads();
        test.clock.advance(10);
        await test.answerReads();
        expect(mayGrant()).toBe(true);
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
    const handle = await test.joined();
    const { clientId, resourceId, shape, id: flowId, ...record } = aFlowRecord({ gatewayId: GATEWAY });
    const grant = { ...record, flowId, isUnlimited: false };
    handle.flows.register({ gatewayId: GATEWAY, clientId, resourceId, shape, grant }, aFlowRecord());
    test.registry.resyncAll('the server was restarted', 'nothing');
    await test.answerReads();
    expect([handle.gaps(), test.streams.steps, test.putBack, test.forgets]).toEqual([0, [], [], []]);
  });

  it('that cannot be completed in its time fails closed, and who comes again reads afresh', async () => {
    const handle = await test.joined();
    test.registry.resyncAll('broken', 'commits');
    for (let waitedMs = 0; test.streams.failed.length === 0 && waitedMs < 70_000; waitedMs += 1000) {
      await turns();
      test.db.fail(new Error('down'));
      await turns();
      test.clock.advance(1000);
    }
    expect(test.streams.failed).toEqual([ACCOUNT]);
    expect((await test.joined()).state).not.toBe(handle.state);
  });

  it('on another branch of history forgets positions, transaction ids and what was not visible yet', async () => {
    const lost = test.streamedTooEarly(named('on the lost branch'));
    const handle = await test.joined();
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
