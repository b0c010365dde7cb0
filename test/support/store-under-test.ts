/** The registry of account stores on a model of the database: a test decides when each thing happens. */
import type { AccountId, ClientId, GatewayId } from '../../src/core/model/ids.js';
import type { Position } from '../../src/core/model/position.js';
import type { AccountHandle } from '../../src/core/ports/account-stores.js';
import type { AccountStreams, AppliedStep, StepImpacts } from '../../src/core/ports/account-streams.js';
import type { FlowRecords } from '../../src/core/ports/flow-records.js';
import type { HydrationReader, XidSnapshot } from '../../src/core/ports/hydration-reader.js';
import type { Metrics } from '../../src/core/ports/metrics.js';
import type { Clock } from '../../src/core/support/clock.js';
import type { Logger } from '../../src/core/support/logger.js';
import { OpenReceipts } from '../../src/replication/open-receipts.js';
import type { Scheduler } from '../../src/core/support/scheduler.js';
import { AccountStoreRegistry, type StoreOptions } from '../../src/store/account-store-registry.js';
import { ManualClock } from './manual-clock.js';
import { ModelDatabase, type ModelTransaction } from './model-database.js';

const IGNORED = (): void => undefined;
const NO_METRICS: Metrics = {
  ...{ commitApplied: IGNORED, replicationLag: IGNORED, replicationState: IGNORED, changeLogBacklog: IGNORED },
  ...{ rowUnreadable: IGNORED, channelOpened: IGNORED, channelClosed: IGNORED, pushed: IGNORED, decided: IGNORED },
  ...{ upgradeAnswered: IGNORED, frameRefused: IGNORED, throttled: IGNORED, receipted: IGNORED, queried: IGNORED },
  ...{ slot: IGNORED, storeDrifted: IGNORED, storeAudited: IGNORED },
};
export const SILENT: Logger = { error: IGNORED, warn: IGNORED, info: IGNORED, debug: IGNORED };

/** Remembers what was published, and lets a test say who is connected. */
class RecordingStreams implements AccountStreams {
  readonly steps: { readonly step: AppliedStep; readonly impacts: StepImpacts }[] = [];
  readonly failed: AccountId[] = [];
  readonly gateways = new Set<GatewayId>();
  readonly clients = new Set<ClientId>();
  /** Runs inside each publish. */
  onPublish: (step: AppliedStep, impacts: StepImpacts) => void = IGNORED;

  publish(step: AppliedStep, impacts: StepImpacts): void {
    this.steps.push({ step, impacts });
    this.onPublish(step, impacts);
  }

  fail(accountId: AccountId): void {
    this.failed.push(accountId);
  }

  subscribeGateway(): () => void {
    return IGNORED;
  }

  subscribeClient(): () => void {
    return IGNORED;
  }

  liveGateways(): ReadonlySet<GatewayId> {
    return this.gateways;
  }

  liveClients(): ReadonlySet<ClientId> {
    return this.clients;
  }
}

export const ACCOUNT = 'a0000000-0000-4000-8000-000000000001' as AccountId;
export const OTHER = 'a0000000-0000-4000-8000-000000000002' as AccountId;
export const GROUP = 'b0000000-0000-4000-8000-000000000001';

const OPTIONS: StoreOptions = { idleTtlMs: 60_000, hydrationConcurrency: 8, resyncLimitMs: 60_000, auditIntervalMs: 0 };

export class StoreUnderTest {
  readonly db = new ModelDatabase();
  readonly clock = new ManualClock();
  readonly streams = new RecordingStreams();
  readonly putBack: Parameters<FlowRecords['putBackRevoked']>[] = [];
  readonly forgets: Parameters<FlowRecords['historyGone']>[] = [];
  readonly receipts = new OpenReceipts();
  /** Outcomes of audits, and the rows that differed, by table. */
  readonly audits: string[] = [];
  readonly drift: [table: string, rows: number][] = [];
  readonly registry: AccountStoreRegistry;
  /** The history of flows is written. */
  flush: () => Promise<void> = () => Promise.resolve();
  isFresh = true;
  /** Position of a commit that some client view has not shown yet. */
  viewBacklog: Position | undefined;
  startSnapshot: XidSnapshot | undefined;
  /** Position of the last commit handed on. */
  streamedTo: Position = 0n;

