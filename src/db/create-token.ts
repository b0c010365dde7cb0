/** Makes a token: its row, and apart from it what proves it. The text is shown once and stored nowhere (D27). */
import type { Transaction } from 'kysely';
import type { AccountId, ActorId, IdentityId, SiteId, TokenId } from '../core/model/ids.js';
import type { EpochMs } from '../core/model/time.js';
import type { Random } from '../core/support/clock.js';
import { digestToken, mintToken, TOKEN_SALT_BYTES, TOKEN_SECRET_BYTES } from '../core/tokens/token.js';
import type { Tables } from './database-tables.js';
import type { Database } from './open-database.js';

/** Whose it is. The database refuses a bearer of another account. */
export type NewToken = { readonly expiresAt: EpochMs | null } & (
  | {
      readonly kind: 'client' | 'api';
      readonly accountId: AccountId;
      readonly actorId: ActorId;
      readonly identityId?: IdentityId;
    }
  | { readonly kind: 'gateway'; readonly accountId: AccountId; readonly siteId: SiteId }
  /** Without an account it serves the whole installation. */
  | { readonly kind: 'relay'; readonly accountId: AccountId | null }
);

export interface CreatedToken {
  readonly id: TokenId;
  /** The bearer's secret. */
  readonly text: string;
}

export function createToken(database: Database, token: NewToken, random: Random): Promise<CreatedToken> {
  return database.inTransaction('create-token', (db) => writeToken(db, token, random));
}

/** The same inside a transaction. */
export async function writeToken(db: Transaction<Tables>, token: NewToken, random: Random): Promise<CreatedToken> {
  const id = random.uuid() as TokenId;
  const secret = random.bytes(TOKEN_SECRET_BYTES);
  const salt = random.bytes(TOKEN_SALT_BYTES);
  await db
    .insertInto('tokens')
    .values({
      id,
      account_id: token.accountId,
      kind: token.kind,
      actor_id: 'actorId' in token ? token.actorId : null,
      identity_id: 'identityId' in token ? token.identityId : null,
      site_id: 'siteId' in token ? token.siteId : null,
      expires_at: token.expiresAt === null ? null : new Date(token.expiresAt),
    })
    .execute();
  await db
    .insertInto('token_secrets')
    .values({ token_id: id, salt, digest: digestToken('', secret, salt) })
    .execute();
  return { id, text: mintToken(token.kind, id, secret) };
}
