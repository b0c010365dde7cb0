/**
 * Random contents of a real database: two accounts whose rows have the same ids where the keys allow it, with what a
 * person at psql can do to them. PostgreSQL refuses what its constraints forbid; what it took is the database.
 */
import fc from 'fast-check';
import { Client, type CustomTypesConfig } from 'pg';
import type { RawRow } from '../../src/core/changes/commit.js';
import { parseRow } from '../../src/core/changes/parse-row.js';
import { printRow } from '../../src/core/changes/print-row.js';
import type { ConnectionFacts } from '../../src/core/model/connection-facts.js';
import type { AccountId, TokenId } from '../../src/core/model/ids.js';
import { ACCOUNT_TABLES, type AccountTable } from '../../src/core/model/rows.js';
import { ACCOUNT, idOf, type AnyRow } from './builders.js';
import { anyRow, connectedClients, denseAccount, facts, keyOf } from './histories.js';
import type { OracleRows } from './oracle-loops.js';
import type { TestDatabase } from './test-database.js';

export const ACCOUNTS = [ACCOUNT, idOf<AccountId>('umbrel')] as const;

export interface RandomDatabase {
  readonly rows: readonly { readonly table: AccountTable; readonly raw: RawRow }[];
  readonly connections: OracleRows['connections'];
}

/** Replaces columns of the first row of a table that has them. */
interface Twist {
  readonly table: AccountTable;
  readonly columns: RawRow;
}

const one = <T>(from: readonly T[]): fc.Arbitrary<T> => fc.constantFrom(...from);

const ODD_TIMES = [
  'infinity',
  '-infinity',
  '294276-12-31 23:59:59+00',
  '4713-01-01 00:00:00+00 BC',
  '2026-01-05 09:00+00',
];
const ODD_CONDITIONS = [
  ...['[null]', '[1]', '["remote_ip"]', '[[]]', '[{}]', '[{"property": "client_verified", "operator": "is"}]'],
  ...['[{"property": "client_verified", "operator": "is", "values": null}]'],
  ...['[{"property": "client_verified", "operator": "is", "values": [], "negate": true}]'],
  ...['[{"property": "client_verified", "operator": "is", "values": "true"}]'],
  ...['[{"property": "client_verified", "operator": "is", "values": [true]}]'],
  ...['[{"property": "client_verified", "operator": null, "values": []}]'],
  ...['[{"property": ["client_verified"], "operator": "is", "values": []}]'],
  ...['[{"property": "remote_ip", "operator": "is_not_in_cidr", "values": null}]'],
];
const ODD_FILTERS = [
  ...['[null]', '[{}]', '[{"protocol": "icmp", "ports": 7}]', '[{"protocol": "tcp"}]', '[{"protocol": "sctp"}]'],
  ...['[{"protocol": "tcp", "ports": ["80", "8000 - 8100"]}]', '[{"protocol": "udp", "ports": ["90-80"]}]'],
  ...['[{"protocol": "udp", "ports": ["65536"]}]', '[{"protocol": "udp", "ports": [53]}]'],
  ...['[{"protocol": "udp", "ports": null}]', '[{"protocol": "udp", "port": ["53"]}]'],
];
const ADDRESSES: readonly RawRow[] = [
  ...[
    '*.acme.example',
    'wiki',
    '**.io',
    '*.com',
    'com',
    'a**b.example',
    'x.localhost',
    'foo.*',
    '-a.example',
    'a_b.example',
  ].map(dns),
  ...['a..b', '', '1.2.3.4', '10.0.0.0/8', '::1', '*.xk', '*.de', 'a-.example', `${'a'.repeat(64)}.example`].map(dns),
  ...['10.1.2.3/8', '0.0.0.0/0', '127.0.0.0/16', '100.64.0.0/9', '::ffff:10.0.0.0/104', '2001:db8::1/32', '10/8'].map(
    cidr,
  ),
  ...['010.0.0.0/8', 'fd00:2021:1111:1::/64'].map(cidr),
  ...['10.1.2.3', '10.1.2.3/32', '127.0.0.1', '0.0.0.0', '2001:db8::1', '::1', '010.1.2.3'].map(ip),
  { type: 'internet', address: null, ip_stack: null, filters: '[]' },
  { type: 'internet', address: null, ip_stack: null, filters: '[{"protocol": "tcp"}]' },
];

