/** Keeps one stream of commits flowing from the slot, over connections that break and servers that change (D10, D43). */
import { formatPosition } from '../core/model/position.js';
import type { Position } from '../core/model/position.js';
import type { EpochMs } from '../core/model/time.js';
import type { ChangeLog } from '../core/ports/change-log.js';
import type { CommitSink, LastHeard } from '../core/ports/commit-sink.js';
import type { XidSnapshot } from '../core/ports/hydration-reader.js';
import type { Metrics } from '../core/ports/metrics.js';
import type { SlotPublications } from '../core/ports/slot-publications.js';
import type { SlotStatus } from '../core/ports/slot-status.js';
import type { Clock, Random } from '../core/support/clock.js';
import type { Logger } from '../core/support/logger.js';
import type { Acknowledger } from './acknowledger.js';
import { BackOff } from './back-off.js';
import { type Backend, type ChangeSource, SLOT_HELD, SlotHeldError } from './change-source.js';
import type { CommitIntake } from './commit-intake.js';
import type { Beat, Heartbeat } from './heartbeat.js';
import { MalformedWalError } from './malformed-wal-error.js';
import type { OpenReceipts } from './open-receipts.js';
import type { Recorder } from './recorder.js';
import { readPublications, readServerIdentity, type ServerIdentity } from './server-identity.js';
import type { Slot, SlotMade } from './slot.js';
import type { XidEpoch } from './xid-epoch.js';

export interface StreamOptions {
  /** `[a-z0-9_]` each. */
  readonly publications: readonly string[];
}

export interface StreamDependencies {
  /** A new connection, of whichever kind. */
  readonly openSource: () => ChangeSource;
  readonly slot: Slot;
  readonly intake: CommitIntake;
  readonly acknowledger: Acknowledger;
  readonly receipts: OpenReceipts;
  readonly recorder: Recorder;
  readonly heartbeat: Heartbeat;
  readonly xids: XidEpoch;
  readonly sink: CommitSink;
  readonly changeLog: ChangeLog;
  /** Makes the publications what they must be; called before each connection streams. True: they were not. */
  readonly reconcilePublications: () => Promise<boolean>;
  readonly slotPublications: SlotPublications;
  /** A connection has begun to stream. */
  readonly onStreaming: () => void;
  readonly clock: Clock;
  readonly random: Random;
  readonly metrics: Metrics;
  readonly log: Logger;
}

/** A connection that streamed this long was good: the next failure is a new one and is tried again at once. */
const GOOD_SESSION_MS = 5_000;
/** The same bytes could not be read so many times: the slot will never bring others. */
const MALFORMED_LIMIT = 3;
const ALARMING_FAILURES = 5;
const PUT_RIGHT_LIMIT = 5;
/** At a stop, for the last rows to be recorded and for the server to say goodbye. */
const DRAIN_LIMIT_MS = 1_000;
const CLOSE_LIMIT_MS = 2_000;

const UNDEFINED_OBJECT = '42704';
const CANNOT_CONNECT_NOW = '57P03';

/**
 * States: idle → connecting → streaming → (broken → waiting → connecting) … → stopped.
 * - connecting: the server says who it is, then the publications are put right, then the slot, in this order. A slot made
 *   before its publication exists cannot decode what is written in between.
 * - streaming: left when the connection breaks, is silent, brings bytes that make no sense, or the publications change.
 * - waiting: 0.1 to 1 s with jitter; commits are neither lost nor late by more than that, since the slot keeps them.
 *
 * ORD-6: whenever commits may have passed us by (new slot, other server or branch, altered publication) every store is owed a
 * resync before the first new commit is handed on; done afterwards, a commit could be judged on rows that miss another.
 */
