/** The event store and the lives of the process. None of it is published. */
import { sql } from 'kysely';
import type { Kysely } from 'kysely';

export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    -- Every database history this log was written from. A restored or promoted server starts a new epoch, so that
    -- positions of a lost branch never collide with new ones (D10).
    CREATE TABLE timelines (
      epoch int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
      system_id text NOT NULL,
      timeline int NOT NULL,
      entered_at timestamptz NOT NULL DEFAULT now()
    );

    -- One row per change of a published table, as raw column text. account_id is no foreign key: the log outlives the
    -- account. A TRUNCATE is one row whose table_name lists the tables.
    CREATE TABLE change_log (
      timeline_epoch int NOT NULL REFERENCES timelines,
      position pg_lsn NOT NULL,
      seq int NOT NULL,
      xid bigint NOT NULL,
      committed_at timestamptz NOT NULL,
      account_id uuid,
      table_name text NOT NULL,
      op text NOT NULL CHECK (op IN ('insert', 'update', 'delete', 'truncate')),
      old_row jsonb,
      new_row jsonb,
      recorded_at timestamptz NOT NULL DEFAULT now(),
      PRIMARY KEY (timeline_epoch, position, seq)
    );
    CREATE INDEX change_log_by_recorded_at ON change_log USING brin (recorded_at);

    -- One row per start of the process; clean_at once its last batch of flows was written (D22).
    CREATE TABLE epochs (
      id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
      started_at timestamptz NOT NULL DEFAULT now(),
      clean_at timestamptz
    );
  `.execute(db);
}
