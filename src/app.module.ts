/** The only place that knows every module; binds ports to implementations. */
import { type DynamicModule, Module, type Provider } from '@nestjs/common';
import { ModuleRef } from '@nestjs/core';
import { AccountBroadcaster } from './broadcaster/account-broadcaster.js';
import { ChannelsModule } from './channels/channels.module.js';
import type { Config } from './config/config.js';
import { parseRange } from './core/authorizer/ip-ranges.js';
import { ACCOUNT_STORES } from './core/ports/account-stores.js';
import { ACCOUNT_STREAMS } from './core/ports/account-streams.js';
import { CHANGE_LOG, type ChangeLog } from './core/ports/change-log.js';
import { COMMIT_SINK, type CommitSink } from './core/ports/commit-sink.js';
import { CONNECTS } from './core/ports/connects.js';
import { FLOW_RECORDS } from './core/ports/flow-records.js';
import type { GeoIp } from './core/ports/geo-ip.js';
import { HYDRATION_READER } from './core/ports/hydration-reader.js';
import { METRICS, type Metrics } from './core/ports/metrics.js';
import { PRESENCE } from './core/ports/presence.js';
import { RECEIPT_LEDGER } from './core/ports/receipt-ledger.js';
import { READINESS, type Readiness } from './core/ports/readiness.js';
import { TOKEN_WATCH } from './core/ports/token-watch.js';
import { VIEW_BACKLOG } from './core/ports/view-backlog.js';
import type { Clock, Random } from './core/support/clock.js';
import type { Logger } from './core/support/logger.js';
import type { Scheduler } from './core/support/scheduler.js';
import { BatchedFlowRecords } from './db/batched-flow-records.js';
import { forgetHistory } from './db/epochs.js';
import { type Database, openDatabase } from './db/open-database.js';
import { PostgresChangeLog } from './db/postgres-change-log.js';
import { PostgresConnects } from './db/postgres-connects.js';
import { PostgresHydrationReader } from './db/postgres-hydration-reader.js';
import { publicationNames, reconcilePublications } from './db/publications.js';
import { runStatement } from './db/run-statement.js';
import { slotPublications } from './db/slot-publications.js';
import { slotState } from './db/slot-state.js';
import { HealthModule } from './health/health.module.js';
import { PrometheusMetrics } from './health/prometheus-metrics.js';
import { LocalPresence } from './presence/local-presence.js';
import { OpenReceipts } from './replication/open-receipts.js';
import { REPLICATION, type Replication, type ReplicationPorts } from './replication/replication.js';
import { ReplicationModule, type ReplicationSetup } from './replication/replication.module.js';
import { AccountStoreRegistry } from './store/account-store-registry.js';
import { DrainState } from './drain-state.js';

export interface Runtime {
  readonly config: Config;
  readonly databaseUrl: string;
  /** Of this process start; sessions name it (D22). */
  readonly epoch: bigint;
  readonly clock: Clock;
  readonly random: Random;
  readonly scheduler: Scheduler;
  readonly log: Logger;
  readonly geoIp: GeoIp | undefined;
}

export const DATABASE = Symbol('Database');

@Module({})
export class AppModule {
  static with(runtime: Runtime): DynamicModule {
    const ports = PortsModule.with(runtime);
    return {
      module: AppModule,
      imports: [
        ports,
        ReplicationModule.register({
          inject: [COMMIT_SINK, CHANGE_LOG, OpenReceipts, METRICS, DATABASE],
          useFactory: (
            sink: CommitSink,
            changeLog: ChangeLog,
            receipts: OpenReceipts,
            metrics: Metrics,
            database: Database,
          ) => replicationSetup(runtime, { sink, changeLog, receipts, metrics }, database),
        }),
        ChannelsModule.with({ ...runtime, ...channelOptions(runtime.config) }),
        HealthModule,
      ],
    };
  }
}

