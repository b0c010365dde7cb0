/** An account in which every client has a group of its own, and every pair of client and resource a policy of its own. */
import { randomBytes, randomUUID } from 'node:crypto';
import type { Client } from 'pg';
import type { TokenId } from '../src/core/model/ids.js';
import type { TokenKind } from '../src/core/model/rows.js';
import { digestToken, mintToken } from '../src/core/tokens/token.js';
import type { Product } from './product.js';

export interface SeededClient {
  readonly actorId: string;
  readonly groupId: string;
  readonly token: string;
}

/** What one client reaches through one policy. */
export interface Pair {
  /** Index in `clients`. */
  readonly client: number;
  readonly resourceId: string;
  readonly policyId: string;
}

export interface SeededAccount {
  readonly accountId: string;
  readonly gatewayToken: string;
  readonly clients: readonly SeededClient[];
  readonly pairs: readonly Pair[];
}

export interface AccountSize {
  readonly clients: number;
  readonly resourcesPerClient: number;
}

/** Each table in a transaction of its own: one of all of them would be longer than the product cares to hold. */
export async function seedAccount({ sql, settled }: Product, size: AccountSize): Promise<SeededAccount> {
  const accountId = randomUUID();
  const siteId = randomUUID();
  const tokens = new TokenDrafts();
  const clients = Array.from({ length: size.clients }, () => {
    const actorId = randomUUID();
    return { actorId, groupId: randomUUID(), token: tokens.add('client', actorId, null) };
  });
  const pairs = clients.flatMap((_, client) =>
    Array.from({ length: size.resourcesPerClient }, () => {
      return { client, resourceId: randomUUID(), policyId: randomUUID() };
    }),
  );
  const gatewayToken = tokens.add('gateway', null, siteId);

  await sql.query('INSERT INTO accounts (id) VALUES ($1)', [accountId]);
  await sql.query('INSERT INTO sites (account_id, id) VALUES ($1, $2)', [accountId, siteId]);
  const insert = (text: string, ...lists: readonly (readonly unknown[])[]) => sql.query(text, [accountId, ...lists]);
  const actorIds = clients.map(({ actorId }) => actorId);
  const groupIds = clients.map(({ groupId }) => groupId);
  const resourceIds = pairs.map(({ resourceId }) => resourceId);
  await insert('INSERT INTO actors (account_id, id) SELECT $1, unnest($2::uuid[])', actorIds);
  await insert('INSERT INTO groups (account_id, id) SELECT $1, unnest($2::uuid[])', groupIds);
  await insert(
    'INSERT INTO memberships (account_id, actor_id, group_id) SELECT $1, unnest($2::uuid[]), unnest($3::uuid[])',
    ...[actorIds, groupIds],
  );
  await insert(
    `INSERT INTO resources (account_id, id, type, name, address)
     SELECT $1, id, 'ip', 'Resource ' || i, host('10.0.0.0'::inet + i)
     FROM unnest($2::uuid[]) WITH ORDINALITY AS resource (id, i)`,
    resourceIds,
  );
  await sql.query('INSERT INTO resource_sites (account_id, resource_id, site_id) SELECT $1, unnest($2::uuid[]), $3', [
    ...[accountId, resourceIds, siteId],
  ]);
  await insert(
    `INSERT INTO policies (account_id, id, group_id, resource_id)
     SELECT $1, unnest($2::uuid[]), unnest($3::uuid[]), unnest($4::uuid[])`,
    pairs.map(({ policyId }) => policyId),
    pairs.map(({ client }) => groupIds[client]),
    resourceIds,
  );
  await tokens.insert(sql, accountId);
  await settled();
  return { accountId, gatewayToken, clients, pairs };
}

/** Tokens whose text the bench knows. */
class TokenDrafts {
  readonly #drafts: (readonly [TokenId, TokenKind, string | null, string | null, Buffer, Buffer])[] = [];

  add(kind: 'client' | 'gateway', actorId: string | null, siteId: string | null): string {
    const id = randomUUID() as TokenId;
    const secret = randomBytes(32);
    const salt = randomBytes(16);
    this.#drafts.push([id, kind, actorId, siteId, salt, Buffer.from(digestToken('', secret, salt))]);
    return mintToken(kind, id, secret);
  }

  async insert(sql: Client, accountId: string): Promise<void> {
    const column = (index: 0 | 1 | 2 | 3 | 4 | 5): unknown[] => this.#drafts.map((draft) => draft[index]);
    await sql.query(
      `INSERT INTO tokens (account_id, id, kind, actor_id, site_id)
       SELECT $1, unnest($2::uuid[]), unnest($3::text[]), unnest($4::uuid[]), unnest($5::uuid[])`,
      [accountId, column(0), column(1), column(2), column(3)],
    );
    await sql.query(
      'INSERT INTO token_secrets (token_id, salt, digest) SELECT unnest($1::uuid[]), unnest($2::bytea[]), unnest($3::bytea[])',
      [column(0), column(4), column(5)],
    );
  }
}
