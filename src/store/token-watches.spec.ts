import { beforeEach, describe, expect, it } from '@jest/globals';
import { ACCOUNT, idOf } from '../../test/support/builders.js';
import { SILENT } from '../../test/support/store-under-test.js';
import type { Change, Commit } from '../core/changes/commit.js';
import type { AccountId, TokenId } from '../core/model/ids.js';
import type { TokenNews } from '../core/ports/token-watch.js';
import { TokenWatches } from './token-watches.js';

const OURS = idOf<TokenId>('ours');
const OTHER = idOf<TokenId>('other');
const FOREIGN = idOf<AccountId>('alien');

const gone = (id: TokenId): Change => ({ kind: 'delete', table: 'tokens', seq: 0, old: { id }, new: null });
const made = (id: TokenId): Change => ({ kind: 'insert', table: 'tokens', seq: 1, old: null, new: { id } });
const edited = (id: TokenId): Change => ({ kind: 'update', table: 'tokens', seq: 0, old: { id }, new: { id } });
const EMPTIED = { kind: 'truncate', tables: ['tokens'], seq: 0 } as const;

function aCommit(of: Partial<Commit>): Commit {
  return {
    ...{ position: 1n, xid: 1n, committedAt: 0, byAccount: new Map(), global: [], truncates: [], messages: [] },
    ...{ resync: new Set<AccountId>(), hiddenCuts: new Set<AccountId>(), changeCount: 1 },
    ...of,
  };
}

describe('TokenWatches', () => {
  let unsettled: Commit[];
  let watches: TokenWatches;
  let heard: TokenNews[];

  beforeEach(() => {
    unsettled = [];
    heard = [];
    watches = new TokenWatches(() => unsettled, SILENT);
  });

  const watch = (accountId: AccountId | null = null): (() => void) =>
    watches.watchToken(OURS, accountId, (news) => heard.push(news));

  it('tells of a deletion, in an account and in none', () => {
    watch();
    watches.take(aCommit({ global: [gone(OURS)] }));
    watches.take(aCommit({ byAccount: new Map([[ACCOUNT, [gone(OURS)]]]) }));
    expect(heard).toEqual(['deleted', 'deleted']);
  });

  it('tells of nothing that concerns other tokens or other tables', () => {
    watch();
    const elsewhere: Change = { kind: 'delete', table: 'groups', seq: 0, old: { id: OURS }, new: null };
    watches.take(aCommit({ global: [gone(OTHER), made(OURS)], byAccount: new Map([[ACCOUNT, [elsewhere]]]) }));
    watches.take(aCommit({ truncates: [{ kind: 'truncate', tables: ['groups'], seq: 0 }] }));
    expect(heard).toEqual([]);
  });

  it('a changed row, and one deleted and made again in one commit, is doubtful: nobody is sent away for good', () => {
    watch();
    watches.take(aCommit({ global: [edited(OURS)] }));
    watches.take(aCommit({ global: [gone(OURS), made(OURS)] }));
    expect(heard).toEqual(['doubtful', 'doubtful']);
  });

  it('a TRUNCATE of tokens deletes all', () => {
    watch();
    watches.take(aCommit({ truncates: [EMPTIED] }));
    expect(heard).toEqual(['deleted']);
  });

  it('G3: rows that nobody could read make the tokens of their account doubtful, and of no account when it is everybody', () => {
    watch(ACCOUNT);
    watch(null);
    watches.take(aCommit({ resync: new Set([FOREIGN]) }));
    expect(heard).toEqual([]);
    watches.take(aCommit({ resync: new Set([ACCOUNT]) }));
    expect(heard).toEqual(['doubtful']);
    watches.take(aCommit({ resync: 'all' }));
    expect(heard).toEqual(['doubtful', 'doubtful', 'doubtful']);
  });

  it('a stream that lost its thread makes all doubtful', () => {
    watch();
    watches.doubtAll();
    expect(heard).toEqual(['doubtful']);
  });

  it.each([
    ['a deletion', { global: [gone(OURS)] }],
    ['a TRUNCATE', { truncates: [EMPTIED] }],
    ['rows nobody could read', { resync: 'all' as const }],
  ])('ORD-2, E3: says at once that it is doubtful after %s that a query may not show yet', (_, of) => {
    unsettled = [aCommit({ global: [gone(OTHER)] }), aCommit(of)];
    watch();
    expect(heard).toEqual(['doubtful']);
  });

  it('tells nothing after the watch has ended', () => {
    const end = watch();
    end();
    end();
    watches.take(aCommit({ global: [gone(OURS)] }));
    watches.doubtAll();
    expect(heard).toEqual([]);
  });

  it('a watcher that throws, or leaves, keeps no news from the others', () => {
    watches.watchToken(OURS, null, () => {
      throw new Error('broken');
    });
    const leave = watches.watchToken(OURS, null, () => {
      leave();
    });
    watch();
    watches.take(aCommit({ global: [gone(OURS)] }));
    expect(heard).toEqual(['deleted']);
  });
});
