/** The event store: every change of a published table as raw column text (D10). */
import { sql } from 'kysely';
import { formatPosition } from '../core/model/position.js';
import type { ChangeLog, ChangeLogEntry, SpooledChange, SpooledCommit } from '../core/ports/change-log.js';
import type { Database } from './open-database.js';

/** Rows of a huge commit that become entries with one statement. */
const MOVE_ROWS = 10_000;

export class PostgresChangeLog implements ChangeLog {
  #epoch: number | undefined;
  #isSpoolOurs = false;

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

  async spool(changes: readonly SpooledChange[]): Promise<void> {
    const epoch = this.#mustHaveEpoch();
    await this.database.inTransaction('spool-changes', async (db) => {
      // What another process has left was not acknowledged, and comes again. Only who reads the slot gets here.
      if (!this.#isSpoolOurs) await sql`DELETE FROM change_log_spool`.execute(db);
      await sql`
        INSERT INTO change_log_spool (timeline_epoch, xid, seq, account_id, table_name, op, old_row, new_row)
        SELECT ${epoch}, entry.* FROM json_to_recordset(${JSON.stringify(changes.map(toSpoolColumns))}::json) AS entry (
          xid bigint, seq int, account_id uuid, table_name text, op text, old_row jsonb, new_row jsonb)
        ON CONFLICT DO NOTHING`.execute(db);
    });
    this.#isSpoolOurs = true;
  }

  /**
   * In steps, none of which is long: the server reads its own log of them for the stream, and everybody's commits wait while
   * it goes over a long one. Cut short, it is begun again; what was moved is no longer there.
   */
  async finishSpool(commit: SpooledCommit): Promise<void> {
    let last: number | null = -1;
    while (last !== null) last = await this.#moveSpooled(commit, last);
  }

  /** Moves what follows `after`; null when that was nothing. */
  async #moveSpooled({ position, xid, committedAt }: SpooledCommit, after: number): Promise<number | null> {
    const epoch = this.#mustHaveEpoch();
    const { rows } = await this.database.ask('finish-spool', (db) =>
      sql<{ last: number | null }>`
        WITH chosen AS (
          SELECT seq FROM change_log_spool
          WHERE timeline_epoch = ${epoch} AND xid = ${String(xid)} AND seq > ${after} ORDER BY seq LIMIT ${MOVE_ROWS}),
        spooled AS (
          DELETE FROM change_log_spool WHERE timeline_epoch = ${epoch} AND xid = ${String(xid)} AND seq > ${after}
            AND seq <= (SELECT max(seq) FROM chosen) RETURNING *),
        moved AS (
          INSERT INTO change_log
            (timeline_epoch, position, seq, xid, committed_at, account_id, table_name, op, old_row, new_row)
          SELECT timeline_epoch, ${formatPosition(position)}::pg_lsn, seq, xid,
            ${new Date(committedAt).toISOString()}::timestamptz, account_id, table_name, op, old_row, new_row
          FROM spooled ON CONFLICT DO NOTHING)
        SELECT max(seq) AS last FROM chosen`.execute(db),
    );
    return rows[0]?.last ?? null;
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
      return { epoch: entered.epoch, isRaised: last !== undefined };
    });
    this.#epoch = epoch;
    return isRaised;
  }
}

function toColumns(entry: ChangeLogEntry) {
  return {
    position: formatPosition(entry.position),
    committed_at: new Date(entry.committedAt).toISOString(),
    ...toSpoolColumns(entry),
  };
}

function toSpoolColumns(entry: SpooledChange) {
  const { change } = entry;
  return {
    seq: entry.seq,
    xid: String(entry.xid),
    account_id: entry.accountId,
    table_name: change.kind === 'truncate' ? change.tables.join(',') : change.table,
    op: change.kind,
    old_row: change.kind === 'truncate' ? null : change.old,
    new_row: change.kind === 'truncate' ? null : change.new,
  };
}
