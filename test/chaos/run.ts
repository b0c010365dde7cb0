/**
 * Runs a campaign and prints its report as one line of JSON; ends with 1 when something was violated. What happens meanwhile
 * goes to stderr.
 *
 *   npm run chaos -- [--minutes 60] [--seed N] [--fault F3,F4] [--out report.json]
 */
import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { runCampaign } from './campaign.js';

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '60' },
    seed: { type: 'string', default: String(Math.floor(Math.random() * 1e9)) },
    fault: { type: 'string' },
    out: { type: 'string' },
  },
});

// What was started ends in `exit` hooks, which a signal alone would pass over.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, () => process.exit(130));

const report = await runCampaign({
  seconds: Number(values.minutes) * 60,
  seed: Number(values.seed),
  ...(values.fault !== undefined && { faults: values.fault.split(',') }),
  say: (text) => void process.stderr.write(`${text}\n`),
});
const text = JSON.stringify(report);
process.stdout.write(`${text}\n`);
if (values.out !== undefined) writeFileSync(values.out, `${text}\n`);
process.exit(report.violationCount === 0 ? 0 : 1);
