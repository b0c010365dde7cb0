/** Load data: accounts of any size, made on the server. Ids follow from the numbers, so a second run adds nothing (D39). */
import { sql } from 'kysely';
import type { Transaction } from 'kysely';
import type { AccountId, ActorId, SiteId } from '../core/model/ids.js';
import type { Random } from '../core/support/clock.js';
import { writeToken } from './create-token.js';
import type { Tables } from './database-tables.js';
import type { Database } from './open-database.js';

/** Rows per account. */
export interface LoadScale {
  readonly accounts: number;
  readonly actors: number;
  readonly groups: number;
  readonly resources: number;
  readonly policies: number;
  readonly memberships: number;
}

/** One account of the load data: its first actor, group and site, and fresh tokens for them. */
export interface LoadAccount {
  readonly account: { readonly id: string; readonly slug: string };
  readonly actor: { readonly id: string };
  readonly group: { readonly id: string };
  readonly site: { readonly id: string };
  readonly tokens: { readonly client: string; readonly gateway: string };
}

/** What cannot be made: a group has a resource once, an actor is in a group once. `undefined` when it can. */
export function impossibleScale(scale: LoadScale): string | undefined {
  if (scale.policies > scale.groups * scale.resources) return 'more policies than groups × resources';
  if (scale.memberships > scale.actors * scale.groups) return 'more memberships than actors × groups';
  if (scale.actors < 1 || scale.groups < 1) return 'an account needs an actor and a group';
  return undefined;
}

/** One transaction per account. Policies and memberships are spread evenly over what they join. */
export async function seedLoad(database: Database, scale: LoadScale, random: Random): Promise<readonly LoadAccount[]> {
  const accounts: LoadAccount[] = [];
  for (let number = 1; number <= scale.accounts; number += 1) {
    accounts.push(await database.inTransaction('seed-load', (db) => seedAccount(db, number, scale, random)));
  }
  return accounts;
}

async function seedAccount(db: Transaction<Tables>, number: number, scale: LoadScale, random: Random) {
  const slug = `load_${number}`;
  const { rows } = await sql<{ account: AccountId; actor: ActorId; group: string; site: SiteId }>`
    SELECT md5(${slug})::uuid AS account, ${idOf(slug, 'actor', 0)} AS actor, ${idOf(slug, 'group', 0)} AS "group",
      ${idOf(slug, 'site', 0)} AS site`.execute(db);
  const [ids] = rows;
  if (!ids) throw new Error('the server made no ids');

  await sql`INSERT INTO accounts (id, name, slug) VALUES (${ids.account}, ${`Load ${number}`}, ${slug})
    ON CONFLICT (id) DO NOTHING`.execute(db);
  await sql`INSERT INTO sites (account_id, id, name) VALUES (${ids.account}, ${ids.site}, 'Load site')
    ON CONFLICT DO NOTHING`.execute(db);
  await sql`INSERT INTO actors (account_id, id, name)
    SELECT ${ids.account}, ${idOf(slug, 'actor')}, 'Actor ' || i FROM ${numbers(scale.actors)}
    ON CONFLICT DO NOTHING`.execute(db);
  await sql`INSERT INTO groups (account_id, id, name)
    SELECT ${ids.account}, ${idOf(slug, 'group')}, 'Group ' || i FROM ${numbers(scale.groups)}
    ON CONFLICT DO NOTHING`.execute(db);
  await sql`INSERT INTO resources (account_id, id, type, name, address)
    SELECT ${ids.account}, ${idOf(slug, 'resource')}, 'ip', 'Resource ' || i, host('10.0.0.0'::inet + i)
    FROM ${numbers(scale.resources)} ON CONFLICT DO NOTHING`.execute(db);
  await sql`INSERT INTO resource_sites (account_id, resource_id, site_id)
    SELECT ${ids.account}, ${idOf(slug, 'resource')}, ${ids.site} FROM ${numbers(scale.resources)}
    ON CONFLICT DO NOTHING`.execute(db);
  await seedPairs(db, { table: 'policies', ids, slug, count: scale.policies, ...pairsOf('group', 'resource', scale) });
  await seedPairs(db, {
    table: 'memberships',
    ids,
    slug,
    count: scale.memberships,
    ...pairsOf('actor', 'group', scale),
  });

  const client = await writeToken(
    db,
    { kind: 'client', accountId: ids.account, actorId: ids.actor, expiresAt: null },
    random,
  );
  const gateway = await writeToken(
    db,
    { kind: 'gateway', accountId: ids.account, siteId: ids.site, expiresAt: null },
    random,
  );
  return {
    account: { id: ids.account, slug },
    actor: { id: ids.actor },
    group: { id: ids.group },
    site: { id: ids.site },
    tokens: { client: client.text, gateway: gateway.text },
  };
}

type Joined = 'actor' | 'group' | 'resource';

interface Pairs {
  readonly left: Joined;
  readonly right: Joined;
  readonly leftCount: number;
  readonly rightCount: number;
}

function pairsOf(left: Joined, right: Joined, scale: LoadScale): Pairs {
  return { left, right, leftCount: scale[`${left}s`], rightCount: scale[`${right}s`] };
}

/** Pair i joins left i mod L with a right that moves on with i and with every round: no pair comes twice up to L × R. */
async function seedPairs(
  db: Transaction<Tables>,
  of: Pairs & {
    readonly table: 'policies' | 'memberships';
    readonly ids: { readonly account: string };
    readonly slug: string;
    readonly count: number;
  },
): Promise<void> {
  if (of.count === 0) return;
  const left = sql`(i % ${sql.lit(of.leftCount)})`;
  const right = sql`((i / ${sql.lit(of.leftCount)} + i % ${sql.lit(of.leftCount)}) % ${sql.lit(of.rightCount)})`;
  await sql`
    INSERT INTO ${sql.table(of.table)} (account_id, id, ${sql.id(`${of.left}_id`)}, ${sql.id(`${of.right}_id`)})
    SELECT ${of.ids.account}, ${idOf(of.slug, of.table)}, ${idOf(of.slug, of.left, left)}, ${idOf(of.slug, of.right, right)}
    FROM ${numbers(of.count)} ON CONFLICT DO NOTHING`.execute(db);
}

function numbers(count: number) {
  return sql`generate_series(0, ${sql.lit(count)} - 1) AS i`;
}

/** The id of the i-th row of its kind in an account. */
function idOf(slug: string, kind: string, i: unknown = sql`i`) {
  return sql`md5(${sql.lit(`${slug} ${kind} `)} || ${typeof i === 'number' ? sql.lit(i) : i})::uuid`;
}