function dns(address: string): RawRow {
  return { type: 'dns', address, ip_stack: 'dual' };
}

function cidr(address: string): RawRow {
  return { type: 'cidr', address, ip_stack: null };
}

function ip(address: string): RawRow {
  return { type: 'ip', address, ip_stack: null };
}

const twist: fc.Arbitrary<Twist> = fc.oneof(
  {
    weight: 3,
    arbitrary: one(ODD_CONDITIONS).map((conditions): Twist => ({ table: 'policies', columns: { conditions } })),
  },
  { weight: 2, arbitrary: one(ODD_FILTERS).map((filters): Twist => ({ table: 'resources', columns: { filters } })) },
  { weight: 2, arbitrary: one(ADDRESSES).map((columns): Twist => ({ table: 'resources', columns })) },
  { weight: 2, arbitrary: one(ODD_TIMES).map((expires_at): Twist => ({ table: 'tokens', columns: { expires_at } })) },
  one(ODD_TIMES).map((verified_at): Twist => ({ table: 'clients', columns: { verified_at } })),
  fc
    .record({ table: one(['accounts', 'actors', 'auth_providers', 'policies'] as const), disabled_at: one(ODD_TIMES) })
    .map(({ table, disabled_at }): Twist => ({ table, columns: { disabled_at } })),
);

interface AccountContents {
  readonly put: readonly AnyRow[];
  readonly drop: readonly AnyRow[];
  readonly twists: readonly { readonly twist: Twist; readonly place: number }[];
  readonly connects: readonly ConnectionFacts[];
  /** Which connection names a token of the other account. */
  readonly borrowed: number;
}

const contents: fc.Arbitrary<AccountContents> = fc.record({
  put: fc.array(anyRow, { maxLength: 25 }),
  drop: fc.array(anyRow, { maxLength: 4 }),
  twists: fc.array(fc.record({ twist, place: fc.nat(9) }), { maxLength: 3 }),
  connects: fc.array(facts, { maxLength: 3 }),
  borrowed: fc.nat(20),
});

export const randomDatabase: fc.Arbitrary<RandomDatabase> = fc.tuple(contents, contents).map((both): RandomDatabase => {
  const accounts = both.map((of, index) => accountRows(of, index));
  return {
    rows: accounts.flatMap(({ rows }) => rows),
    connections: accounts.flatMap(({ connections }) => connections),
  };
});

function accountRows(of: AccountContents, index: number): RandomDatabase {
  const byKey = new Map<string, { table: AccountTable; raw: RawRow }>();
  const nameOf = (row: AnyRow): string => `${row[0]} ${keyOf(row)}`;
  for (const row of [...denseAccount(), ...of.put]) {
    byKey.set(nameOf(row), { table: row[0], raw: ofAccount(index, row[0], printRow(row[1])) });
  }
  for (const row of of.drop) if (row[0] !== 'accounts') byKey.delete(nameOf(row));
  const rows = ACCOUNT_TABLES.flatMap((table) => [...byKey.values()].filter((row) => row.table === table));
  for (const {
    twist: { table, columns },
    place,
  } of of.twists) {
    const candidates = rows.filter((row) => row.table === table);
    const chosen = candidates[place % Math.max(1, candidates.length)];
    if (chosen) chosen.raw = { ...chosen.raw, ...columns };
  }
  const latest = new Map([...connectedClients(), ...of.connects].map((one) => [one.clientId, one]));
  const connections = [...latest.values()].map((one, place) => ({
    ...one,
    accountId: accountOf(index),
    tokenId: tokenOf(place === of.borrowed ? 1 - index : index, one.tokenId),
  }));
  return { rows, connections };
}

