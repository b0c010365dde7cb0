/**
 * The stores of all accounts somebody is connected to. Takes the stream from replication, hydrates an account for its
 * first channel, and forgets it a while after its last one (STORE-2).
 */
import type { Commit } from '../core/changes/commit.js';
import { changesOf } from '../core/changes/commit.js';
import { UnreadableRowError } from '../core/changes/parse-row.js';
import { cutsIn } from '../core/changes/flow-cuts.js';
import type { ConnectionFacts } from '../core/model/connection-facts.js';
import type { AccountId, ConnectionId, TokenId } from '../core/model/ids.js';
import type { Position } from '../core/model/position.js';
import type { EpochMs } from '../core/model/time.js';
import type { AccountHandle, AccountStores } from '../core/ports/account-stores.js';
import type { AccountStreams, Cause, Cut } from '../core/ports/account-streams.js';
import type { CommitSink, LastHeard, Lost } from '../core/ports/commit-sink.js';
import { CONNECT_MESSAGE } from '../core/ports/connects.js';
import type { FlowRecords } from '../core/ports/flow-records.js';
import type { Freshness } from '../core/ports/freshness.js';
import type { AccountSnapshot, HydrationReader, XidSnapshot } from '../core/ports/hydration-reader.js';
import type { Metrics } from '../core/ports/metrics.js';
import type { ReceiptLedger } from '../core/ports/receipt-ledger.js';
import type { TokenNews, TokenWatch } from '../core/ports/token-watch.js';
import type { ViewBacklog } from '../core/ports/view-backlog.js';
import type { Clock, Random } from '../core/support/clock.js';
import type { Logger } from '../core/support/logger.js';
import type { Scheduler } from '../core/support/scheduler.js';
import { within } from '../core/support/within.js';
import { AccountStore } from './account-store.js';
import { ConnectMessages } from './connect-messages.js';
import { DriftAudit } from './drift-audit.js';
import { HydrationQueue } from './hydration-queue.js';
import { TokenWatches } from './token-watches.js';
import { UnsettledRing } from './unsettled-ring.js';

export interface StoreOptions {
  /** A store without channels is kept this long, so that a reconnect storm does not read it again. Unit ms. */
  readonly idleTtlMs: number;
  readonly hydrationConcurrency: number;
  /** A resync that cannot be completed in this time closes the account's channels. Unit ms. */
  readonly resyncLimitMs: number;
  /** Each live store is compared with the database about so often; 0: never. Unit ms. */
  readonly auditIntervalMs: number;
}

export interface StoreDependencies {
  readonly reader: HydrationReader;
  readonly streams: AccountStreams;
  readonly flowRecords: Pick<FlowRecords, 'flush' | 'putBackRevoked' | 'historyGone'>;
  readonly receipts: ReceiptLedger;
  readonly freshness: Freshness;
  readonly views: ViewBacklog;
  /** What was visible when the slot was made (events.md B.4.2). */
  readonly startSnapshot: () => XidSnapshot | undefined;
  readonly clock: Clock;
  readonly random: Random;
  readonly scheduler: Scheduler;
  readonly metrics: Metrics;
  readonly log: Logger;
}

/** A ring that is not empty asks for a snapshot this often. Oftener costs queries under load; rarer delays WAL release. */
const SETTLE_EVERY_MS = 250;

const FLUSH_LIMIT_MS = 1_000;

/** Of more accounts than this the history counts as gone for all of them: that is written at once, each of them one by one. */
const MANY_ACCOUNTS = 100;

interface Slot {
  readonly store: AccountStore;
  readonly ready: Promise<void>;
  handles: number;
  cancelIdle: (() => void) | undefined;
  resyncing: boolean;
  /** The stream was interrupted: a resync for it is owed. */
  reconciling: boolean;
  /** The history of flows as it was when the last gap was noticed is written. */
  flush: { readonly gaps: number; readonly done: Promise<void> } | undefined;
}

export class AccountStoreRegistry implements CommitSink, AccountStores, TokenWatch {
  readonly #slots = new Map<AccountId, Slot>();
  readonly #ring = new UnsettledRing();
  readonly #hydrations: HydrationQueue;
  readonly #connects = new ConnectMessages();
  readonly #tokens: TokenWatches;
  readonly #audit: DriftAudit;
  #accepted: Position = 0n;
  /** Also of a branch of history that was left: gateways that joined on it are judged by it. */
  #heard: LastHeard = { upTo: 0n, at: 0 };
  #cancelSettle: (() => void) | undefined;
  #isClosed = false;

