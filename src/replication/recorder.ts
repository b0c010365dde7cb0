/** Writes what the stream brought to the event store, behind the live fan-out and never awaited by it (D10). */
import type { Position } from '../core/model/position.js';
import type { ChangeLog, ChangeLogEntry, SpooledChange } from '../core/ports/change-log.js';
import type { Metrics } from '../core/ports/metrics.js';
import type { Clock, Random } from '../core/support/clock.js';
import type { Logger } from '../core/support/logger.js';
import { BackOff } from './back-off.js';
import type { AssembledCommit, TransactionPart } from './open-transaction.js';

export interface RecorderDependencies {
  readonly changeLog: ChangeLog;
  readonly clock: Clock;
  readonly random: Random;
  readonly metrics: Metrics;
  readonly log: Logger;
  /** Hears of each append that failed; it is tried again whatever is done about it. */
  readonly appendFailed?: (error: unknown) => void;
}

/** Fewer: a statement for every few rows. More: long statements that hold memory twice. */
const BATCH_ENTRIES = 1_000;
const BATCH_BYTES = 4 * 1024 * 1024;
/** Of parts put aside: each statement is a commit of its own, and the whole stream waits for them. */
const BATCH_PART_CHANGES = 5_000;
/**
 * The first rows after a rest wait so long: preparing the statement would keep the processor from the peers that were just
 * written to (half of a revocation's time on two cores), and what commits meanwhile shares it. Longer: acknowledged later.
 */
const LINGER_MS = 5;
/** So many failures in a row are a person's business: the write-ahead log grows meanwhile. */
const ALARMING_FAILURES = 5;

/** One item of the queue: a part of a transaction whose commit has not come, or a commit. */
type Work = { readonly kind: 'part'; readonly part: TransactionPart } | Pending;

interface Pending {
  readonly kind: 'commit';
  readonly assembled: AssembledCommit;
  /** Changes of it already written. */
  written: number;
}

/**
 * States: resting → lingering → writing → resting. Lingering ends early when somebody drains or stops; a failed append
 * stays in writing.
 *
 * One append at a time, in stream order; what arrives meanwhile makes the next batch. A commit of many rows takes several
 * appends, and its position counts as recorded only after the last: repeating the first ones does nothing (the key is
 * epoch, position, seq). A batch that fails is tried again for as long as it takes; until then nothing after it is
 * recorded, so nothing after it is acknowledged, and PostgreSQL keeps it. The parts of a commit too large to be held are put
 * aside as they come, and become entries when its position is known.
 */
export class Recorder {
  #queue: Work[] = [];
  #recorded: Position = 0n;
  #backlogBytes = 0;
  #backlogEntries = 0;
  #partBytes = 0;
  /** Counts the backlogs that were dropped: an append that belongs to one of them advances nothing. */
  #generation = 0;
  #isRunning = false;
  #finished: Promise<void> = Promise.resolve();
  #isStopped = false;
  #endLinger: (() => void) | undefined;
  readonly #backOff: BackOff;

  constructor(private readonly with_: RecorderDependencies) {
    this.#backOff = new BackOff(with_.clock, with_.random);
  }

  /** Returns at once. */
  record(assembled: AssembledCommit): void {
    if (this.#queue.length === 0 && assembled.recordable.length === 0 && !assembled.isSpooled) {
      this.#recorded = assembled.commit.position;
      return;
    }
    this.#queue.push({ kind: 'commit', assembled, written: 0 });
    this.#grow(assembled.recordable.length, assembled.heldBytes);
    this.#start();
  }

  /** Changes of a transaction that is too large to be held; its commit follows, or it is sent again from its beginning. */
  recordPart(part: TransactionPart): void {
    this.#queue.push({ kind: 'part', part });
    this.#partBytes += part.bytes;
    this.#grow(part.changes.length, part.bytes);
    this.#start();
  }

  /** Every commit up to this position is in the event store. */
  recordedPosition(): Position {
    return this.#recorded;
  }

  backlogBytes(): number {
    return this.#backlogBytes;
  }

  /** Of the backlog, parts of transactions whose commit has not come. */
  partBytes(): number {
    return this.#partBytes;
  }

  backlogEntries(): number {
    return this.#backlogEntries;
  }

