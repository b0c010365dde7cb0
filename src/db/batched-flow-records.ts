/**
 * Writes the history of flows in batches, off the hot path (D21).
 *
 * One batch is under way at a time, and batches go in the order things were queued; inside a batch rows are inserted
 * before any is closed, and closed before any is delivered. So nothing overtakes the row it changes.
 *
 *   idle      nothing queued
 *   lingering something queued; the batch leaves LINGER_MS later, or at once when it is full or somebody flushes
 *   writing   one batch is with the database; what comes meanwhile waits for the next
 *   backing off  the database failed for now; the same batch is sent again. Nothing is dropped, however long it takes
 */
import type { FlowRecord } from '../core/model/flow.js';
import type { AccountId, ClientId, GatewayId } from '../core/model/ids.js';
import type { EpochMs } from '../core/model/time.js';
import type {
  FlowClosing,
  FlowDelivery,
  FlowRecords,
  HandMadeCut,
  UnexpiredFlows,
} from '../core/ports/flow-records.js';
import type { Clock } from '../core/support/clock.js';
import type { Logger } from '../core/support/logger.js';
import { clientsOfUncleanEpochs, forgetHistory, settleUncleanEpochs } from './epochs.js';
import type { Database } from './open-database.js';
import { isForGood } from './postgres-error.js';
import { unexpiredFlows } from './unexpired-flows.js';
import { closeFlows, deliverFlows, insertFlows } from './write-flows.js';
import type { FlowRow } from './write-flows.js';

interface Outcome {
  written(): void;
  unwritable(error: unknown): void;
}

type Entry =
  | { readonly kind: 'row'; readonly row: FlowRow; readonly outcome: Outcome }
  | { readonly kind: 'closing'; readonly closing: FlowClosing }
  | { readonly kind: 'delivery'; readonly delivery: FlowDelivery }
  | { readonly kind: 'epochs-told'; readonly accountId: AccountId; readonly gatewayId: GatewayId }
  | { readonly kind: 'history-gone'; readonly accountId: AccountId | null; readonly done: (() => void)[] };

/** Longer: fewer statements, and a `flow_created` that waits for its row waits longer. At most 100 (D21). */
const LINGER_MS = 10;
/** More rows make a longer statement that fails as a whole; fewer make more round trips under load. */
const MAX_BATCH = 500;
const FIRST_RETRY_MS = 100;
const LAST_RETRY_MS = 5_000;

export class BatchedFlowRecords implements FlowRecords {
  readonly #queue: Entry[] = [];
  #isWriting = false;
  #cancelLinger: (() => void) | undefined;
  #queuedCount = 0;
  #settledCount = 0;
  #flushes: { readonly upTo: number; readonly done: () => void }[] = [];

  constructor(
    private readonly database: Database,
    private readonly clock: Clock,
    private readonly log: Logger,
  ) {}

  add(record: FlowRecord, outcome: Outcome): void {
    this.#enqueue({ kind: 'row', row: { record, cut: null }, outcome });
  }

  close(closing: FlowClosing): void {
    this.#enqueue({ kind: 'closing', closing });
  }

  delivered(delivery: FlowDelivery): void {
    this.#enqueue({ kind: 'delivery', delivery });
  }

  putBackRevoked(record: FlowRecord, cut: HandMadeCut, done: () => void): void {
    const unwritable = (error: unknown): void => {
      this.#reportLost('put-back', record.accountId, record.id, error);
      done();
    };
    this.#enqueue({ kind: 'row', row: { record, cut }, outcome: { written: done, unwritable } });
  }

  uncleanEpochsTold(accountId: AccountId, gatewayId: GatewayId): void {
    this.#enqueue({ kind: 'epochs-told', accountId, gatewayId });
  }

  historyGone(accountId: AccountId | null, done: () => void): void {
    // One that has not begun says the same, unless a gateway counts as told after it.
    const since = this.#queue.slice(this.#queue.findLastIndex((entry) => entry.kind === 'epochs-told') + 1);
    const waiting = since.find((entry) => entry.kind === 'history-gone' && entry.accountId === accountId);
    if (waiting?.kind === 'history-gone') waiting.done.push(done);
    else this.#enqueue({ kind: 'history-gone', accountId, done: [done] });
  }

  unexpired(accountId: AccountId, gatewayId: GatewayId, now: EpochMs): Promise<UnexpiredFlows> {
    return unexpiredFlows(this.database, accountId, gatewayId, now);
  }

  clientsOfUncleanEpochs(accountId: AccountId, gatewayId: GatewayId): Promise<readonly ClientId[]> {
    return clientsOfUncleanEpochs(this.database, accountId, gatewayId);
  }

