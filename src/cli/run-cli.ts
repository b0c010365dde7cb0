/** Finds the command, answers `--help`, and turns what goes wrong into an exit code and a message (D35). */
import { ConfigError } from '../config/config-error.js';
import type { Environment } from '../config/environment-reader.js';
import { readConfig } from '../config/read-config.js';
import type { Command, ExitCode, Terminal } from './command.js';
import { UsageError } from './command.js';

/** Loaded one at a time: `portcullis sql` need not load the server. */
const COMMANDS: Readonly<Record<string, { readonly summary: string; load(): Promise<Command> }>> = {
  start: {
    summary: 'run the server, with an embedded PostgreSQL unless DATABASE_URL is set',
    load: async () => (await import('./commands/start.js')).start,
  },
  migrate: {
    summary: 'bring the database to the newest schema',
    load: async () => (await import('./commands/migrate.js')).migrate,
  },
  seed: {
    summary: 'make or repair the demo account, print fresh tokens; or make load data',
    load: async () => (await import('./commands/seed.js')).seed,
  },
  doctor: {
    summary: 'say what is wrong with the database, and how to put it right',
    load: async () => (await import('./commands/doctor.js')).doctor,
  },
  revocations: {
    summary: 'list what was taken back, by which commit, and whether each gateway is proven to know',
    load: async () => (await import('./commands/revocations.js')).revocations,
  },
  demo: {
    summary: 'connect a simulated client and gateway to a running server and show what they hear',
    load: async () => (await import('./commands/demo.js')).demo,
  },
  sql: {
    summary: 'run SQL in the database, as psql -c would',
    load: async () => (await import('./commands/sql.js')).sql,
  },
  token: {
    summary: 'make a token for a client, gateway, relay or API user',
    load: async () => (await import('./commands/token.js')).token,
  },
};

/** @param args without node and the program's name */
export async function runCli(args: readonly string[], env: Environment, terminal: Terminal): Promise<ExitCode> {
  const [name = '--help', ...rest] = args;
  if (name === '--help' || name === '-h' || name === 'help') {
    terminal.out(usage());
    return args.length === 0 ? 2 : 0;
  }
  const entry = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined;
  if (!entry) {
    terminal.err(`portcullis: there is no command "${name}"\n\n${usage()}`);
    return 2;
  }

  const command = await entry.load();
  if (asksForHelp(rest)) {
    terminal.out(command.help);
    return 0;
  }
  try {
    return await command.run({ ...terminal, args: rest, env, config: () => readConfig(env) });
  } catch (error) {
    if (error instanceof UsageError) terminal.err(`portcullis ${name}: ${error.message}\n\n${command.help}`);
    else terminal.err(`portcullis ${name}: ${explained(error)}`);
    return error instanceof UsageError ? 2 : 1;
  }
}

function usage(): string {
  const width = Math.max(...Object.keys(COMMANDS).map((name) => name.length));
  const lines = Object.entries(COMMANDS).map(([name, { summary }]) => `  ${name.padEnd(width)}  ${summary}`);
  return [
    'usage: portcullis <command> [flags]',
    '',
    ...lines,
    '',
    'portcullis <command> --help says more. Settings come from the environment: see .env.example.',
  ].join('\n');
}

/** Before `--`, so that `sql -- "--help"` is a statement. */
function asksForHelp(args: readonly string[]): boolean {
  const end = args.indexOf('--');
  return (end < 0 ? args : args.slice(0, end)).some((arg) => arg === '--help' || arg === '-h');
}

/** The message and its causes, without stack: the reader is an operator. */
function explained(error: unknown): string {
  if (error instanceof ConfigError || !(error instanceof Error))
    return String(error instanceof Error ? error.message : error);
  // Node's AggregateError (every address of a host refused) has no message of its own.
  const own = error instanceof AggregateError ? error.errors.map(explained).join('; ') : error.message;
  return error.cause === undefined ? own : `${own}: ${explained(error.cause)}`;
}
