/**
 * Commits of the account, as the event store has them: position, time and tables. Read by polling `change_log`, the one
 * place where a position and the commit's time stand next to each other outside the server; a peer is never told either.
 */
import { parsePosition, type Position } from '../core/model/position.js';
import type { EpochMs } from '../core/model/time.js';
import type { Clock } from '../core/support/clock.js';
import type { Query } from './demo-options.js';

export interface SeenCommit {
  readonly position: Position;
  /** By the database's clock, when the commit record was written. */
  readonly committedAt: EpochMs;
  /** `update policies`, `delete memberships ×12` … in the order of the transaction. */
  readonly what: readonly string[];
}

export interface FeedListener {
  committed(commit: SeenCommit): void;
  /** The database did not answer; said once until it does again. */
  failed(error: unknown): void;
}

/** Oftener asks the database for nothing; rarer shows commits late. The times shown do not depend on it. */
const POLL_MS = 100;

export class CommitFeed {
  #from = '0/0';
  #isStopped = false;
  #isFailing = false;
  #cancel: (() => void) | undefined;

  constructor(
    private readonly query: Query,
    private readonly accountId: string,
    private readonly clock: Clock,
    private readonly listener: FeedListener,
  ) {}

  /** Commits from here on; rejects when the database does not answer. */
  async start(): Promise<void> {
    const [row] = await this.query('SELECT pg_current_wal_lsn()::text AS position');
    this.#from = String(row?.['position']);
    this.#again();
  }

  stop(): void {
    this.#isStopped = true;
    this.#cancel?.();
  }

  #again(): void {
    if (!this.#isStopped) this.#cancel = this.clock.after(POLL_MS, () => void this.#poll());
  }

  async #poll(): Promise<void> {
    try {
      const rows = await this.query(SINCE, [this.#from, this.accountId]);
      this.#isFailing = false;
      if (!this.#isStopped) this.#hand(rows);
    } catch (error) {
      if (!this.#isFailing && !this.#isStopped) this.listener.failed(error);
      this.#isFailing = true;
    }
    this.#again();
  }

  #hand(rows: readonly Readonly<Record<string, unknown>>[]): void {
    const commits = new Map<string, { committedAt: EpochMs; what: string[] }>();
    for (const row of rows) {
      const position = String(row['position']);
      const commit = commits.get(position) ?? { committedAt: Number(row['committed_ms']), what: [] };
      commit.what.push(describe(String(row['op']), String(row['table_name']), Number(row['changes'])));
      commits.set(position, commit);
    }
    for (const [text, { committedAt, what }] of commits) {
      this.#from = text;
      this.listener.committed({ position: parsePosition(text) ?? 0n, committedAt, what });
    }
  }
}

/** A TRUNCATE belongs to no account. A position is unique only within one history of the database, the newest here. */
const SINCE = `
  SELECT position::text, (extract(epoch FROM committed_at) * 1000)::float8 AS committed_ms,
    op, table_name, count(*)::int AS changes
  FROM change_log
  WHERE timeline_epoch = (SELECT max(epoch) FROM timelines) AND position > $1::pg_lsn
    AND (account_id = $2 OR (account_id IS NULL AND op = 'truncate'))
  GROUP BY change_log.position, committed_at, op, table_name
  ORDER BY change_log.position, min(seq)`;

function describe(op: string, table: string, changes: number): string {
  return changes === 1 ? `${op} ${table}` : `${op} ${table} ×${changes}`;
}