/** What every module may ask for: one implementation per port. */
@Module({})
class PortsModule {
  static with(runtime: Runtime): DynamicModule {
    const providers = portProviders(runtime);
    return { module: PortsModule, global: true, providers, exports: providers };
  }
}

function portProviders({ config, databaseUrl, epoch, clock, random, scheduler, log }: Runtime): Provider[] {
  return [
    { provide: PrometheusMetrics, useFactory: () => new PrometheusMetrics() },
    { provide: METRICS, useExisting: PrometheusMetrics },
    {
      provide: DATABASE,
      inject: [METRICS],
      useFactory: (metrics: Metrics) =>
        openDatabase(databaseUrl, {
          max: config.databasePoolSize,
          onQuery: (question, ms) => {
            metrics.queried(question, ms);
          },
        }),
    },
    { provide: CHANGE_LOG, inject: [DATABASE], useFactory: (database: Database) => new PostgresChangeLog(database) },
    {
      provide: HYDRATION_READER,
      inject: [DATABASE],
      useFactory: (database: Database) => new PostgresHydrationReader(database),
    },
    {
      provide: FLOW_RECORDS,
      inject: [DATABASE],
      useFactory: (database: Database) => new BatchedFlowRecords(database, clock, log),
    },
    {
      provide: CONNECTS,
      inject: [DATABASE],
      useFactory: (database: Database) => new PostgresConnects(database, epoch),
    },
    { provide: ACCOUNT_STREAMS, useFactory: () => new AccountBroadcaster(log) },
    { provide: OpenReceipts, useFactory: () => new OpenReceipts() },
    { provide: RECEIPT_LEDGER, useExisting: OpenReceipts },
    { provide: PRESENCE, useFactory: () => new LocalPresence() },
    { provide: DrainState, useFactory: () => new DrainState() },
    {
      provide: AccountStoreRegistry,
      inject: [HYDRATION_READER, ACCOUNT_STREAMS, FLOW_RECORDS, OpenReceipts, METRICS, DrainState, ModuleRef],
      useFactory: (
        reader: PostgresHydrationReader,
        streams: AccountBroadcaster,
        flowRecords: BatchedFlowRecords,
        receipts: OpenReceipts,
        metrics: Metrics,
        drain: DrainState,
        modules: ModuleRef,
      ) => {
        // The stores feed on the stream and the stream on the stores: each asks for the other when it needs it.
        let found: Replication | undefined; // asked at every create_flow: Nest's look-up costs more than the answer
        const replication = (): Replication => (found ??= modules.get<Replication>(REPLICATION, { strict: false }));
        const views = () => modules.get<{ oldestPosition(): bigint | undefined }>(VIEW_BACKLOG, { strict: false });
        return new AccountStoreRegistry(
          {
            ...{ reader, streams, flowRecords, receipts, clock, random, scheduler, metrics, log },
            freshness: {
              // While we drain the stream stands still: nothing new is granted (D40).
              isFresh: () => !drain.isDraining && replication().freshness.isFresh(),
              staleBecause: () => replication().freshness.staleBecause(),
            },
            views: { oldestPosition: () => views().oldestPosition() },
            startSnapshot: () => replication().startSnapshot(),
          },
          {
            idleTtlMs: config.storeIdleTtlMs,
            hydrationConcurrency: config.hydrationConcurrency,
            resyncLimitMs: RESYNC_LIMIT_MS,
            auditIntervalMs: config.auditIntervalSeconds * 1000,
          },
        );
      },
    },
    { provide: COMMIT_SINK, useExisting: AccountStoreRegistry },
    { provide: ACCOUNT_STORES, useExisting: AccountStoreRegistry },
    { provide: TOKEN_WATCH, useExisting: AccountStoreRegistry },
    {
      provide: READINESS,
      inject: [AccountStoreRegistry, DrainState, ModuleRef],
      useFactory: (stores: AccountStoreRegistry, drain: DrainState, modules: ModuleRef): Readiness => ({
        problems: () => {
          const replication = modules.get<Replication>(REPLICATION, { strict: false });
          const again = stores.reconciling();
          return [
            drain.isDraining ? 'shutting down' : undefined,
            replication.freshness.staleBecause(),
            replication.slotProblem(),
            again > 0 ? `${again} accounts are being read again after an interruption of the stream` : undefined,
          ].filter((problem) => problem !== undefined);
        },
        slot: () => modules.get<Replication>(REPLICATION, { strict: false }).slotStatus(),
        appliedPosition: () => stores.appliedPosition(),
      }),
    },
  ];
}