export class ReplicationStream {
  readonly #backOff: BackOff;
  #running: Promise<void> | undefined;
  #isStopping = false;
  #source: ChangeSource | undefined;
  #isStreaming = false;
  #streamingSince: EpochMs = 0;
  #server: ServerIdentity | undefined;
  #backend: Backend | undefined;
  #former: Backend | undefined;
  /** Their version when the present or last connection was prepared. */
  #publications: string | undefined;
  /** The version under which the slot was made just now, while that is not kept with it. */
  #unkept: string | undefined;
  #generation = 0;
  /** When the publications were last seen to be right. */
  #rightUpTo: LastHeard | undefined;
  /** Why the slot that is there must not be used again. */
  #replaceSlot: SlotMade | undefined;
  #malformed = { count: 0, at: 0n as Position };

  constructor(
    private readonly options: StreamOptions,
    private readonly with_: StreamDependencies,
  ) {
    for (const name of options.publications) {
      if (!/^[a-z0-9_]{1,63}$/.test(name)) throw new RangeError(`"${name}" is not a plain publication name`);
    }
    this.#backOff = new BackOff(with_.clock, with_.random);
  }

  /** See `Slot.startSnapshot`. */
  get startSnapshot(): XidSnapshot | undefined {
    return this.with_.slot.startSnapshot;
  }

  /** The server process of the present connection, streaming or not; undefined without one. */
  get backendPid(): number | undefined {
    return this.#backend && Number(this.#backend.pid);
  }

  start(): void {
    this.#running ??= this.#run();
  }

  /** The last acknowledgement is sent and the slot is free for another process when this resolves, within about 3 s. */
  async stop(): Promise<void> {
    this.#isStopping = true;
    this.#backOff.interrupt();
    const source = this.#source;
    this.with_.intake.close();
    if (source && this.#isStreaming) {
      source.deafen();
      await this.with_.recorder.drain(DRAIN_LIMIT_MS);
      await source.finish(CLOSE_LIMIT_MS);
    } else {
      source?.destroy();
    }
    await this.#running;
    this.with_.recorder.stop();
    this.with_.metrics.replicationState('stopped');
  }

