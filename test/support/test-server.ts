/** The whole product, booted in this process on a database of its own and on loopback ports of its own. */
import { type RunningServer, startServer } from '../../src/main.js';
import { StandingRelay } from './relays.js';
import { createMigratedDatabase, type TestDatabase } from './test-database.js';

export interface TestServer extends RunningServer {
  readonly db: TestDatabase;
  /** `ws://…`, to which the path of a role is added. */
  readonly wsUrl: string;
  /** Ends the server and drops the database. */
  close(): Promise<void>;
}

export type Settings = Readonly<Record<string, string>>;

/**
 * Ready to accept peers, with one relay for all of them unless `RELAYS_REQUIRED` is set. A new database unless one is
 * given, which then stays its owner's to drop.
 */
export async function startTestServer(settings: Settings = {}, db?: TestDatabase): Promise<TestServer> {
  const database = db ?? (await createMigratedDatabase());
  const server = await startServer({ ...settingsFor(database), ...settings });
  const wsUrl = server.api.replace('http', 'ws');
  const relay = settings['RELAYS_REQUIRED'] === undefined ? await StandingRelay.join(database, wsUrl) : undefined;
  return {
    ...server,
    db: database,
    wsUrl,
    close: async () => {
      await relay?.stop();
      await server.stop();
      if (!db) await database.drop();
    },
  };
}

/** Environment of a server on this database; the slot is named after it, since slots belong to the whole cluster. */
export function settingsFor(database: TestDatabase): Settings {
  return {
    DATABASE_URL: database.url,
    API_PORT: '0',
    OPS_PORT: '0',
    REPLICATION_SLOT: database.name,
    DATABASE_POOL_SIZE: '5',
    DRAIN_SECONDS: '0',
    LOG_LEVEL: 'error',
    LOG_FORMAT: 'json',
    HEARTBEAT_INTERVAL_MS: '500',
    CONNECT_BURST: '10000', // tests come back as fast as they can
    MAX_BACK_OFF_SECONDS: '0',
  };
}