function accountOf(index: number): AccountId {
  return ACCOUNTS[index === 0 ? 0 : 1];
}

/** Tokens have one key space for all accounts. */
function tokenOf(index: number, id: string): TokenId {
  return (index === 0 ? id : `1${id.slice(1)}`) as TokenId;
}

/** The row as the account with this index has it. Devices get their addresses from the database. */
function ofAccount(index: number, table: AccountTable, raw: RawRow): RawRow {
  const row: Record<string, string | null> = { ...raw };
  if (table === 'accounts') Object.assign(row, { id: accountOf(index), slug: `${raw['slug']}_${index}` });
  else row['account_id'] = accountOf(index);
  if (table === 'tokens') row['id'] = tokenOf(index, raw['id'] ?? '');
  if (table === 'policies' && !raw['conditions']?.startsWith('[')) row['conditions'] = '[7]';
  if (table === 'clients' || table === 'gateways') {
    delete row['ipv4'];
    delete row['ipv6'];
    row['external_id'] = raw['id'] ?? null;
  }
  if (table === 'identities') row['provider_identifier'] = raw['id'] ?? null;
  return row;
}

// ---- in and out of PostgreSQL --------------------------------------------------------------------------------------

/** Empties the database and writes the rows, one by one: those that a constraint refuses are left out. */
export async function writeRows(database: TestDatabase, rows: RandomDatabase['rows']): Promise<void> {
  const statements = rows.map(({ table, raw }) => {
    const columns = Object.keys(raw);
    const values = columns.map((column) => literal(raw[column] ?? null));
    return `INSERT INTO ${table} (${columns.join(', ')}) VALUES (${values.join(', ')})`;
  });
  await database.sql(`
    DELETE FROM tokens; DELETE FROM accounts;
    DO $do$
    DECLARE statement text;
    BEGIN
      FOREACH statement IN ARRAY ARRAY[${statements.map(literal).join(', ')}]::text[] LOOP
        BEGIN
          EXECUTE statement;
        EXCEPTION WHEN integrity_constraint_violation THEN NULL;
        END;
      END LOOP;
    END $do$`);
}

function literal(text: string | null): string {
  return text === null ? 'NULL' : `'${text.replaceAll("'", "''")}'`;
}

/** A session in which values arrive as PostgreSQL prints them to the stream. */
export async function openPrinter(database: TestDatabase): Promise<Client> {
  const asPrinted = { getTypeParser: () => (text: unknown) => text } as unknown as CustomTypesConfig;
  const printer = new Client({ connectionString: database.url, types: asPrinted });
  await printer.connect();
  await printer.query(`SET TimeZone = 'UTC'; SET DateStyle = 'ISO'`);
  return printer;
}

/** Every row of one account, all columns as text. */
export async function rawRows(
  printer: Client,
  accountId: AccountId,
): Promise<ReadonlyMap<AccountTable, readonly RawRow[]>> {
  const rows = new Map<AccountTable, readonly RawRow[]>();
  for (const table of ACCOUNT_TABLES) {
    const key = table === 'accounts' ? 'id' : 'account_id';
    rows.set(table, (await printer.query<RawRow>(`SELECT * FROM ${table} WHERE ${key} = '${accountId}'`)).rows);
  }
  return rows;
}

/** What can be read of them. */
export function readableRows(
  accounts: Iterable<ReadonlyMap<AccountTable, readonly RawRow[]>>,
  connections: OracleRows['connections'],
): OracleRows {
  const rows = Object.fromEntries(ACCOUNT_TABLES.map((table) => [table, [] as unknown[]]));
  for (const account of accounts) {
    for (const [table, raws] of account) {
      for (const raw of raws) {
        const { row } = parseRow(table, raw);
        if (row) rows[table]?.push(row);
      }
    }
  }
  return { ...(rows as unknown as OracleRows), connections };
}
