/** Commits by asking for them again and again over an ordinary connection, where no other is to be had (events.md B.12). */
import type { RawRow } from '../core/changes/commit.js';
import { parsePosition, type Position } from '../core/model/position.js';
import { BackPressure } from './back-pressure.js';
import { type Backend, type ChangeSource, type NewSlot, SlotHeldError } from './change-source.js';
import { PeekedMessages } from './peeked-messages.js';
import { PollingConnection } from './polling-connection.js';
import type { SourceDependencies, SourceOptions } from './streaming-source.js';

/** Another process polls this slot. The server knows nothing of it between two statements, so a lock says it. */
/** How long a revocation waits at worst. Shorter: more work for the database, and more lines in its log. */
const REST_MS = 100;
/** A peek that takes long, since much log must be read again, is followed by a rest as long as itself, up to here. */
const LONGEST_REST_MS = 2_000;
/** New messages of one peek. Fewer: a backlog is decoded more often. More: an acknowledgement waits longer. */
const MAX_NEW_ROWS = 10_000;
/** Each acknowledgement has the server read that part of its log once more; until it comes, so does each peek. */
const ACKNOWLEDGE_EVERY_MS = 1_000;
/** The position of the log is answered at once by a server that lives. */
const SILENCE_LIMIT_MS = 30_000;

/** First key of our advisory locks; the second is the slot's name. Any number that nobody else on this database uses. */
const LOCK_CLASS = 1_886_547_811;

/**
 * States: open → polling → finishing → ended. While polling, round after round: acknowledge, ask how far the log is,
 * peek if that has moved, rest if nothing was new.
 *
 * - A peek does not take anything away: whatever is not acknowledged comes again and is left out here (`PeekedMessages`).
 *   So the limit on rows counts only new ones; otherwise commits that wait for their receipts would hide those behind them.
 * - The position of the log is asked before the peek: after it, a commit written meanwhile would count as seen.
 * - A session lock, not a transaction, keeps others out: an open transaction would keep the database from cleaning up.
 */
export class PollingSource implements ChangeSource {
  readonly #connection: PollingConnection;
  readonly #pressure: BackPressure;
  readonly #messages: PeekedMessages;
  #slot = '';
  /** Every commit up to here has been handed on. */
  #readUpTo: Position = 0n;
  #acknowledged: Position = 0n;
  #acknowledgedAt: number | undefined;
  #isKeepaliveWanted = false;
  #isPeeking = false;
  #isDeaf = false;
  #isFinishing = false;
  #wake: (() => void) | undefined;
  #polling: Promise<void> | undefined;

