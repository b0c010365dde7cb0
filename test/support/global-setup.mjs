/**
 * Starts the server of the test run and tells the test files where it is. Plain JavaScript, because jest turns a
 * TypeScript globalSetup into CommonJS, where `.js` does not find `.ts` and `import.meta` does not exist.
 */
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { tsImport } from 'tsx/esm/api';

export default async function globalSetup() {
  // Ctrl-C on jest skips globalTeardown: leave through `exit`, where the server is killed.
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.once(signal, () => process.exit(130));

  process.env.PORTCULLIS_TEST_RUN = String(process.pid);
  process.env.PORTCULLIS_TEST_TRAFFIC = path.join(mkdtempSync(path.join(tmpdir(), 'portcullis-traffic-')), 'seen');
  const { startPostgresForTests } = await tsImport('./postgres-for-tests.ts', import.meta.url);
  const server = await startPostgresForTests();
  process.env.PORTCULLIS_TEST_POSTGRES_URL = server.url;
  globalThis.portcullisTestPostgres = server;
}
