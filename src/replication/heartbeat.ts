/** Proves how far behind the database we are: a message written into its log, and seen again in the stream. */
import { parsePosition, type Position } from '../core/model/position.js';
import type { EpochMs } from '../core/model/time.js';
import type { Freshness } from '../core/ports/freshness.js';
import type { Metrics } from '../core/ports/metrics.js';
import type { Clock } from '../core/support/clock.js';
import type { Logger } from '../core/support/logger.js';

export interface HeartbeatOptions {
  /** Of the message; no other program on this database may use it. */
  readonly prefix: string;
  /** Tells this process's messages from another's; without spaces. */
  readonly nodeId: string;
  readonly publications: readonly string[];
  /** Longer: staleness is noticed later. Shorter: more log written for nothing. Unit ms. */
  readonly intervalMs: number;
  /** Without proof for this long nothing is granted from memory (D14). Unit ms. */
  readonly staleAfterMs: number;
}

/** What the statement that wrote the message saw. */
export interface Beat {
  /** When it was begun; what it saw is not older. */
  readonly begunAt: EpochMs;
  /** End of the log. */
  readonly walPosition: Position;
  /** A recent full transaction id. */
  readonly xmax: bigint;
  /** Identity of the publications: changes when one of them is dropped or made again. */
  readonly publications: string;
}

/**
 * Runs one statement on an ordinary connection. Must settle in finite time (a query timeout): the next beat waits for it.
 */
export type RunStatement = (
  sql: string,
  values: readonly unknown[],
) => Promise<readonly Readonly<Record<string, unknown>>[]>;

export interface HeartbeatDependencies {
  readonly run: RunStatement;
  readonly onBeat: (beat: Beat) => void;
  readonly clock: Clock;
  readonly metrics: Metrics;
  readonly log: Logger;
  /** Hears of each beat that could not be written. */
  readonly beatFailed?: (error: unknown) => void;
}

/** Shorter writes more log for nothing; longer delays every start by so much. */
const FIRST_BEATS_MS = 50;
/** Unseen beats are remembered up to here: an hour of a broken stream at the default interval. */
const REMEMBERED_BEATS = 720;

/**
 * Lag is measured by one clock, ours: from just before the message is written until it comes out of the stream. The
 * commit time of a row would do as well only if the database's clock were right. Seeing a message proves that everything
 * committed before it was written has been handed on, so the age of that proof is counted from the writing.
 *
 * Not transactional, so it needs no transaction id and waits for no synchronous standby; the server's log writer flushes
 * it, and the walsender sends it, up to about 0.2 s later on an idle server.
 */
export class Heartbeat implements Freshness {
  /** When each unseen message was written, by its number, oldest first. */
  readonly #unseen = new Map<number, EpochMs>();
  #nextSeq = 1;
  #provenAt: EpochMs | undefined;
  #lagMs = 0;
  #walPosition: Position = 0n;
  #streamPosition: Position = 0n;
  #isWriting = false;
  #isFailing = false;
  #cancel: (() => void) | undefined;

  constructor(
    private readonly options: HeartbeatOptions,
    private readonly with_: HeartbeatDependencies,
  ) {
    if (/\s/.test(options.nodeId)) throw new RangeError('a node id has no spaces');
  }

  start(): void {
    this.#tick();
  }

  stop(): void {
    this.#cancel?.();
    this.#cancel = undefined;
  }

