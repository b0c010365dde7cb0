import type { SlotFacts } from '../../core/ports/slot-status.js';
import { checkServer } from '../../db/check-server.js';
import type { Installation, ServerFault } from '../../db/server-faults.js';
import type { Database } from '../../db/open-database.js';
import { publicationDrift } from '../../db/publications.js';
import { runningFacts } from '../../db/running-facts.js';
import { runningFaults, type RunningFault } from '../../db/running-faults.js';
import { changeLogSize, type ChangeLogSize, slotState } from '../../db/slot-state.js';
import { unreadableRows } from '../../db/unreadable-rows.js';
import type { UnreadableRow } from '../../db/unreadable-rows.js';
import type { Command } from '../command.js';
import { readFlags } from '../read-flags.js';
import { withDatabase } from '../with-database.js';

export const doctor: Command = {
  help: `usage: portcullis doctor [--json]

Looks at the server's settings, the role's privileges, the schema, the publications, the replication slot, what holds it
back, and every row. Says what is wrong and the statement that puts it right. Exits with 1 when something must be put
right; warnings alone exit with 0. With --json, one object: ok, faults, slot, lag_seconds, settings, change_log,
unreadable_rows.`,
  async run({ args, out, config }) {
    const { values } = readFlags(args, { json: { type: 'boolean', default: false } });
    const {
      publicationPrefix: prefix,
      replicationSlot: slot,
      replicationMode: mode,
      databasePoolSize: poolSize,
    } = config();
    const found = await withDatabase(config(), (database) => examine(database, { prefix, slot, mode, poolSize }));
    if (values.json) out(JSON.stringify(asJson(found)));
    else for (const line of asText(found, { slot, mode })) out(line);
    return isWell(found) ? 0 : 1;
  },
};

/** Nobody reads more; each is printed. */
const MAX_ROWS = 200;
/** A transaction that is open for less is just work. */
const OPEN_FOR_MS = 60_000;

interface Findings {
  readonly faults: readonly (ServerFault | RunningFault)[];
  readonly slot: SlotFacts | undefined;
  readonly lagSeconds: number | null;
  readonly settings: Readonly<Record<string, string>>;
  readonly changeLog: ChangeLogSize | undefined;
  readonly rows: readonly UnreadableRow[];
}

interface Subject extends Installation {
  readonly poolSize: number;
}

async function examine(database: Database, { prefix, slot: slotName, mode, poolSize }: Subject): Promise<Findings> {
  const serverFaults = await checkServer(database, { prefix, slot: slotName, mode });
  const has = (code: ServerFault['code']): boolean => serverFaults.some((fault) => fault.code === code);
  const facts = await runningFacts(database, slotName, OPEN_FOR_MS);
  const slot = await slotState(database, slotName);
  // A publication that is missing altogether is named already.
  const drift = has('publication') || has('in-recovery') ? [] : await publicationDrift(database, prefix);
  return {
    faults: [...serverFaults, ...runningFaults({ facts, slot, slotName, drift, poolSize, mode })],
    slot,
    lagSeconds: facts.lag_seconds,
    settings: facts.settings,
    changeLog: await changeLogSize(database),
    rows: has('migrations') ? [] : await unreadableRows(database, MAX_ROWS),
  };
}

function isWell({ faults, rows }: Findings): boolean {
  return rows.length === 0 && faults.every((fault) => fault.severity === 'warning');
}

function asJson(found: Findings): Record<string, unknown> {
  const { faults, slot, lagSeconds, settings, changeLog, rows } = found;
  return {
    ok: isWell(found),
    faults,
    slot: slot && {
      active_pid: slot.activePid,
      wal_status: slot.walStatus,
      retained_bytes: slot.retainedBytes,
      lag_bytes: slot.lagBytes,
      safe_wal_bytes: slot.safeWalBytes,
      invalidation: slot.invalidation,
      failover: slot.failover,
    },
    lag_seconds: lagSeconds,
    settings,
    change_log: changeLog,
    unreadable_rows: rows,
  };
}

function asText(found: Findings, installation: Pick<Installation, 'slot' | 'mode'>): string[] {
  const { faults, slot, lagSeconds, settings, changeLog, rows } = found;
  return [
    ...faults.map(({ severity, what, fix }) => `${severity}: ${what}\n  fix: ${fix}`),
    ...slotLines(slot, installation, lagSeconds),
    ...(changeLog ? [`change_log: ${bytes(changeLog.bytes)}, about ${Math.round(changeLog.entries)} entries`] : []),
    `settings: ${Object.entries(settings)
      .map(([name, value]) => `${name} = ${value === '' ? "''" : value}`)
      .join(', ')}`,
    ...rows.map(printRow),
    ...(rows.length === MAX_ROWS
      ? [`more than ${MAX_ROWS} rows have content that does not parse; these are the first`]
      : []),
    isWell(found) ? 'ok' : 'something must be put right',
  ];
}

function slotLines(
  slot: SlotFacts | undefined,
  { slot: name, mode }: Pick<Installation, 'slot' | 'mode'>,
  lagSeconds: number | null,
): string[] {
  if (!slot) return [`slot "${name}": none yet, the server makes it at its start`];
  const { activePid, lagBytes, retainedBytes, walStatus, safeWalBytes, failover } = slot;
  // Between two peeks a slot that is polled looks like one that nobody wants.
  const idle = mode === 'poll' ? 'polled, and not read at this moment' : 'not read by anybody';
  const lines = [
    [
      `slot "${name}": ${activePid === null ? idle : `read by a server (process ${activePid})`}`,
      `${bytes(lagBytes)}${lagSeconds === null ? '' : ` and ${lagSeconds.toFixed(1)} s`} behind`,
      `keeps ${bytes(retainedBytes)}`,
      `wal_status ${walStatus}`,
      ...(safeWalBytes === null ? [] : [`lost after ${bytes(Math.max(safeWalBytes, 0))} more`]),
      `failover ${failover ? 'yes' : 'no'}`,
    ].join(', '),
  ];
  if (activePid === null && mode === 'stream')
    lines.push(`  to remove it for good: SELECT pg_drop_replication_slot('${name}');`);
  return lines;
}

function printRow({ table, key, part, problem }: UnreadableRow): string {
  const where = Object.entries(key).map(([name, value]) =>
    value === null ? `${name} IS NULL` : `${name} = '${value}'`,
  );
  return `fault: ${table}.${part} ${problem}; it counts as absent\n  find it: SELECT * FROM ${table} WHERE ${where.join(' AND ')};`;
}

function bytes(count: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  const power = count < 1 ? 0 : Math.min(Math.floor(Math.log(count) / Math.log(1024)), units.length - 1);
  return `${(count / 1024 ** power).toFixed(power === 0 ? 0 : 1)} ${units[power] ?? ''}`;
}
