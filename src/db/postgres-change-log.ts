/** The event store: every change of a published table as raw column text (D10). */
import { sql } from 'kysely';
import type { RawRow } from '../core/changes/commit.js';
import { formatPosition } from '../core/model/position.js';
import type { ChangeLog, ChangeLogEntry } from '../core/ports/change-log.js';
import type { Database } from './open-database.js';

export class PostgresChangeLog implements ChangeLog {
  #epoch: number | undefined;

  constructor(private readonly database: Database) {}

  /** One statement. Throws when no timeline was entered yet. */
  async append(entries: readonly ChangeLogEntry[]): Promise<void> {
    const epoch = this.#epoch;
    if (epoch === undefined) throw new Error('enterTimeline comes before append');
    if (entries.length === 0) return;
    await this.database.ask('append-change-log', (db) =>
      sql`
        INSERT INTO change_log
          (timeline_epoch, position, seq, xid, committed_at, account_id, table_name, op, old_row, new_row)
        SELECT ${epoch}, entry.* FROM unnest(
          ${entries.map((entry) => formatPosition(entry.position))}::pg_lsn[], ${entries.map((entry) => entry.seq)}::int[],
          ${entries.map((entry) => String(entry.xid))}::bigint[],
          ${entries.map((entry) => new Date(entry.committedAt).toISOString())}::timestamptz[],
          ${entries.map((entry) => entry.accountId)}::uuid[], ${entries.map(tableName)}::text[],
          ${entries.map((entry) => entry.change.kind)}::text[],
          ${entries.map((entry) => json(rowsOf(entry).old))}::jsonb[],
          ${entries.map((entry) => json(rowsOf(entry).new))}::jsonb[]
        ) AS entry
        ON CONFLICT DO NOTHING`.execute(db),
    );
  }

  /** The very first timeline starts epoch 1 and raises nothing. */
  async enterTimeline(systemId: string, timeline: number): Promise<boolean> {
    const { epoch, isRaised } = await this.database.inTransaction('enter-timeline', async (db) => {
      await sql`LOCK TABLE timelines IN SHARE ROW EXCLUSIVE MODE`.execute(db);
      const last = await db.selectFrom('timelines').selectAll().orderBy('epoch', 'desc').limit(1).executeTakeFirst();
      if (last?.system_id === systemId && last.timeline === timeline) return { epoch: last.epoch, isRaised: false };
      const entered = await db
        .insertInto('timelines')
        .values({ system_id: systemId, timeline })
        .returning('epoch')
        .executeTakeFirstOrThrow();
      return { epoch: entered.epoch, isRaised: last !== undefined };
    });
    this.#epoch = epoch;
    return isRaised;
  }
}

function tableName({ change }: ChangeLogEntry): string {
  return change.kind === 'truncate' ? change.tables.join(',') : change.table;
}

function rowsOf({ change }: ChangeLogEntry): { readonly old: RawRow | null; readonly new: RawRow | null } {
  return change.kind === 'truncate' ? { old: null, new: null } : change;
}

function json(row: RawRow | null): string | null {
  return row === null ? null : JSON.stringify(row);
}
