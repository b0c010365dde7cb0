/** One account with everything a flow needs, and tokens whose secrets the test knows. */
import { randomBytes, randomUUID } from 'node:crypto';
import type { TokenId } from '../../src/core/model/ids.js';
import type { TokenKind } from '../../src/core/model/rows.js';
import { digestToken, mintToken } from '../../src/core/tokens/token.js';
import { insertAccount, type AccountIds } from './account-rows.js';
import type { TestDatabase } from './test-database.js';

export interface TestAccount extends AccountIds {
  readonly clientToken: string;
  readonly gatewayToken: string;
}

export async function aTestAccount(db: TestDatabase): Promise<TestAccount> {
  const ids = await insertAccount(db);
  return {
    ...ids,
    clientToken: await giveSecret(db, 'client', ids.clientTokenId),
    gatewayToken: await giveSecret(db, 'gateway', ids.gatewayTokenId),
  };
}

/** A further token of an actor, a site, an account (relay) or nobody (relay of the installation), with its text. */
export async function aToken(
  db: TestDatabase,
  kind: 'client' | 'gateway' | 'relay',
  owner: {
    readonly accountId?: string;
    readonly actorId?: string;
    readonly siteId?: string;
    readonly expiresAt?: Date;
  },
): Promise<{ readonly id: TokenId; readonly text: string }> {
  const id = randomUUID() as TokenId;
  await db.query(
    'INSERT INTO tokens (id, account_id, kind, actor_id, site_id, expires_at) VALUES ($1, $2, $3, $4, $5, $6)',
    [...[id, owner.accountId ?? null, kind, owner.actorId ?? null, owner.siteId ?? null, owner.expiresAt ?? null]],
  );
  return { id, text: await giveSecret(db, kind, id) };
}

async function giveSecret(db: TestDatabase, kind: TokenKind, id: TokenId): Promise<string> {
  const secret = randomBytes(32);
  const salt = randomBytes(16);
  await db.query('INSERT INTO token_secrets (token_id, salt, digest) VALUES ($1, $2, $3)', [
    ...[id, salt, Buffer.from(digestToken('', secret, salt))],
  ]);
  return mintToken(kind, id, secret);
}
