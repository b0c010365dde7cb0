/** Builds the replication stage from its ports, and starts and stops its parts in the right order. */
import type { ChangeLog } from '../core/ports/change-log.js';
import type { CommitSink } from '../core/ports/commit-sink.js';
import type { Freshness } from '../core/ports/freshness.js';
import type { XidSnapshot } from '../core/ports/hydration-reader.js';
import type { Metrics } from '../core/ports/metrics.js';
import type { SlotPublications } from '../core/ports/slot-publications.js';
import type { SlotFacts, SlotStatus } from '../core/ports/slot-status.js';
import type { Clock, Random } from '../core/support/clock.js';
import type { Logger } from '../core/support/logger.js';
import type { Scheduler } from '../core/support/scheduler.js';
import { Acknowledger } from './acknowledger.js';
import { CommitIntake } from './commit-intake.js';
import { SlotCommitReader } from './commit-reader.js';
import { Heartbeat, type RunStatement } from './heartbeat.js';
import { LagLimit } from './lag-limit.js';
import type { OpenReceipts } from './open-receipts.js';
import { PollingSource } from './polling-source.js';
import { Recorder } from './recorder.js';
import { ReplicationStream } from './replication-stream.js';
import { Slot } from './slot.js';
import { SlotWatch } from './slot-watch.js';
import { StreamingSource } from './streaming-source.js';
import { XidEpoch } from './xid-epoch.js';

export interface ReplicationOptions {
  /** `poll`: over an ordinary connection, for databases that refuse those in replication mode. */
  readonly mode: 'stream' | 'poll';
  readonly databaseUrl: string;
  readonly slot: string;
  readonly publications: readonly string[];
  /** Prefix of our heartbeat messages: `<prefix>.hb`. */
  readonly messagePrefix: string;
  readonly heartbeatIntervalMs: number;
  readonly staleAfterMs: number;
  /** A stream further behind begins anew at the end of the log. */
  readonly maxLagMs: number;
  readonly maxPendingBytes: number;
  readonly maxTxChanges: number;
  readonly maxTxBytes: number;
}

export interface ReplicationPorts {
  readonly sink: CommitSink;
  readonly changeLog: ChangeLog;
  readonly receipts: OpenReceipts;
  /** Runs a statement on an ordinary connection. */
  readonly run: RunStatement;
  /** The slot's row; undefined when there is none. */
  readonly readSlot: () => Promise<SlotFacts | undefined>;
  /** Makes the publications what they must be. True: they were not. */
  readonly reconcilePublications: () => Promise<boolean>;
  /** Outlives the process. */
  readonly slotPublications: SlotPublications;
  /** Writes what must be known of a gap before a new slot hides it. */
  readonly beforeGap: () => Promise<void>;
  readonly clock: Clock;
  readonly scheduler: Scheduler;
  readonly random: Random;
  readonly metrics: Metrics;
  readonly log: Logger;
}

export const REPLICATION = Symbol('Replication');

export interface Replication {
  readonly freshness: Freshness;
  /** See `Slot.startSnapshot`. */
  startSnapshot(): XidSnapshot | undefined;
  /** As last seen; undefined before the first answer. */
  slotStatus(): SlotStatus | undefined;
  /** Why the slot brings nothing, in words for an operator; undefined when it does. */
  slotProblem(): string | undefined;
  start(): void;
  /** What is done is acknowledged, and the slot is free for another process. Never rejects. */
  stop(): Promise<void>;
}

export function buildReplication(options: ReplicationOptions, ports: ReplicationPorts): Replication {
  const { sink, changeLog, receipts, clock, scheduler, random, metrics, log } = ports;
  const xids = new XidEpoch();
  const slot = new Slot(options.slot, log, async () => {
    heartbeat.doubt();
    await ports.beforeGap();
  });
  const databaseFailed = (error: unknown): void => {
    stream.databaseFailed(error);
  };
  const { databaseUrl, publications, maxPendingBytes } = options;
  const connectionOptions = { databaseUrl, publications, applicationName: APPLICATION_NAME };
  const commitReader = new SlotCommitReader({ ...connectionOptions, slot: options.slot }, xids, clock);
  const recorder = new Recorder({ changeLog, commitReader, clock, random, metrics, log, appendFailed: databaseFailed });
  const acknowledger = new Acknowledger([
    () => recorder.recordedPosition(),
    () => sink.settledPosition(),
    () => receipts.receiptedPosition(),
  ]);
  const lagLimit = new LagLimit(options);
  const heartbeat = new Heartbeat(
    {
      prefix: `${options.messagePrefix}.hb`,
      nodeId: random.uuid(),
      publications: options.publications,
      intervalMs: options.heartbeatIntervalMs,
      staleAfterMs: options.staleAfterMs,
    },
    {
      run: ports.run,
      onBeat: (beat) => {
        stream.beat(beat);
      },
      askStream: () => {
        stream.askForKeepalive();
      },
      generation: (): number => stream.generation,
      onTick: () => {
        const streamingForMs = stream.streamingForMs;
        if (streamingForMs === undefined) return;
        const lag = { streamingForMs, proofAgeMs: heartbeat.proofAgeMs(), slot: watch.status?.state };
        if (lagLimit.isOver(lag)) stream.abandonBacklog();
      },
      beatFailed: databaseFailed,
      clock,
      metrics,
      log,
    },
  );
  const limits = { maxChanges: options.maxTxChanges, maxBytes: options.maxTxBytes };
  const intake = new CommitIntake(
    { sink, recorder, acknowledger, heartbeat, xids, limits, clock, scheduler, metrics, log },
    () => {
      stream.caughtUp();
    },
  );
  const watch = new SlotWatch(
    { slot: options.slot, intervalMs: options.heartbeatIntervalMs },
    {
      readSlot: ports.readSlot,
      ownPid: () => stream.backendPid,
      isStreaming: () => stream.streamingForMs !== undefined,
      generation: (): number => stream.generation,
      onStatus: (status, begunIn) => {
        stream.slotSeen(status, begunIn);
      },
      clock,
      metrics,
      log,
    },
  );
  const sourceOptions = { ...connectionOptions, lockName: options.slot };
  const forSource = { intake, acknowledger, clock, maxPendingBytes };
  const stream: ReplicationStream = new ReplicationStream(
    { publications },
    {
      openSource: () =>
        options.mode === 'poll'
          ? new PollingSource(sourceOptions, forSource)
          : new StreamingSource(sourceOptions, forSource),
      ...{
        slot,
        intake,
        acknowledger,
        receipts,
        recorder,
        heartbeat,
        xids,
        sink,
        changeLog,
        clock,
        random,
        metrics,
        log,
      },
      reconcilePublications: ports.reconcilePublications,
      slotPublications: ports.slotPublications,
      onStreaming: () => {
        watch.look();
      },
    },
  );

  return {
    freshness: heartbeat,
    startSnapshot: () => stream.startSnapshot,
    slotStatus: () => watch.status,
    slotProblem: () => watch.problem,
    start: () => {
      stream.start();
      heartbeat.start();
      watch.start();
    },
    stop: async () => {
      heartbeat.stop();
      watch.stop();
      await stream.stop();
    },
  };
}

/** As `pg_stat_activity` and `pg_stat_replication` show it. */
const APPLICATION_NAME = 'portcullis stream';
