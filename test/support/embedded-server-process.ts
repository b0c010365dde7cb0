/**
 * A process that starts the embedded server, for the tests in which such a process is killed, has another uid, or races
 * with another. Prints one line of JSON when ready, or `{"error"}`; then obeys one word on stdin: `stop` or `exit`.
 */
import { startEmbedded } from '../../src/embedded/start-embedded.js';
import { EmbeddedPostgresError } from '../../src/embedded/embedded-postgres-error.js';

const dataDir = process.argv[2] ?? '';
let runsAs: unknown;
const log = {
  error: () => {},
  warn: () => {},
  info: (_event: string, fields?: Readonly<Record<string, unknown>>) => void (runsAs = fields?.['runsAs']),
  debug: () => {},
};

try {
  const server = await startEmbedded({ dataDir, settings: { fsync: 'off' }, log });
  const { url, pid, wasRunning } = server;
  process.stdout.write(`${JSON.stringify({ url, pid, wasRunning, runsAs })}\n`);
  process.stdin.once('data', (word: Buffer) => {
    if (word.toString().trim() === 'exit') process.exit(0);
    void server.stop().then(() => process.exit(0));
  });
} catch (error) {
  if (!(error instanceof EmbeddedPostgresError)) throw error;
  process.stdout.write(`${JSON.stringify({ error: error.message })}\n`);
  process.exitCode = 1;
}
