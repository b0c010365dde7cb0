/** `portcullis <args>` in this process, against a test's database. */
import { runCli } from '../../src/cli/run-cli.js';

export interface CommandOutcome {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

/** @param onLine sees each printed line as it comes, for a command that goes on */
export async function runCommand(
  databaseUrl: string,
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
  onLine: (text: string) => void = () => undefined,
): Promise<CommandOutcome> {
  const out: string[] = [];
  const err: string[] = [];
  const terminal = {
    out: (text: string) => {
      out.push(text);
      onLine(text);
    },
    err: (text: string) => void err.push(text),
  };
  const code = await runCli(args, { DATABASE_URL: databaseUrl, ...env }, terminal);
  return { code, out: out.join('\n'), err: err.join('\n') };
}
