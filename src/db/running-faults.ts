/** What the facts of a running server mean for us, and the statement that puts each fault right. Asks nothing. */
import type { SlotFacts } from '../core/ports/slot-status.js';
import type { PublicationChange } from './publications.js';
import type { OpenTransaction, RunningFacts } from './running-facts.js';

export interface RunningFault {
  readonly code:
    | 'slot-lost'
    | 'slot-unreserved'
    | 'slot-foreign'
    | 'slot-lag'
    | 'slot-failover'
    | 'standby-slots'
    | 'idle-slot-timeout'
    | 'wal-sender-timeout'
    | 'connections'
    | 'open-transaction'
    | 'prepared-transaction'
    | 'publication-drift';
  readonly severity: 'fault' | 'warning';
  readonly what: string;
  readonly fix: string;
}

export interface Examined {
  readonly facts: RunningFacts;
  readonly slot: SlotFacts | undefined;
  readonly slotName: string;
  readonly drift: readonly PublicationChange[];
  /** Connections our pool may open. */
  readonly poolSize: number;
  /** Who polls has no WAL sender that could be given up. */
  readonly mode: 'stream' | 'poll';
}

/** Faults first. */
export function runningFaults(examined: Examined): readonly RunningFault[] {
  const found = [
    ...slotFaults(examined),
    ...driftFaults(examined.drift),
    ...failoverFaults(examined),
    ...settingFaults(examined),
    ...examined.facts.open.map(openFault),
  ];
  return [
    ...found.filter(({ severity }) => severity === 'fault'),
    ...found.filter(({ severity }) => severity === 'warning'),
  ];
}

function slotFaults({ facts, slot, slotName }: Examined): RunningFault[] {
  if (!slot) return [];
  const drop = `SELECT pg_drop_replication_slot(${literal(slotName)});`;
  if (facts.slot_is_ours === false) {
    const what = `slot "${slotName}" belongs to another database or output plugin`;
    return [fault('slot-foreign', what, `set REPLICATION_SLOT to another name, or ${drop}`)];
  }
  if (slot.walStatus === 'lost' || slot.invalidation !== null) {
    const why = slot.invalidation === null ? '' : ` (${slot.invalidation})`;
    return [
      fault('slot-lost', `slot "${slotName}" can never be read again${why}`, `${drop} a running server does it itself`),
    ];
  }
  const raise = `ALTER SYSTEM SET max_slot_wal_keep_size = '${Math.max(2 * facts.keep_size_mb, 4096)}MB'; SELECT pg_reload_conf();`;
  if (slot.walStatus === 'unreserved') {
    return [fault('slot-unreserved', `the next checkpoint may lose the log of slot "${slotName}"`, raise)];
  }
  const isHalfFull = facts.keep_size_mb >= 0 && slot.retainedBytes > (facts.keep_size_mb * 1024 * 1024) / 2;
  if (!isHalfFull) return [];
  const what = `slot "${slotName}" keeps more than half of what max_slot_wal_keep_size allows`;
  return [warning('slot-lag', what, slot.activePid === null ? 'start the server, or drop the slot: ' + drop : raise)];
}

function driftFaults(drift: readonly PublicationChange[]): RunningFault[] {
  return drift.map(({ publication, what, table }) => {
    const subject = table === undefined ? publication : `${publication}, ${table}`;
    return fault('publication-drift', `${subject}: ${DRIFT[what]}`, 'portcullis migrate');
  });
}

const DRIFT: Readonly<Record<PublicationChange['what'], string>> = {
  created: 'the publication is missing, or publishes all tables',
  'table-added': 'its changes are not published',
  'table-dropped': 'it is published and nobody reads it',
  'row-or-column-filter-removed': 'only a part of it is published',
  'publish-options-set': 'not every kind of change is published',
};

function failoverFaults({ facts, slot, slotName, mode }: Examined): RunningFault[] {
  if (facts.version < 170_000 || !slot || facts.slot_is_ours === false) return [];
  const faults: RunningFault[] = [];
  if (!slot.failover) {
    const what = `slot "${slotName}" is not copied to standbys: after a failover a new one is made`;
    const fix =
      mode === 'stream'
        ? 'start the server again: it changes the slot when it connects'
        : `stop the server, SELECT pg_drop_replication_slot(${literal(slotName)}); and start it again`;
    faults.push(warning('slot-failover', what, fix));
  }
  const named = (facts.settings['synchronized_standby_slots'] ?? '').split(',').map((name) => name.trim());
  const unnamed = facts.standby_slots.filter((name) => !named.includes(name));
  if (unnamed.length > 0) {
    const what = `the stream may be ahead of the standby behind ${unnamed.join(', ')} when that takes over`;
    const all = [...named.filter((name) => name !== ''), ...unnamed].join(', ');
    const fix = `ALTER SYSTEM SET synchronized_standby_slots = ${literal(all)}; SELECT pg_reload_conf();`;
    faults.push(warning('standby-slots', what, fix));
  }
  return faults;
}

/** We say how far we are every 10 s; the server gives up who is silent for longer than this. */
const LEAST_SENDER_TIMEOUT_MS = 15_000;
/** For the stream, its next attempt, and a person with `psql`. */
const SPARE_CONNECTIONS = 3;

function settingFaults({ facts, poolSize, mode }: Examined): RunningFault[] {
  const faults: RunningFault[] = [];
  const timeout = facts.wal_sender_timeout_ms;
  if (mode === 'stream' && timeout < LEAST_SENDER_TIMEOUT_MS) {
    const what =
      timeout === 0
        ? 'wal_sender_timeout is 0: a connection that vanished holds the slot for hours'
        : `wal_sender_timeout is ${timeout} ms: the stream is cut off between two of its status updates`;
    faults.push(
      warning('wal-sender-timeout', what, `ALTER SYSTEM SET wal_sender_timeout = '60s'; SELECT pg_reload_conf();`),
    );
  }
  if (facts.idle_slot_timeout > 0) {
    const what = `idle_replication_slot_timeout is set: a server that is stopped for that long loses its slot`;
    const fix = 'ALTER SYSTEM SET idle_replication_slot_timeout = 0; SELECT pg_reload_conf();';
    faults.push(warning('idle-slot-timeout', what, fix));
  }
  const free = facts.max_connections - facts.connections;
  if (free < poolSize + SPARE_CONNECTIONS) {
    const what = `${free} connections are free, DATABASE_POOL_SIZE is ${poolSize}`;
    const wanted = facts.max_connections + poolSize + SPARE_CONNECTIONS;
    const fix = `ALTER SYSTEM SET max_connections = ${wanted}; then restart PostgreSQL`;
    faults.push(warning('connections', what, fix));
  }
  return faults;
}

/** Its changes are kept in the log until it ends, and a new slot waits for it. */
function openFault({ pid, gid, database, user, forSeconds }: OpenTransaction): RunningFault {
  const since = `for ${Math.round(forSeconds)} s in database "${database}" by "${user}": it holds the slot's log, and a new slot waits for it`;
  return gid === undefined
    ? warning('open-transaction', `a transaction is open ${since}`, `SELECT pg_terminate_backend(${pid ?? 0});`)
    : warning('prepared-transaction', `a prepared transaction waits ${since}`, `ROLLBACK PREPARED ${literal(gid)};`);
}

function fault(code: RunningFault['code'], what: string, fix: string): RunningFault {
  return { code, severity: 'fault', what, fix };
}

function warning(code: RunningFault['code'], what: string, fix: string): RunningFault {
  return { code, severity: 'warning', what, fix };
}

function literal(text: string): string {
  return `'${text.replaceAll("'", "''")}'`;
}
