/** From the bytes of the stream to the sink and the recorder: decodes, assembles, leaves out what came before, hands on. */
import { formatPosition, type Position } from '../core/model/position.js';
import type { CommitSink } from '../core/ports/commit-sink.js';
import type { Metrics } from '../core/ports/metrics.js';
import type { Clock } from '../core/support/clock.js';
import type { Logger } from '../core/support/logger.js';
import type { Scheduler } from '../core/support/scheduler.js';
import type { Acknowledger } from './acknowledger.js';
import { DeliveryQueue } from './delivery-queue.js';
import type { Heartbeat } from './heartbeat.js';
import type { AssembledCommit, TransactionLimits } from './open-transaction.js';
import { PgoutputDecoder } from './pgoutput-decoder.js';
import type { Recorder } from './recorder.js';
import { TransactionAssembler } from './transaction-assembler.js';
import type { XidEpoch } from './xid-epoch.js';

export interface IntakeDependencies {
  readonly sink: CommitSink;
  readonly recorder: Recorder;
  readonly acknowledger: Acknowledger;
  readonly heartbeat: Heartbeat;
  readonly xids: XidEpoch;
  readonly limits: TransactionLimits;
  readonly clock: Clock;
  readonly scheduler: Scheduler;
  readonly metrics: Metrics;
  readonly log: Logger;
}

/**
 * Lives as long as the process, over all connections: that is what makes a commit that PostgreSQL sends twice be applied
 * once. After a reconnect the stream starts again at the acknowledged position, which is behind what was received; a
 * commit that ends at or before the last received one is left out. Comparing with the last *applied* one would be wrong:
 * a commit that still waits in the queue would be queued again.
 *
 * Live fan-out first, recorder second: the recorder may be slow or its table locked, a revocation must not wait for it.
 * Both happen in one synchronous step, so no acknowledgement can be computed between them.
 */
export class CommitIntake {
  readonly #assembler: TransactionAssembler;
  readonly #queue: DeliveryQueue;
  #decoder = new PgoutputDecoder();
  readonly #reported = new Set<string>();
  #received: Position = 0n;
  #decodeMs = 0;

  /** @param onIdle runs when everything received has been handed on, after it had to wait. */
  constructor(
    private readonly with_: IntakeDependencies,
    onIdle: () => void,
  ) {
    this.#assembler = new TransactionAssembler(with_.limits, with_.xids, (table, why) => {
      this.#reportUnreadable(table, why);
    });
    this.#queue = new DeliveryQueue(with_.clock, with_.scheduler, onIdle);
  }

  /** True while received commits wait for another turn of the event loop. */
  get isBehind(): boolean {
    return this.#queue.isBehind;
  }

  /** What is received and not yet both applied and recorded. */
  pendingBytes(): number {
    return this.#queue.bytes + this.with_.sink.pendingBytes() + this.with_.recorder.backlogBytes();
  }

  /** Bytes of a new connection follow. */
  startConnection(): void {
    this.#decoder = new PgoutputDecoder();
    this.#assembler.reset();
    this.#reported.clear();
    this.#decodeMs = 0;
  }

  /** Positions start over: another branch of history. */
  forget(): void {
    this.#received = 0n;
    this.#queue.clear();
  }

  /** Nothing more is handed on; what waited was not acknowledged and comes again. */
  close(): void {
    this.#queue.clear();
  }

  /** Throws MalformedWalError. */
  data(body: Buffer): void {
    const startedAt = this.with_.scheduler.elapsedMs();
    const item = this.#assembler.take(this.#decoder.decode(body), body.length);
    this.#decodeMs += this.with_.scheduler.elapsedMs() - startedAt;
    if (item === undefined) return;
    if (item.kind === 'commit') return this.#receive(item.assembled);

    const { lsn, prefix, content } = item;
    this.#queue.push({
      bytes: body.length,
      deliver: () => {
        this.#pass(lsn);
        this.with_.heartbeat.seen(prefix, content);
      },
    });
  }

  keepalive(position: Position): void {
    // Inside a transaction the server has not said all of it yet, whatever position it names.
    if (this.#assembler.isInTransaction) return;
    this.#queue.push({
      bytes: 0,
      deliver: () => {
        this.#pass(position);
        this.with_.heartbeat.keepalive(position);
      },
    });
  }

  #receive(assembled: AssembledCommit): void {
    const decodeMs = this.#decodeMs;
    this.#decodeMs = 0;
    const { position } = assembled.commit;
    if (position <= this.#received) return;
    this.#received = position;
    this.with_.acknowledger.received(position);
    this.#queue.push({
      bytes: assembled.heldBytes,
      deliver: () => {
        this.#hand(assembled, decodeMs);
      },
    });
  }

  #hand(assembled: AssembledCommit, decodeMs: number): void {
    const { sink, recorder, heartbeat, metrics, scheduler } = this.with_;
    const { commit } = assembled;
    const startedAt = scheduler.elapsedMs();
    try {
      sink.accept(commit);
    } catch (error) {
      this.#sinkFailed(commit.position, error);
    }
    recorder.record(assembled);
    heartbeat.handed(commit.position, commit.committedAt);
    metrics.commitApplied(commit.changeCount, decodeMs, scheduler.elapsedMs() - startedAt);
  }

  #pass(position: Position): void {
    try {
      this.with_.sink.passed(position);
    } catch (error) {
      this.#sinkFailed(position, error);
    }
    this.with_.acknowledger.passed(position);
    this.with_.heartbeat.passed(position);
  }

  /**
   * A defect downstream. The stream goes on, since stopping it would stop everybody's revocations, and every store is
   * read again, since none is proven any more (D14). Trying the commit again would apply it twice where it did succeed.
   */
  #sinkFailed(position: Position, error: unknown): void {
    this.with_.log.error('replication.sink-failed', { lsn: formatPosition(position), error });
    try {
      this.with_.sink.resyncAll('a commit could not be applied', 'commits');
    } catch (resyncError) {
      this.with_.log.error('replication.resync-failed', { error: resyncError });
    }
  }

  /** Counted every time, logged once per connection and reason: one statement may touch a million rows. */
  #reportUnreadable(table: string, why: string): void {
    this.with_.metrics.rowUnreadable(table);
    const reason = `${table}: ${why}`;
    if (this.#reported.has(reason)) return;
    this.#reported.add(reason);
    this.with_.log.error('replication.row-unreadable', { table, reason: why });
  }
}