  constructor(
    private readonly options: SourceOptions & { readonly lockName: string },
    private readonly with_: SourceDependencies,
  ) {
    this.#connection = new PollingConnection(options.databaseUrl, options.applicationName);
    // Between two peeks answers must come through: there it is enough not to begin another.
    const connection = {
      pause: () => {
        if (this.#isPeeking) this.#connection.pause();
      },
      resume: () => {
        this.#connection.resume();
        this.#wake?.();
      },
    };
    this.#pressure = new BackPressure({ ...with_, connection });
    this.#messages = new PeekedMessages((message) => {
      with_.intake.data(message);
    });
  }

  async connect(): Promise<void> {
    await this.#connection.connect();
    const [row] = await this.ask(`SELECT pg_try_advisory_lock(${this.#lockKeys()})::text AS locked`);
    if (row?.['locked'] !== 'true') throw new SlotHeldError('another process polls the replication slot');
  }

  ask(statement: string): Promise<readonly RawRow[]> {
    return this.#connection.ask(statement);
  }

  /** A name of a log file begins with the timeline. The control file would name a former one until the next checkpoint. */
  async readSystem(): Promise<{ readonly systemId: string; readonly timeline: number }> {
    const [row] = await this.ask(`
      SELECT system_identifier::text AS system, CASE WHEN NOT pg_is_in_recovery()
        THEN pg_walfile_name(pg_current_wal_lsn()) ELSE '' END AS file FROM pg_control_system()`);
    return { systemId: row?.['system'] ?? '', timeline: Number.parseInt((row?.['file'] ?? '').slice(0, 8), 16) };
  }

  /**
   * SQL does not give the snapshot of the slot's start away. Instead one right after it, with nothing running: it has all
   * that was visible at the start, and a hydration waits for whoever was still open then.
   */
  async makeSlot(slot: string, isFailover: boolean): Promise<NewSlot> {
    const failover = isFailover ? ', failover => true' : '';
    const [made] = await this.ask(`
      SELECT lsn::text AS confirmed FROM pg_create_logical_replication_slot('${slot}', 'pgoutput'${failover})`);
    const [seen] = await this.ask('SELECT pg_snapshot_xmax(pg_current_snapshot())::text AS xmax');
    const confirmed = parsePosition(made?.['confirmed'] ?? '') ?? 0n;
    return { confirmed, snapshot: { xmax: BigInt(seen?.['xmax'] ?? '0'), running: new Set() } };
  }

  async dropSlot(slot: string): Promise<void> {
    await this.ask(`SELECT pg_drop_replication_slot('${slot}')`);
  }

  /** SQL can say so of a new slot only. */
  async letSlotFollowFailovers(): Promise<boolean> {
    return false;
  }

  async endFormer(_slot: string, former: Backend): Promise<boolean> {
    const rows = await this.ask(`
      SELECT pg_terminate_backend(a.pid) AS ended FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
      WHERE l.locktype = 'advisory' AND l.granted AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND (l.classid, l.objid) = (SELECT c::oid, (o::bigint & 4294967295)::oid FROM (VALUES (${this.#lockKeys()})) k (c, o))
        AND a.pid = ${Number(former.pid)} AND a.backend_start = '${former.startedAt}'`);
    return rows.length > 0;
  }

  async run(slot: string, onStarted: () => void): Promise<void> {
    this.#slot = slot;
    await this.#connection.limitStatements();
    this.with_.intake.startConnection();
    onStarted();
    this.#polling = this.#poll();
    try {
      await this.#polling;
    } finally {
      this.#pressure.stop();
    }
  }

  regulate(): void {
    this.#pressure.regulate();
  }

  askForKeepalive(): void {
    this.#isKeepaliveWanted = true;
    this.#wake?.();
  }

  deafen(): void {
    this.#isDeaf = true;
  }

  async finish(limitMs: number): Promise<void> {
    this.#isDeaf = true;
    this.#isFinishing = true;
    this.#connection.resume(); // a peek that waits for room has nothing to wait for any more
    this.#wake?.();
    let cancel = (): void => undefined;
    const limit = new Promise<void>((resolve) => (cancel = this.with_.clock.after(limitMs, resolve)));
    // What ended the polling is reported by `run`.
    await Promise.race([Promise.resolve(this.#polling).catch(() => undefined), limit]);
    await this.#connection.close(limit);
    cancel();
  }

  destroy(reason?: Error): void {
    this.#isDeaf = true;
    this.#connection.destroy(reason);
    this.#wake?.();
  }

  async #poll(): Promise<void> {
    while (!this.#isFinishing) {
      const startedAt = this.with_.clock.now();
      await this.#acknowledge();
      if (!(await this.#round())) await this.#rest(this.with_.clock.now() - startedAt);
    }
    this.#acknowledgedAt = undefined;
    await this.#acknowledge();
  }

  /** True when it brought anything new. */
  async #round(): Promise<boolean> {
    const { clock, intake } = this.with_;
    this.#isKeepaliveWanted = false;
    const cancel = clock.after(SILENCE_LIMIT_MS, () => {
      this.destroy(new Error(`the server has been silent for ${SILENCE_LIMIT_MS} ms`));
    });
    const flushed = await this.#answered(this.#connection.flushedPosition()).finally(cancel);
    const mayPeek = flushed > this.#readUpTo && !this.#pressure.isPaused && !this.#isDeaf;
    const wasNew = mayPeek && (await this.#peek(flushed));
    // Wanted since this round began: what it has read is older than the question.
    if (!this.#isDeaf && !this.#isKeepaliveWanted && this.#readUpTo >= flushed) intake.keepalive(flushed);
    return wasNew;
  }

  async #peek(flushed: Position): Promise<boolean> {
    const { publications } = this.options;
    const maxRows = this.#messages.startPeek(this.#acknowledged) + MAX_NEW_ROWS;
    this.#isPeeking = true;
    await this.#connection.peek({ slot: this.#slot, publications, maxRows }, (message) => {
      if (this.#isDeaf) return;
      this.#messages.take(message);
      this.#pressure.regulate();
    });
    this.#isPeeking = false;
    this.#connection.resume();
    const { rows, wasNew } = this.#messages;
    if (!this.#isDeaf && rows < maxRows) this.#readUpTo = flushed;
    return wasNew;
  }

  async #acknowledge(): Promise<void> {
    const { acknowledger, clock } = this.with_;
    const position = acknowledger.acknowledgedPosition();
    const isSoon = this.#acknowledgedAt !== undefined && clock.now() - this.#acknowledgedAt < ACKNOWLEDGE_EVERY_MS;
    if (position <= this.#acknowledged || isSoon) return;
    await this.#answered(this.#connection.advance(this.#slot, position));
    this.#acknowledged = position;
    this.#acknowledgedAt = clock.now();
  }

  /** The reason for the end of the connection instead of the driver's. */
  async #answered<Answer>(answer: Promise<Answer>): Promise<Answer> {
    try {
      return await answer;
    } catch (error) {
      throw this.#connection.failure ?? error;
    }
  }

  #rest(roundMs: number): Promise<void> {
    if (this.#isFinishing || this.#isKeepaliveWanted || this.#connection.failure) return Promise.resolve();
    const delayMs = Math.min(Math.max(roundMs, REST_MS), LONGEST_REST_MS);
    return new Promise((resolve) => {
      const cancel = this.with_.clock.after(delayMs, () => this.#wake?.());
      this.#wake = () => {
        cancel();
        this.#wake = undefined;
        resolve();
      };
    });
  }

  #lockKeys(): string {
    return `${LOCK_CLASS}, hashtext('${this.options.lockName}')`;
  }
}
