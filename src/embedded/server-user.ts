/**
 * PostgreSQL refuses to run as root. An ordinary user runs it directly. Root, in this order: under another uid of a user
 * namespace (no account, no chown, works below folders only root may enter); else, where namespaces are refused, from a
 * copy of the programs as uid 65534; else not at all, with a reason (decisions D42).
 */
import { spawnSync } from 'node:child_process';
import { chmodSync, cpSync, existsSync, lchownSync, readdirSync, renameSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { type Binaries, programPath } from './binaries.js';
import { EmbeddedPostgresError } from './embedded-postgres-error.js';

export interface Command {
  readonly file: string;
  readonly args: readonly string[];
  readonly identity: { readonly uid?: number; readonly gid?: number };
}

export interface ServerUser {
  readonly kind: 'caller' | 'namespace' | 'nobody';
  command(program: 'initdb' | 'postgres', args: readonly string[]): Command;
  /** Gives a file or folder, with all it holds, to the user the server runs as. Costs one `stat` when it has it already. */
  mustOwn(path: string): void;
}

/** The overflow uid and gid of Linux, which own nothing; no account of that number has to exist. */
const NOBODY = 65534;
const UNSHARE = ['--user', `--map-user=${NOBODY}`, `--map-group=${NOBODY}`, '--'];

/** `dataDir` must exist. Throws EmbeddedPostgresError when root can start no server here. */
export function chooseServerUser(binaries: Binaries, dataDir: string): ServerUser {
  if (process.getuid?.() !== 0) return callerItself(binaries);

  const namespace = insideNamespace(binaries);
  if (canRun(namespace)) return namespace;

  const nobody = fromCopy(binaries, dataDir);
  if (canRun(nobody)) return nobody;
  throw new EmbeddedPostgresError(
    `PostgreSQL does not run as root, this system refuses user namespaces, and uid ${NOBODY} cannot reach ${dataDir}: ` +
      'start as an ordinary user, set PORTCULLIS_DATA_DIR to a folder others may enter, or set DATABASE_URL',
  );
}

function callerItself(binaries: Binaries): ServerUser {
  return {
    kind: 'caller',
    command: (program, args) => ({ file: programPath(binaries, program), args, identity: {} }),
    mustOwn: () => undefined,
  };
}

function insideNamespace(binaries: Binaries): ServerUser {
  return {
    kind: 'namespace',
    command: (program, args) => ({
      file: 'unshare',
      args: [...UNSHARE, programPath(binaries, program), ...args],
      identity: {},
    }),
    mustOwn: (path) => mustBelongTo(0, path),
  };
}

/** The copy lies in the data folder, which the server must reach anyway, and not in a folder where others may plant files. */
function fromCopy(binaries: Binaries, dataDir: string): ServerUser {
  const copy: Binaries = { ...binaries, folder: join(dataDir, `programs-${binaries.version}`) };
  chmodSync(dataDir, 0o711);
  if (!existsSync(copy.folder)) {
    const draft = `${copy.folder}.${process.pid}`;
    cpSync(binaries.folder, draft, { recursive: true, verbatimSymlinks: true });
    try {
      renameSync(draft, copy.folder);
    } catch {
      rmSync(draft, { recursive: true, force: true }); // somebody else's copy was ready first
    }
  }
  return {
    kind: 'nobody',
    command: (program, args) => ({
      file: programPath(copy, program),
      args,
      identity: { uid: NOBODY, gid: NOBODY },
    }),
    mustOwn: (path) => mustBelongTo(NOBODY, path),
  };
}

function canRun(user: ServerUser): boolean {
  const { file, args, identity } = user.command('postgres', ['--version']);
  const { status, signal } = spawnSync(file, args, { ...identity, cwd: '/', stdio: 'ignore' });
  // A Ctrl-C reaches our children too, and says nothing about what this system allows.
  if (signal !== null) throw new EmbeddedPostgresError(`interrupted by ${signal} while the server user was chosen`);
  return status === 0;
}

/** Root may have used both ways here, for example before and after moving into a container: then the owner changes. */
function mustBelongTo(uid: number, path: string): void {
  const owner = statSync(path).uid;
  if (owner === uid) return;
  if (owner !== 0 && owner !== NOBODY) {
    throw new EmbeddedPostgresError(`${path} belongs to uid ${owner}: start as that user, not as root`);
  }
  lchownSync(path, uid, uid);
  if (!statSync(path).isDirectory()) return;
  for (const entry of readdirSync(path, { recursive: true, encoding: 'utf8' })) lchownSync(join(path, entry), uid, uid);
}