  /** A non-transactional message came out of the stream; others' are ignored. */
  seen(prefix: string, content: string): void {
    const [nodeId, seqText] = content.split(' ');
    if (prefix !== this.options.prefix || nodeId !== this.options.nodeId) return;
    const seq = Number(seqText);
    const writtenAt = this.#unseen.get(seq);
    if (writtenAt === undefined) return;
    for (const older of this.#unseen.keys()) if (older <= seq) this.#unseen.delete(older);
    this.#provenAt = writtenAt;
    this.#lagMs = Math.max(0, this.with_.clock.now() - writtenAt);
    this.#report();
  }

  /** The stream has handed on everything up to here. */
  passed(position: Position): void {
    if (position > this.#streamPosition) this.#streamPosition = position;
  }

  /** Positions of another branch of history mean nothing, nor do the beats written there. */
  forget(): void {
    this.#unseen.clear();
    this.#provenAt = undefined;
    this.#streamPosition = 0n;
    this.#walPosition = 0n;
  }

  isFresh(): boolean {
    return this.staleBecause() === undefined;
  }

  staleBecause(): string | undefined {
    if (this.#provenAt === undefined) return 'no heartbeat has come through the replication stream yet';
    const ageMs = this.with_.clock.now() - this.#provenAt;
    if (ageMs <= this.options.staleAfterMs) return undefined;
    return `the last heartbeat that came through the replication stream was written ${Math.round(ageMs / 1000)} s ago`;
  }

  #tick(): void {
    // A message written before the slot existed never comes: until the first proof they follow quickly.
    const { intervalMs } = this.options;
    const delayMs = this.#provenAt === undefined ? Math.min(FIRST_BEATS_MS, intervalMs) : intervalMs;
    this.#cancel = this.with_.clock.after(delayMs, () => {
      this.#tick();
    });
    this.#report();
    if (!this.#isWriting) void this.#beat();
  }

  async #beat(): Promise<void> {
    const seq = this.#nextSeq;
    this.#nextSeq += 1;
    this.#isWriting = true;
    this.#remember(seq); // before the statement: the stream may be quicker than its answer
    try {
      const beat = await this.#write(seq);
      this.#isFailing = false;
      this.#walPosition = beat.walPosition;
      if (this.#cancel) this.with_.onBeat(beat);
    } catch (error) {
      this.#unseen.delete(seq);
      if (!this.#isFailing) this.with_.log.warn('replication.heartbeat-failed', { error });
      this.#isFailing = true;
      this.with_.beatFailed?.(error);
    } finally {
      this.#isWriting = false;
    }
  }

  async #write(seq: number): Promise<Beat> {
    const { prefix, nodeId, publications } = this.options;
    const begunAt = this.with_.clock.now();
    const [row] = await this.with_.run(BEAT_SQL, [prefix, `${nodeId} ${seq}`, [...publications]]);
    return {
      begunAt,
      walPosition: parsePosition(String(row?.['position'])) ?? 0n,
      xmax: BigInt(String(row?.['xmax'])),
      publications: String(row?.['publications']),
    };
  }

  #remember(seq: number): void {
    this.#unseen.set(seq, this.with_.clock.now());
    if (this.#unseen.size <= REMEMBERED_BEATS) return;
    const [oldest] = this.#unseen.keys();
    if (oldest !== undefined) this.#unseen.delete(oldest);
  }

  /** While a message is missing, its age is the lag if that is more: the gauge must rise when nothing comes any more. */
  #report(): void {
    const [waitingSince] = this.#unseen.values();
    const waitedMs = waitingSince === undefined ? 0 : this.with_.clock.now() - waitingSince;
    const behind = this.#walPosition > this.#streamPosition ? this.#walPosition - this.#streamPosition : 0n;
    this.with_.metrics.replicationLag(Number(behind), Math.max(this.#lagMs, waitedMs));
  }
}

/** Text and bytes of a publication list are compared, never read: any change of identity is a change of the text. */
export const PUBLICATION_IDENTITY = `coalesce(string_agg(oid::text, ',' ORDER BY pubname), '')`;

const BEAT_SQL = `
  SELECT pg_logical_emit_message(false, $1, $2)::text AS position,
    pg_snapshot_xmax(pg_current_snapshot())::text AS xmax,
    (SELECT ${PUBLICATION_IDENTITY} FROM pg_publication WHERE pubname = ANY ($3::text[])) AS publications`;
