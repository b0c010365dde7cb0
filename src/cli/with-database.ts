/** Lends a command the database: the one of DATABASE_URL, or the embedded one, started for as long as the command runs. */
import type { Config } from '../config/config.js';
import { openDatabase } from '../db/open-database.js';
import type { Database } from '../db/open-database.js';
import { startEmbedded } from '../embedded/start-embedded.js';
import { createLogger } from '../system/logger.js';

/** A live embedded server is used as it is and left running; one that had to be started is stopped again. */
export async function withDatabaseUrl<Result>(config: Config, use: (url: string) => Promise<Result>): Promise<Result> {
  if (config.databaseUrl !== undefined) return use(config.databaseUrl);

  // Warnings only: whoever types `portcullis sql` wants to see rows.
  const log = createLogger({ level: 'warn', format: config.logFormat });
  const exit = (): never => process.exit(130); // through `exit`, where the server we started is stopped
  for (const signal of SIGNALS) process.once(signal, exit);
  try {
    const server = await startEmbedded({ dataDir: config.dataDir, log });
    try {
      return await use(server.url);
    } finally {
      await server.stop();
    }
  } finally {
    for (const signal of SIGNALS) process.removeListener(signal, exit);
  }
}

export function withDatabase<Result>(config: Config, use: (database: Database) => Promise<Result>): Promise<Result> {
  return withDatabaseUrl(config, async (url) => {
    const database = openDatabase(url, { max: 4, applicationName: 'portcullis cli' });
    try {
      return await use(database);
    } finally {
      await database.close();
    }
  });
}

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
