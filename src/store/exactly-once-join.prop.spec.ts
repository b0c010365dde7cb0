/**
 * G1 and G2 against all orders of events that PostgreSQL can produce: transactions that overlap, are streamed before they
 * are visible or long after, and joins whose snapshot is taken and answered at any moment in between.
 */
import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { turns, StoreUnderTest } from '../../test/support/store-under-test.js';
import type { ModelTransaction } from '../../test/support/model-database.js';
import type { AccountId } from '../core/model/ids.js';
import type { AccountHandle } from '../core/ports/account-stores.js';
import type { AccountSnapshot, HydrationReader } from '../core/ports/hydration-reader.js';

const ACCOUNT = 'a0000000-0000-4000-8000-000000000001' as AccountId;
/** Each pair is two rows that every transaction changes together. */
const PAIRS = [0, 1, 2];
const IDLE_MS = 500;

type Event =
  | { readonly kind: 'begin'; readonly pairs: readonly number[]; readonly how: 'set' | 'remove' | 'unreadable' }
  | { readonly kind: 'commit' | 'show'; readonly which: number }
  | { readonly kind: 'stream' | 'settle' | 'join' | 'snapshot' | 'answer' | 'leave' | 'resync' };

const begin: fc.Arbitrary<Event> = fc.record({
  kind: fc.constant('begin' as const),
  pairs: fc.uniqueArray(fc.constantFrom(...PAIRS), { minLength: 1 }),
  how: fc.constantFrom('set' as const, 'set', 'set', 'remove', 'unreadable'),
});
const finish: fc.Arbitrary<Event> = fc.record({ kind: fc.constantFrom('commit' as const, 'show'), which: fc.nat(2) });
const other: fc.Arbitrary<Event> = fc.record({
  kind: fc.constantFrom('stream' as const, 'stream', 'snapshot', 'answer', 'join', 'settle', 'leave', 'resync'),
});
/** Sixty and more, since a wrong join takes ten events in the right order. */
const history = fc.array(fc.oneof(begin, finish, finish, other, other), { minLength: 60, maxLength: 150, size: 'max' });

describe('a join at any moment', () => {
  it('G1, G2: loses nothing, shows no half transaction and no older state', async () => {
    await fc.assert(
      fc.asyncProperty(history, (events) => replay(events, new Run())),
      { numRuns: 300 },
    );
  });

  it('ORD-2: the same check fails when the account is read before it is subscribed', async () => {
    const details = await fc.check(
      fc.asyncProperty(history, (events) => replay(events, new ReadsFirst())),
      { numRuns: 2000 },
    );
    expect(details.failed).toBe(true);
    expect(details.errorInstance).toBeInstanceOf(StoreError);
  });
});

/** What a join did wrong; any other error is the test's own. */
class StoreError extends Error {}

async function replay(events: readonly Event[], run: Run): Promise<void> {
  for (const item of events) await run.play(item);
  await run.finish();
}

class Run {
  readonly test: StoreUnderTest;
  protected handle: AccountHandle | undefined;
  protected isJoining = false;
  readonly #open: ModelTransaction[] = [];
  readonly #committed: ModelTransaction[] = [];
  #version = 0;
  readonly #seen = new Map<number, number>();

  constructor(reader?: HydrationReader) {
    this.test = new StoreUnderTest({ idleTtlMs: IDLE_MS }, reader ? { reader } : {});
    this.test.db.run((tx) => {
      tx.set('accounts', { id: ACCOUNT, name: 'a', slug: 'a', config: '{}', disabled_at: null });
      for (const pair of PAIRS) write(tx, pair, 0);
    });
  }

