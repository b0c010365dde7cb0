import { describe, expect, it } from '@jest/globals';
import type { Change, Commit, RawRow } from '../core/changes/commit.js';
import { changesOf, mustResync } from '../core/changes/commit.js';
import type { AccountId } from '../core/model/ids.js';
import { MalformedWalError } from './malformed-wal-error.js';
import type { AssembledCommit, TransactionPart } from './open-transaction.js';
import { neededColumns } from './stream-tables.js';
import type { StreamTable } from '../core/changes/commit.js';
import { TransactionAssembler } from './transaction-assembler.js';
import type { Relation, WalMessage } from './wal-message.js';
import { XidEpoch } from './xid-epoch.js';

const ONE = 'account-one' as AccountId;
const TWO = 'account-two' as AccountId;
const COMMITTED_AT = Date.UTC(2026, 0, 5, 9);
const ROW_BYTES = 100;

/** A described table; `full` identity has every column in the key, as the server says. */
function tableOf(name: StreamTable, change: { identity?: 'f' | 'd'; without?: string; extra?: string } = {}): Relation {
  const { identity = 'f', without, extra } = change;
  const names = [
    ...neededColumns(name).filter((column) => column !== without),
    ...(extra === undefined ? [] : [extra]),
  ];
  const keys = ['account_id', 'id'];
  const columns = names.map((column) => ({
    name: column,
    isKey: identity === 'f' || keys.includes(column),
    typeOid: 25,
  }));
  return { oid: 16_000 + name.length * 100 + (name.codePointAt(0) ?? 0), namespace: 'public', name, identity, columns };
}

const GROUPS = tableOf('groups');
const TOKENS = tableOf('tokens');
const FLOWS = tableOf('flows');

const group = (accountId: string, id: string): RawRow => ({ account_id: accountId, id, name: `group ${id}` });
const inserted = (relation: Relation, row: RawRow): WalMessage => ({
  kind: 'insert',
  relation,
  new: row,
  unfilled: [],
});
const deleted = (relation: Relation, row: RawRow): WalMessage => ({
  kind: 'delete',
  relation,
  old: row,
  oldIsWhole: true,
});
const updated = (relation: Relation, old: RawRow, row: RawRow): WalMessage => ({
  kind: 'update',
  relation,
  old,
  oldIsWhole: true,
  new: row,
  unfilled: [],
});
const described = (relation: Relation): WalMessage => ({ kind: 'relation', relation });
const truncated = (...relations: Relation[]): WalMessage => ({ kind: 'truncate', relations });

class Assembling {
  readonly unreadable: string[] = [];
  readonly parts: TransactionPart[] = [];
  readonly assembler: TransactionAssembler;
  #lsn = 100n;

  constructor(limits = { maxChanges: 1_000, maxBytes: 1_000_000 }, takesParts = false) {
    const xids = new XidEpoch();
    xids.observe(5n * 2n ** 32n);
    this.assembler = new TransactionAssembler(
      limits,
      xids,
      (table, why) => this.unreadable.push(`${table}: ${why}`),
      takesParts ? (part) => this.parts.push(part) : undefined,
    );
    for (const relation of [GROUPS, TOKENS, FLOWS]) this.assembler.take(described(relation), 10);
  }

  /** One transaction of these messages. */
  commit(...messages: WalMessage[]): AssembledCommit {
    this.begin();
    for (const message of messages) this.assembler.take(message, ROW_BYTES);
    return this.end();
  }

