/** What a figure depends on besides the code. */
import { execFileSync } from 'node:child_process';
import os from 'node:os';

/**
 * @param postgres its version, where the bench uses one
 * @param date as the caller gives it: a figure is of the day its reader is told
 */
export function machineFacts(postgres: string | undefined, date: string): readonly string[] {
  const [cpu] = os.cpus();
  return [
    `Date: ${date}`,
    `Commit: ${commit()}`,
    `CPU: ${cpu?.model.trim() ?? 'unknown'}, ${os.cpus().length} cores, ${Math.round(os.totalmem() / 2 ** 30)} GiB`,
    `System: ${os.type()} ${os.release()}, load ${os.loadavg()[0]?.toFixed(2) ?? '?'} before the start`,
    `Node ${process.versions.node}${postgres === undefined ? '' : `, PostgreSQL ${postgres}`}`,
  ];
}

function commit(): string {
  try {
    const hash = git('rev-parse', '--short', 'HEAD');
    return git('status', '--porcelain', '--', 'src', 'db', 'bench/*.ts') === '' ? hash : `${hash} with local changes`;
  } catch {
    return 'unknown';
  }
}

function git(...args: readonly string[]): string {
  return execFileSync('git', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim();
}
