import type { Config } from '../../config/config.js';
import type { Environment } from '../../config/environment-reader.js';
import type { DemoOptions } from '../../demo/demo-options.js';
import { openDatabase } from '../../db/open-database.js';
import { runStatement } from '../../db/run-statement.js';
import { seedDemoAccount, type SeedReport } from '../../db/seed-demo-account.js';
import { findRunningEmbedded } from '../../embedded/start-embedded.js';
import { SystemClock } from '../../system/system-clock.js';
import { SystemRandom } from '../../system/system-random.js';
import { SystemScheduler } from '../../system/system-scheduler.js';
import type { Command } from '../command.js';
import { readFlags } from '../read-flags.js';

export const demo: Command = {
  help: `usage: portcullis demo [--once] [--api http://host:port]

Connects a simulated client and a simulated gateway to a running server, opens a flow and prints what each of them hears:
time, position of the commit, milliseconds since it, and the push. Change rows meanwhile with psql or "portcullis sql" and
watch; Ctrl-C ends it. It runs on the account "demo", which it makes, or puts back as it was.

--once runs a short tour by itself: opens a flow, disables its policy by SQL, enables it again. Exits with 0 when the cut
and the new flow were heard, else with 1.
--api is where peers connect; by default the server of this machine (API_HOST, API_PORT). Its database is found as by
every other command: DATABASE_URL, or the embedded one.`,
  async run({ args, env, out, err, config }) {
    const { values } = readFlags(args, { once: { type: 'boolean' }, api: { type: 'string' } });
    const settings = config();
    const apiUrl = values.api ?? localApi(settings);
    await mustAnswer(apiUrl);
    const url = mustFindDatabase(settings);

    const interrupt = new AbortController();
    const stop = (): void => {
      interrupt.abort(); // npm and the terminal both deliver Ctrl-C: the second one changes nothing
    };
    for (const signal of SIGNALS) process.on(signal, stop);
    const database = openDatabase(url, { max: 2, applicationName: 'portcullis demo' });
    const clock = new SystemClock();
    const random = new SystemRandom();
    try {
      const report = await seedDemoAccount(database, clock.now(), random);
      const { runDemo } = await import('../../demo/demo.js');
      const isPassed = await runDemo({
        ...accountOf(report),
        ...{ apiUrl, clock, random, print: out, signal: interrupt.signal },
        scheduler: new SystemScheduler(),
        query: (sql, parameters = []) => runStatement(database, 'demo', sql, parameters),
        psql: settings.databaseUrl === undefined ? `psql '${url}'` : 'psql "$DATABASE_URL"',
        isScripted: values.once ?? false,
        isColoured: mayColour(env),
      });
      if (values.once) err(isPassed ? 'demo: the cut and the new flow were heard' : 'demo: failed');
      return isPassed ? 0 : 1;
    } finally {
      await database.close();
      for (const signal of SIGNALS) process.removeListener(signal, stop);
    }
  },
};

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/** A server that listens everywhere is reached on this machine. */
function localApi({ apiHost, apiPort }: Config): string {
  const host = apiHost === '0.0.0.0' ? '127.0.0.1' : apiHost === '::' ? '::1' : apiHost;
  return `http://${host.includes(':') ? `[${host}]` : host}:${apiPort}`;
}

async function mustAnswer(apiUrl: string): Promise<void> {
  try {
    const answer = await fetch(`${apiUrl}/healthz`, { signal: AbortSignal.timeout(5000) });
    if (answer.ok) return;
  } catch (cause) {
    throw new Error(`no server answers at ${apiUrl}; start it with "npm start" in another terminal`, { cause });
  }
  throw new Error(`what answers at ${apiUrl} is not Portcullis; --api says where it is`);
}

/** Never starts one: tokens made in a database that no server reads would be refused. */
function mustFindDatabase({ databaseUrl, dataDir }: Config): string {
  const url = databaseUrl ?? findRunningEmbedded(dataDir)?.url;
  if (url !== undefined) return url;
  throw new Error(
    `no embedded database runs under ${dataDir}; set DATABASE_URL or PORTCULLIS_DATA_DIR as the server has it`,
  );
}

/** The first resource of the demo account is what the client's packets go to. */
function accountOf(
  report: SeedReport,
): Pick<DemoOptions, 'accountId' | 'actorId' | 'groupId' | 'tokens' | 'target' | 'names'> {
  const [resource] = report.resources;
  const policy = report.policies.find(({ resource_id }) => resource_id === resource?.id);
  if (!resource || !policy) throw new Error('the demo account has no resource with a policy');
  return {
    accountId: report.account.id,
    actorId: report.actor.id,
    groupId: report.group.id,
    tokens: report.tokens,
    target: { resourceId: resource.id, name: resource.name, policyId: policy.id },
    names: new Map(report.resources.map(({ id, name }) => [id, name])),
  };
}

/** Nobody wants escape codes in a file; https://no-color.org. */
function mayColour(env: Environment): boolean {
  return process.stdout.isTTY && (env['NO_COLOR'] ?? '') === '';
}
