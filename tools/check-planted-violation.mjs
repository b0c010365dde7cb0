/**
 * Proves that the dependency rules bite: plants one file per way to break a rule into a scratch tree outside the
 * checkout, and fails unless each is refused for the reason given, and the permitted ones are not.
 */
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import { createRequire } from 'node:module';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..');
const config = path.join(root, '.dependency-cruiser.cjs');
const { forbidden } = createRequire(import.meta.url)(config);

/** [file, what it imports, the rule that must refuse it; none: it must pass]. Imports of src files are made below. */
const PLANTS = [
  ['src/core/uses-node.ts', 'node:fs', 'core-is-pure'],
  ['src/core/uses-nest.ts', '@nestjs/common', 'core-is-pure'],
  ['src/core/uses-nest-type.ts', 'type @nestjs/common', 'core-is-pure'],
  ['src/core/uses-pg.ts', 'pg', 'core-is-pure', 'pg-has-a-home'],
  ['src/core/uses-pg-type.ts', 'type pg', 'core-is-pure', 'pg-has-a-home'],
  ['src/core/uses-ws.ts', 'ws', 'core-is-pure'],
  ['src/core/uses-kysely.ts', 'kysely', 'core-is-pure', 'kysely-has-a-home'],
  ['src/core/uses-emitter.ts', 'eventemitter3', 'core-is-pure'],
  ['src/core/uses-zod.ts', 'zod', 'core-is-pure', 'zod-has-a-home'],
  ['src/core/uses-protocol.ts', '../protocol/target.js', 'core-is-pure'],
  ['src/core/uses-store-type.ts', 'type ../store/target.js', 'core-is-pure'],
  ['src/core/uses-hashes.ts', '@noble/hashes/sha3.js'],
  ['src/core/uses-nacl.ts', 'tweetnacl'],
  ['src/core/uses-zones.ts', 'temporal-polyfill'],
  ['src/core/uses-addresses.ts', 'ipaddr.js'],
  ['src/core/uses-versions.ts', 'semver'],

  ['src/protocol/uses-node.ts', 'node:crypto', 'protocol-is-pure'],
  ['src/protocol/uses-ws-type.ts', 'type ws', 'protocol-is-pure'],
  ['src/protocol/uses-channels.ts', '../channels/target.js', 'protocol-is-pure'],
  ['src/protocol/uses-zod.ts', 'zod'],
  ['src/protocol/uses-core.ts', '../core/target.js'],

  ...['replication', 'store', 'broadcaster', 'presence', 'db', 'health'].flatMap((stage, index, stages) => {
    const next = stages[(index + 1) % stages.length];
    return [
      [`src/${stage}/uses-next.ts`, `../${next}/target.js`, 'stages-meet-at-ports'],
      [`src/${stage}/uses-next-type.ts`, `type ../${next}/target.js`, 'stages-meet-at-ports'],
      [`src/${stage}/uses-channels.ts`, '../channels/target.js', 'stages-meet-at-ports'],
      [`src/${stage}/uses-protocol.ts`, '../protocol/target.js', 'stages-meet-at-ports'],
      [`src/${stage}/uses-core.ts`, '../core/target.js'],
      [`src/${stage}/uses-config.ts`, '../config/target.js'],
      [`src/${stage}/uses-itself.ts`, './target.js'],
    ];
  }),

  ...[
    'store',
    'db',
    'presence',
    'broadcaster',
    'replication',
    'health',
    'config',
    'system',
    'geoip',
    'demo',
    'embedded',
    'cli',
  ].map((folder) => [`src/channels/uses-${folder}.ts`, `../${folder}/target.js`, 'channels-see-ports']),
  ['src/channels/uses-rxjs.ts', 'rxjs', 'channels-see-ports'],
  ['src/channels/client/uses-zod.ts', 'zod', 'channels-see-ports', 'zod-has-a-home'],
  ['src/channels/client/uses-metrics-type.ts', 'type prom-client', 'channels-see-ports', 'prom-client-has-a-home'],
  ['src/channels/client/uses-socket.ts', 'ws'],
  ['src/channels/client/uses-socket-type.ts', 'type ws'],
  ['src/channels/client/uses-nest.ts', '@nestjs/common'],
  ['src/channels/client/uses-http-type.ts', 'type node:http'],
  ['src/channels/client/uses-protocol.ts', '../../protocol/target.js'],

  ['src/demo/uses-channels.ts', '../channels/target.js', 'demo-is-a-peer'],
  ['src/demo/uses-app.ts', '../app.module.js', 'demo-is-a-peer'],
  ['src/demo/uses-protocol.ts', '../protocol/target.js'],
  ['src/config/uses-db.ts', '../db/target.js', 'leaves-serve-everyone'],
  ['src/system/uses-store.ts', '../store/target.js', 'leaves-serve-everyone'],
  ['src/system/uses-core.ts', '../core/target.js'],
  ['src/geoip/uses-db.ts', '../db/target.js', 'leaves-serve-everyone'],
  ['src/geoip/uses-mmdb.ts', 'mmdb-lib'],
  ['src/store/uses-mmdb.ts', 'mmdb-lib', 'mmdb-lib-has-a-home'],

  ['src/store/uses-kysely-type.ts', 'type kysely', 'kysely-has-a-home'],
  ['src/cli/uses-kysely.ts', 'kysely', 'kysely-has-a-home'],
  ['src/db/uses-kysely.ts', 'kysely'],
  ['db/migrations/0001_uses_kysely.ts', 'kysely'],
  ['src/embedded/uses-pg.ts', 'pg', 'pg-has-a-home'],
  ['src/embedded/uses-pg-type.ts', 'type pg', 'pg-has-a-home'],
  ['src/store/uses-pg.ts', 'pg', 'pg-has-a-home'],
  ['db/migrations/0002_uses_pg.ts', 'pg', 'pg-has-a-home'],
  ...['db', 'replication', 'cli'].map((folder) => [`src/${folder}/uses-pg.ts`, 'pg']),
  ['src/replication/uses-metrics.ts', 'prom-client', 'prom-client-has-a-home'],
  ['src/health/uses-metrics.ts', 'prom-client'],
  ['src/store/uses-zod.ts', 'zod', 'zod-has-a-home'],
  ['src/config/uses-zod.ts', 'zod'],

  ['src/store/circle-one.ts', './circle-two.js', 'no-circular'], // reported once, at its first file
  ['src/store/circle-two.ts', 'type ./circle-one.js'],
  ['src/store/uses-support.ts', '../../test/support/target.js', 'production-without-tests'],
  ['src/store/uses-bench.ts', '../../bench/target.js', 'production-without-tests'],
  ['src/store/uses-spec.ts', './target.spec.js', 'production-without-tests'],
  ['src/store/target.spec.ts', '../../test/support/target.js'],
  ['src/store/uses-jest.ts', '@jest/globals', 'production-without-dev-packages'],
  ['src/store/uses-property.spec.ts', 'fast-check'],
  ['src/store/uses-unlisted.ts', 'acorn', 'only-listed-packages'],
  ['src/store/uses-nothing-there.ts', './gone.js', 'resolvable'],
  ['src/store/orphan.ts', '', 'no-orphans'],
  ['test/pg/uses-anything.pg.spec.ts', '../../src/store/target.js'],
  ['bench/uses-anything.ts', '../src/replication/target.js'],
];

