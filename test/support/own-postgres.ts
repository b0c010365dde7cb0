/** A PostgreSQL server of one test's own, for settings that others must not meet. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Pool } from 'pg';
import { startEmbedded } from '../../src/embedded/start-embedded.js';
import { SILENT } from './store-under-test.js';
import type { TestDatabase } from './test-database.js';

/** Empty; `drop` ends the server and removes its data. */
export async function startOwnPostgres(settings: Readonly<Record<string, string>>): Promise<TestDatabase> {
  const dataDir = mkdtempSync(join(tmpdir(), 'portcullis-own-'));
  const server = await startEmbedded({
    dataDir,
    settings: { fsync: 'off', synchronous_commit: 'off', ...settings },
    authentication: 'trust',
    log: SILENT,
  });
  const pool = new Pool({ connectionString: server.url, max: 4 });
  pool.on('error', () => undefined); // an idle connection that the server ends
  return {
    url: server.url,
    name: 'portcullis',
    query: (sql, params) => pool.query(sql, params === undefined ? undefined : [...params]),
    sql: async (text) => void (await pool.query(text)),
    drop: async () => {
      await pool.end();
      server.killSync('SIGQUIT');
      await server.stop();
      rmSync(dataDir, { recursive: true, force: true, maxRetries: 20, retryDelay: 25 });
    },
  };
}
