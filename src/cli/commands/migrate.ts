import { migrateToLatest } from '../../db/migrate.js';
import type { Command } from '../command.js';
import { readFlags } from '../read-flags.js';
import { withDatabaseUrl } from '../with-database.js';

export const migrate: Command = {
  help: `usage: portcullis migrate

Applies the migrations the database has not and reconciles the publications. The server does the same at its start.`,
  async run({ args, out, config }) {
    readFlags(args, {});
    const { publicationPrefix, replicationSlot: slot } = config();
    const applied = await withDatabaseUrl(config(), (url) => migrateToLatest(url, { publicationPrefix, slot }));
    out(applied.length === 0 ? 'nothing to do' : applied.map((name) => `applied ${name}`).join('\n'));
    return 0;
  },
};