/** An account that cannot be read again for this long is closed: its peers come back to a fresh read (events.md B.9). */
const RESYNC_LIMIT_MS = 60_000;

function replicationSetup(
  { config, databaseUrl, clock, random, scheduler, log }: Runtime,
  ports: Pick<ReplicationPorts, 'sink' | 'changeLog' | 'receipts' | 'metrics'>,
  database: Database,
): ReplicationSetup {
  const names = publicationNames(config.publicationPrefix);
  return {
    options: {
      databaseUrl,
      slot: config.replicationSlot,
      publications: [names.changes, names.flowEdits],
      mode: config.replicationMode,
      messagePrefix: config.publicationPrefix,
      heartbeatIntervalMs: config.heartbeatIntervalMs,
      staleAfterMs: config.staleAfterMs,
      maxLagMs: config.maxLagSeconds * 1_000,
      maxPendingBytes: config.maxPendingBytes,
      maxTxChanges: config.maxTxChanges,
      maxTxBytes: config.maxTxBytes,
    },
    ports: {
      ...ports,
      ...{ clock, scheduler, random, log },
      run: (text, values) => runStatement(database, 'heartbeat', text, values),
      readSlot: () => slotState(database, config.replicationSlot),
      reconcilePublications: async () => (await reconcilePublications(database, config.publicationPrefix)).length > 0,
      slotPublications: slotPublications(database, config.replicationSlot),
      beforeGap: () => forgetHistory(database, null),
    },
  };
}

function channelOptions(config: Config) {
  const { joinTimeoutMs, maxOutboundBytes, maxFrameBytes, connectTimeoutMs, maxConcurrentUpgrades } = config;
  const { maxUnansweredFlows, relaysDebounceMs, relaysRequired, receipts, receiptTimeoutMs, maxBackOffSeconds } =
    config;
  const socket = (idleMs: number, framesPerSecond: number) => ({
    ...{ idleMs, joinTimeoutMs, maxOutboundBytes },
    frames: { burst: framesPerSecond * FRAMES_AT_ONCE, perSecond: framesPerSecond },
  });
  return {
    sockets: {
      client: socket(config.clientIdleMs, config.clientFramesPerSecond),
      gateway: socket(config.gatewayIdleMs, config.gatewayFramesPerSecond),
      relay: socket(config.relayIdleMs, config.relayFramesPerSecond),
    },
    api: {
      ...{ maxFrameBytes, connectTimeoutMs, maxConcurrentUpgrades },
      connects: {
        connects: { burst: config.connectBurst, perSecond: config.connectsPerSecond },
        maxBackOffSeconds,
      },
      trustedProxies: config.trustedProxies.flatMap(
        ([address, length]) => parseRange(`${address.toString()}/${length}`) ?? [],
      ),
    },
    limits: {
      ...{ maxUnansweredFlows, relaysDebounceMs, relaysRequired, receiptTimeoutMs },
      receiptsAreAsked: receipts === 'on',
      mailboxLimit: MAILBOX_LIMIT,
    },
  };
}

/** A peer that joins says a lot in its first second and little after. */
const FRAMES_AT_ONCE = 5;

/** Tasks run as they are posted; only one that posts while it runs makes a queue. More than this is a runaway. */
const MAILBOX_LIMIT = 10_000;
