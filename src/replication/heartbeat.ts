/** Proves how far behind the database we are: a message written into its log, and seen again in the stream. */
import { parsePosition, type Position } from '../core/model/position.js';
import type { EpochMs } from '../core/model/time.js';
import type { Freshness } from '../core/ports/freshness.js';
import type { Metrics } from '../core/ports/metrics.js';
import type { Clock } from '../core/support/clock.js';
import type { Logger } from '../core/support/logger.js';
import { within } from '../core/support/within.js';

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
  /** See `PUBLICATIONS_VERSION`. */
  readonly publications: string;
  /** What `generation` said when the statement was begun. */
  readonly begunIn: number;
}

/**
 * Runs one statement on an ordinary connection. May hang with that connection, for hours where the network swallows it.
 */
export type RunStatement = (
  sql: string,
  values: readonly unknown[],
) => Promise<readonly Readonly<Record<string, unknown>>[]>;

export interface HeartbeatDependencies {
  readonly run: RunStatement;
  readonly onBeat: (beat: Beat) => void;
  /** Asks the server, over the stream itself, for a keepalive. Does nothing while there is no stream. */
  readonly askStream: () => void;
  /** Counts the connections that streamed: what was seen during an earlier one says nothing of this one. */
  readonly generation: () => number;
  /** Runs once in each interval. */
  readonly onTick: () => void;
  readonly clock: Clock;
  readonly metrics: Metrics;
  readonly log: Logger;
  /** Hears of each beat that could not be written. */
  readonly beatFailed?: (error: unknown) => void;
}

interface Unseen {
  readonly begunAt: EpochMs;
  /** Set when no message could be written: the stream proves as much by passing the end of the log as it was then. */
  readonly endOfLog: Position | undefined;
}

/** Shorter writes more log for nothing; longer delays every start by so much. */
const FIRST_BEATS_MS = 50;
/** A busy server answers late; less would take it for one that does not answer. */
const SHORTEST_WAIT_MS = 1_000;
/** Unseen beats are remembered up to here: an hour of a broken stream at the default interval. */
const REMEMBERED_BEATS = 720;
const MOST_HANGING = 2;

/**
 * Lag is measured by one clock, ours: from just before the message is written until it comes out of the stream. The
 * commit time of a row would do as well only if the database's clock were right. Seeing a message proves that everything
 * committed before it was written has been handed on, so the age of that proof is counted from the writing.
 *
 * When the message cannot be written (no privilege, no connection to be had) there are two weaker proofs, tried in turn.
 * Where the end of the log can still be asked: the stream has passed it. Where nothing can be asked: a keepalive, which
 * the server sends on demand and in order behind all it has sent before. It says how far the server has read its log, not
 * where the log ends; so it counts only when it is not behind what we know of the end, and when the commits before it, if
 * there are any, are recent ones: a server that works off a backlog sends old ones.
 *
 * Not transactional, so it needs no transaction id and waits for no synchronous standby; the server's log writer flushes
 * it, and the walsender sends it, up to about 0.2 s later on an idle server.
 */
export class Heartbeat implements Freshness {
  /** When each unseen message was written, by its number, oldest first. */
  readonly #unseen = new Map<number, Unseen>();
  #nextSeq = 1;
  #provenAt: EpochMs | undefined;
  /** The stream of an earlier generation proves nothing. */
  #provesFrom = 0;
  #lagMs = 0;
  #walPosition: Position = 0n;
  #streamPosition: Position = 0n;
  /** Time of the last commit handed on since the last keepalive. */
  #lastCommitAt: EpochMs | undefined;
  /** A keepalive was asked for, since nothing better is to be had. */
  #askedStreamAt: EpochMs | undefined;
  #isWriting = false;
  /** Statements that have not settled, whether their answers are still waited for or not. */
  #running = 0;
  #begunAt: EpochMs = 0;
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
    const unseen = this.#unseen.get(seq);
    if (unseen === undefined) return;
    for (const older of this.#unseen.keys()) if (older <= seq) this.#unseen.delete(older);
    this.#prove(unseen.begunAt);
  }

  /** A commit was handed on. */
  handed(position: Position, committedAt: EpochMs): void {
    this.#lastCommitAt = committedAt;
    this.passed(position);
  }

