import { beforeEach, describe, expect, it, jest } from '@jest/globals';
import { ACCOUNT, GROUP, named, nameIn, OTHER, StoreUnderTest, turns } from '../../test/support/store-under-test.js';
import type { GatewayId } from '../core/model/ids.js';
import type { AccountHandle } from '../core/ports/account-stores.js';

const INTERVAL_MS = 60_000;

const log = { error: jest.fn(), warn: jest.fn(), info: jest.fn(), debug: jest.fn() };
let test: StoreUnderTest;

beforeEach(async () => {
  jest.clearAllMocks();
  test = await StoreUnderTest.ofSmallAccounts({ auditIntervalMs: INTERVAL_MS }, { log });
});

/** The pause is over: an audit has asked for its read. */
async function auditBegins(): Promise<void> {
  test.clock.advance(INTERVAL_MS);
  await turns();
  expect(test.db.waitingReads).toBe(1);
}

/** The stream has nothing more before the end of the log. */
async function streamIsUpToDate(): Promise<void> {
  test.streamAll();
  test.registry.passed(test.db.end);
  await turns();
}

/** As a defect of ours would leave it. */
const corrupt = (handle: AccountHandle, name: string | undefined): void => {
  const old = { account_id: ACCOUNT, id: GROUP, name: nameIn(handle) ?? '' };
  const now = name === undefined ? null : { account_id: ACCOUNT, id: GROUP, name };
  handle.state.apply([{ kind: now ? 'update' : 'delete', table: 'groups', seq: 0, old, new: now }]);
};

