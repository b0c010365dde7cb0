/** What a campaign found, as the table of the README: fault → longest revocation delay. */
import { fileURLToPath } from 'node:url';
import type { Section } from '../../bench/report.js';
import { writeSection } from '../../bench/report.js';
import type { CampaignReport, FaultReport } from './campaign.js';
import { FAULTS, isRunnable } from './faults.js';

const README = fileURLToPath(new URL('../../README.md', import.meta.url));

export function writeTable(report: CampaignReport): void {
  writeSection(README, section(report));
}

function section(report: CampaignReport): Section {
  const { faults, violationCount, undisturbedRevocations: calm } = report;
  const elsewhere = FAULTS.filter((fault) => !isRunnable(fault)).map(({ id }) => id);
  return {
    name: 'chaos',
    title: 'Faults, and how long a revocation took',
    lines: [
      `One campaign of \`npm run chaos\` (seed ${report.seed}): ${Math.round(report.seconds / 60)} minutes,`,
      `${report.faultsInjected} faults, ${number(report.commits)} commits, ${number(report.frames)} frames checked,`,
      `**${violationCount} ${violationCount === 1 ? 'violation' : 'violations'}**; ${report.machine}, on which PostgreSQL, the server, ${report.peers} peers and their judge shared the time.`,
      'Delays are from the commit, or from the rejoin of a gateway that was away, to the frame that tells it, the fault itself included.',
      `Between faults: p50 ${ms(calm?.p50 ?? 0)}, p99 ${ms(calm?.p99 ?? 0)}, max ${ms(calm?.max ?? 0)}. What is checked, and how: [docs/chaos.md](docs/chaos.md).`,
      '',
      '| Fault | Times | Longest revocation | All back after it, p50 and max |',
      '| --- | ---: | ---: | ---: |',
      ...faults.map(row),
      '',
      `Not run here, each with its reason in \`test/chaos/faults.ts\`: ${elsewhere.join(', ')}.`,
    ],
  };
}

function row({ id, what, count, longestRevocationMs, recoveryMs }: FaultReport): string {
  const longest = longestRevocationMs === 0 ? 'none met it' : ms(longestRevocationMs);
  return `| ${id}: ${what} | ${count} | ${longest} | ${ms(recoveryMs?.p50 ?? 0)}, ${ms(recoveryMs?.max ?? 0)} |`;
}

function ms(value: number): string {
  return value < 1_000 ? `${Math.round(value)} ms` : `${(value / 1_000).toFixed(1)} s`;
}

function number(value: number): string {
  return value.toLocaleString('en-US');
}
