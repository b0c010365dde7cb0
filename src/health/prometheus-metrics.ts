/** The house's numbers in Prometheus' text format. Labels come from closed sets; ids never become labels. */
import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from 'prom-client';
import { ACCOUNT_TABLES, type AccountTable } from '../core/model/rows.js';
import type { DecisionOutcome, Metrics, PeerRole } from '../core/ports/metrics.js';
import { SLOT_STATES, type SlotStatus } from '../core/ports/slot-status.js';

const FAST_MS = [0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 1000];
const RECEIPT_MS = [0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000];
const QUERY_MS = [0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 1000, 5000];

export class PrometheusMetrics implements Metrics {
  readonly registry = new Registry();
  readonly #commits = this.#counter('portcullis_commits_total', 'Commits applied');
  readonly #changes = this.#counter('portcullis_changes_total', 'Row changes in applied commits');
  readonly #decode = this.#histogram('portcullis_commit_decode_ms', 'Decoding one commit', FAST_MS);
  readonly #apply = this.#histogram('portcullis_commit_apply_ms', 'Applying one commit and fanning it out', FAST_MS);
  readonly #lagBytes = this.#gauge('portcullis_replication_lag_bytes', 'WAL between the server and what is applied');
  readonly #lagMs = this.#gauge('portcullis_replication_lag_ms', 'Age of the last heartbeat when it came back');
  readonly #state = this.#gauge('portcullis_replication_state', '1 for the state the stream is in', ['state']);
  readonly #slotState = this.#gauge('portcullis_slot_state', '1 for the state the slot is in', ['state']);
  readonly #slotRetained = this.#gauge('portcullis_slot_retained_bytes', 'WAL the server keeps for the slot');
  readonly #slotLag = this.#gauge('portcullis_slot_lag_bytes', 'WAL not acknowledged yet');
  readonly #slotSafe = this.#gauge('portcullis_slot_safe_bytes', 'WAL that may be written before the slot is lost');
  readonly #backlog = this.#gauge('portcullis_change_log_backlog', 'Changes applied but not recorded yet');
  readonly #unreadable = this.#counter('portcullis_rows_unreadable_total', 'Parts of rows that deny', ['table']);
  readonly #drift = this.#counter('portcullis_store_drift_total', 'Rows that differed from the database', ['table']);
  readonly #audits = this.#counter('portcullis_store_audits_total', 'Comparisons with the database', ['outcome']);
  readonly #channels = this.#gauge('portcullis_sockets', 'Open sockets', ['role']);
  readonly #closed = this.#counter('portcullis_sockets_closed_total', 'Sockets that ended', ['role', 'why']);
  readonly #pushes = this.#counter('portcullis_pushes_total', 'Frames pushed', ['role', 'event']);
  readonly #decisions = this.#counter('portcullis_decisions_total', 'Decisions by outcome', ['outcome']);
  readonly #receipt = this.#histogram('portcullis_receipt_ms', 'From push of a rejection to its receipt', RECEIPT_MS);
  readonly #revocation = this.#histogram('portcullis_revocation_ms', 'From commit to receipt', RECEIPT_MS);
  readonly #upgrades = this.#counter('portcullis_upgrades_total', 'Upgrades answered', ['status']);
  readonly #refused = this.#counter('portcullis_frames_refused_total', 'Frames that no schema reads', ['role', 'why']);
  readonly #throttled = this.#counter('portcullis_sockets_throttled_total', 'Times a peer said too much', ['role']);
  readonly #queries = this.#histogram('portcullis_query_ms', 'SQL statements', QUERY_MS, ['question']);

  constructor() {
    collectDefaultMetrics({ register: this.registry });
    // An alert on an increase needs the zero before it.
    for (const table of ACCOUNT_TABLES) this.#drift.inc({ table }, 0);
  }

  text(): Promise<string> {
    return this.registry.metrics();
  }

  commitApplied(changes: number, decodeMs: number, applyMs: number): void {
    this.#commits.inc();
    this.#changes.inc(changes);
    this.#decode.observe(decodeMs);
    this.#apply.observe(applyMs);
  }

  replicationLag(bytes: number, ms: number): void {
    this.#lagBytes.set(bytes);
    this.#lagMs.set(ms);
  }

  replicationState(state: 'connecting' | 'streaming' | 'stopped'): void {
    for (const each of ['connecting', 'streaming', 'stopped']) this.#state.set({ state: each }, each === state ? 1 : 0);
  }

  slot({ state, retainedBytes, lagBytes, safeWalBytes }: SlotStatus): void {
    for (const each of SLOT_STATES) this.#slotState.set({ state: each }, each === state ? 1 : 0);
    this.#slotRetained.set(retainedBytes ?? 0);
    this.#slotLag.set(lagBytes ?? 0);
    // Without a limit there is no such number, and 0 would be an alarm.
    if (typeof safeWalBytes === 'number') this.#slotSafe.set(safeWalBytes);
    else this.#slotSafe.remove();
  }

  changeLogBacklog(entries: number): void {
    this.#backlog.set(entries);
  }

  rowUnreadable(table: string): void {
    this.#unreadable.inc({ table });
  }

  storeDrifted(table: AccountTable, rows: number): void {
    this.#drift.inc({ table }, rows);
  }

  storeAudited(outcome: 'equal' | 'drifted' | 'abandoned'): void {
    this.#audits.inc({ outcome });
  }

  channelOpened(role: PeerRole): void {
    this.#channels.inc({ role });
  }

  channelClosed(role: PeerRole, why: string): void {
    this.#channels.dec({ role });
    this.#closed.inc({ role, why: why.startsWith('peer-closed-') ? 'peer-closed' : why });
  }

  pushed(role: PeerRole, event: string): void {
    this.#pushes.inc({ role, event });
  }

  decided(outcome: DecisionOutcome): void {
    this.#decisions.inc({ outcome });
  }

  receipted(sincePushMs: number, sinceCommitMs: number | null): void {
    this.#receipt.observe(sincePushMs);
    if (sinceCommitMs !== null) this.#revocation.observe(sinceCommitMs);
  }

  upgradeAnswered(status: number): void {
    this.#upgrades.inc({ status });
  }

  frameRefused(role: PeerRole, why: string): void {
    this.#refused.inc({ role, why });
  }

  throttled(role: PeerRole): void {
    this.#throttled.inc({ role });
  }

  queried(question: string, ms: number): void {
    this.#queries.observe({ question }, ms);
  }

  #counter(name: string, help: string, labelNames: string[] = []): Counter {
    return new Counter({ name, help, labelNames, registers: [this.registry] });
  }

  #gauge(name: string, help: string, labelNames: string[] = []): Gauge {
    return new Gauge({ name, help, labelNames, registers: [this.registry] });
  }

  #histogram(name: string, help: string, buckets: number[], labelNames: string[] = []): Histogram {
    return new Histogram({ name, help, buckets, labelNames, registers: [this.registry] });
  }
}
