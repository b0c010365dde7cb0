/**
 * The two oracles against each other and against the authorizer, on databases that PostgreSQL really holds. The loops
 * read rows, the query never leaves the server, and the authorizer gets the text that the stream would bring.
 */
import { afterAll, beforeAll, describe, expect, it, jest } from '@jest/globals';
import fc from 'fast-check';
import type { Client } from 'pg';
import { Temporal } from 'temporal-polyfill';
import { UNLIMITED_GRANT_MS } from '../../src/core/authorizer/authorize.js';
import { Authorizer } from '../../src/core/authorizer/authorizer.js';
import { printRow } from '../../src/core/changes/print-row.js';
import type { AccountId } from '../../src/core/model/ids.js';
import { changesOf, EVERY_ZONE, windowCases } from '../support/arbitrary-windows.js';
import { ACCOUNT, aClient, anAccountInUse, CLIENT, duringHours, MONDAY_9 } from '../support/builders.js';
import { RESOURCE, someFacts, type AnyRow } from '../support/builders.js';
import { CLIENTS, GATEWAYS, RESOURCES, runs } from '../support/histories.js';
import {
  accessAll,
  justifyAll,
  violatedAt,
  type Access,
  type Justified,
  type OracleRows,
} from '../support/oracle-loops.js';
import { askSql } from '../support/oracle-sql.js';
import {
  ACCOUNTS,
  openPrinter,
  randomDatabase,
  rawRows,
  readableRows,
  writeRows,
  type RandomDatabase,
} from '../support/random-database.js';
import { createMigratedDatabase, type TestDatabase } from '../support/test-database.js';
import { WORKED_EXAMPLES } from '../support/worked-examples.js';

jest.setTimeout(180_000);

let database: TestDatabase;
let printer: Client;

beforeAll(async () => {
  database = await createMigratedDatabase();
  printer = await openPrinter(database);
});

afterAll(async () => {
  await printer.end();
  await database.drop();
});

const HOUR = 3_600_000;

/** Around the start of the histories, and around the changes of clocks. */
const moment = fc.oneof(
  fc.integer({ min: -10, max: 100 }).map((hours) => MONDAY_9 + hours * HOUR),
  fc.integer({ min: -10 * HOUR, max: 100 * HOUR }).map((ms) => MONDAY_9 + ms),
  fc
    .tuple(
      fc.constantFrom('2026-03-08T07:00Z', '2026-03-29T01:00Z', '2025-11-02T06:00Z', '2026-04-04T15:00Z'),
      fc.integer({ min: -8, max: 8 }).map((quarters) => quarters * (HOUR / 4)),
    )
    .map(([change, offset]) => Date.parse(change) + offset),
);

/** In one order of answers and of their parts. */
const sorted = (answers: readonly object[]): string[] =>
  answers.map((answer) => JSON.stringify(answer, Object.keys(answer).sort())).sort();

async function readBack(connections: OracleRows['connections']): Promise<OracleRows> {
  const accounts = await Promise.all(ACCOUNTS.map((id) => rawRows(printer, id)));
  return readableRows(accounts, connections);
}

describe('two oracles', () => {
  it('agree on whatever PostgreSQL can hold, and the authorizer of each account with both', async () => {
    let allowed = 0;
    await fc.assert(
      fc.asyncProperty(randomDatabase, fc.array(moment, { minLength: 3, maxLength: 3 }), async (random, moments) => {
        await writeRows(database, random.rows);
        const rows = await readBack(random.connections);
        const authorizers = await authorizersOf(random.connections);
        for (const now of moments) {
          const answers = await askSql(database, random.connections, now);
          expect(sorted(answers.access)).toEqual(sorted(accessAll(rows, now)));
          expect(sorted(answers.justified)).toEqual(sorted(justifyAll(rows, now)));
          expect(sorted(accessGiven(authorizers, now))).toEqual(sorted(answers.access));
          expect(sorted(reachGiven(authorizers, now))).toEqual(sorted(answers.access));
          expect(sorted(flowsGiven(authorizers, now))).toEqual(sorted(answers.justified));
          allowed += answers.access.length;
        }
      }),
      { numRuns: runs(60) },
    );
    expect(allowed).toBeGreaterThan(200);
  });

  it('agree on windows in zones across the world, around changes of clocks and ends of weeks', async () => {
    await writeRows(database, asRandomRows(anAccountInUse()));
    const connections = [{ ...someFacts(), accountId: ACCOUNT }];
    const zones = await zonesOfOneMind();
    expect(zones.length).toBeGreaterThan(0.95 * EVERY_ZONE.length);
    let open = 0;
    await fc.assert(
      fc.asyncProperty(windowCases(zones, 20), async (cases) => {
        // One question for many policies, since most of its time is the server's list of zones.
        const lists = cases.map(({ values }) => [duringHours(...values)]);
        const now = cases[0]?.now ?? NaN;
        await database.query('DELETE FROM resources');
        await database.query(MANY_POLICIES, [ACCOUNT, JSON.stringify(lists)]);
        const rows = await readBack(connections);
        const answers = await askSql(database, connections, now);
        expect(sorted(answers.access)).toEqual(sorted(accessAll(rows, now)));
        expect(sorted(accessGiven(await authorizersOf(connections), now))).toEqual(sorted(answers.access));
        open += answers.access.length;
      }),
      { numRuns: runs(60) },
    );
    expect(open).toBeGreaterThan(200);
  });

  it.each(WORKED_EXAMPLES)('$title', async ({ rows, facts, now, expected }) => {
    await writeRows(database, asRandomRows(rows));
    const connections = [{ ...facts, accountId: ACCOUNT }];
    const answer = { accountId: ACCOUNT, clientId: CLIENT, resourceId: RESOURCE };
    const wanted = 'violated' in expected ? [] : [{ ...answer, ...expected }];
    const read = await readBack(connections);
    expect(accessAll(read, now)).toEqual(wanted);
    if ('violated' in expected) expect(violatedAt(read, aClient(), RESOURCE, now)).toEqual(new Set(expected.violated));
    expect((await askSql(database, connections, now)).access).toEqual(wanted);
    expect(accessGiven(await authorizersOf(connections), now)).toEqual(wanted);
  });
});