  /** Resolves when nothing is waiting, or after `limitMs`. */
  async drain(limitMs: number): Promise<void> {
    if (!this.#isRunning) return;
    this.#endLinger?.();
    let cancel = (): void => undefined;
    const limit = new Promise<void>((resolve) => (cancel = this.with_.clock.after(limitMs, resolve)));
    await Promise.race([this.#finished, limit]);
    cancel();
  }

  /** No append is begun any more. What is not recorded is not acknowledged, so the slot brings it again. */
  stop(): void {
    this.#isStopped = true;
    this.#endLinger?.();
    this.#backOff.interrupt();
  }

  /** Another branch of history has begun: what waits belongs to the lost one, and its positions will be used again. */
  async abandon(): Promise<void> {
    this.stop();
    await this.#finished;
    this.dropBacklog();
    this.#recorded = 0n;
    this.#isStopped = false;
  }

  /** What waits is not recorded any more. Does not wait for an append under way, which may hang and may still succeed. */
  dropBacklog(): void {
    const lost = this.#backlogEntries;
    this.#queue = [];
    this.#partBytes = 0;
    this.#backlogBytes = 0;
    this.#backlogEntries = 0;
    this.#generation += 1;
    this.with_.metrics.changeLogBacklog(0);
    if (lost > 0) this.with_.log.warn('recorder.backlog-abandoned', { entries: lost });
  }

  #start(): void {
    if (this.#isRunning || this.#isStopped) return;
    this.#isRunning = true;
    this.#finished = this.#run();
  }

  async #run(): Promise<void> {
    await this.#linger();
    while (this.#queue.length > 0 && !this.#isStopped) {
      const generation = this.#generation;
      try {
        const advance = await this.#write();
        this.#backOff.succeeded();
        if (generation === this.#generation) advance();
      } catch (error) {
        this.#report(error);
        this.with_.appendFailed?.(error);
        await this.#backOff.wait();
      }
    }
    this.#isRunning = false;
  }

  /** Writes what is first; returns what takes it off the queue. */
  async #write(): Promise<() => void> {
    const { changeLog } = this.with_;
    const [first] = this.#queue;
    if (first?.kind === 'part') {
      const parts = nextParts(this.#queue);
      await changeLog.spool(parts.flatMap(toSpooled));
      return () => {
        this.#queue.splice(0, parts.length);
        for (const { changes, bytes } of parts) {
          this.#partBytes -= bytes;
          this.#grow(-changes.length, -bytes);
        }
      };
    }
    if (first?.assembled.isSpooled) {
      const { commit, heldBytes } = first.assembled;
      await changeLog.finishSpool(commit);
      return () => {
        this.#queue.shift();
        this.#recorded = commit.position;
        this.#grow(0, -heldBytes);
      };
    }
    const batch = nextBatch(this.#queue);
    if (batch.entries.length > 0) await changeLog.append(batch.entries);
    return () => {
      this.#advance(batch);
    };
  }

  #grow(entries: number, bytes: number): void {
    this.#backlogEntries += entries;
    this.#backlogBytes += bytes;
    this.with_.metrics.changeLogBacklog(this.#backlogEntries);
  }

  #linger(): Promise<void> {
    return new Promise((resolve) => {
      const end = (): void => {
        cancel();
        this.#endLinger = undefined;
        resolve();
      };
      const cancel = this.with_.clock.after(LINGER_MS, end);
      this.#endLinger = end;
    });
  }

  #advance(batch: Batch): void {
    for (const { pending, count } of batch.parts) {
      pending.written += count;
      this.#backlogEntries -= count;
      if (pending.written < pending.assembled.recordable.length) continue;
      this.#recorded = pending.assembled.commit.position;
      this.#backlogBytes -= pending.assembled.heldBytes;
    }
    const firstLeft = this.#queue.findIndex((work) => work.kind === 'part' || !isWritten(work));
    this.#queue.splice(0, firstLeft < 0 ? batch.parts.length : Math.min(firstLeft, batch.parts.length));
    this.with_.metrics.changeLogBacklog(this.#backlogEntries);
  }

  #report(error: unknown): void {
    const fields = { error, entries: this.#backlogEntries, bytes: this.#backlogBytes };
    if (this.#backOff.failures >= ALARMING_FAILURES) this.with_.log.error('recorder.append-failed', fields);
    else this.with_.log.warn('recorder.append-failed', fields);
  }
}

interface Batch {
  readonly entries: readonly ChangeLogEntry[];
  /** How many changes of each pending commit, from the queue's head. A commit without changes takes part with 0. */
  readonly parts: readonly { readonly pending: Pending; readonly count: number }[];
}

function isWritten({ assembled, written }: Pending): boolean {
  return !assembled.isSpooled && written >= assembled.recordable.length;
}

/** The parts at the queue's head, as many as one statement takes; at least one. */
function nextParts(queue: readonly Work[]): readonly TransactionPart[] {
  const parts: TransactionPart[] = [];
  let changes = 0;
  let bytes = 0;
  for (const work of queue) {
    if (work.kind !== 'part') break;
    changes += work.part.changes.length;
    bytes += work.part.bytes;
    if (parts.length > 0 && (changes > BATCH_PART_CHANGES || bytes > BATCH_BYTES)) break;
    parts.push(work.part);
  }
  return parts;
}

function toSpooled({ xid, changes }: TransactionPart): SpooledChange[] {
  return changes.map(({ accountId, change }) => ({ xid, seq: change.seq, accountId, change }));
}

/** Of the commits before the first one that was given out in parts. */
function nextBatch(queue: readonly Work[]): Batch {
  const entries: ChangeLogEntry[] = [];
  const parts: { pending: Pending; count: number }[] = [];
  let bytes = 0;
  for (const pending of queue) {
    if (entries.length >= BATCH_ENTRIES || bytes >= BATCH_BYTES) break;
    if (pending.kind === 'part' || pending.assembled.isSpooled) break;
    const { commit, recordable, heldBytes } = pending.assembled;
    const bytesEach = recordable.length === 0 ? 0 : Math.ceil(heldBytes / recordable.length);
    const room = Math.min(
      BATCH_ENTRIES - entries.length,
      Math.max(1, Math.floor((BATCH_BYTES - bytes) / (bytesEach || 1))),
    );
    const taken = recordable.slice(pending.written, pending.written + room);
    for (const { accountId, change } of taken) {
      const { position, xid, committedAt } = commit;
      entries.push({ position, seq: change.seq, xid, committedAt, accountId, change });
    }
    bytes += taken.length * bytesEach;
    parts.push({ pending, count: taken.length });
  }
  return { entries, parts };
}
