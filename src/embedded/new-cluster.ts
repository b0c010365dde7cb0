/**
 * Makes a new cluster with our user, its password and our database. It is made beside its final place and renamed there
 * when complete: a killed start leaves nothing half made, and of two starts at once the first to finish wins.
 */
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdirSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { searchPath } from '../config/search-path.js';
import { EmbeddedPostgresError } from './embedded-postgres-error.js';
import { isAlive } from './postmaster.js';
import type { ServerUser } from './server-user.js';

export interface ClusterPlan {
  /** Where it shall be; its folder must exist. */
  readonly cluster: string;
  readonly user: ServerUser;
  readonly authentication: 'scram-sha-256' | 'trust';
  /** False only where the data is thrown away: the cluster is then not flushed to disk. */
  readonly isDurable: boolean;
}

/** Superuser of the cluster and owner of its database. */
export const OWNER = 'portcullis';
export const DATABASE = 'portcullis';
/** In the cluster folder, so that a cluster never meets another one's password. */
export const PASSWORD_FILE = 'portcullis.password';

export async function makeCluster(plan: ClusterPlan): Promise<void> {
  removeAbandonedDrafts(plan.cluster);
  const draft = `${plan.cluster}.new.${process.pid}.${randomBytes(4).toString('hex')}`;
  const passwordFile = `${draft}.password`;
  try {
    writeFileSync(passwordFile, `${randomBytes(24).toString('base64url')}\n`, { mode: 0o600 });
    mkdirSync(draft, { mode: 0o700 });
    plan.user.mustOwn(passwordFile);
    plan.user.mustOwn(draft);
    await mustRun(plan.user, 'initdb', initdbArguments(plan, draft, passwordFile));
    await mustRun(plan.user, 'postgres', singleUserArguments(plan, draft), `CREATE DATABASE ${DATABASE}\n`);
    renameSync(passwordFile, join(draft, PASSWORD_FILE));
    moveIntoPlace(draft, plan.cluster);
  } finally {
    rmSync(draft, { recursive: true, force: true });
    rmSync(passwordFile, { force: true });
  }
}

function initdbArguments(plan: ClusterPlan, draft: string, passwordFile: string): string[] {
  return [
    `--pgdata=${draft}`,
    '--encoding=UTF8',
    '--locale=C',
    `--username=${OWNER}`,
    `--auth=${plan.authentication}`,
    `--pwfile=${passwordFile}`,
    '--no-instructions',
    ...(plan.isDurable ? [] : ['--no-sync']),
  ];
}

/** Without a network and a password: nobody can meet the server before it is complete. */
function singleUserArguments(plan: ClusterPlan, draft: string): string[] {
  return ['--single', '-D', draft, ...(plan.isDurable ? [] : ['-c', 'fsync=off']), 'postgres'];
}

function moveIntoPlace(draft: string, cluster: string): void {
  try {
    renameSync(draft, cluster);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code !== 'ENOTEMPTY' && code !== 'EEXIST') throw error;
  }
}

function removeAbandonedDrafts(cluster: string): void {
  const prefix = `${basename(cluster)}.new.`;
  for (const name of readdirSync(dirname(cluster))) {
    if (!name.startsWith(prefix)) continue;
    const maker = Number.parseInt(name.slice(prefix.length), 10);
    if (maker === process.pid || !isAlive(maker))
      rmSync(join(dirname(cluster), name), { recursive: true, force: true });
  }
}

/** Resolves when the program succeeded. Single-user mode ends with 0 after a failed statement too: its output is read. */
function mustRun(user: ServerUser, program: 'initdb' | 'postgres', args: string[], input = ''): Promise<void> {
  const { file, args: allArgs, identity } = user.command(program, args);
  return new Promise((resolve, reject) => {
    const child = spawn(file, allArgs, { ...identity, cwd: '/', env: SERVER_ENVIRONMENT, stdio: 'pipe' });
    let output = '';
    const keep = (chunk: Buffer): void => void (output += chunk.toString());
    child.stdout.on('data', keep);
    child.stderr.on('data', keep);
    child.stdin.on('error', () => undefined); // it ended without reading: its exit code and output tell why
    child.once('error', (cause) => reject(new EmbeddedPostgresError(`cannot run ${program}`, { cause })));
    child.once('close', (status) => {
      if (status === 0 && !/\b(ERROR|FATAL|PANIC):/.test(output)) resolve();
      else reject(new EmbeddedPostgresError(`${program} failed: ${output.trim().slice(-2000)}`));
    });
    child.stdin.end(input);
  });
}

/** Nothing of ours reaches the server: PGDATA, PGPORT or an unknown locale would change what it does. */
export const SERVER_ENVIRONMENT: NodeJS.ProcessEnv = { PATH: searchPath(), LC_ALL: 'C' };
