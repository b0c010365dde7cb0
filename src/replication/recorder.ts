/** Writes what the stream brought to the event store, behind the live fan-out and never awaited by it (D10). */
import { formatPosition, type Position } from '../core/model/position.js';
import type { ChangeLog, ChangeLogEntry } from '../core/ports/change-log.js';
import type { Metrics } from '../core/ports/metrics.js';
import type { Clock, Random } from '../core/support/clock.js';
import type { Logger } from '../core/support/logger.js';
import { BackOff } from './back-off.js';
import type { CommitReader } from './commit-reader.js';
import type { AssembledCommit, RecordableChange } from './open-transaction.js';

export interface RecorderDependencies {
  readonly changeLog: ChangeLog;
  readonly commitReader: CommitReader;
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
/**
 * The first rows after a rest wait so long: preparing the statement would keep the processor from the peers that were just
 * written to (half of a revocation's time on two cores), and what commits meanwhile shares it. Longer: acknowledged later.
 */
const LINGER_MS = 5;
/** So many failures in a row are a person's business: the write-ahead log grows meanwhile. */
const ALARMING_FAILURES = 5;

interface Pending {
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
 * recorded, so nothing after it is acknowledged, and PostgreSQL keeps it. A commit too large to be held is read from there
 * again when its turn comes.
 */
export class Recorder {
  #queue: Pending[] = [];
  #recorded: Position = 0n;
  #backlogBytes = 0;
  #backlogEntries = 0;
  /** Ends the reading of a commit that is under way. */
  #abandonReading = new AbortController();
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
    if (this.#queue.length === 0 && assembled.recordable.length === 0 && !assembled.isLeftOut) {
      this.#recorded = assembled.commit.position;
      return;
    }
    this.#queue.push({ assembled, written: 0 });
    this.#grow(entriesOf(assembled), assembled.heldBytes);
    this.#start();
  }

  /** Every commit up to this position is in the event store. */
  recordedPosition(): Position {
    return this.#recorded;
  }

  backlogBytes(): number {
    return this.#backlogBytes;
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
    this.#endReading();
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
    this.#endReading();
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
        if (generation !== this.#generation || this.#isStopped) continue;
        this.#report(
          this.#queue[0]?.assembled.isLeftOut ? 'recorder.read-again-failed' : 'recorder.append-failed',
          error,
        );
        this.with_.appendFailed?.(error);
        await this.#backOff.wait();
      }
    }
    this.#isRunning = false;
  }

  /** Writes what is first; returns what takes it off the queue. */
  async #write(): Promise<() => void> {
    const [first] = this.#queue;
    if (first?.assembled.isLeftOut) {
      await this.#readAgain(first);
      return () => {
        this.#queue.shift();
        this.#recorded = first.assembled.commit.position;
        this.#grow(first.written - entriesOf(first.assembled), -first.assembled.heldBytes);
      };
    }
    const batch = nextBatch(this.#queue);
    if (batch.entries.length > 0) await this.with_.changeLog.append(batch.entries);
    return () => {
      this.#advance(batch);
    };
  }

  /** What was written before it was cut short is not written again. */
  async #readAgain(pending: Pending): Promise<void> {
    const { changeLog, commitReader, log } = this.with_;
    const { commit } = pending.assembled;
    const { signal } = this.#abandonReading;
    let seen = 0;
    let isOver = false;
    const take = async (changes: readonly RecordableChange[]): Promise<void> => {
      if (isOver || signal.aborted) throw new Error('this reading is over');
      const unwritten = changes.slice(Math.max(0, pending.written - seen));
      seen += changes.length;
      if (unwritten.length === 0) return;
      await changeLog.append(unwritten.map((change) => entryOf(pending, change)));
      // Another reading may have begun while this one's last statement hung: it writes the same again, and counts it.
      if (isOver || signal.aborted) return;
      pending.written += unwritten.length;
      this.#grow(-unwritten.length, 0);
    };
    const isThere = await commitReader.read(commit, take, signal).finally(() => (isOver = true));
    // The slot has been moved on or made anew without us: nothing brings the commit back.
    if (!isThere) log.error('recorder.commit-gone', { lsn: formatPosition(commit.position) });
  }

  #endReading(): void {
    this.#abandonReading.abort();
    this.#abandonReading = new AbortController();
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
    const firstLeft = this.#queue.findIndex((pending) => !isWritten(pending));
    this.#queue.splice(0, firstLeft < 0 ? batch.parts.length : Math.min(firstLeft, batch.parts.length));
    this.with_.metrics.changeLogBacklog(this.#backlogEntries);
  }

  #report(event: string, error: unknown): void {
    const fields = { error, entries: this.#backlogEntries, bytes: this.#backlogBytes };
    if (this.#backOff.failures >= ALARMING_FAILURES) this.with_.log.error(event, fields);
    else this.with_.log.warn(event, fields);
  }
}

interface Batch {
  readonly entries: readonly ChangeLogEntry[];
  /** How many changes of each pending commit, from the queue's head. A commit without changes takes part with 0. */
  readonly parts: readonly { readonly pending: Pending; readonly count: number }[];
}

/** Of a commit that is left out, its own echoes too, which are not recorded: how many there are was not counted. */
function entriesOf({ commit, recordable, isLeftOut }: AssembledCommit): number {
  return isLeftOut ? commit.changeCount : recordable.length;
}

function isWritten({ assembled, written }: Pending): boolean {
  return !assembled.isLeftOut && written >= assembled.recordable.length;
}

/** Of the commits before the first one that must be read again. */
function nextBatch(queue: readonly Pending[]): Batch {
  const entries: ChangeLogEntry[] = [];
  const parts: { pending: Pending; count: number }[] = [];
  let bytes = 0;
  for (const pending of queue) {
    if (entries.length >= BATCH_ENTRIES || bytes >= BATCH_BYTES) break;
    if (pending.assembled.isLeftOut) break;
    const { recordable, heldBytes } = pending.assembled;
    const bytesEach = recordable.length === 0 ? 0 : Math.ceil(heldBytes / recordable.length);
    const room = Math.min(
      BATCH_ENTRIES - entries.length,
      Math.max(1, Math.floor((BATCH_BYTES - bytes) / (bytesEach || 1))),
    );
    const taken = recordable.slice(pending.written, pending.written + room);
    for (const change of taken) entries.push(entryOf(pending, change));
    bytes += taken.length * bytesEach;
    parts.push({ pending, count: taken.length });
  }
  return { entries, parts };
}

function entryOf({ assembled }: Pending, { accountId, change }: RecordableChange): ChangeLogEntry {
  const { position, xid, committedAt } = assembled.commit;
  return { position, seq: change.seq, xid, committedAt, accountId, change };
}