  begin(): void {
    this.assembler.take({ kind: 'begin', commitLsn: this.#lsn, committedAt: COMMITTED_AT, xid32: 7 }, 21);
  }

  end(): AssembledCommit {
    const taken = this.assembler.take({ kind: 'commit', commitLsn: this.#lsn, position: this.#lsn + 10n }, 26);
    this.#lsn += 100n;
    if (taken?.kind !== 'commit') throw new Error('no commit came out');
    return taken.assembled;
  }
}

const brief = (change: Change): string =>
  change.kind === 'truncate'
    ? `${change.seq} truncate ${change.tables.join('+')}`
    : `${change.seq} ${change.kind} ${change.table} ${(change.new ?? change.old)?.['id']}`;
const briefOf = (commit: Commit, account: AccountId): string[] => changesOf(commit, account).map(brief);
const recordedOf = ({ recordable }: AssembledCommit): string[] => recordable.map(({ change }) => brief(change));

describe('TransactionAssembler', () => {
  it('D12: hands on nothing before the commit, then all of it by account, in order, with places from 0', () => {
    const assembling = new Assembling();
    const { commit, recordable } = assembling.commit(
      inserted(GROUPS, group(ONE, 'a')),
      inserted(GROUPS, group(TWO, 'b')),
      deleted(GROUPS, group(ONE, 'a')),
    );
    expect(commit).toMatchObject({
      position: 110n,
      xid: 5n * 2n ** 32n + 7n,
      committedAt: COMMITTED_AT,
      changeCount: 3,
    });
    expect(briefOf(commit, ONE)).toEqual(['0 insert groups a', '2 delete groups a']);
    expect(briefOf(commit, TWO)).toEqual(['1 insert groups b']);
    expect(recordable.map(({ accountId, change }) => [accountId, change.seq])).toEqual([
      [ONE, 0],
      [TWO, 1],
      [ONE, 2],
    ]);
    expect(commit.resync).toEqual(new Set());
  });

  it('takes an account row by its id', () => {
    const accounts = tableOf('accounts');
    const row = { id: ONE, name: 'one', slug: 'one', config: '{}', disabled_at: null };
    const { commit } = new Assembling().commit(described(accounts), inserted(accounts, row));
    expect([...commit.byAccount.keys()]).toEqual([ONE]);
  });

  it('AUTH-1: a row that moves between accounts is a delete in the one and an insert in the other', () => {
    const { commit } = new Assembling().commit(
      updated(GROUPS, group(ONE, 'a'), group(TWO, 'a')),
      inserted(GROUPS, group(TWO, 'b')),
    );
    expect(briefOf(commit, ONE)).toEqual(['0 delete groups a']);
    expect(briefOf(commit, TWO)).toEqual(['1 insert groups a', '2 insert groups b']);
    expect(commit.changeCount).toBe(2);
  });

  it('puts rows of no account aside, and a token that leaves an account in both places', () => {
    const token = (accountId: string | null): RawRow => ({ account_id: accountId, id: 't', kind: 'relay' });
    const { commit } = new Assembling().commit(inserted(TOKENS, token(null)), updated(TOKENS, token(ONE), token(null)));
    expect(commit.global.map(brief)).toEqual(['0 insert tokens t', '2 insert tokens t']);
    expect(briefOf(commit, ONE)).toEqual(['1 delete tokens t']);
    expect(commit.resync).toEqual(new Set());
  });

  it('E8: puts a truncate at its place in every account the commit names, before or after', () => {
    const { commit } = new Assembling().commit(
      inserted(GROUPS, group(ONE, 'a')),
      truncated(GROUPS, FLOWS),
      inserted(GROUPS, group(TWO, 'b')),
    );
    expect(briefOf(commit, ONE)).toEqual(['0 insert groups a', '1 truncate groups+flows']);
    expect(briefOf(commit, TWO)).toEqual(['1 truncate groups+flows', '2 insert groups b']);
    expect(briefOf(commit, 'account-three' as AccountId)).toEqual(['1 truncate groups+flows']);
  });

  const stranger: Relation = { ...GROUPS, oid: 1, name: 'strangers' };
  const elsewhere: Relation = { ...GROUPS, oid: 2, namespace: 'archive' };
  it.each([
    ['inserted by another name', inserted(stranger, group(ONE, 'a'))],
    ['inserted in another schema', inserted(elsewhere, group(ONE, 'b'))],
    ['truncated', truncated(stranger)],
  ])('ORD-6: takes rows of a table it does not know for rows of any of ours: %s', (_how, message) => {
    const assembling = new Assembling();
    const { commit } = assembling.commit(described(stranger), described(elsewhere), message);
    expect([commit.byAccount.size, commit.truncates]).toEqual([0, []]);
    expect([commit.resync, commit.hiddenCuts]).toEqual(['all', 'all']);
    expect(assembling.unreadable).toEqual([
      expect.stringMatching(/(public.strangers|archive.groups): .* none of ours/),
    ]);
  });

  it('E9: keeps messages of the transaction, and hands those outside on at once', () => {
    const assembling = new Assembling();
    const message = { kind: 'message', lsn: 5n, prefix: 'p', content: 'c' } as const;
    expect(assembling.assembler.take({ ...message, transactional: false }, 9)).toMatchObject({ prefix: 'p', lsn: 5n });
    const { commit } = assembling.commit({ ...message, transactional: true });
    expect(commit.messages).toEqual([{ prefix: 'p', content: 'c' }]);
    expect(commit.changeCount).toBe(0);
  });

  it('starts again after a broken connection without what was open', () => {
    const assembling = new Assembling();
    assembling.begin();
    assembling.assembler.take(inserted(GROUPS, group(ONE, 'lost')), ROW_BYTES);
    assembling.assembler.reset();
    const { commit } = assembling.commit(described(GROUPS), inserted(GROUPS, group(ONE, 'a')));
    expect(briefOf(commit, ONE)).toEqual(['0 insert groups a']);
  });

  it('refuses a row, a truncate or a commit outside any transaction, and a transaction inside another', () => {
    const take = (message: WalMessage) => () => new Assembling().assembler.take(message, 1);
    expect(take(inserted(GROUPS, group(ONE, 'a')))).toThrow(MalformedWalError);
    expect(take(truncated(GROUPS))).toThrow(MalformedWalError);
    expect(take({ kind: 'commit', commitLsn: 1n, position: 2n })).toThrow(MalformedWalError);
    const assembling = new Assembling();
    assembling.begin();
    expect(() => {
      assembling.begin();
    }).toThrow(MalformedWalError);
  });
});

describe('a change that cannot be read', () => {
  const keyed = tableOf('groups', { identity: 'd' });
  const keyedTokens = { ...tableOf('tokens', { identity: 'd' }) };
  const idOnly: Relation = {
    ...keyedTokens,
    columns: keyedTokens.columns.map((column) => ({ ...column, isKey: column.name === 'id' })),
  };

  it('D14: makes its account owe a resync and leaves the others their changes', () => {
    const assembling = new Assembling();
    const { commit, recordable } = assembling.commit(
      described(keyed),
      { kind: 'update', relation: keyed, old: null, oldIsWhole: false, new: group(ONE, 'a'), unfilled: ['name'] },
      inserted(keyed, group(TWO, 'b')),
    );
    expect([mustResync(commit, ONE), mustResync(commit, TWO)]).toEqual([true, false]);
    expect(briefOf(commit, TWO)).toEqual(['1 insert groups b']);
    expect(recordable).toHaveLength(2);
    expect(assembling.unreadable).toEqual(['groups: unknown value of name']);
  });

  it('knows that an update without an old row stays in its account when the account is in the key', () => {
    const { commit } = new Assembling().commit(described(keyed), {
      ...{ kind: 'update', relation: keyed, old: null, oldIsWhole: false, new: group(ONE, 'a'), unfilled: [] },
    });
    expect(commit.resync).toEqual(new Set([ONE]));
    expect(commit.byAccount.size).toBe(0);
  });

  it('takes both accounts of a key that changed', () => {
    const old = { account_id: ONE, id: 'a' };
    const { commit } = new Assembling().commit(described(keyed), {
      ...{ kind: 'update', relation: keyed, old, oldIsWhole: false, new: group(TWO, 'a'), unfilled: [] },
    });
    expect(commit.resync).toEqual(new Set([ONE, TWO]));
  });

  it('takes all accounts when the key does not name one, or the row it left is unknown', () => {
    const unsure = { kind: 'update', relation: GROUPS, old: null, oldIsWhole: false, unfilled: [] } as const;
    expect(new Assembling().commit({ ...unsure, new: group(ONE, 'a') }).commit.resync).toBe('all');
    const { commit } = new Assembling().commit(described(idOnly), {
      ...{ kind: 'delete', relation: idOnly, old: { id: 't' }, oldIsWhole: false },
    });
    expect(commit.resync).toBe('all');
  });

  describe('of flows, of which stores hold nothing', () => {
    const keyedFlows = tableOf('flows', { identity: 'd' });
    const flow = (parts: RawRow = {}): RawRow => ({
      ...{ account_id: ONE, id: 'f', expires_at: '2100-01-01 00:00:00+00', revoked_at: null, revoked_position: null },
      ...parts,
    });
    const update = (row: RawRow): WalMessage => ({
      ...{ kind: 'update', relation: keyedFlows, old: null, oldIsWhole: false, new: row, unfilled: [] },
    });
    const key = { account_id: ONE, id: 'f' };

    it.each<[string, WalMessage, boolean]>([
      ['a closing by a hand', update(flow({ revoked_at: '2026-01-05 08:30:00+00' })), true],
      ['a closing of ours', update(flow({ revoked_at: '2026-01-05 08:30:00+00', revoked_position: '0/0' })), false],
      ['a delete', { kind: 'delete', relation: keyedFlows, old: key, oldIsWhole: false }, true],
    ])('CUT-1: %s by its key alone', (_what, message, mayCut) => {
      const { commit } = new Assembling().commit(described(keyedFlows), message);
      const accounts = new Set(mayCut ? [ONE] : []);
      expect([commit.resync, commit.hiddenCuts]).toEqual([accounts, accounts]);
    });

    it('CUT-1: an update that may have left any account', () => {
      const nowhere: Relation = { ...keyedFlows, columns: keyedFlows.columns.map((c) => ({ ...c, isKey: false })) };
      const message = { ...update(flow({ revoked_at: '2026-01-05 08:30:00+00' })), relation: nowhere } as WalMessage;
      expect(new Assembling().commit(described(nowhere), message).commit.hiddenCuts).toBe('all');
    });
  });

  it('D15: a needed column that is gone makes its rows unreadable; when it is back everything is read again, once', () => {
    const assembling = new Assembling();
    const nameless = tableOf('groups', { without: 'name' });
    const first = assembling.commit(described(nameless), inserted(nameless, { account_id: ONE, id: 'a' }));
    expect(first.commit.resync).toEqual(new Set([ONE]));
    expect(assembling.unreadable).toEqual(['groups: missing column name']);
    const back = assembling.commit(described(GROUPS), inserted(GROUPS, group(ONE, 'b')));
    expect(back.commit.resync).toBe('all');
    expect(assembling.commit(inserted(GROUPS, group(ONE, 'c'))).commit.resync).toEqual(new Set());
  });

  it('lets columns it does not need come and go', () => {
    const wider = tableOf('groups', { extra: 'colour' });
    const { commit } = new Assembling().commit(described(wider), inserted(wider, group(ONE, 'a')));
    expect(commit.resync).toEqual(new Set());
    expect(briefOf(commit, ONE)).toEqual(['0 insert groups a']);
  });
});

describe('an oversize transaction', () => {
  const limits = { maxChanges: 3, maxBytes: 1_000_000 };
  const rows = (accountId: string, count: number): WalMessage[] =>
    Array.from({ length: count }, (_, i) => inserted(GROUPS, group(accountId, String(i))));

  it('keeps all rows up to the limit, and past it the accounts alone', () => {
    expect(new Assembling(limits).commit(...rows(ONE, 3)).commit.byAccount.size).toBe(1);
    const { commit, recordable, heldBytes } = new Assembling(limits).commit(...rows(ONE, 3), ...rows(TWO, 1));
    expect(commit.byAccount.size).toBe(0);
    expect(commit.resync).toEqual(new Set([ONE, TWO]));
    expect(commit.changeCount).toBe(4);
    expect([recordable.length, heldBytes]).toEqual([0, 0]);
  });

  it('is bounded by bytes as well', () => {
    const { commit } = new Assembling({ maxChanges: 1_000, maxBytes: 3 * ROW_BYTES }).commit(...rows(ONE, 4));
    expect(commit.byAccount.size).toBe(0);
    expect(commit.resync).toEqual(new Set([ONE]));
  });

  it('D10: gives out what is to be recorded in parts, in order, where anybody takes them', () => {
    const messages = [...rows(ONE, 3), truncated(GROUPS), ...rows(TWO, 1_500)];
    const taking = new Assembling(limits, true);
    const { isLeftOut, recordable } = taking.commit(...messages);
    expect([isLeftOut, recordable]).toEqual([true, []]);
    expect(taking.parts.map(({ changes }) => changes.length)).toEqual([1_000, 504]);
    const given = taking.parts.flatMap(({ changes }) => changes.map(({ change }) => change.seq));
    expect(given).toEqual(Array.from({ length: 1_504 }, (_, seq) => seq));

    const letting = new Assembling(limits).commit(...messages);
    expect([letting.isLeftOut, letting.recordable]).toEqual([true, []]);
  });

  it('D8a: with nothing in it to be recorded is not left out: retention deletes more than is held', () => {
    const expired = { account_id: TWO, id: 'f', expires_at: '2000-01-01 00:00:00+00', revoked_position: null };
    const echoes = Array.from({ length: 5 }, () => deleted(FLOWS, expired));
    expect(new Assembling(limits).commit(...echoes).isLeftOut).toBe(false);
  });

  it('still names truncates, for the accounts that are not read again', () => {
    const { commit } = new Assembling(limits).commit(truncated(GROUPS), ...rows(ONE, 4));
    expect(briefOf(commit, TWO)).toEqual(['0 truncate groups']);
  });

  it.each([
    ['before', [0]],
    ['after', [9]],
    ['before and after', [0, 9]],
  ])('CUT-1: says of which accounts a hand may have cut flows, %s the limit', (_where, places) => {
    const flow = (parts: Readonly<Record<string, string>> = {}): RawRow => ({
      ...{ account_id: TWO, id: 'f', expires_at: '2100-01-01 00:00:00+00', revoked_at: null, revoked_position: null },
      ...parts,
    });
    const byHand = [updated(FLOWS, flow(), flow({ revoked_at: '2026-01-05 08:30:00+00' })), deleted(FLOWS, flow())];
    const ours = [
      inserted(FLOWS, { ...flow(), account_id: ONE }),
      updated(FLOWS, { ...flow(), account_id: ONE }, { ...flow({ revoked_position: '0/0' }), account_id: ONE }),
    ];
    for (const cut of byHand) {
      const messages: WalMessage[] = [...rows(ONE, 8), ...ours];
      for (const place of places) messages.splice(place, 0, cut);
      const { commit } = new Assembling(limits).commit(...messages);
      expect([commit.resync, commit.hiddenCuts]).toEqual([new Set([ONE, TWO]), new Set([TWO])]);
    }
  });

  it('D14: has nobody read again for rows of flows that no hand touched: stores hold none', () => {
    const flow = { account_id: TWO, id: 'f', expires_at: '2000-01-01 00:00:00+00', revoked_position: null };
    const { commit } = new Assembling(limits).commit(...Array.from({ length: 5 }, () => deleted(FLOWS, flow)));
    expect([commit.resync, commit.hiddenCuts]).toEqual([new Set(), new Set()]);
  });

  it('has every account read again when it names more of them than fit, or rows of no account', () => {
    const many = ['a', 'b', 'c', 'd'].flatMap((account) => rows(account, 1));
    expect(new Assembling(limits).commit(...many).commit.resync).toBe('all');
    const token = inserted(TOKENS, { account_id: null, id: 't', kind: 'relay' });
    expect(new Assembling(limits).commit(token, ...rows(ONE, 3)).commit.resync).toBe('all');
    expect(new Assembling(limits).commit(...rows(ONE, 4), token).commit.resync).toBe('all');
  });

  it('is forgotten with its commit', () => {
    const assembling = new Assembling(limits);
    assembling.commit(...rows(ONE, 9));
    expect(assembling.commit(...rows(ONE, 1)).commit.resync).toEqual(new Set());
  });
});

describe('D8a: our own writes to flows coming back', () => {
  const flow = (change: RawRow = {}): RawRow => ({
    ...{ account_id: ONE, id: 'f', expires_at: '2026-01-05 10:00:00+00', revoked_at: null, revoked_position: null },
    ...change,
  });
  const closed = { revoked_at: '2026-01-05 08:59:59+00', revoked_position: '0/0' };

  it('stay in the commit and are not recorded: a closing with a position, the delete of an expired row', () => {
    const expired = flow({ expires_at: '2026-01-05 09:00:00+00' });
    const assembled = new Assembling().commit(updated(FLOWS, flow(), flow(closed)), deleted(FLOWS, expired));
    expect(briefOf(assembled.commit, ONE)).toEqual(['0 update flows f', '1 delete flows f']);
    expect(recordedOf(assembled)).toEqual([]);
  });

  it("are told from an operator's hand: a closing without position, the delete of an unexpired row", () => {
    const assembled = new Assembling().commit(
      updated(FLOWS, flow(), flow({ revoked_at: '2026-01-05 09:00:00+00' })),
      deleted(FLOWS, flow({ expires_at: '2026-01-05 09:00:00.001+00' })),
      deleted(FLOWS, flow({ expires_at: 'infinity' })),
    );
    expect(recordedOf(assembled)).toEqual(['0 update flows f', '1 delete flows f', '2 delete flows f']);
  });
});
