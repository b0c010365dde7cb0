/** What `postmaster.pid` says about the server of one cluster folder, and whether that is still true. */
import { spawnSync } from 'node:child_process';
import { linkSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';

export interface Postmaster {
  readonly pid: number;
  /** Undefined while the server is starting. */
  readonly port: number | undefined;
  /** False while it starts or stops. */
  readonly isReady: boolean;
}

/** Undefined when no server runs on this folder, whatever a file left behind by a killed one says. */
export function livePostmaster(cluster: string): Postmaster | undefined {
  const postmaster = readPidFile(join(cluster, PID_FILE));
  return postmaster && isPostmasterOf(cluster, postmaster.pid) ? postmaster : undefined;
}

/** False for a process of another program that was given the pid of a server that died, and for one that is not reaped yet. */
export function isPostmasterOf(cluster: string, pid: number): boolean {
  if (!isAlive(pid)) return false;
  const command = commandLine(pid);
  return command === undefined || command.includes(cluster);
}

export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

/**
 * PostgreSQL replaces the file of a dead process by itself, but refuses to start while the pid in it is alive, also when it
 * is that of an unrelated process (usual in containers, where pids repeat). A live server's file is left alone.
 * The file is moved aside and looked at again, since another start may have replaced it meanwhile; that one is put back.
 */
export function clearRecycledPidFile(cluster: string): void {
  const file = join(cluster, PID_FILE);
  const judged = readPidFile(file);
  if (!judged || !isAlive(judged.pid) || isPostmasterOf(cluster, judged.pid)) return;
  const aside = `${file}.${process.pid}`;
  try {
    renameSync(file, aside);
  } catch {
    return; // gone: nothing is in the way
  }
  try {
    if (readPidFile(aside)?.pid !== judged.pid) linkSync(aside, file);
  } finally {
    rmSync(aside, { force: true });
  }
}

const PID_FILE = 'postmaster.pid';
/** Lines of the file, from 0. Source: PostgreSQL, src/include/utils/pidfile.h. */
const PORT_LINE = 3;
const STATUS_LINE = 7;

function readPidFile(file: string): Postmaster | undefined {
  let lines: string[];
  try {
    lines = readFileSync(file, 'utf8').split('\n');
  } catch {
    return undefined;
  }
  // Single-user mode writes its pid as a negative number.
  const pid = Math.abs(Number.parseInt(lines[0] ?? '', 10));
  if (!Number.isSafeInteger(pid) || pid === 0) return undefined;
  const port = Number.parseInt(lines[PORT_LINE] ?? '', 10);
  return {
    pid,
    port: Number.isNaN(port) ? undefined : port,
    isReady: lines[STATUS_LINE]?.trim() === 'ready' && !Number.isNaN(port),
  };
}

/** Empty for a process that ended and was not reaped; undefined when the system does not tell. */
function commandLine(pid: number): string | undefined {
  if (process.platform === 'linux') {
    try {
      return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ');
    } catch {
      return undefined;
    }
  }
  const listed = spawnSync('ps', ['-ww', '-o', 'command=', '-p', String(pid)], { encoding: 'utf8' });
  return listed.status === 0 ? listed.stdout : undefined;
}