  constructor(
    private readonly with_: StoreDependencies,
    private readonly options: StoreOptions,
  ) {
    const { reader, startSnapshot, clock, log } = with_;
    this.#hydrations = new HydrationQueue(reader, options.hydrationConcurrency, startSnapshot, clock);
    this.#tokens = new TokenWatches(() => this.#ring.commits(), log);
    this.#audit = new DriftAudit(
      {
        ...{ clock, log, random: with_.random, scheduler: with_.scheduler, metrics: with_.metrics },
        stores: () => this.#auditable(),
        read: (accountId) => this.#hydrations.read(accountId),
        unsettled: () => this.#ring.commits(),
        onBroken: (store, error) => {
          const slot = this.#slots.get(store.accountId);
          if (slot?.store === store) this.#giveUp(slot, error);
        },
      },
      options.auditIntervalMs,
    );
  }

  // ---- CommitSink: the stream ------------------------------------------------------------------------------------

  accept(commit: Commit): void {
    const now = this.with_.clock.now();
    this.#accepted = commit.position;
    const isOfRows =
      commit.changeCount > 0 || commit.truncates.length > 0 || commit.resync === 'all' || commit.resync.size > 0;
    if (isOfRows) {
      this.#ring.add(commit, estimateBytes(commit));
      this.#settleSoon();
    }
    for (const slot of this.#slotsOf(commit)) {
      try {
        slot.store.take(commit, now);
      } catch (error) {
        this.#giveUp(slot, error);
        continue;
      }
      this.#reportFaults(slot.store);
      if (slot.store.owedResync) this.#startResync(slot);
    }
    this.#tokens.take(commit);
    this.#mendFlowHistory(commit, now);
    this.passed(commit.position);
    for (const message of commit.messages) if (message.prefix === CONNECT_MESSAGE) this.#connects.saw(message.content);
  }

  passed(position: Position): void {
    if (position > this.#accepted) this.#accepted = position;
    this.#heard = { upTo: this.#accepted, at: this.with_.clock.now() };
    for (const { store } of this.#slots.values()) if (store.isLive) store.passed(position);
    this.#audit.passed(position);
  }

  resyncAll(reason: string, lost: Lost, heard = this.#heard): void {
    this.with_.log.warn('store.resync-owed', { reason, accounts: this.#slots.size });
    if (lost === 'branch') {
      this.#ring.clear();
      this.#accepted = 0n;
    }
    // Of the rows that were deleted unheard nobody knows: gateways that are away are told at their next join (D8a).
    if (lost !== 'nothing') this.with_.flowRecords.historyGone(null, () => undefined);
    this.#tokens.doubtAll();
    for (const slot of this.#slots.values()) {
      if (lost === 'branch') slot.store.forgetHistory();
      slot.store.oweResync(reason, undefined, lost === 'nothing' ? null : heard);
      slot.reconciling = true;
      if (slot.store.isLive) this.#startResync(slot);
    }
  }

  /** One below the oldest commit that anything still needs: the server only compares, and forgets what ends at or below. */
  settledPosition(): Position {
    return this.#below([this.#ring.oldestPosition(), ...this.#unapplied()]);
  }

  pendingBytes(): number {
    return this.#ring.bytes;
  }

  /** What every live channel has applied and pushed for; the answer of `/readyz?applied=`. */
  appliedPosition(): Position {
    return this.#below(this.#unapplied());
  }

  /** Accounts that an interruption of the stream left unproven and that are not read again yet. */
  reconciling(): number {
    return [...this.#slots.values()].filter(({ reconciling }) => reconciling).length;
  }

  #unapplied(): (Position | undefined)[] {
    return [this.with_.views.oldestPosition(), ...[...this.#slots.values()].map(({ store }) => store.unappliedFrom)];
  }

  #below(positions: readonly (Position | undefined)[]): Position {
    return positions.reduce<Position>(
      (lowest, position) => (position !== undefined && position <= lowest ? position - 1n : lowest),
      this.#accepted,
    );
  }

  // ---- AccountStores: the channels -------------------------------------------------------------------------------

  async open(accountId: AccountId): Promise<AccountHandle> {
    const slot = this.#slots.get(accountId) ?? this.#hydrate(accountId);
    slot.handles += 1;
    slot.cancelIdle?.();
    slot.cancelIdle = undefined;
    try {
      await slot.ready;
    } catch (error) {
      this.#release(accountId, slot);
      throw error;
    }
    return this.#handleOn(accountId, slot);
  }

  #handleOn(accountId: AccountId, slot: Slot): AccountHandle {
    const { store } = slot;
    let released = false;
    return {
      state: store.state,
      flows: store.flows,
      position: () => store.position,
      cutsNotYetVisible: () => this.#cutsNotYetVisible(accountId),
      gaps: () => store.gaps,
      mayGrant: () => store.owedResync === undefined && this.with_.freshness.isFresh(),
      connected: (facts: ConnectionFacts) => {
        store.connected(facts, this.with_.clock.now());
      },
      sawConnect: (connectionId: ConnectionId, withinMs: number) =>
        this.#connects.wait(connectionId, withinMs, this.with_.clock),
      release: () => {
        if (released) return;
        released = true;
        this.#release(accountId, slot);
      },
    };
  }

  /** ORD-2: the store is in the map, and so gets every commit, before its snapshot is taken. */
  #hydrate(accountId: AccountId): Slot {
    const store = new AccountStore(accountId, this.with_.streams, this.#accepted, this.#ring.commits());
    const slot: Slot = {
      store,
      ready: this.#load(store),
      handles: 0,
      cancelIdle: undefined,
      resyncing: false,
      reconciling: false,
      flush: undefined,
    };
    this.#slots.set(accountId, slot);
    slot.ready.then(
      () => {
        if (store.owedResync) this.#startResync(slot);
        if (this.#slots.get(accountId) === slot) this.#audit.met(store);
      },
      () => {
        this.#drop(slot);
      },
    );
    return slot;
  }

  async #load(store: AccountStore): Promise<void> {
    const read = await this.#hydrations.read(store.accountId);
    store.hydrate(read);
    store.passed(this.#accepted);
    this.#ring.settle(read.snapshot);
    this.#reportFaults(store);
  }

  /** The process ends: nothing is read, kept or waited for any more. */
  close(): void {
    this.#isClosed = true;
    this.#audit.close();
    this.#cancelSettle?.();
    for (const slot of this.#slots.values()) slot.cancelIdle?.();
    this.#slots.clear();
  }

  #cutsNotYetVisible(accountId: AccountId): Cut[] {
    const now = this.with_.clock.now();
    return [...this.#ring.commits()].flatMap((commit) => cutsIn(changesOf(commit, accountId), now));
  }

  #release(accountId: AccountId, slot: Slot): void {
    slot.handles -= 1;
    if (slot.handles > 0 || this.#slots.get(accountId) !== slot) return;
    slot.cancelIdle = this.with_.clock.after(this.options.idleTtlMs, () => {
      if (slot.handles === 0) this.#drop(slot);
    });
  }

  // ---- TokenWatch: relays ----------------------------------------------------------------------------------------

  watchToken(tokenId: TokenId, accountId: AccountId | null, heard: (news: TokenNews) => void): () => void {
    return this.#tokens.watchToken(tokenId, accountId, heard);
  }

  // ---- resync ----------------------------------------------------------------------------------------------------

  #startResync(slot: Slot): void {
    if (slot.resyncing || !slot.store.isLive) return;
    slot.resyncing = true;
    this.#audit.forget(slot.store);
    const reason = slot.store.owedResync?.reason;
    this.with_.log.warn('store.resync', { accountId: slot.store.accountId, reason });
    void this.#resync(slot, this.with_.clock.now() + this.options.resyncLimitMs, 10);
  }

  async #resync(slot: Slot, deadline: number, retryMs: number): Promise<void> {
    const { store } = slot;
    const now = (): number => this.with_.clock.now();
    let read: AccountSnapshot | undefined;
    try {
      // So that every row a hand can have cut is known as the row of a flow. Over several tries: the queue may be long.
      if (store.owedResync?.heard != null) {
        if (slot.flush?.gaps !== store.gaps) slot.flush = { gaps: store.gaps, done: this.with_.flowRecords.flush() };
        await within(this.with_.clock, FLUSH_LIMIT_MS, slot.flush.done);
      }
      store.beginResync(this.#ring.commits(), now());
      read = await this.#hydrations.read(store.accountId, store.askedFlows);
    } catch (error) {
      this.with_.log.warn('store.resync-failed', { accountId: store.accountId, error });
    }
    if (this.#slots.get(store.accountId) !== slot) return;
    if (read && this.#merge(slot, read)) return;
    if (now() >= deadline) {
      this.#giveUp(slot, new Error('the account could not be read again in time'));
      return;
    }
    this.with_.clock.after(retryMs, () => void this.#resync(slot, deadline, Math.min(retryMs * 2, 1000)));
  }

  /** True when nothing is left to do: the resync is paid, or the store is given up. */
  #merge(slot: Slot, read: AccountSnapshot): boolean {
    const { store } = slot;
    const now = this.with_.clock.now();
    try {
      const paid = store.resync(read, now);
      if (!paid) return false;
      this.#putBack(paid.cuts, paid.cause, now);
    } catch (error) {
      if (error instanceof UnreadableRowError) {
        this.with_.log.warn('store.resync-failed', { accountId: store.accountId, error });
        return false;
      }
      this.#giveUp(slot, error);
      return true;
    }
    slot.resyncing = false;
    slot.reconciling = store.owedResync !== undefined && slot.reconciling;
    this.#reportFaults(store);
    this.with_.log.info('store.resynced', { accountId: store.accountId });
    if (store.owedResync) this.#startResync(slot);
    else this.#audit.met(store);
    return true;
  }

  /** Fails closed: the channels are closed, come again, and are judged on a fresh hydration. */
  #giveUp(slot: Slot, error: unknown): void {
    const { accountId } = slot.store;
    this.with_.log.error('store.given-up', { accountId, error });
    this.#drop(slot);
    this.with_.streams.fail(accountId, error);
  }

  // ---- audit -----------------------------------------------------------------------------------------------------

  *#auditable(): Iterable<AccountStore> {
    for (const { store, resyncing } of this.#slots.values()) {
      if (store.isLive && !resyncing && !store.owedResync) yield store;
    }
  }

  // ---- helpers ---------------------------------------------------------------------------------------------------

  #drop(slot: Slot): void {
    const { accountId } = slot.store;
    if (this.#slots.get(accountId) !== slot) return;
    this.#slots.delete(accountId);
    this.#audit.forget(slot.store);
  }

  #slotsOf(commit: Commit): Slot[] {
    if (commit.truncates.length > 0 || commit.resync === 'all') return [...this.#slots.values()];
    const slots: Slot[] = [];
    for (const accountId of new Set([...commit.byAccount.keys(), ...commit.resync])) {
      const slot = this.#slots.get(accountId);
      if (slot) slots.push(slot);
    }
    return slots;
  }

  /**
   * Also for accounts nobody is connected to: the gateway that is away must hear of it when it comes (D8a). Until that is
   * written the commit is all there is of it, so it is not acknowledged (ACK-2).
   */
  #mendFlowHistory(commit: Commit, now: number): void {
    const { flowRecords, receipts } = this.with_;
    const { hiddenCuts, truncates } = commit;
    const isOfAll = hiddenCuts === 'all' || hiddenCuts.size > MANY_ACCOUNTS;
    const isGoneForAll = isOfAll || truncates.some(({ tables }) => tables.includes('flows'));
    for (const accountId of isGoneForAll ? [null] : hiddenCuts) {
      flowRecords.historyGone(accountId, receipts.opened(commit.position));
    }
    for (const accountId of commit.byAccount.keys()) {
      this.#putBack(cutsIn(changesOf(commit, accountId), now), commit, now);
    }
  }

  #putBack(cuts: readonly Cut[], cause: Cause, now: EpochMs): void {
    const { flowRecords, receipts, streams } = this.with_;
    for (const cut of cuts) {
      if (cut.kind !== 'flow' || !cut.deleted) continue;
      const isConnected = streams.liveGateways(cut.deleted.accountId).has(cut.gatewayId);
      const release = receipts.opened(cause.position);
      const { reason, pushedAt } = cut;
      flowRecords.putBackRevoked(cut.deleted, { at: now, cause, reason, pushedAt, isConnected }, release);
    }
  }

  #settleSoon(): void {
    if (this.#isClosed) return;
    this.#cancelSettle ??= this.with_.clock.after(SETTLE_EVERY_MS, () => void this.#settle());
  }

  async #settle(): Promise<void> {
    try {
      this.#ring.settle(await this.with_.reader.readSnapshot());
    } catch (error) {
      this.with_.log.debug('store.settle-failed', { error });
    }
    this.#cancelSettle = undefined;
    if (!this.#ring.isEmpty) this.#settleSoon();
  }

  #reportFaults(store: AccountStore): void {
    for (const fault of store.state.takeNewFaults()) {
      this.with_.metrics.rowUnreadable(fault.table);
      this.with_.log.warn('store.row-unreadable', { accountId: store.accountId, ...fault });
    }
  }
}

/** Rough: what a commit's rows cost while they are kept. */
function estimateBytes(commit: Commit): number {
  return 200 + commit.changeCount * 600;
}