// ---- what the authorizer makes of the text that PostgreSQL prints ----------------------------------------------------

type Authorizers = ReadonlyMap<AccountId, Authorizer>;

/** One for each account, as a server has it. */
async function authorizersOf(connections: OracleRows['connections']): Promise<Authorizers> {
  const authorizers = new Map<AccountId, Authorizer>();
  for (const accountId of ACCOUNTS) {
    const own = connections.filter((of) => of.accountId === accountId);
    authorizers.set(accountId, Authorizer.fromRows(await rawRows(printer, accountId), own));
  }
  return authorizers;
}

function accessGiven(authorizers: Authorizers, now: number): Access[] {
  return [...authorizers].flatMap(([accountId, authorizer]) =>
    [...CLIENTS, CLIENT].flatMap((clientId) =>
      [...authorizer.accessOf(clientId, now)].map(([resourceId, { policyId, until }]) => {
        return { accountId, clientId, resourceId, policyId, until };
      }),
    ),
  );
}

function reachGiven(authorizers: Authorizers, now: number): Access[] {
  return [...authorizers].flatMap(([accountId, authorizer]) =>
    RESOURCES.flatMap((resourceId) =>
      [...authorizer.whoCanReach(resourceId, now)].map(([clientId, { policyId, until }]) => {
        return { accountId, clientId, resourceId, policyId, until };
      }),
    ),
  );
}

function flowsGiven(authorizers: Authorizers, now: number): Justified[] {
  const given: Justified[] = [];
  for (const [accountId, authorizer] of authorizers) {
    for (const gatewayId of GATEWAYS) {
      for (const clientId of CLIENTS) {
        for (const resourceId of RESOURCES) {
          const decision = authorizer.authorizeFlow(clientId, gatewayId, resourceId, now);
          if (decision.verdict === 'deny') continue;
          const expiresAt = decision.until ?? now + UNLIMITED_GRANT_MS;
          given.push({ accountId, gatewayId, clientId, resourceId, policyId: decision.policyId, expiresAt });
        }
      }
    }
  }
  return given;
}

/**
 * The zones of whose clocks Node and PostgreSQL think alike: their zone data differ in age. Compared at every change that
 * Node knows, a second before it, and every few days. `CET` and its like drop out by themselves: see `oracle-sql.ts`.
 */
async function zonesOfOneMind(): Promise<string[]> {
  const everyFewDays = Array.from({ length: 200 }, (_, i) => Date.UTC(2024, 0, 1) + i * 89 * HOUR);
  const questions = EVERY_ZONE.map((zone) => {
    const instants = [...everyFewDays, ...changesOf(zone).flatMap((change) => [change - 1000, change])];
    return { zone, instants, offsets: instants.map((at) => offsetOf(zone, at)) };
  });
  const { rows } = await database.query<{ zone: string }>(
    `SELECT q ->> 'zone' AS zone FROM jsonb_array_elements($1::jsonb) AS q
     WHERE NOT EXISTS (
       SELECT FROM jsonb_array_elements(q -> 'instants') WITH ORDINALITY AS i (ms, place),
         LATERAL (SELECT timestamptz 'epoch' + ms::bigint * interval '1 millisecond' AS at) AS instant
       WHERE extract(epoch FROM (at AT TIME ZONE (q ->> 'zone')) - (at AT TIME ZONE 'UTC')) * 1000
         <> (q -> 'offsets' ->> (place::int - 1))::bigint)`,
    [JSON.stringify(questions)],
  );
  return rows.map(({ zone }) => zone);
}

function offsetOf(zone: string, at: number): number {
  return Temporal.Instant.fromEpochMilliseconds(at).toZonedDateTimeISO(zone).offsetNanoseconds / 1_000_000;
}

/** A resource for each list of conditions, and a policy that has it. */
const MANY_POLICIES = `
  WITH
    lists AS (
      SELECT conditions, format('r%s.example', place) AS address
      FROM jsonb_array_elements($2::jsonb) WITH ORDINALITY AS l (conditions, place)),
    reached AS (INSERT INTO resources (account_id, address) SELECT $1, address FROM lists RETURNING id, address),
    served AS (
      INSERT INTO resource_sites (account_id, resource_id, site_id) SELECT $1, reached.id, sites.id FROM reached, sites)
  INSERT INTO policies (account_id, group_id, resource_id, conditions)
    SELECT $1, groups.id, reached.id, conditions FROM groups, lists JOIN reached USING (address)`;

function asRandomRows(rows: readonly AnyRow[]): RandomDatabase['rows'] {
  return rows.map(([table, row]) => {
    const { ipv4: _ipv4, ipv6: _ipv6, ...raw } = printRow(row);
    return { table, raw };
  });
}
