/** `portcullis <args>` in this process, against a test's database. */
import { runCli } from '../../src/cli/run-cli.js';

export interface CommandOutcome {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

export async function runCommand(
  databaseUrl: string,
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<CommandOutcome> {
  const out: string[] = [];
  const err: string[] = [];
  const terminal = { out: (text: string) => void out.push(text), err: (text: string) => void err.push(text) };
  const code = await runCli(args, { DATABASE_URL: databaseUrl, ...env }, terminal);
  return { code, out: out.join('\n'), err: err.join('\n') };
}
