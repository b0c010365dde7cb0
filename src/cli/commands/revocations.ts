import type { EpochMs } from '../../core/model/time.js';
import { revocations as revocationsOf } from '../../db/revocations.js';
import type { Revocation } from '../../db/revocations.js';
import { SystemClock } from '../../system/system-clock.js';
import { UsageError } from '../command.js';
import type { Command } from '../command.js';
import { mustFindAccount } from '../must-find-account.js';
import { printResult } from '../print-result.js';
import { readDuration } from '../read-duration.js';
import { readFlags } from '../read-flags.js';
import { withDatabase } from '../with-database.js';

export const revocations: Command = {
  help: `usage: portcullis revocations [--account <id or slug>] [--since 1h] [--limit 100] [--json]

Lists the grants that were taken back, newest first: by which commit, why, and whether the gateway is proven to know.
"took" is the time from the commit to the receipt, or from the decision where no commit is known. "delivery" is
receipted, or how the last attempt ended: no-receipt, socket-closed, not-connected, unreceipted (RECEIPTS=off), open;
the gateway is then told again at its next join. Times for --since are 30s, 15m, 12h, 7d. --json prints one array.`,
  async run({ args, out, err, config }) {
    const { values } = readFlags(args, FLAGS);
    const since = new SystemClock().now() - readDuration('--since', values.since ?? '1h');
    const limit = readLimit(values.limit ?? '100');
    await withDatabase(config(), async (database) => {
      const accountId = await mustFindAccount(database, values.account);
      // One more than is shown says whether there are more.
      const found = await revocationsOf(database, accountId, since, limit + 1);
      const shown = found.slice(0, limit);
      out(values.json === true ? JSON.stringify(shown.map(toJson)) : printTable(shown));
      if (found.length > limit) err(`there are more; these are the newest ${limit}`);
    });
    return 0;
  },
};

const FLAGS = {
  account: { type: 'string' },
  since: { type: 'string' },
  limit: { type: 'string' },
  json: { type: 'boolean' },
} as const;

function readLimit(text: string): number {
  if (!/^[1-9]\d{0,4}$/.test(text)) throw new UsageError('--limit takes a number from 1 to 99999');
  return Number(text);
}

function toJson(revocation: Revocation) {
  const { account, client, resource, gateway } = revocation;
  return {
    flow_id: revocation.flowId,
    ...{ account, client, resource, gateway },
    policy_id: revocation.policyId,
    reason: revocation.reason,
    position: revocation.position,
    committed_at: printTime(revocation.committedAt),
    decided_at: printTime(revocation.decidedAt),
    pushed_at: printTime(revocation.pushedAt),
    delivered_at: printTime(revocation.deliveredAt),
    delivery: revocation.delivery,
  };
}

const COLUMNS = ['decided', 'account', 'client', 'resource', 'gateway', 'reason', 'commit', 'took', 'delivery'];

function printTable(rows: readonly Revocation[]): string {
  return printResult({
    command: 'SELECT',
    rowCount: rows.length,
    fields: COLUMNS.map((name) => ({ name })),
    rows: rows.map((row) => [
      printTime(row.decidedAt),
      row.account.slug,
      ...[row.client, row.resource, row.gateway].map(({ id, name }) => name ?? id),
      row.reason,
      row.position,
      row.deliveredAt === null ? null : `${row.deliveredAt - (row.committedAt ?? row.decidedAt)} ms`,
      row.delivery ?? 'open',
    ]),
  });
}

function printTime(at: EpochMs | null): string | null {
  return at === null ? null : new Date(at).toISOString();
}
