import { migrateToLatest } from '../../db/migrate.js';
import { openDatabase } from '../../db/open-database.js';
import { seedDemoAccount } from '../../db/seed-demo-account.js';
import type { SeedReport } from '../../db/seed-demo-account.js';
import { impossibleScale, seedLoad } from '../../db/seed-load.js';
import type { LoadAccount, LoadScale } from '../../db/seed-load.js';
import { SystemClock } from '../../system/system-clock.js';
import { SystemRandom } from '../../system/system-random.js';
import { UsageError } from '../command.js';
import type { Command } from '../command.js';
import { readFlags } from '../read-flags.js';
import { withDatabaseUrl } from '../with-database.js';

export const seed: Command = {
  help: `usage: portcullis seed [--json] [--scale accounts=1,actors=100,groups=10,resources=20,policies=100,memberships=500]

Makes the account "demo": two groups, actors, sites, resources of every type and policies. Run again it puts back what
was changed, and makes fresh tokens. --json prints ids and tokens as one line.

--scale makes accounts of load data as well, named load_1, load_2 …; the other numbers are rows per account. What is
not named is as above. With --json they are in "load", with tokens for their first actor and site.`,
  async run({ args, out, config }) {
    const { values } = readFlags(args, { json: { type: 'boolean' }, scale: { type: 'string' } });
    const scale = values.scale === undefined ? undefined : readScale(values.scale);
    const { publicationPrefix, replicationSlot } = config();
    const random = new SystemRandom();
    await withDatabaseUrl(config(), async (url) => {
      await migrateToLatest(url, { publicationPrefix, slot: replicationSlot });
      const database = openDatabase(url, { max: 2, applicationName: 'portcullis seed' });
      try {
        const report = await seedDemoAccount(database, new SystemClock().now(), random);
        const load = scale ? await seedLoad(database, scale, random) : undefined;
        out(values.json ? JSON.stringify(load ? { ...report, load } : report) : readable(report, load));
      } finally {
        await database.close();
      }
    });
    return 0;
  },
};

const DEFAULT_SCALE: LoadScale = {
  accounts: 1,
  actors: 100,
  groups: 10,
  resources: 20,
  policies: 100,
  memberships: 500,
};

function readScale(text: string): LoadScale {
  const scale: Record<string, number> = { ...DEFAULT_SCALE };
  for (const part of text.split(',')) {
    const [, name = '', digits = ''] = /^([a-z]+)=(\d{1,9})$/.exec(part) ?? [];
    if (!Object.hasOwn(DEFAULT_SCALE, name)) {
      throw new UsageError(`--scale takes ${Object.keys(DEFAULT_SCALE).join(', ')} as name=number, not "${part}"`);
    }
    scale[name] = Number(digits);
  }
  const wanted = { ...DEFAULT_SCALE, ...scale };
  const problem = impossibleScale(wanted);
  if (problem !== undefined) throw new UsageError(`--scale asks for ${problem}`);
  return wanted;
}

function readable(report: SeedReport, load: readonly LoadAccount[] | undefined): string {
  const resources = report.resources.map(
    ({ name, type, address }) => `  ${name} (${type}${address ? ` ${address}` : ''})`,
  );
  return [
    `account  ${report.account.slug}  ${report.account.id}`,
    `actor    Ada  ${report.actor.id}`,
    `group    Engineers  ${report.group.id}`,
    `site     Berlin  ${report.site.id}`,
    'resources, all granted to the group:',
    ...resources,
    'fresh tokens, shown once:',
    `  client   ${report.tokens.client}`,
    `  gateway  ${report.tokens.gateway}`,
    `  relay    ${report.tokens.relay}`,
    ...(load ?? []).map(({ account }) => `load data in account ${account.slug}  ${account.id}`),
  ].join('\n');
}
