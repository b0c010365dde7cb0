/**
 * Measures and prints; `--write` also keeps the result in RESULTS.md.
 *
 *   npm run bench -- [revoke] [receipt] [flow] [apply] [idle] [huge] [storm] [authorize] [--samples N] [--rounds N] [--date YYYY-MM-DD] [--cpu-prof DIR] [--write]
 */
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { benchApply } from './apply.js';
import { benchAuthorize } from './authorize.js';
import type { BenchOptions } from './bench.js';
import { benchFlow } from './flow.js';
import { machineFacts } from './machine-facts.js';
import { benchHuge } from './huge.js';
import { benchIdle } from './idle.js';
import { type Product, startProduct } from './product.js';
import { type Section, writeSection } from './report.js';
import { benchReceipt } from './receipt.js';
import { benchRevoke } from './revoke.js';
import { benchStorm } from './storm.js';

const BENCHES: Readonly<Record<string, (product: Product, options: BenchOptions) => Promise<Section>>> = {
  revoke: benchRevoke,
  receipt: benchReceipt,
  flow: benchFlow,
  apply: benchApply,
  idle: benchIdle,
  huge: benchHuge,
  storm: benchStorm,
};
/** Of the library alone: no server, no database. */
const LIBRARY_BENCHES: Readonly<Record<string, (options: BenchOptions) => Promise<Section>>> = {
  authorize: benchAuthorize,
};
const NAMES = [...Object.keys(BENCHES), ...Object.keys(LIBRARY_BENCHES)];
const RESULTS = fileURLToPath(new URL('../../bench/RESULTS.md', import.meta.url));

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    samples: { type: 'string', default: '2000' },
    rounds: { type: 'string', default: '3' },
    date: { type: 'string', default: new Date().toISOString().slice(0, 10) },
    'cpu-prof': { type: 'string' },
    write: { type: 'boolean', default: false },
  },
});

// What was started ends in `exit` hooks, which a signal alone would pass over.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, () => process.exit(130));

const options = {
  ...{ samples: Number(values.samples), rounds: Number(values.rounds), profileDir: values['cpu-prof'] },
};
for (const name of positionals.length === 0 ? NAMES : positionals) await run(name);

async function run(name: string): Promise<void> {
  const ofLibrary = LIBRARY_BENCHES[name];
  if (ofLibrary) {
    const facts = machineFacts(undefined, values.date);
    keep(await ofLibrary(options), facts);
    return;
  }
  const bench = BENCHES[name];
  if (!bench) throw new Error(`no bench is called "${name}"; there are ${NAMES.join(', ')}`);
  const product = await startProduct(options.profileDir);
  try {
    const facts = machineFacts(product.postgresVersion, values.date);
    keep(await bench(product, options), facts);
  } finally {
    await product.stop();
  }
}

function keep(section: Section, facts: readonly string[]): void {
  const lines = [...section.lines, '', ...facts.map((fact) => `- ${fact}`)];
  console.log(`\n${section.title}\n\n${lines.join('\n')}`);
  if (values.write) writeSection(RESULTS, { ...section, lines });
}
