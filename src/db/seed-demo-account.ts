/** The demo account: what a newcomer, the tour and other people's scripts start from (D39). */
import { sql } from 'kysely';
import type { RawBuilder, Transaction } from 'kysely';
import type { AccountId, ActorId, IdentityId, SiteId } from '../core/model/ids.js';
import type { EpochMs } from '../core/model/time.js';
import type { Random } from '../core/support/clock.js';
import { writeToken } from './create-token.js';
import type { Tables } from './database-tables.js';
import type { Database } from './open-database.js';

/** What `portcullis seed --json` prints. Actor, group and site are those that the tokens and the listed policies use. */
export interface SeedReport {
  readonly account: { readonly id: string; readonly slug: string };
  readonly actor: { readonly id: string };
  readonly group: { readonly id: string };
  readonly site: { readonly id: string };
  readonly resources: readonly {
    readonly id: string;
    readonly type: string;
    readonly name: string;
    readonly address: string | null;
  }[];
  readonly policies: readonly { readonly id: string; readonly resource_id: string; readonly group_id: string }[];
  readonly tokens: { readonly client: string; readonly gateway: string; readonly relay: string };
}

/**
 * Makes the account, or puts back what was changed or deleted of it: rows that are as they should be are not touched, rows
 * a person added stay. Tokens are fresh each time, the older ones go on working.
 */
export function seedDemoAccount(database: Database, now: EpochMs, random: Random): Promise<SeedReport> {
  return database.inTransaction('seed-demo-account', async (db) => {
    for (const { table, key, natural, rows } of DEMO_ROWS) {
      if (natural) await deleteTwins(db, table, natural, rows);
      await put(db, table, key, rows);
    }
    const token = async (parts: Parameters<typeof writeToken>[1]): Promise<string> =>
      (await writeToken(db, parts, random)).text;
    const accountId = ACCOUNT.id as AccountId;
    return {
      account: { id: ACCOUNT.id, slug: ACCOUNT.slug },
      actor: { id: ADA.id },
      group: { id: ENGINEERS.id },
      site: { id: BERLIN.id },
      resources: RESOURCES.map(({ id, type, name, address }) => ({ id, type, name, address })),
      policies: ENGINEERS_POLICIES.map(({ id, resource_id, group_id }) => ({ id, resource_id, group_id })),
      tokens: {
        client: await token({
          kind: 'client',
          accountId,
          actorId: ADA.id as ActorId,
          identityId: ADAS_IDENTITY.id as IdentityId,
          expiresAt: now + CLIENT_TOKEN_LIFE_MS,
        }),
        gateway: await token({ kind: 'gateway', accountId, siteId: BERLIN.id as SiteId, expiresAt: null }),
        relay: await token({ kind: 'relay', accountId, expiresAt: null }),
      },
    };
  });
}

/** As a user's client token lives after a sign-in: 7 days (domain.md 5.1). */
const CLIENT_TOKEN_LIFE_MS = 7 * 24 * 3_600_000;

type Row = Readonly<Record<string, string | null>>;

interface DemoRows {
  readonly table: keyof Tables;
  readonly key: readonly string[];
  /** Another unique key: a person may have put a deleted row back under a new id. Ours replaces it. */
  readonly natural?: readonly string[];
  readonly rows: readonly Row[];
}

/** `de` as in demo; the rest only has to stay the same. */
function demoId(number: number): string {
  return `de000000-0000-4000-8000-${String(number).padStart(12, '0')}`;
}

const ACCOUNT = { id: demoId(1), name: 'Demo', slug: 'demo', config: '{}', disabled_at: null };
const OF_ACCOUNT = { account_id: ACCOUNT.id };

const ADA = { ...OF_ACCOUNT, id: demoId(11), type: 'account_user', name: 'Ada', disabled_at: null };
const GRACE = { ...OF_ACCOUNT, id: demoId(12), type: 'account_admin_user', name: 'Grace', disabled_at: null };
const BUILD_BOT = { ...OF_ACCOUNT, id: demoId(13), type: 'service_account', name: 'Build bot', disabled_at: null };

const EMAIL = { ...OF_ACCOUNT, id: demoId(21), name: 'E-mail', adapter: 'email', disabled_at: null };
const ADAS_IDENTITY = identity(31, ADA.id, 'ada@example.com');
const GRACES_IDENTITY = identity(32, GRACE.id, 'grace@example.com');

const ENGINEERS = { ...OF_ACCOUNT, id: demoId(41), name: 'Engineers', provider_id: null, provider_identifier: null };
const CONTRACTORS = { ...ENGINEERS, id: demoId(42), name: 'Contractors' };

const BERLIN = { ...OF_ACCOUNT, id: demoId(61), name: 'Berlin', managed_by: 'account' };
const INTERNET_SITE = { ...OF_ACCOUNT, id: demoId(62), name: 'Internet', managed_by: 'system' };

