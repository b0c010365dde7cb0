/** Which server and which branch of its history a replication connection has reached. */
import type { EpochMs } from '../core/model/time.js';
import { PUBLICATION_IDENTITY } from './heartbeat.js';
import type { ReplicationConnection } from './replication-connection.js';

export interface ServerIdentity {
  readonly systemId: string;
  readonly timeline: number;
  /** Changes with every start of the server, crash recovery included. */
  readonly startedAt: string;
  readonly isStandby: boolean;
  readonly xmax: bigint;
  readonly backend: Backend;
}

/** One server process, told from a later one of the same pid by its start. */
export interface Backend {
  readonly pid: string;
  readonly startedAt: string;
}

export async function readServerIdentity(connection: ReplicationConnection): Promise<ServerIdentity> {
  const [system] = await connection.ask('IDENTIFY_SYSTEM');
  const [server] = await connection.ask(`
    SELECT pg_postmaster_start_time()::text AS started, pg_is_in_recovery()::text AS standby,
      CASE WHEN NOT pg_is_in_recovery() THEN pg_snapshot_xmax(pg_current_snapshot())::text ELSE '0' END AS xmax,
      pid::text, backend_start::text
    FROM pg_stat_activity WHERE pid = pg_backend_pid()`);
  if (!system || !server) throw new Error('the server did not say who it is');
  return {
    systemId: system['systemid'] ?? '',
    timeline: Number(system['timeline']),
    startedAt: server['started'] ?? '',
    isStandby: server['standby'] === 'true',
    xmax: BigInt(server['xmax'] ?? '0'),
    backend: { pid: server['pid'] ?? '', startedAt: server['backend_start'] ?? '' },
  };
}

/** The publications as they are, and since when that is known. */
export interface PublicationIdentity {
  readonly identity: string;
  readonly readAt: EpochMs;
}

/** @param names only of letters, digits and underscores: they are set into the statement. */
export async function readPublications(connection: ReplicationConnection, names: readonly string[]): Promise<string> {
  const list = names.map((name) => `'${name}'`).join(', ');
  const [row] = await connection.ask(`
    SELECT ${PUBLICATION_IDENTITY} AS publications FROM pg_publication WHERE pubname IN (${list})`);
  return row?.['publications'] ?? '';
}

/** Ends `former` if it still holds the slot. The server would notice only after `wal_sender_timeout` that we left it. */
export async function endFormerBackend(
  connection: ReplicationConnection,
  slotName: string,
  former: Backend,
): Promise<boolean> {
  const rows = await connection.ask(`
    SELECT pg_terminate_backend(a.pid) AS ended FROM pg_replication_slots s JOIN pg_stat_activity a ON a.pid = s.active_pid
    WHERE s.slot_name = '${slotName}' AND a.pid = ${Number(former.pid)} AND a.backend_start = '${former.startedAt}'`);
  return rows.length > 0;
}
