import type { Command } from '../command.js';
import { readFlags } from '../read-flags.js';

/** Resolves when the server is ready; the process then lives until a signal ends it. */
export const start: Command = {
  help: `usage: portcullis start

Runs the server until SIGTERM or Ctrl-C. Prints one line of JSON on stdout when peers are accepted.
Settings come from the environment: see .env.example.`,
  async run({ args, env }) {
    readFlags(args, {});
    const { runServer } = await import('../../main.js');
    await runServer(env);
    return 0;
  },
};
