/** The event store: every change of a published table as raw column text (D10). */
import { sql } from 'kysely';
import { formatPosition } from '../core/model/position.js';
import type { ChangeLog, ChangeLogEntry } from '../core/ports/change-log.js';
import { forgetHistoryIn } from './epochs.js';
import type { Database } from './open-database.js';

export class PostgresChangeLog implements ChangeLog {
  #epoch: number | undefined;

  constructor(private readonly database: Database) {}

  /** One statement, the entries as one parameter. Throws when no timeline was entered yet. */
  async append(entries: readonly ChangeLogEntry[]): Promise<void> {
    const epoch = this.#mustHaveEpoch();
    if (entries.length === 0) return;
    await this.database.ask('append-change-log', (db) =>
      sql`
        INSERT INTO change_log
          (timeline_epoch, position, seq, xid, committed_at, account_id, table_name, op, old_row, new_row)
        SELECT ${epoch}, entry.* FROM json_to_recordset(${JSON.stringify(entries.map(toColumns))}::json) AS entry (
          position pg_lsn, seq int, xid bigint, committed_at timestamptz, account_id uuid, table_name text, op text,
          old_row jsonb, new_row jsonb)
        ON CONFLICT DO NOTHING`.execute(db),
    );
  }

  #mustHaveEpoch(): number {
    if (this.#epoch === undefined) throw new Error('enterTimeline comes first');
    return this.#epoch;
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
      const isRaised = last !== undefined;
      if (isRaised) await forgetHistoryIn(db, null);
      return { epoch: entered.epoch, isRaised };
    });
    this.#epoch = epoch;
    return isRaised;
  }
}

function toColumns(entry: ChangeLogEntry) {
  const { change } = entry;
  return {
    position: formatPosition(entry.position),
    committed_at: new Date(entry.committedAt).toISOString(),
    seq: entry.seq,
    xid: String(entry.xid),
    account_id: entry.accountId,
    table_name: change.kind === 'truncate' ? change.tables.join(',') : change.table,
    op: change.kind,
    old_row: change.kind === 'truncate' ? null : change.old,
    new_row: change.kind === 'truncate' ? null : change.new,
  };
}
