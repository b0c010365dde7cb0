import type { Command } from '../command.js';

export const demo: Command = {
  help: `usage: portcullis demo [flags]

Connects a simulated client and gateway to a running server, opens a flow and prints what each of them hears.
Change rows meanwhile with psql or "portcullis sql" and watch.`,
  async run({ args }) {
    const { runDemo } = await import('../../demo/demo.js');
    return (await runDemo(args)) === 0 ? 0 : 1;
  },
};