  /** With a reader and a clock of its own the registry reads a real database in real time. */
  constructor(
    options: Partial<StoreOptions> = {},
    real: {
      readonly reader?: HydrationReader;
      readonly clock?: Clock;
      readonly startSnapshot?: () => XidSnapshot | undefined;
      readonly log?: Logger;
      readonly scheduler?: Scheduler;
    } = {},
  ) {
    this.registry = new AccountStoreRegistry(
      {
        reader: real.reader ?? this.db,
        streams: this.streams,
        flowRecords: {
          putBackRevoked: (...row) => void this.putBack.push(row),
          flush: () => this.flush(),
          historyGone: (...gone) => void this.forgets.push(gone),
        },
        receipts: this.receipts,
        freshness: { isFresh: () => this.isFresh, staleBecause: () => undefined },
        views: { oldestPosition: () => this.viewBacklog },
        startSnapshot: real.startSnapshot ?? (() => this.startSnapshot),
        clock: real.clock ?? this.clock,
        random: { uuid: () => '', bytes: (length) => new Uint8Array(length), fraction: () => 0.5 },
        scheduler: real.scheduler ?? { elapsedMs: () => 0, nextTurn: queueMicrotask },
        metrics: {
          ...NO_METRICS,
          storeAudited: (outcome) => void this.audits.push(outcome),
          storeDrifted: (table, rows) => void this.drift.push([table, rows]),
        },
        log: real.log ?? SILENT,
      },
      { ...OPTIONS, ...options },
    );
  }

  /** Two accounts, the first with a group, and all of it streamed and visible. */
  static async ofSmallAccounts(...setup: ConstructorParameters<typeof StoreUnderTest>): Promise<StoreUnderTest> {
    const test = new StoreUnderTest(...setup);
    test.db.run((tx) => {
      for (const id of [ACCOUNT, OTHER]) {
        tx.set('accounts', { id, name: 'a', slug: 'a', config: '{}', disabled_at: null });
      }
      named('as it began')(tx);
    });
    test.streamAll();
    await test.settle();
    return test;
  }

  async joined(accountId = ACCOUNT): Promise<AccountHandle> {
    const opening = this.registry.open(accountId);
    await this.answerReads();
    return opening;
  }

  /** Committed and streamed, and still invisible to snapshots: what a synchronous standby that is away does (E3). */
  streamedTooEarly(write: (tx: ModelTransaction) => unknown): ModelTransaction {
    const tx = this.db.begin();
    write(tx);
    this.db.commit(tx);
    this.streamAll();
    return tx;
  }

  /** Hands the registry the next commit of the stream. False at its end. */
  stream(): boolean {
    const commit = this.db.nextCommit();
    if (commit) this.streamedTo = commit.position;
    if (commit) this.registry.accept(commit);
    return commit !== undefined;
  }

  streamAll(): void {
    while (this.stream());
  }

  /** Every snapshot that is waited for is taken and its rows arrive. */
  async answerReads(): Promise<void> {
    await turns();
    while (this.db.waitingReads > 0) {
      while (this.db.takeSnapshot());
      this.db.answer();
      await turns();
    }
  }

  /** The ring asks for a snapshot, and lets go of what it contains. */
  async settle(): Promise<void> {
    this.clock.advance(250);
    await turns();
  }
}

/** A group of the account, by another name each time: the change that tests of stores make. */
export const named =
  (name: string, accountId = ACCOUNT) =>
  (tx: ModelTransaction): ModelTransaction =>
    tx.set('groups', { account_id: accountId, id: GROUP, name });

export const nameIn = (handle: AccountHandle): string | undefined => handle.state.row('groups', GROUP)?.name;

/** Lets every promise that can settle do so. */
export async function turns(): Promise<void> {
  for (let i = 0; i < 12; i += 1) await Promise.resolve();
}