const WIKI = resource(71, 'dns', 'Wiki', 'wiki.demo.internal');
const OFFICE = resource(72, 'cidr', 'Office network', '10.20.0.0/16');
const BUILD_SERVER = resource(73, 'ip', 'Build server', '10.30.0.5');
const INTERNET = resource(74, 'internet', 'Internet', null);
const RESOURCES = [WIKI, OFFICE, BUILD_SERVER, INTERNET];

const ENGINEERS_POLICIES = RESOURCES.map((granted, i) => policy(81 + i, ENGINEERS.id, granted.id, []));
const CONTRACTORS_POLICY = policy(91, CONTRACTORS.id, WIKI.id, [
  { property: 'client_verified', operator: 'is', values: ['true'] },
]);

/** Parents before children. */
const DEMO_ROWS: readonly DemoRows[] = [
  { table: 'accounts', key: ['id'], rows: [ACCOUNT] },
  { table: 'actors', key: ['account_id', 'id'], rows: [ADA, GRACE, BUILD_BOT] },
  { table: 'auth_providers', key: ['account_id', 'id'], rows: [EMAIL] },
  {
    table: 'identities',
    key: ['account_id', 'id'],
    natural: ['account_id', 'provider_id', 'provider_identifier'],
    rows: [ADAS_IDENTITY, GRACES_IDENTITY],
  },
  { table: 'groups', key: ['account_id', 'id'], rows: [ENGINEERS, CONTRACTORS] },
  {
    table: 'memberships',
    key: ['account_id', 'id'],
    natural: ['account_id', 'actor_id', 'group_id'],
    rows: [
      membership(51, ADA.id, ENGINEERS.id),
      membership(52, BUILD_BOT.id, ENGINEERS.id),
      membership(53, GRACE.id, CONTRACTORS.id),
    ],
  },
  { table: 'sites', key: ['account_id', 'id'], rows: [BERLIN, INTERNET_SITE] },
  { table: 'resources', key: ['account_id', 'id'], rows: RESOURCES },
  {
    table: 'resource_sites',
    key: ['account_id', 'resource_id', 'site_id'],
    rows: RESOURCES.map(({ id, type }) => ({
      ...OF_ACCOUNT,
      resource_id: id,
      site_id: type === 'internet' ? INTERNET_SITE.id : BERLIN.id,
    })),
  },
  {
    table: 'policies',
    key: ['account_id', 'id'],
    natural: ['account_id', 'group_id', 'resource_id'],
    rows: [...ENGINEERS_POLICIES, CONTRACTORS_POLICY],
  },
];

function identity(number: number, actorId: string, email: string) {
  return {
    ...OF_ACCOUNT,
    id: demoId(number),
    actor_id: actorId,
    provider_id: EMAIL.id,
    provider_identifier: email,
    email,
  };
}

function membership(number: number, actorId: string, groupId: string) {
  return { ...OF_ACCOUNT, id: demoId(number), actor_id: actorId, group_id: groupId };
}

function resource(number: number, type: string, name: string, address: string | null) {
  const ipStack = type === 'dns' ? 'dual' : null;
  return { ...OF_ACCOUNT, id: demoId(number), type, name, address, ip_stack: ipStack, filters: '[]' };
}

function policy(number: number, groupId: string, resourceId: string, conditions: readonly unknown[]) {
  const ids = { id: demoId(number), group_id: groupId, resource_id: resourceId };
  return { ...OF_ACCOUNT, ...ids, conditions: JSON.stringify(conditions), disabled_at: null };
}

async function deleteTwins(db: Transaction<Tables>, table: string, natural: readonly string[], rows: readonly Row[]) {
  for (const row of rows) {
    const same = sql.join(
      natural.map((column) => sql`${sql.id(column)} = ${row[column]}`),
      sql` AND `,
    );
    await sql`DELETE FROM ${sql.table(table)} WHERE ${same} AND id <> ${row['id']}`.execute(db);
  }
}

/** Inserts rows, or gives those that are there these values. A row that has them already is not written again. */
async function put(db: Transaction<Tables>, table: string, key: readonly string[], rows: readonly Row[]) {
  const columns = Object.keys(rows[0] ?? {});
  const list = (prefix: string): RawBuilder<unknown> =>
    sql.join(columns.map((column) => sql.ref(`${prefix}.${column}`)));
  const values = rows.map((row) => sql`(${sql.join(columns.map((column) => row[column]))})`);
  await sql`
    INSERT INTO ${sql.table(table)} (${sql.join(columns.map((column) => sql.id(column)))}) VALUES ${sql.join(values)}
    ON CONFLICT (${sql.join(key.map((column) => sql.id(column)))}) DO UPDATE SET
      ${sql.join(columns.map((column) => sql`${sql.id(column)} = ${sql.ref(`excluded.${column}`)}`))}
    WHERE (${list(table)}) IS DISTINCT FROM (${list('excluded')})`.execute(db);
}
