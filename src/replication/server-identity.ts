/** Which server and which branch of its history a connection has reached. */
import type { Backend, ChangeSource } from './change-source.js';
import { PUBLICATIONS_VERSION } from './heartbeat.js';

export interface ServerIdentity {
  readonly systemId: string;
  readonly timeline: number;
  /** Changes with every start of the server, crash recovery included. */
  readonly startedAt: string;
  readonly isStandby: boolean;
  readonly xmax: bigint;
  readonly backend: Backend;
}

export async function readServerIdentity(source: ChangeSource): Promise<ServerIdentity> {
  const { systemId, timeline } = await source.readSystem();
  const [server] = await source.ask(`
    SELECT pg_postmaster_start_time()::text AS started, pg_is_in_recovery()::text AS standby,
      CASE WHEN NOT pg_is_in_recovery() THEN pg_snapshot_xmax(pg_current_snapshot())::text ELSE '0' END AS xmax,
      pid::text, backend_start::text
    FROM pg_stat_activity WHERE pid = pg_backend_pid()`);
  if (!server) throw new Error('the server did not say who it is');
  return {
    systemId,
    timeline,
    startedAt: server['started'] ?? '',
    isStandby: server['standby'] === 'true',
    xmax: BigInt(server['xmax'] ?? '0'),
    backend: { pid: server['pid'] ?? '', startedAt: server['backend_start'] ?? '' },
  };
}

/** See `PUBLICATIONS_VERSION`.
 * @param names only of letters, digits and underscores: they are set into the statement. */
export async function readPublications(source: ChangeSource, names: readonly string[]): Promise<string> {
  const list = names.map((name) => `'${name}'`).join(', ');
  const [row] = await source.ask(`
    SELECT ${PUBLICATIONS_VERSION} AS publications FROM pg_publication WHERE pubname IN (${list})`);
  return row?.['publications'] ?? '';
}