/** What the planted imports point at; `[file, what it imports]` so that none is an orphan. */
const TARGETS = [
  ['src/core/target.ts', './other.js'],
  ['src/core/other.ts', ''],
  ['src/app.module.ts', './main.js'],
  ['src/main.ts', './core/target.js'],
  ['test/support/target.ts', ''],
  ['bench/target.ts', ''],
  ...'protocol replication store broadcaster channels presence db health config cli demo embedded system geoip'
    .split(' ')
    .map((folder) => [`src/${folder}/target.ts`, '../core/target.js']),
];

const scratch = fs.mkdtempSync(path.join(os.tmpdir(), 'planted-violation-'));
try {
  plantAll();
  const faults = [...compare(refusals()), ...rulesWithoutPlant()];
  for (const fault of faults) console.error(fault);
  console.log(`planted violations: ${PLANTS.length} plants, ${forbidden.length} rules, ${faults.length} faults`);
  process.exitCode = faults.length === 0 ? 0 : 1;
} finally {
  fs.rmSync(scratch, { recursive: true, force: true });
}

function plantAll() {
  for (const name of ['package.json', 'tsconfig.json'])
    fs.copyFileSync(path.join(root, name), path.join(scratch, name));
  fs.symlinkSync(path.join(root, 'node_modules'), path.join(scratch, 'node_modules'), 'junction');
  for (const [file, imported] of [...TARGETS, ...PLANTS]) {
    fs.mkdirSync(path.dirname(path.join(scratch, file)), { recursive: true });
    fs.writeFileSync(path.join(scratch, file), source(imported));
  }
}

function source(imported) {
  if (imported === '') return 'export const nothing = 0;\n';
  const [name, keyword] = imported.split(' ').reverse();
  return `import ${keyword ?? ''} * as it from '${name}';\nexport ${keyword ? 'type It = typeof it' : '{ it }'};\n`;
}

/** file → names of the rules that refuse it. The command is the one `npm run check` uses. */
function refusals() {
  const cli = path.join(root, 'node_modules', 'dependency-cruiser', 'bin', 'dependency-cruise.mjs');
  const args = ['--config', config, '--preserve-symlinks', '--output-type', 'json', 'src', 'db', 'bench', 'test'];
  const child = spawnSync(process.execPath, [cli, ...args], { cwd: scratch, encoding: 'utf8', maxBuffer: 2 ** 28 });
  if (child.error) throw child.error;
  if (!child.stdout.startsWith('{')) throw new Error(`dependency-cruiser gave no result: ${child.stderr}`);
  const byFile = new Map();
  for (const { from, rule } of JSON.parse(child.stdout).summary.violations) {
    byFile.set(from, (byFile.get(from) ?? new Set()).add(rule.name));
  }
  return byFile;
}

function compare(refused) {
  return [...PLANTS, ...TARGETS].flatMap(([file, imported, ...expected]) => {
    const actual = [...(refused.get(file) ?? [])].sort();
    if (actual.join() === expected.sort().join()) return [];
    const wanted = expected.join(', ') || 'nothing';
    return [
      `${file} (imports ${imported || 'nothing'}): refused by ${actual.join(', ') || 'nothing'}, expected ${wanted}`,
    ];
  });
}

/** A rule added without a plant is a rule nobody has seen bite. */
function rulesWithoutPlant() {
  const proved = new Set(PLANTS.flatMap(([, , ...rules]) => rules));
  return forbidden.filter(({ name }) => !proved.has(name)).map(({ name }) => `rule ${name} has no planted violation`);
}
