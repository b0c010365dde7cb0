import { beforeEach, describe, expect, it } from '@jest/globals';
import { ACCOUNT, GROUP, named, nameIn, OTHER, StoreUnderTest, turns } from '../../test/support/store-under-test.js';
import type { Commit } from '../core/changes/commit.js';
import type { AccountId, ConnectionId, GatewayId } from '../core/model/ids.js';
import { CONNECT_MESSAGE } from '../core/ports/connects.js';

const GATEWAY = 'c0000000-0000-4000-8000-000000000001' as GatewayId;
const FLOW = 'd0000000-0000-4000-8000-000000000001';

let test: StoreUnderTest;

beforeEach(async () => {
  test = await StoreUnderTest.ofSmallAccounts();
});

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
    const tx = test.streamedTooEarly(named('invisible'));
    const handle = await test.joined();
    expect(nameIn(handle)).toBe('invisible');
    test.db.show(tx);
    await test.settle();
    expect(nameIn(handle)).toBe('invisible');
  });

  it('E3: also when all it did was to TRUNCATE', async () => {
    test.streamedTooEarly((tx) => tx.truncate('groups'));
    expect(nameIn(await test.joined())).toBeUndefined();
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
    const handle = await test.joined();
    named('not seen')(long);
    test.db.commit(long);
    test.stream();
    expect(nameIn(handle)).toBe('seen');
    expect(test.streams.steps).toEqual([]);
    test.stream();
    expect(nameIn(handle)).toBe('not seen');
  });

  it('asks the database nothing while its account is live', async () => {
    await test.joined();
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
    expect(nameIn(await test.joined())).toBe('as it began');
    test.db.run(named('later'));
    test.streamAll();
    expect(nameIn(await test.joined())).toBe('later');
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
    (await test.joined()).release();
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
    const { state, release } = await test.joined();
    release();
    test.clock.advance(59_999);
    (await test.joined()).release();
    test.clock.advance(59_999);
    expect((await test.joined()).state).toBe(state);
  });

  it('is kept while another channel holds it, however often one lets go', async () => {
    const [one, two] = [await test.joined(), await test.joined()];
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
    await test.joined();
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
    const handle = await test.joined();
    const tx = test.streamedTooEarly((cut) => cut.set('flows', flow({ revoked_at: '2026-01-05 08:30:00+00' })));
    expect(handle.cutsNotYetVisible()).toMatchObject([{ flowId: FLOW }]);
    test.db.show(tx);
    await test.settle();
    expect(handle.cutsNotYetVisible()).toEqual([]);
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
    const tx = test.streamedTooEarly(named('invisible'));
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
    await test.joined();
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
    const tx = test.streamedTooEarly(named('invisible'));
    expect(test.registry.pendingBytes()).toBeGreaterThan(0);
    test.db.show(tx);
    await test.settle();
    expect(test.registry.pendingBytes()).toBe(0);
  });
});

describe('a commit', () => {
  it('D12: that fails for one account closes that account, and reaches the others', async () => {
    const [ours, theirs] = [await test.joined(), await test.joined(OTHER)];
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
    expect((await test.joined()).state).not.toBe(ours.state);
  });

  it('D14: nothing is granted while the stream is not proven fresh', async () => {
    const handle = await test.joined();
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
    const handle = await test.joined();
    const timers = test.clock.pending;
    const waiting = handle.sawConnect(ID, 2000);
    test.registry.accept(message());
    expect(await waiting).toBe(true);
    expect(await handle.sawConnect(ID, 2000)).toBe(true);
    expect(test.clock.pending).toBe(timers);
  });

  it('that does not come is waited for no longer than said', async () => {
    const handle = await test.joined();
    const waiting = handle.sawConnect(ID, 2000);
    test.clock.advance(2000);
    expect(await waiting).toBe(false);
  });
});
