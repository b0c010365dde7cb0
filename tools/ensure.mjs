/**
 * Makes a checkout ready before an npm script runs: the right Node, installed packages and, with `--build`,
 * a current dist. Node built-ins only, because it runs before anything is installed. Writes to stderr only
 * (stdout carries the ready line of `npm start`) and touches nothing when there is nothing to do.
 *
 *   node tools/ensure.mjs [--build [--force]]
 */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..');
const SOURCE_FOLDERS = ['src', 'db', 'bench'];
const DIST = path.join(root, 'dist');
const STAMP = path.join(DIST, '.built-from');
const LOCK_WAIT_MS = 10 * 60_000; // a cold `npm ci` on a slow line; afterwards something else is wrong

main();

function main() {
  requireNode();
  process.chdir(root);
  const wantsBuild = process.argv.includes('--build');
  const isForced = process.argv.includes('--force');
  if (!isForced && !isInstallStale() && !(wantsBuild && isBuildStale())) return;

  // Two scripts started together: the second waits here, then finds the work done.
  withLock(() => {
    if (isInstallStale()) install();
    if (wantsBuild && (isForced || isBuildStale())) build();
  });
}

/** Named first: every later failure of an old Node looks like something else. */
function requireNode() {
  const wanted = readJson(path.join(root, 'package.json')).engines.node;
  const lowest = /(\d+)\.(\d+)/.exec(wanted);
  const [major, minor] = process.versions.node.split('.').map(Number);
  if (major > Number(lowest[1]) || (major === Number(lowest[1]) && minor >= Number(lowest[2]))) return;
  fail(`needs Node ${wanted}; this is Node ${process.versions.node} (${process.execPath}).`);
}

/** Stale: a package of the lock file is absent from node_modules, or there in another version. */
function isInstallStale() {
  const installed = readJson(path.join(root, 'node_modules', '.package-lock.json'))?.packages;
  if (installed === undefined) return true;
  const wanted = readJson(path.join(root, 'package-lock.json')).packages;
  return Object.entries(wanted).some(([place, entry]) => {
    if (place === '') return false;
    const found = installed[place];
    if (found === undefined) return !(entry.optional || entry.devOptional); // of another platform, say
    return found.version !== entry.version;
  });
}

function install() {
  say('installing packages (npm ci)');
  const env = { ...process.env };
  delete env.NODE_ENV; // "production" would leave out what builds and tests
  delete env.NODE_OPTIONS;
  const npm = process.env.npm_execpath;
  const viaNode = npm !== undefined && /npm-cli\.[cm]?js$/.test(npm);
  const command = viaNode ? process.execPath : 'npm';
  run(command, [...(viaNode ? [npm] : []), 'ci', '--include=dev'], env);
}

function isBuildStale() {
  try {
    return fs.readFileSync(STAMP, 'utf8') !== fingerprint();
  } catch {
    return true;
  }
}

/** Content, not times: a checkout, a copy and a deleted file must all be noticed, a `touch` need not. */
function fingerprint() {
  const hash = createHash('sha256');
  for (const file of ['.swcrc', 'package-lock.json', ...sourceFolders().flatMap(sourcesIn)]) {
    hash.update(file).update('\0').update(fs.readFileSync(file)).update('\0');
  }
  return hash.digest('hex');
}

function sourceFolders() {
  return SOURCE_FOLDERS.filter((folder) => fs.existsSync(folder));
}

function sourcesIn(folder) {
  return fs
    .readdirSync(folder, { recursive: true })
    .filter((name) => name.endsWith('.ts') && !name.endsWith('.spec.ts'))
    .map((name) => path.join(folder, name))
    .sort();
}

/** Builds beside dist and swaps: dist is always whole, and never holds a file whose source is gone. */
function build() {
  say('building dist');
  removeLeftovers();
  const builtFrom = fingerprint(); // before compiling: an edit meanwhile makes the build stale, not wrong
  const fresh = `${DIST}.new-${process.pid}`;
  process.once('exit', () => fs.rmSync(fresh, { recursive: true, force: true })); // when the compiler fails
  const swc = path.join(root, 'node_modules', '@swc', 'cli', 'bin', 'swc.js');
  run(process.execPath, [swc, ...sourceFolders(), '-d', fresh, '--quiet', '--ignore', '**/*.spec.ts'], process.env);
  const bin = path.join(fresh, 'src', 'cli', 'portcullis.js');
  if (fs.existsSync(bin)) fs.chmodSync(bin, 0o755);
  fs.writeFileSync(path.join(fresh, path.basename(STAMP)), builtFrom);

  const old = `${DIST}.old-${process.pid}`;
  if (fs.existsSync(DIST)) fs.renameSync(DIST, old);
  fs.renameSync(fresh, DIST);
  fs.rmSync(old, { recursive: true, force: true });
}

/** What an interrupted build left behind. Safe under the lock: nobody else is building. */
function removeLeftovers() {
  for (const name of fs.readdirSync(root)) {
    if (/^dist\.(new|old)-\d+$/.test(name)) fs.rmSync(path.join(root, name), { recursive: true, force: true });
  }
}

/** Outside the checkout: `npm ci` empties node_modules, and a lock is nobody's source. */
function withLock(work) {
  const name = createHash('sha256').update(root).digest('hex').slice(0, 16);
  const lock = path.join(os.tmpdir(), `portcullis-${os.userInfo().uid}-${name}.lock`);
  acquire(lock);
  process.once('exit', () => fs.rmSync(lock, { force: true }));
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.once(signal, () => process.exit(130));
  work();
}

function acquire(lock) {
  const mine = `${lock}.${process.pid}`;
  fs.writeFileSync(mine, String(process.pid));
  try {
    for (let waitedMs = 0; !tryLink(mine, lock); waitedMs += 100) {
      if (waitedMs === 0) say('waiting for another npm script of this checkout');
      if (waitedMs > LOCK_WAIT_MS) fail(`gave up waiting for ${lock}; delete it if no npm script is running.`);
      if (!isHeldByLivingProcess(lock)) fs.rmSync(lock, { force: true });
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 100);
    }
  } finally {
    fs.rmSync(mine, { force: true });
  }
}

/** A link appears with its content or not at all, so no reader sees a lock without an owner. */
function tryLink(mine, lock) {
  try {
    fs.linkSync(mine, lock);
    return true;
  } catch (error) {
    if (error.code === 'EEXIST') return false;
    throw error;
  }
}

function isHeldByLivingProcess(lock) {
  try {
    process.kill(Number(fs.readFileSync(lock, 'utf8')), 0);
    return true;
  } catch (error) {
    return error.code === 'EPERM';
  }
}

/** Child output goes to stderr. A failing child ends this process with its code. */
function run(command, args, env) {
  const { status, error } = spawnSync(command, args, { env, stdio: ['ignore', 2, 2] });
  if (error) fail(`could not run ${command}: ${error.message}`);
  if (status !== 0) fail(`${[command, ...args].join(' ')} failed`, status ?? 1);
}

/** `undefined` when there is no such file. */
function readJson(file) {
  try {
    return JSON.parse(fs.readFileSync(file, 'utf8'));
  } catch (error) {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  }
}

function say(message) {
  process.stderr.write(`portcullis: ${message}\n`);
}

function fail(message, code = 1) {
  say(message);
  process.exit(code);
}
