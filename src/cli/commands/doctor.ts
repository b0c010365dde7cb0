import { checkServer } from '../../db/check-server.js';
import type { ServerFault } from '../../db/check-server.js';
import type { Database } from '../../db/open-database.js';
import { changeLogSize, slotState } from '../../db/slot-state.js';
import { unreadableRows } from '../../db/unreadable-rows.js';
import type { UnreadableRow } from '../../db/unreadable-rows.js';
import type { Command } from '../command.js';
import { readFlags } from '../read-flags.js';
import { withDatabase } from '../with-database.js';

export const doctor: Command = {
  help: `usage: portcullis doctor

Looks at the server's settings, the role's privileges, the schema, the publications, the replication slot and every row.
Says what is wrong and the statement that puts it right. Exits with 1 when something must be put right; warnings alone
exit with 0.`,
  async run({ args, out, config }) {
    readFlags(args, {});
    const { publicationPrefix: prefix, replicationSlot: slot } = config();
    const mustBeFixed = await withDatabase(config(), async (database) => {
      const faults = await checkServer(database, { prefix, slot });
      for (const fault of faults) out(printFault(fault));
      const slotLost = await reportSlot(database, slot, out);
      await reportChangeLog(database, out);
      const canReadRows = !faults.some((fault) => fault.code === 'migrations');
      const rows = canReadRows ? await unreadableRows(database, MAX_ROWS) : [];
      for (const row of rows) out(printRow(row));
      if (rows.length === MAX_ROWS)
        out(`more than ${MAX_ROWS} rows have content that does not parse; these are the first`);
      return slotLost || rows.length > 0 || faults.some((fault) => fault.severity === 'fault');
    });
    out(mustBeFixed ? 'something must be put right' : 'ok');
    return mustBeFixed ? 1 : 0;
  },
};

/** Nobody reads more; each is printed. */
const MAX_ROWS = 200;

function printFault({ severity, what, fix }: ServerFault): string {
  return `${severity}: ${what}\n  fix: ${fix}`;
}

/** Returns true when the slot can never be read again. */
async function reportSlot(database: Database, slot: string, out: (text: string) => void): Promise<boolean> {
  const state = await slotState(database, slot);
  if (!state) {
    out(`slot "${slot}": none yet, the server makes it at its start`);
    return false;
  }
  const limit = state.safeWalBytes === null ? '' : `, lost after ${bytes(state.safeWalBytes)} more`;
  out(
    `slot "${slot}": ${state.activePid !== null ? 'read by a server' : 'not read by anybody'}, ${bytes(state.lagBytes)} behind, wal_status ${state.walStatus}${limit}`,
  );
  if (state.activePid === null) out(`  to remove it for good: SELECT pg_drop_replication_slot('${slot}');`);
  return state.walStatus === 'lost';
}

async function reportChangeLog(database: Database, out: (text: string) => void): Promise<void> {
  const size = await changeLogSize(database);
  if (size) out(`change_log: ${bytes(size.bytes)}, about ${Math.round(size.entries)} entries`);
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
