import type { AccountId, ActorId, SiteId } from '../../core/model/ids.js';
import { isUuid } from '../../core/model/ids.js';
import type { EpochMs } from '../../core/model/time.js';
import { createToken } from '../../db/create-token.js';
import type { NewToken } from '../../db/create-token.js';
import { SystemClock } from '../../system/system-clock.js';
import { SystemRandom } from '../../system/system-random.js';
import { UsageError } from '../command.js';
import type { Command } from '../command.js';
import { mustFindAccount } from '../must-find-account.js';
import { readDuration } from '../read-duration.js';
import { readFlags } from '../read-flags.js';
import { withDatabase } from '../with-database.js';

export const token: Command = {
  help: `usage: portcullis token create --kind client|api --account <id or slug> --actor <id> [--expires 7d]
       portcullis token create --kind gateway --account <id or slug> --site <id> [--expires 90d]
       portcullis token create --kind relay [--account <id or slug>] [--expires 90d]

Prints the token. It is shown this once: only a digest is stored. Times are 30m, 12h, 7d; without --expires it is valid
until its row is deleted. A relay token without account serves the whole installation.`,
  async run({ args, out, config }) {
    const { values, positionals } = readFlags(args, FLAGS, true);
    if (positionals.join(' ') !== 'create') throw new UsageError('say "token create"');
    const flags = { ...values };
    const build = readToken(flags);
    const now = new SystemClock().now();
    const expiresAt = flags.expires === undefined ? null : now + readDuration('--expires', flags.expires);
    await withDatabase(config(), async (database) => {
      const account = await mustFindAccount(database, flags.account);
      out((await createToken(database, build(account, expiresAt), new SystemRandom())).text);
    });
    return 0;
  },
};

const FLAGS = {
  kind: { type: 'string' },
  account: { type: 'string' },
  actor: { type: 'string' },
  site: { type: 'string' },
  expires: { type: 'string' },
} as const;

interface Flags {
  readonly kind?: string;
  readonly account?: string;
  readonly actor?: string;
  readonly site?: string;
}

type Build = (account: AccountId | null, expiresAt: EpochMs | null) => NewToken;

/** Everything that can be wrong without asking the database is said before it is asked. */
function readToken(flags: Flags): Build {
  switch (flags.kind) {
    case 'client':
    case 'api': {
      refuse(flags, 'site');
      const [kind, actorId] = [flags.kind, idFlag(flags, 'actor') as ActorId];
      return (account, expiresAt) => ({ kind, accountId: mustHave(account), actorId, expiresAt });
    }
    case 'gateway': {
      refuse(flags, 'actor');
      const siteId = idFlag(flags, 'site') as SiteId;
      return (account, expiresAt) => ({ kind: 'gateway', accountId: mustHave(account), siteId, expiresAt });
    }
    case 'relay':
      refuse(flags, 'actor');
      refuse(flags, 'site');
      return (accountId, expiresAt) => ({ kind: 'relay', accountId, expiresAt });
    case undefined:
    default:
      throw new UsageError('--kind is client, gateway, relay or api');
  }
}

function idFlag(flags: Flags, name: 'actor' | 'site'): string {
  const id = flags[name]?.toLowerCase();
  if (!isUuid(id)) throw new UsageError(`--${name} takes the id of the ${name}`);
  if (flags.account === undefined) throw new UsageError('--account takes the id or slug of the account');
  return id;
}

function refuse(flags: Flags, name: 'actor' | 'site'): void {
  if (flags[name] !== undefined) throw new UsageError(`a ${flags.kind ?? ''} token has no ${name}`);
}

function mustHave(account: AccountId | null): AccountId {
  if (account === null) throw new UsageError('--account takes the id or slug of the account');
  return account;
}
