/** What every command of `portcullis` is given and gives back. */
import type { Config } from '../config/config.js';
import type { Environment } from '../config/environment-reader.js';

export interface Terminal {
  /** What was asked for: results, JSON. */
  readonly out: (text: string) => void;
  /** What is said beside it: progress, notices, errors. */
  readonly err: (text: string) => void;
}

export interface CommandContext extends Terminal {
  readonly args: readonly string[];
  readonly env: Environment;
  /** Reads the environment when it is first asked for, so that `--help` works with a wrong one. Throws ConfigError. */
  readonly config: () => Config;
}

/** 0 ok, 1 failed, 2 wrong usage (D35). */
export type ExitCode = 0 | 1 | 2;

export interface Command {
  readonly help: string;
  run(context: CommandContext): Promise<ExitCode>;
}

/** Wrong flags or arguments: the command says how it is used and exits with 2. */
export class UsageError extends Error {}
