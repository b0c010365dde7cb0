/**
 * Runs a campaign and prints its report as one line of JSON; ends with 1 when something was violated. What happens meanwhile
 * goes to stderr. With `--table` it runs nothing and puts the figures of such a report into the README.
 *
 *   npm run chaos -- [--minutes 60] [--seed N] [--fault F3,F4] [--out report.json]
 *   npm run chaos -- --table report.json
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { type CampaignReport, runCampaign } from './campaign.js';
import { writeTable } from './fault-table.js';

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '60' },
    seed: { type: 'string', default: String(Math.floor(Math.random() * 1e9)) },
    fault: { type: 'string' },
    out: { type: 'string' },
    table: { type: 'string' },
  },
});

// What was started ends in `exit` hooks, which a signal alone would pass over.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, () => process.exit(130));

if (values.table !== undefined) {
  writeTable(JSON.parse(readFileSync(values.table, 'utf8')) as CampaignReport);
} else {
  const report = await runCampaign({
    seconds: Number(values.minutes) * 60,
    seed: Number(values.seed),
    ...(values.fault !== undefined && { faults: values.fault.split(',') }),
    say: (text) => void process.stderr.write(`${text}\n`),
  });
  const text = JSON.stringify(report);
  if (values.out !== undefined) writeFileSync(values.out, `${text}\n`);
  await new Promise((resolve) => process.stdout.write(`${text}\n`, resolve));
  process.exit(report.violationCount === 0 ? 0 : 1);
}