  async play(item: Event): Promise<void> {
    const { db, registry } = this.test;
    switch (item.kind) {
      case 'begin':
        this.#begin(item.pairs, item.how);
        break;
      case 'commit': {
        const tx = take(this.#open, item.which);
        if (!tx) return;
        db.commit(tx);
        this.#committed.push(tx);
        break;
      }
      case 'show': {
        const tx = take(this.#committed, item.which);
        if (tx) db.show(tx);
        break;
      }
      case 'stream':
        this.test.stream();
        break;
      case 'settle':
        await this.test.settle();
        break;
      case 'join':
        await this.join();
        break;
      case 'snapshot':
        db.takeSnapshot();
        break;
      case 'answer':
        db.answer();
        await turns();
        break;
      case 'leave':
        this.#leave();
        break;
      case 'resync':
        registry.resyncAll('test', 'commits');
        await turns(); // the read has begun
        break;
    }
    this.#look();
  }

  async finish(): Promise<void> {
    const { db, clock } = this.test;
    for (const tx of this.#open.splice(0)) {
      db.commit(tx);
      this.#committed.push(tx);
    }
    for (const tx of this.#committed.splice(0)) db.show(tx);
    this.test.streamAll();
    await this.join();
    // A resync that was refused is read again after a wait.
    for (let i = 0; i < 10; i += 1) {
      await this.test.answerReads();
      clock.advance(1000);
    }
    await this.test.settle();
    this.#look();
    const { handle } = this;
    must(handle, 'the join ends');
    must(handle.mayGrant(), 'every resync is paid');
    must(this.test.registry.settledPosition() === db.end, 'everything settles in the end');
    for (const pair of PAIRS) {
      const inDatabase = db.rowsOf(ACCOUNT, 'groups').get(`groups/${idOf(pair, 'a')}`)?.['name'];
      must(inDatabase === handle.state.row('groups', idOf(pair, 'a'))?.name, `pair ${pair} is as in the database`);
    }
  }

  protected async join(): Promise<void> {
    if (this.handle || this.isJoining) return;
    this.isJoining = true;
    void this.test.registry.open(ACCOUNT).then((handle) => {
      this.handle = handle;
      this.isJoining = false;
    });
    await turns();
  }

  /** A row is locked until its last writer is visible. */
  #begin(pairs: readonly number[], how: 'set' | 'remove' | 'unreadable'): void {
    const locked = [...this.#open, ...this.#committed].flatMap(({ writes }) => [...writes.keys()]);
    if (pairs.some((pair) => locked.includes(`groups/${idOf(pair, 'a')}`))) return;
    const tx = this.test.db.begin();
    this.#version += 1;
    for (const pair of pairs) {
      if (how === 'remove') write(tx, pair, undefined);
      else write(tx, pair, this.#version);
    }
    if (how === 'unreadable') tx.unreadable.add(ACCOUNT);
    if (tx.changes.length > 0) this.#open.push(tx);
    else this.test.db.show(tx); // it removed what was not there: PostgreSQL streams no empty transaction
  }

  #leave(): void {
    this.handle?.release();
    this.handle = undefined;
    this.test.clock.advance(IDLE_MS);
    this.#seen.clear();
  }

  #look(): void {
    const settled = this.test.registry.settledPosition();
    for (const tx of [...this.#open, ...this.#committed]) {
      must(tx.position === undefined || tx.position > settled, 'ACK-1: what is not visible yet is not settled');
    }
    must(settled <= this.test.streamedTo, 'ACK-1: what was not streamed is not settled');
    const { handle } = this;
    if (!handle) return;
    for (const pair of PAIRS) {
      const [a, b] = ['a', 'b'].map((half) => handle.state.row('groups', idOf(pair, half))?.name);
      must(a === b, `G2: both halves of pair ${pair} change together`);
      if (a === undefined) continue;
      must(Number(a) >= (this.#seen.get(pair) ?? 0), `G1: pair ${pair} never goes back`);
      this.#seen.set(pair, Number(a));
    }
  }
}

/** The order the reference has: what commits between the read and the subscription is in neither. */
class ReadsFirst extends Run {
  constructor() {
    const reader = new PrefetchedReader();
    super(reader);
    reader.db = this.test.db;
    this.#reader = reader;
  }

  readonly #reader: PrefetchedReader;

  protected override async join(): Promise<void> {
    if (!this.#reader.prefetched && !this.handle) this.#reader.prefetched = this.test.db.read(ACCOUNT);
    else await super.join();
  }

  override async finish(): Promise<void> {
    if (!this.handle) await super.join();
    await super.finish();
  }
}

class PrefetchedReader implements HydrationReader {
  db: HydrationReader | undefined;
  prefetched: AccountSnapshot | undefined;

  readAccount(accountId: AccountId): Promise<AccountSnapshot> {
    const { prefetched, db } = this;
    this.prefetched = undefined;
    if (prefetched) return Promise.resolve(prefetched);
    return db ? db.readAccount(accountId) : Promise.reject(new Error('no database'));
  }

  readSnapshot(): ReturnType<HydrationReader['readSnapshot']> {
    return this.db ? this.db.readSnapshot() : Promise.reject(new Error('no database'));
  }
}

function must(isSo: unknown, what: string): asserts isSo {
  if (!isSo) throw new StoreError(`not so: ${what}`);
}

function idOf(pair: number, half: string): string {
  return `b0000000-0000-4000-8000-0000000000${half}${pair}`;
}

/** @param version undefined removes both halves */
function write(tx: ModelTransaction, pair: number, version: number | undefined): void {
  for (const half of ['a', 'b']) {
    const row = { account_id: ACCOUNT, id: idOf(pair, half), name: String(version) };
    if (version === undefined) tx.remove('groups', row);
    else tx.set('groups', row);
  }
}

function take<Item>(items: Item[], which: number): Item | undefined {
  return items.splice(which % Math.max(1, items.length), 1)[0];
}