  /** The server has told all that it has read of its log. */
  keepalive(position: Position): void {
    this.passed(position);
    const lastCommitAt = this.#lastCommitAt;
    this.#lastCommitAt = undefined;
    if (this.#askedStreamAt === undefined || position < this.#walPosition) return;
    const isOld = (at: EpochMs): boolean => at < this.with_.clock.now() - this.options.staleAfterMs;
    if (lastCommitAt !== undefined && isOld(lastCommitAt)) return;
    const askedAt = this.#askedStreamAt;
    this.#askedStreamAt = undefined;
    this.#prove(askedAt);
  }

  /** The stream has handed on everything up to here. */
  passed(position: Position): void {
    if (position > this.#streamPosition) this.#streamPosition = position;
    for (const [seq, { begunAt, endOfLog }] of this.#unseen) {
      if (endOfLog === undefined || position < endOfLog) continue;
      this.#unseen.delete(seq);
      this.#prove(begunAt);
    }
  }

  /** What came may lack commits: only what is begun from now on, and comes out of the next stream, proves anything. */
  doubt(): void {
    this.#provesFrom = this.with_.generation() + 1; // what the old one has brought may wait to be handed on
    this.#unseen.clear();
    this.#provenAt = undefined;
    this.#streamPosition = 0n;
    this.#lastCommitAt = undefined;
    this.#askedStreamAt = undefined;
    if (!this.#cancel) return;
    this.#cancel();
    this.#arm();
  }

  /** Positions of another branch of history mean nothing, nor do the beats written there. */
  forget(): void {
    this.doubt();
    this.#walPosition = 0n;
  }

  /** Age of the last proof; undefined before the first, and of one that lies ahead: the clock was wrong then, and is set. */
  proofAgeMs(): number | undefined {
    const ageMs = this.#provenAt === undefined ? undefined : this.with_.clock.now() - this.#provenAt;
    return ageMs !== undefined && ageMs >= 0 ? ageMs : undefined;
  }

  isFresh(): boolean {
    return this.staleBecause() === undefined;
  }

  staleBecause(): string | undefined {
    const ageMs = this.proofAgeMs();
    if (ageMs === undefined) return 'no heartbeat has come through the replication stream yet';
    if (ageMs <= this.options.staleAfterMs) return undefined;
    return `the last heartbeat that came through the replication stream was written ${Math.round(ageMs / 1000)} s ago`;
  }

  #arm(): void {
    // A message written before the slot existed never comes: until the first proof they follow quickly.
    const { intervalMs } = this.options;
    const delayMs = this.#provenAt === undefined ? Math.min(FIRST_BEATS_MS, intervalMs) : intervalMs;
    this.#cancel = this.with_.clock.after(delayMs, () => {
      this.#tick();
    });
  }

  #tick(): void {
    this.#arm();
    this.#report();
    this.with_.onTick();
    if (!this.#isWriting) void this.#beat();
  }

  async #beat(): Promise<void> {
    const seq = this.#nextSeq;
    this.#nextSeq += 1;
    this.#isWriting = true;
    this.#remember(seq); // before the statement: the stream may be quicker than its answer
    try {
      this.#learn(await this.#write(seq));
      this.#isFailing = false;
      this.#askedStreamAt = undefined;
    } catch (error) {
      this.#unseen.delete(seq);
      if (!this.#isFailing) this.with_.log.warn('replication.heartbeat-failed', { error });
      this.#isFailing = true;
      this.with_.beatFailed?.(error);
      await this.#proveOtherwise(seq);
    } finally {
      this.#isWriting = false;
    }
  }

  async #proveOtherwise(seq: number): Promise<void> {
    try {
      const beat = await this.#ask(END_SQL, [[...this.options.publications]]);
      this.#unseen.set(seq, { begunAt: beat.begunAt, endOfLog: beat.walPosition });
      this.#learn(beat); // which may bring doubt
      this.passed(this.#streamPosition); // an idle server has nothing more to send
    } catch {
      this.#askedStreamAt = this.with_.clock.now();
      this.with_.askStream();
    }
  }

  #learn(beat: Beat): void {
    this.#walPosition = beat.walPosition;
    if (this.#cancel) this.with_.onBeat(beat);
  }