describe('the drift audit (STORE-4)', () => {
  it('finds nothing in a store that is as the database, and tells nobody anything', async () => {
    await test.joined();
    await auditBegins();
    await test.answerReads();
    await streamIsUpToDate();
    expect([test.audits, test.drift]).toEqual([['equal'], []]);
    expect(test.streams.steps).toEqual([]);
    expect(log.error).not.toHaveBeenCalled();
  });

  it('does not take a commit that the read shows and the stream has not brought for drift', async () => {
    const handle = await test.joined();
    await auditBegins();
    test.db.run(named('on its way'));
    await test.answerReads();
    expect(test.audits).toEqual([]);
    await streamIsUpToDate();
    expect(nameIn(handle)).toBe('on its way');
    expect([test.audits, test.drift]).toEqual([['equal'], []]);
  });

  it('E3: nor one that the stream has brought and the read does not show, begun before the audit or in it', async () => {
    await test.joined();
    const early = test.db.begin();
    named('invisible')(early);
    test.db.commit(early);
    test.streamAll();
    await auditBegins();
    const late = test.db.begin();
    late.set('groups', { account_id: ACCOUNT, id: 'b0000000-0000-4000-8000-000000000002', name: 'invisible too' });
    test.db.commit(late);
    await test.answerReads();
    await streamIsUpToDate();
    expect([test.audits, test.drift]).toEqual([['equal'], []]);
  });

  it('nor one that comes after the read and before the stream has come up to it', async () => {
    const handle = await test.joined();
    await auditBegins();
    test.db.run(named('seen'));
    await test.answerReads();
    test.db.run(named('later'));
    await streamIsUpToDate();
    expect(nameIn(handle)).toBe('later');
    expect([test.audits, test.drift]).toEqual([['equal'], []]);
  });

  it.each([
    ['while it reads', async () => undefined],
    [
      'after it',
      async () => {
        await test.answerReads();
        await streamIsUpToDate();
      },
    ],
  ])(
    'D14: a commit that nobody can read and that comes %s has the account read again as ever',
    async (_when, passes) => {
      const handle = await test.joined();
      await auditBegins();
      await passes();
      const tx = test.streamedTooEarly((change) => {
        named('unreadable')(change);
        change.unreadable.add(ACCOUNT);
      });
      expect([handle.mayGrant(), test.registry.settledPosition() < test.streamedTo]).toEqual([false, true]);
      test.db.show(tx);
      await test.answerReads();
      test.clock.advance(10);
      await test.answerReads();
      expect([handle.mayGrant(), nameIn(handle), test.drift]).toEqual([true, 'unreadable', []]);
    },
  );

  it('counts what differs by table, names the row without its values, repairs it and pushes the difference', async () => {
    const handle = await test.joined();
    test.streams.gateways.add('c0000000-0000-4000-8000-000000000001' as GatewayId);
    corrupt(handle, 'a defect');
    await auditBegins();
    await test.answerReads();
    await streamIsUpToDate();
    expect([test.audits, test.drift]).toEqual([['drifted'], [['groups', 1]]]);
    expect(nameIn(handle)).toBe('as it began');
    expect(log.error.mock.calls).toEqual([
      ['store.drift', { accountId: ACCOUNT, count: 1, rows: [`groups/${GROUP}`] }],
    ]);
    await auditBegins();
    await test.answerReads();
    await streamIsUpToDate();
    expect(test.audits).toEqual(['drifted', 'equal']);
  });

  it('also finds the row that is missing and the one that should be gone', async () => {
    const handle = await test.joined();
    corrupt(handle, undefined);
    await auditBegins();
    await test.answerReads();
    await streamIsUpToDate();
    expect(nameIn(handle)).toBe('as it began');
    test.db.run((tx) => tx.remove('groups', { account_id: ACCOUNT, id: GROUP }));
    await streamIsUpToDate();
    expect(nameIn(handle)).toBeUndefined();
    corrupt(handle, 'back from the dead');
    await auditBegins();
    await test.answerReads();
    await streamIsUpToDate();
    expect(nameIn(handle)).toBeUndefined();
    expect(test.drift).toEqual([
      ['groups', 1],
      ['groups', 1],
    ]);
  });

  it('gives way to a resync that becomes owed, in either half, and keeps nothing from being granted', async () => {
    const handle = await test.joined();
    await auditBegins();
    expect(handle.mayGrant()).toBe(true);
    test.registry.resyncAll('broken', 'commits');
    expect(test.audits).toEqual(['abandoned']);
    await test.answerReads();
    expect(handle.mayGrant()).toBe(true);

    await auditBegins();
    test.db.run(named('on its way'));
    await test.answerReads();
    test.registry.resyncAll('broken again', 'commits');
    await test.answerReads();
    await streamIsUpToDate();
    expect(test.audits).toEqual(['abandoned', 'abandoned']);
    expect([nameIn(handle), handle.mayGrant(), test.drift]).toEqual(['on its way', true, []]);
  });

  it('is given up when the read fails or the stream does not come up to it, and tried again', async () => {
    const handle = await test.joined();
    corrupt(handle, 'a defect');
    await auditBegins();
    test.db.fail(new Error('no connection'));
    await turns();
    expect(test.audits).toEqual(['abandoned']);
    await auditBegins();
    test.db.run(named('never streamed in time'));
    await test.answerReads();
    test.clock.advance(30_000);
    await turns();
    expect(test.audits).toEqual(['abandoned', 'abandoned']);
    await streamIsUpToDate();
    corrupt(handle, 'a defect');
    await auditBegins();
    await test.answerReads();
    await streamIsUpToDate();
    expect([test.audits.at(-1), nameIn(handle)]).toEqual(['drifted', 'never streamed in time']);
  });

  it('takes the stores in turn, one at a time, each about once in the interval', async () => {
    await test.joined(ACCOUNT);
    await test.joined(OTHER);
    const reads = jest.spyOn(test.db, 'readAccount');
    for (let n = 0; n < 10; n += 1) {
      test.clock.advance(INTERVAL_MS / 2);
      await turns();
      expect(test.db.waitingReads).toBeLessThanOrEqual(1);
      await test.answerReads();
      await streamIsUpToDate();
    }
    const audited = reads.mock.calls.map(([accountId]) => accountId);
    expect(audited.length).toBe(9); // the first pause began with one store
    audited.forEach((accountId, n) => {
      if (n > 0) expect(accountId).not.toBe(audited[n - 1]);
    });
  });

  it('leaves no timer behind when nobody is connected, and begins again with the next', async () => {
    const handle = await test.joined();
    await auditBegins();
    await test.answerReads();
    await streamIsUpToDate();
    handle.release();
    test.clock.advance(60_000);
    await turns();
    await test.answerReads();
    test.clock.advance(10 * INTERVAL_MS);
    await turns();
    expect([test.db.waitingReads, test.clock.pending]).toEqual([0, 0]);
    await test.joined();
    await auditBegins();
  });

  it('lets the event loop go on while it compares a large account, and misses nothing that commits meanwhile', async () => {
    const turnsGiven: (() => void)[] = [];
    let elapsedMs = 0;
    const scheduler = {
      nextTurn: (task: () => void) => void turnsGiven.push(task),
      elapsedMs: () => (elapsedMs += 1),
    };
    const groupId = (n: number): string => `b0000000-0000-4000-8001-${String(n).padStart(12, '0')}`;
    const large = new StoreUnderTest({ auditIntervalMs: INTERVAL_MS }, { log, scheduler });
    large.db.run((tx) => {
      tx.set('accounts', { id: ACCOUNT, name: 'a', slug: 'a', config: '{}', disabled_at: null });
      for (let n = 0; n < 5_000; n += 1) tx.set('groups', { account_id: ACCOUNT, id: groupId(n), name: 'g' });
    });
    large.streamAll();
    const opening = large.registry.open(ACCOUNT);
    await large.answerReads();
    const handle = await opening;
    for (const isSound of [true, false]) {
      if (!isSound) handle.state.apply([{ kind: 'truncate', tables: ['groups'], seq: 0 }]);
      large.clock.advance(INTERVAL_MS);
      await turns();
      large.db.takeSnapshot();
      large.db.answer();
      await turns();
      let given = 0;
      for (; turnsGiven.length > 0; given += 1) {
        if (isSound) {
          large.db.run((tx) => tx.set('groups', { account_id: ACCOUNT, id: groupId(given * 37), name: 'meanwhile' }));
          large.db.run((tx) => tx.remove('groups', { account_id: ACCOUNT, id: groupId(given * 41 + 1) }));
        }
        large.streamAll();
        large.registry.passed(large.db.end);
        turnsGiven.shift()?.();
        await turns();
      }
      if (isSound) expect(given).toBeGreaterThan(20);
      else expect(handle.state.count('groups')).toBeGreaterThan(4_000);
    }
    expect([large.audits, large.drift]).toEqual([['equal', 'drifted'], [['groups', expect.any(Number)]]]);
  });

  it('is off with an interval of 0', async () => {
    test = new StoreUnderTest({ auditIntervalMs: 0 });
    const opening = test.registry.open(ACCOUNT);
    await test.answerReads();
    await opening;
    test.clock.advance(86_400_000);
    await turns();
    expect(test.db.waitingReads).toBe(0);
  });
});