  /** The session catches up; it decides whether the socket may be read again. */
  caughtUp(): void {
    if (this.#isStreaming) this.#source?.regulate();
  }

  /** A publication dropped (PostgreSQL 18) or altered under a running stream is not an error: rows just stop coming. */
  beat({ xmax, begunIn, publications }: Beat): void {
    this.with_.xids.observe(xmax);
    // What a broken connection missed is seen by the next one.
    if (!this.#isStreaming || begunIn !== this.#generation || publications === this.#publications) return;
    this.with_.heartbeat.doubt();
    this.#source?.destroy(new Error('a publication was altered'));
  }

  /** A slot that is gone brings nothing more, whatever our connection believes: the next one makes a new slot. */
  slotSeen({ state }: SlotStatus, begunIn: number): void {
    if ((state !== 'lost' && state !== 'missing') || begunIn !== this.#generation) return;
    this.with_.heartbeat.doubt();
    if (this.#isStreaming) this.#source?.destroy(new Error(`the slot is ${state}`));
  }

  /** Counts the connections that streamed. Not a time: a clock that is set back would make all that is seen look old. */
  get generation(): number {
    return this.#generation;
  }

  /** How long the present connection has been streaming; undefined while none does. */
  get streamingForMs(): number | undefined {
    return this.#isStreaming ? this.with_.clock.now() - this.#streamingSince : undefined;
  }

  askForKeepalive(): void {
    if (this.#isStreaming) this.#source?.askForKeepalive();
  }

  /** What the slot still holds is not worth working off: a new one begins at the end of the log (D14). */
  abandonBacklog(): void {
    const { slot, log, heartbeat, acknowledger } = this.with_;
    const lsn = formatPosition(acknowledger.acknowledgedPosition());
    log.error('replication.backlog-abandoned', { slot: slot.name, behindMs: heartbeat.proofAgeMs(), lsn });
    this.#replaceSlot = undefined;
    this.#replace('backlog-abandoned');
  }

  /**
   * A server that takes no connections while it streams is shutting down, and its WAL senders stay until they are told that
   * everything is flushed. What is not recorded, or not known to be visible, never is, for there is no connection to do it
   * with: each would wait for the other. So we leave, and the slot brings it again.
   */
  databaseFailed(error: unknown): void {
    if (codeOf(error) !== CANNOT_CONNECT_NOW || !this.#isStreaming) return;
    this.#source?.destroy(new Error('the database is shutting down', { cause: error }));
  }

  async #run(): Promise<void> {
    while (!this.#isStopping) {
      this.with_.metrics.replicationState('connecting');
      const connectedAt = this.with_.clock.now();
      try {
        await this.#connectAndStream();
      } catch (error) {
        if (!this.#isStopping) this.#report(error);
      }
      if (this.#isStopping) return;
      if (this.with_.clock.now() - connectedAt > GOOD_SESSION_MS) this.#backOff.succeeded();
      await this.#backOff.wait();
    }
  }

  async #connectAndStream(): Promise<void> {
    const { openSource, clock, metrics, log, slot } = this.with_;
    const source = openSource();
    this.#source = source;
    try {
      await source.connect();
      await this.#prepare(source);
      await source.run(slot.name, () => {
        this.#isStreaming = true;
        this.#generation += 1;
        this.#streamingSince = clock.now();
        this.#former = this.#server?.backend;
        metrics.replicationState('streaming');
        log.info('replication.streaming', { slot: slot.name });
        this.with_.onStreaming();
      });
    } catch (error) {
      if (codeOf(error) === SLOT_HELD) await this.#endFormer(source);
      throw error;
    } finally {
      this.#isStreaming = false;
      this.#backend = undefined;
      source.destroy();
    }
  }

  async #prepare(source: ChangeSource): Promise<void> {
    const { slot, acknowledger, sink, log, clock, slotPublications } = this.with_;
    const server = await readServerIdentity(source);
    if (server.isStandby)
      throw new Error('the database is a standby: its snapshots cannot be fenced (events.md B.3.7)');
    this.#backend = server.backend;
    await this.#enter(server);

    await this.#waitItsTurn(source);
    const slotsOwn = this.#unkept ?? (await slotPublications.read());
    const readAt = clock.now();
    const publications = await this.#rightPublications(source);
    const wasAltered = publications !== slotsOwn;
    if (wasAltered) this.#replace('publication-altered');
    const prepared = await slot.prepare(source, this.#replaceSlot);
    if (prepared.madeBecause === 'backlog-abandoned') this.#forgetBacklog();
    this.#replaceSlot = undefined;
    // While a publication was wrong our stream went on without what it left out, whoever has put it right.
    const hasLeftOut = this.#publications !== undefined && publications !== this.#publications;
    const heard = hasLeftOut ? this.#rightUpTo : undefined;
    const received = acknowledger.receivedPosition();
    const wasReadByAnother = received > 0n && prepared.confirmed > received;
    acknowledger.startAt(prepared.confirmed);
    if (prepared.madeBecause !== undefined)
      sink.resyncAll(`replication slot: ${prepared.madeBecause}`, 'commits', heard);
    else if (wasReadByAnother || hasLeftOut)
      sink.resyncAll('another process has read the replication slot meanwhile', 'commits', heard);
    this.#rightUpTo = { upTo: prepared.confirmed, at: readAt };
    this.#publications = publications;
    if (wasAltered) this.#unkept = publications;
    if (this.#unkept !== undefined) await slotPublications.keep(this.#unkept);
    this.#unkept = undefined;
    log.debug('replication.prepared', { slot: slot.name, lsn: formatPosition(prepared.confirmed) });
  }

  /**
   * A process that only waits judges nothing and puts nothing right. One that has streamed must know, also on a branch that is
   * new to it, from where on it does not hear what the other one reads.
   */
  async #waitItsTurn(source: ChangeSource): Promise<void> {
    const { slot, acknowledger } = this.with_;
    const held = await slot.heldBy(source);
    if (!held) return;
    this.#unkept = undefined;
    if (this.#generation > 0 && acknowledger.receivedPosition() === 0n) acknowledger.startAt(held.confirmed);
    throw new SlotHeldError(`replication slot "${slot.name}" is active for PID ${held.pid}`);
  }

  /** Their version, read before they were found to be right: whatever alters them later makes another one of it. */
  async #rightPublications(source: ChangeSource): Promise<string> {
    for (let tries = 0; tries < PUT_RIGHT_LIMIT; tries += 1) {
      const version = await readPublications(source, this.options.publications);
      if (!(await this.with_.reconcilePublications())) return version;
    }
    throw new Error('somebody else alters the publications again and again');
  }

  /** From now on until the new slot is read nothing is proven (ORD-6). */
  #replace(because: SlotMade): void {
    this.#replaceSlot ??= because;
    this.with_.heartbeat.doubt();
    if (this.#isStreaming) this.#source?.destroy(new Error(`the slot must be replaced: ${because}`));
  }

  /**
   * What waits to be recorded may be what keeps the socket paused, and it ends where the gap in `change_log` begins. What
   * was received is not waited for any more: the new slot starts behind it.
   */
  #forgetBacklog(): void {
    this.with_.recorder.dropBacklog();
    this.with_.acknowledger.forget();
  }

  /**
   * Another branch of history uses positions and transaction ids again, for other commits: everything compared by them is
   * forgotten. A restart of the same server may have lost rows that were visible before they were flushed (events.md
   * B.3.3), which a store may have read: positions stay good, stores do not.
   */
  async #enter(server: ServerIdentity): Promise<void> {
    const { changeLog, recorder, sink, log, xids, heartbeat } = this.with_;
    const before = this.#server;
    const isOther =
      before !== undefined && (before.systemId !== server.systemId || before.timeline !== server.timeline);
    if (isOther) await recorder.abandon();
    const isNewEpoch = await changeLog.enterTimeline(server.systemId, server.timeline);
    if (isOther || (isNewEpoch && before === undefined)) {
      const { systemId, timeline } = server;
      log.warn('replication.timeline', { systemId, timeline, former: before?.timeline });
      this.with_.intake.forget();
      this.with_.acknowledger.forget();
      this.with_.receipts.forget();
      heartbeat.forget();
      xids.restartAt(server.xmax);
      sink.resyncAll('another timeline or system', 'branch');
    } else if (before !== undefined && before.startedAt !== server.startedAt) {
      sink.resyncAll('the server was restarted', 'nothing');
    }
    xids.observe(server.xmax);
    this.#server = server;
  }

  async #endFormer(source: ChangeSource): Promise<void> {
    if (!this.#former) return;
    try {
      const ended = await source.endFormer(this.with_.slot.name, this.#former);
      if (ended) this.with_.log.warn('replication.former-backend-ended', { pid: this.#former.pid });
    } catch (error) {
      this.with_.log.debug('replication.former-backend-unknown', { error });
    }
  }

  #report(error: unknown): void {
    if (error instanceof MalformedWalError) this.#countMalformed();
    // The slot was there a moment ago: the name that is not defined is a publication's, as of some place in the log.
    if (codeOf(error) === UNDEFINED_OBJECT) this.#replace('publication-altered');
    const fields = { slot: this.with_.slot.name, failures: this.#backOff.failures, error };
    const event = codeOf(error) === SLOT_HELD ? 'replication.slot-held' : 'replication.broken';
    if (this.#backOff.failures >= ALARMING_FAILURES) this.with_.log.error(event, fields);
    else this.with_.log.warn(event, fields);
  }

  #countMalformed(): void {
    const at = this.with_.acknowledger.receivedPosition();
    this.#malformed = { at, count: this.#malformed.at === at ? this.#malformed.count + 1 : 1 };
    if (this.#malformed.count < MALFORMED_LIMIT) return;
    this.#replace('unreadable');
    this.#malformed = { at, count: 0 };
  }
}

function codeOf(error: unknown): unknown {
  return error instanceof Error && 'code' in error ? error.code : undefined;
}
