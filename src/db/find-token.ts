/** Who holds this token, and may they connect now? */
import type { AccountId, ActorId, SiteId, TokenId } from '../core/model/ids.js';
import type { StoredToken } from '../core/ports/connects.js';
import { toEpochMs } from './epoch-ms.js';
import type { Database } from './open-database.js';

/** `undefined` when there is no such token, or no secret by which it could be proved. */
export function findToken(database: Database, id: TokenId): Promise<StoredToken | undefined> {
  return database.ask('find-token', async (db) => {
    const row = await db
      .selectFrom('tokens')
      .innerJoin('token_secrets', 'token_secrets.token_id', 'tokens.id')
      .leftJoin('accounts', 'accounts.id', 'tokens.account_id')
      .leftJoin('actors', (join) =>
        join.onRef('actors.account_id', '=', 'tokens.account_id').onRef('actors.id', '=', 'tokens.actor_id'),
      )
      .leftJoin('identities', (join) =>
        join.onRef('identities.account_id', '=', 'tokens.account_id').onRef('identities.id', '=', 'tokens.identity_id'),
      )
      .leftJoin('auth_providers', (join) =>
        join
          .onRef('auth_providers.account_id', '=', 'identities.account_id')
          .onRef('auth_providers.id', '=', 'identities.provider_id'),
      )
      .where('tokens.id', '=', id)
      .select([
        'tokens.kind',
        'tokens.account_id',
        'tokens.actor_id',
        'tokens.identity_id',
        'tokens.site_id',
        'tokens.expires_at',
        'token_secrets.salt',
        'token_secrets.digest',
        'accounts.disabled_at as account_disabled_at',
        'actors.id as found_actor_id',
        'actors.disabled_at as actor_disabled_at',
        'auth_providers.id as found_provider_id',
        'auth_providers.disabled_at as provider_disabled_at',
      ])
      .executeTakeFirst();
    if (!row) return undefined;
    const actorEnabled = row.actor_id === null || (row.found_actor_id !== null && row.actor_disabled_at === null);
    const identityEnabled =
      row.identity_id === null || (row.found_provider_id !== null && row.provider_disabled_at === null);
    return {
      id,
      kind: row.kind,
      accountId: row.account_id as AccountId | null,
      actorId: row.actor_id as ActorId | null,
      siteId: row.site_id as SiteId | null,
      // `infinity`, like null, is never.
      expiresAt: row.expires_at === null || Number(row.expires_at) === Infinity ? null : toEpochMs(row.expires_at),
      salt: row.salt,
      digest: row.digest,
      accountDisabledAt: row.account_disabled_at === null ? null : toEpochMs(row.account_disabled_at),
      bearerEnabled: actorEnabled && identityEnabled,
    };
  });
}