  #write(seq: number): Promise<Beat> {
    const { prefix, nodeId, publications } = this.options;
    return this.#ask(BEAT_SQL, [prefix, `${nodeId} ${seq}`, [...publications]]);
  }

  async #ask(statement: string, values: readonly unknown[]): Promise<Beat> {
    const begunAt = this.with_.clock.now();
    const begunIn = this.with_.generation();
    const [row] = await this.#run(statement, values);
    return {
      begunAt,
      begunIn,
      walPosition: parsePosition(String(row?.['position'])) ?? 0n,
      xmax: BigInt(String(row?.['xmax'])),
      publications: String(row?.['publications']),
    };
  }

  /**
   * Gives up early enough for another proof in the same interval. One statement at a time, since each that hangs has a
   * connection of the pool; but one more when that one has hung for long: it is also what compares the publications.
   */
  async #run(...statement: Parameters<RunStatement>): ReturnType<RunStatement> {
    const now = this.with_.clock.now();
    const mayHang = this.#running < MOST_HANGING && Math.abs(now - this.#begunAt) >= this.options.staleAfterMs;
    if (this.#running > 0 && !mayHang) throw new Error('the statement before has not ended');
    this.#running += 1;
    this.#begunAt = now;
    const running = this.with_.run(...statement).finally(() => {
      this.#running -= 1;
    });
    return within(this.with_.clock, Math.max(this.options.intervalMs / 2, SHORTEST_WAIT_MS), running);
  }

  #remember(seq: number): void {
    this.#unseen.set(seq, { begunAt: this.with_.clock.now(), endOfLog: undefined });
    if (this.#unseen.size <= REMEMBERED_BEATS) return;
    const [oldest] = this.#unseen.keys();
    if (oldest !== undefined) this.#unseen.delete(oldest);
  }

  #prove(at: EpochMs): void {
    if (this.with_.generation() < this.#provesFrom) return;
    const now = this.with_.clock.now();
    // Of a time when the clock was ahead: it would keep us fresh for as long as that was.
    if (at > now) return;
    this.#provenAt = this.#provenAt !== undefined && this.#provenAt <= now ? Math.max(at, this.#provenAt) : at;
    this.#lagMs = now - at;
    this.#report();
  }

  /** While a message is missing, its age is the lag if that is more: the gauge must rise when nothing comes any more. */
  #report(): void {
    const [oldest] = this.#unseen.values();
    const waitedMs = oldest === undefined ? 0 : this.with_.clock.now() - oldest.begunAt;
    const behind = this.#walPosition > this.#streamPosition ? this.#walPosition - this.#streamPosition : 0n;
    this.with_.metrics.replicationLag(Number(behind), Math.max(this.#lagMs, waitedMs));
  }
}

/**
 * Of a select from `pg_publication`; text that is compared and never read (ORD-6). It changes with every alteration, also with
 * one that puts back what another took, since a row of a catalog that is altered gets another `xmin` or another `oid`: rows
 * written between the two are not streamed. And with the name of a table: another one may have taken its place.
 */
export const PUBLICATIONS_VERSION = `
  coalesce(string_agg(concat_ws(' ', oid, xmin::text,
    (SELECT string_agg(concat_ws(' ', r.oid, r.xmin::text, c.relnamespace, c.relname), ',' ORDER BY r.oid)
     FROM pg_publication_rel r LEFT JOIN pg_class c ON c.oid = r.prrelid WHERE r.prpubid = pg_publication.oid),
    (SELECT string_agg(concat_ws(' ', n.oid, n.xmin::text), ',' ORDER BY n.oid)
     FROM pg_publication_namespace n WHERE n.pnpubid = pg_publication.oid)), ';' ORDER BY pubname), '')`;

/**
 * The flushed end: what is not flushed yet is not in the stream either, and a commit that does not wait for its flush is
 * flushed within three rounds of the log writer (0.6 s).
 */
const END_SQL = `
  SELECT pg_current_wal_flush_lsn()::text AS position, pg_snapshot_xmax(pg_current_snapshot())::text AS xmax,
    (SELECT ${PUBLICATIONS_VERSION} FROM pg_publication WHERE pubname = ANY ($1::text[])) AS publications`;

const BEAT_SQL = `
  SELECT pg_logical_emit_message(false, $1, $2)::text AS position,
    pg_snapshot_xmax(pg_current_snapshot())::text AS xmax,
    (SELECT ${PUBLICATIONS_VERSION} FROM pg_publication WHERE pubname = ANY ($3::text[])) AS publications`;
