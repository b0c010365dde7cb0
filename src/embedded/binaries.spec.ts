import { describe, it, expect } from '@jest/globals';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { completeLibraryLinks, mustFindBinaries } from './binaries.js';
import { EmbeddedPostgresError } from './embedded-postgres-error.js';

describe('binaries', () => {
  it('a platform without its package is told to set DATABASE_URL', () => {
    expect(() => mustFindBinaries('sunos-sparc')).toThrow(EmbeddedPostgresError);
    expect(() => mustFindBinaries('sunos-sparc')).toThrow(/sunos-sparc\) is not installed: set DATABASE_URL/);
  });

  it('missing library links are made, and those present are left alone', () => {
    const root = mkdtempSync(join(tmpdir(), 'portcullis-links-'));
    try {
      const lib = join(root, 'native', 'lib');
      mkdirSync(lib, { recursive: true });
      writeFileSync(join(lib, 'libx.so.1.2'), 'library');
      writeFileSync(join(lib, 'libx.so.1'), 'kept');
      const links = ['libx.so', 'libx.so.1'].map((name) => ({
        source: 'native/lib/libx.so.1.2',
        target: `native/lib/${name}`,
      }));
      writeFileSync(join(root, 'native', 'pg-symlinks.json'), JSON.stringify(links));

      completeLibraryLinks(root);

      expect(readFileSync(join(lib, 'libx.so'), 'utf8')).toBe('library');
      expect(readFileSync(join(lib, 'libx.so.1'), 'utf8')).toBe('kept');
    } finally {
      rmSync(root, { recursive: true });
    }
  });
});
