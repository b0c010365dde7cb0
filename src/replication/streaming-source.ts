/** Commits over a connection in replication mode: PostgreSQL sends each as soon as it is flushed (D10). */
import { parsePosition } from '../core/model/position.js';
import type { RawRow } from '../core/changes/commit.js';
import type { XidSnapshot } from '../core/ports/hydration-reader.js';
import type { Backend, ChangeSource, NewSlot } from './change-source.js';
import { ReplicationConnection } from './replication-connection.js';
import { type SessionDependencies, StreamSession } from './stream-session.js';

export interface SourceOptions {
  readonly databaseUrl: string;
  /** `[a-z0-9_]` each. */
  readonly publications: readonly string[];
  readonly applicationName: string;
}

export type SourceDependencies = Omit<SessionDependencies, 'connection'>;

export class StreamingSource implements ChangeSource {
  readonly #connection: ReplicationConnection;
  readonly #session: StreamSession;

  constructor(
    private readonly options: SourceOptions,
    dependencies: SourceDependencies,
  ) {
    this.#connection = new ReplicationConnection(options.databaseUrl, options.applicationName);
    this.#session = new StreamSession({ ...dependencies, connection: this.#connection });
  }

  connect(): Promise<void> {
    return this.#connection.connect();
  }

  ask(statement: string): Promise<readonly RawRow[]> {
    return this.#connection.ask(statement);
  }

  async readSystem(): Promise<{ readonly systemId: string; readonly timeline: number }> {
    const [system] = await this.ask('IDENTIFY_SYSTEM');
    return { systemId: system?.['systemid'] ?? '', timeline: Number(system?.['timeline']) };
  }

  /** In a transaction that uses the slot's own snapshot, so that what was visible at its start can be asked. */
  async makeSlot(slot: string, isFailover: boolean): Promise<NewSlot> {
    await this.ask('BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY');
    try {
      const options = isFailover ? `SNAPSHOT 'use', FAILOVER true` : `SNAPSHOT 'use'`;
      const [made] = await this.ask(`CREATE_REPLICATION_SLOT "${slot}" LOGICAL pgoutput (${options})`);
      const [seen] = await this.ask('SELECT pg_current_snapshot()::text AS snapshot');
      const confirmed = parsePosition(made?.['consistent_point'] ?? '') ?? 0n;
      return { confirmed, snapshot: readSnapshot(seen?.['snapshot'] ?? '') };
    } finally {
      await this.ask('ROLLBACK');
    }
  }

  async dropSlot(slot: string): Promise<void> {
    await this.ask(`DROP_REPLICATION_SLOT "${slot}"`);
  }

  async letSlotFollowFailovers(slot: string): Promise<boolean> {
    await this.ask(`ALTER_REPLICATION_SLOT "${slot}" (FAILOVER true)`);
    return true;
  }

  async endFormer(slot: string, former: Backend): Promise<boolean> {
    const rows = await this.ask(`
      SELECT pg_terminate_backend(a.pid) AS ended FROM pg_replication_slots s JOIN pg_stat_activity a ON a.pid = s.active_pid
      WHERE s.slot_name = '${slot}' AND a.pid = ${Number(former.pid)} AND a.backend_start = '${former.startedAt}'`);
    return rows.length > 0;
  }

  run(slot: string, onStarted: () => void): Promise<void> {
    const names = this.options.publications.map((name) => `"${name}"`).join(',');
    return this.#session.run(
      `START_REPLICATION SLOT "${slot}" LOGICAL 0/0 (proto_version '1', publication_names '${names}', messages 'true')`,
      onStarted,
    );
  }

  regulate(): void {
    this.#session.regulate();
  }

  askForKeepalive(): void {
    this.#session.askForKeepalive();
  }

  deafen(): void {
    this.#connection.deafen();
  }

  finish(limitMs: number): Promise<void> {
    return this.#session.finish(limitMs);
  }

  destroy(reason?: Error): void {
    this.#connection.destroy(reason);
  }
}

/** `xmin:xmax:xip,xip` */
function readSnapshot(text: string): XidSnapshot | undefined {
  const match = /^\d+:(\d+):([\d,]*)$/.exec(text);
  if (!match?.[1]) return undefined;
  const running = (match[2] ?? '').split(',').filter((xid) => xid !== '');
  return { xmax: BigInt(match[1]), running: new Set(running.map(BigInt)) };
}