  flush(): Promise<void> {
    if (this.#settledCount === this.#queuedCount) return Promise.resolve();
    return new Promise((done) => {
      this.#flushes.push({ upTo: this.#queuedCount, done });
      this.#writeNow();
    });
  }

  #enqueue(entry: Entry): void {
    this.#queue.push(entry);
    this.#queuedCount += 1;
    if (this.#queue.length >= MAX_BATCH) this.#writeNow();
    else if (!this.#isWriting) this.#cancelLinger ??= this.clock.after(LINGER_MS, () => this.#writeNow());
  }

  #writeNow(): void {
    this.#cancelLinger?.();
    this.#cancelLinger = undefined;
    if (!this.#isWriting) void this.#writeAll();
  }

  /** Until the queue is empty: what waited for a batch has lingered enough. Never rejects. */
  async #writeAll(): Promise<void> {
    this.#isWriting = true;
    while (this.#queue.length > 0) {
      const batch = this.#queue.splice(0, MAX_BATCH);
      await this.#writeRows(batch.flatMap((entry) => (entry.kind === 'row' ? [entry] : [])));
      await this.#writeClosings(batch.flatMap((entry) => (entry.kind === 'closing' ? [entry.closing] : [])));
      await this.#writeDeliveries(batch.flatMap((entry) => (entry.kind === 'delivery' ? [entry.delivery] : [])));
      for (const entry of batch) await this.#writeRest(entry);
      this.#settled(batch.length);
    }
    this.#isWriting = false;
  }

  async #writeRows(entries: readonly (Entry & { kind: 'row' })[]): Promise<void> {
    if (entries.length === 0) return;
    const error = await this.#persist(() =>
      insertFlows(
        this.database,
        entries.map((entry) => entry.row),
      ),
    );
    if (error === undefined) {
      for (const { outcome } of entries) this.#tell(() => outcome.written());
    } else if (entries.length > 1) {
      for (const entry of entries) await this.#writeRows([entry]); // one of them is bad: find it, keep the others
    } else {
      for (const { outcome } of entries) this.#tell(() => outcome.unwritable(error));
    }
  }

  async #writeClosings(closings: readonly FlowClosing[]): Promise<void> {
    const first = new Map<string, FlowClosing>();
    for (const closing of closings) if (!first.has(closing.flowId)) first.set(closing.flowId, closing);
    await this.#writeDistinctClosings([...first.values()]);
  }

  async #writeDistinctClosings(closings: readonly FlowClosing[]): Promise<void> {
    if (closings.length === 0) return;
    const error = await this.#persist(() => closeFlows(this.database, closings));
    if (error === undefined) return;
    if (closings.length > 1) for (const closing of closings) await this.#writeDistinctClosings([closing]);
    else for (const { accountId, flowId } of closings) this.#reportLost('closing', accountId, flowId, error);
  }

  /** Of one flow the last one counts: a gateway that came back at once may have read what its former socket had not. */
  async #writeDeliveries(deliveries: readonly FlowDelivery[]): Promise<void> {
    if (deliveries.length === 0) return;
    const last = [...new Map(deliveries.map((delivery) => [delivery.flowId, delivery])).values()];
    const error = await this.#persist(() => deliverFlows(this.database, last));
    if (error === undefined) return;
    if (last.length > 1) for (const delivery of last) await this.#writeDeliveries([delivery]);
    else for (const { accountId, flowId } of last) this.#reportLost('delivery', accountId, flowId, error);
  }

  /** What is rare goes one by one. */
  async #writeRest(entry: Entry): Promise<void> {
    if (entry.kind === 'history-gone') {
      const error = await this.#persist(() => forgetHistory(this.database, entry.accountId));
      if (error !== undefined) this.log.error('flows.history-not-forgotten', { error });
      for (const done of entry.done) this.#tell(done);
    } else if (entry.kind === 'epochs-told') {
      const { accountId, gatewayId } = entry;
      const error = await this.#persist(() => settleUncleanEpochs(this.database, accountId, gatewayId));
      if (error !== undefined) this.log.error('flows.epochs-not-settled', { accountId, gatewayId, error });
    }
  }

  /** Sends it until the database took it (`undefined`) or refused it for good (why). */
  async #persist(send: () => Promise<void>): Promise<unknown> {
    for (let delayMs = FIRST_RETRY_MS; ; delayMs = Math.min(delayMs * 2, LAST_RETRY_MS)) {
      try {
        return await send();
      } catch (error) {
        if (isForGood(error)) return error;
        this.log.warn('flows.write-failed', {
          error,
          retryMs: delayMs,
          queued: this.#queuedCount - this.#settledCount,
        });
        await new Promise<void>((resolve) => this.clock.after(delayMs, resolve));
      }
    }
  }

  #settled(count: number): void {
    this.#settledCount += count;
    const isDone = ({ upTo }: { upTo: number }): boolean => upTo <= this.#settledCount;
    const done = this.#flushes.filter(isDone);
    this.#flushes = this.#flushes.filter((flush) => !isDone(flush));
    for (const flush of done) flush.done();
  }

  /** What a channel does with an outcome must not stop the writing for others. */
  #tell(outcome: () => void): void {
    try {
      outcome();
    } catch (error) {
      this.log.error('flows.outcome-failed', { error });
    }
  }

  #reportLost(what: 'closing' | 'delivery' | 'put-back', accountId: string, flowId: string, error: unknown): void {
    this.log.error('flows.unwritable', { what, accountId, flowId, error });
  }
}
