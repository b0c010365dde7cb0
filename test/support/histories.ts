/**
 * Random histories of one small account: commits of any shape, connects, and time. `FakeDatabase` is the account as
 * PostgreSQL would hold it; it turns edits into the changes the stream would show. No foreign keys: what a decision
 * makes of a dangling reference must be right as well, since an unreadable row counts as absent (D15).
 */
import fc from 'fast-check';
import type { Change, RawRow } from '../../src/core/changes/commit.js';
import { printRow } from '../../src/core/changes/print-row.js';
import type { ConnectionFacts } from '../../src/core/model/connection-facts.js';
import type { ActorId, AnyId, ClientId, GatewayId, GroupId, IdentityId } from '../../src/core/model/ids.js';
import type { PolicyId, ProviderId, ResourceId, SiteId, TokenId } from '../../src/core/model/ids.js';
import { ACCOUNT_TABLES, type AccountTable } from '../../src/core/model/rows.js';
import { conditionList, region, remoteIp } from './arbitrary-conditions.js';
import {
  ACCOUNT,
  aClient,
  aGateway,
  aGroup,
  aLink,
  aMembership,
  anAccount,
  anActor,
  anIdentity,
  aPolicy,
  aProvider,
  aResource,
  aSite,
  aToken,
  idOf,
  MONDAY_9,
  rawChange,
  someFacts,
  truncated,
  type AnyRow,
} from './builders.js';
import type { OracleRows } from './oracle-loops.js';

export type Edit =
  | { readonly kind: 'put'; readonly row: AnyRow }
  /** The row of `old`, if there is one, gets the key and content of `row`. */
  | { readonly kind: 'rename'; readonly old: string; readonly row: AnyRow }
  /** Somebody types something into the row that nobody can read. */
  | { readonly kind: 'spoil'; readonly row: AnyRow }
  | { readonly kind: 'delete'; readonly table: AccountTable; readonly key: string }
  | { readonly kind: 'truncate'; readonly tables: readonly AccountTable[] };

export type Step =
  | { readonly kind: 'commit'; readonly edits: readonly Edit[] }
  | { readonly kind: 'connect'; readonly facts: ConnectionFacts }
  | { readonly kind: 'leave'; readonly clientId: ClientId }
  | { readonly kind: 'later'; readonly ms: number };

interface Stored {
  /** Undefined: unreadable. */
  readonly row: AnyRow | undefined;
  readonly raw: RawRow;
}

export class FakeDatabase {
  readonly #tables = new Map<AccountTable, Map<string, Stored>>(ACCOUNT_TABLES.map((table) => [table, new Map()]));
  readonly #connections = new Map<ClientId, ConnectionFacts>();

  constructor(rows: readonly AnyRow[] = []) {
    for (const row of rows) this.edit({ kind: 'put', row });
  }

  connect(facts: ConnectionFacts): void {
    this.#connections.set(facts.clientId, facts);
  }

  /** What happens to the copy does not happen to this one. */
  copy(): FakeDatabase {
    const copy = new FakeDatabase();
    for (const [table, rows] of this.#tables) copy.#tables.set(table, new Map(rows));
    for (const facts of this.#connections.values()) copy.connect(facts);
    return copy;
  }

  /** Does it and returns what the stream shows of it: nothing when there was nothing to do. */
  edit(edit: Edit): Change[] {
    switch (edit.kind) {
      case 'put':
        return this.#put(keyOf(edit.row), { row: edit.row, raw: printRow(edit.row[1]) }, edit.row);
      case 'rename':
        return this.#put(edit.old, { row: edit.row, raw: printRow(edit.row[1]) }, edit.row);
      case 'spoil':
        return this.#put(keyOf(edit.row), { row: undefined, raw: spoiled(edit.row) }, edit.row);
      case 'delete':
        return this.#delete(edit.table, edit.key);
      case 'truncate':
        for (const table of edit.tables) this.#of(table).clear();
        return [truncated(...edit.tables)];
    }
  }

  raw(): ReadonlyMap<AccountTable, readonly RawRow[]> {
    return new Map(ACCOUNT_TABLES.map((table) => [table, [...this.#of(table).values()].map(({ raw }) => raw)]));
  }

  /** What can be read of it, as the oracle wants it. Never changes. */
  readable(): OracleRows {
    const rows = ACCOUNT_TABLES.map((table) => [
      table,
      [...this.#of(table).values()].flatMap(({ row }) => (row ? [row[1]] : [])),
    ]);
    const connections = [...this.#connections.values()].map((of) => ({ ...of, accountId: ACCOUNT }));
    return { ...(Object.fromEntries(rows) as OracleRows), connections };
  }

  #put(oldKey: string, stored: Stored, [table, row]: AnyRow): Change[] {
    const changes: Change[] = [];
    const key = keyOf([table, row] as AnyRow);
    if (oldKey !== key) changes.push(...this.#delete(table, key)); // the primary key is taken
    if (table === 'memberships') {
      // UNIQUE (account, actor, group)
      for (const [otherKey, { row: other }] of this.#of('memberships')) {
        if (other?.[0] !== 'memberships' || otherKey === key || otherKey === oldKey) continue;
        const isSame = other[1].actorId === row.actorId && other[1].groupId === row.groupId;
        if (isSame) changes.push(...this.#delete('memberships', otherKey));
      }
    }
    const old = this.#of(table).get(oldKey);
    this.#of(table).delete(oldKey);
    this.#of(table).set(key, stored);
    changes.push(rawChange(old ? 'update' : 'insert', table, old?.raw ?? null, stored.raw));
    return changes;
  }

  #delete(table: AccountTable, key: string): Change[] {
    const old = this.#of(table).get(key);
    this.#of(table).delete(key);
    return old ? [rawChange('delete', table, old.raw, null)] : [];
  }

  #of(table: AccountTable): Map<string, Stored> {
    const rows = this.#tables.get(table);
    if (!rows) throw new RangeError(table);
    return rows;
  }
}

export function keyOf([, row]: AnyRow): string {
  return 'id' in row ? row.id : `${row.resourceId}/${row.siteId}`;
}

/** No column of these can make the whole row absent. */
const NEVER_ABSENT: readonly AccountTable[] = ['policies', 'resource_sites', 'memberships'];

/** One column that its reader insists on, in a state that it does not accept. */
function spoiled([table, row]: AnyRow): RawRow {
  const raw = printRow(row);
  if (table === 'tokens') return { ...raw, kind: 'master' };
  return table === 'identities' ? { ...raw, provider_identifier: null } : { ...raw, name: null };
}

// ---- the small account -------------------------------------------------------------------------------------------

function ids<Id extends AnyId>(...names: string[]): Id[] {
  return names.map((name) => idOf<Id>(name));
}

export const ACTORS = ids<ActorId>('a1', 'a2', 'a3');
export const PROVIDERS = ids<ProviderId>('v1', 'v2');
export const IDENTITIES = ids<IdentityId>('i1', 'i2', 'i3');
export const GROUPS = ids<GroupId>('g1', 'g2', 'g3');
export const SITES = ids<SiteId>('s1', 's2', 's3');
export const GATEWAYS = ids<GatewayId>('gw1', 'gw2', 'gw3');
export const CLIENTS = ids<ClientId>('c1', 'c2', 'c3', 'c4');
export const RESOURCES = ids<ResourceId>('r1', 'r2', 'r3');
const POLICIES = ids<PolicyId>('p1', 'p2', 'p3', 'p4', 'p5');
const TOKENS = ids<TokenId>('t1', 't2', 't3', 't4');
const MEMBERSHIPS = ['m1', 'm2', 'm3', 'm4'];

const HOUR = 3_600_000;
const DAY = 24 * HOUR;

/** Mostly open: most rows are there, and most policies conform. */
export function denseAccount(): AnyRow[] {
  return [
    ['accounts', anAccount()],
    ...ACTORS.map((id): AnyRow => ['actors', anActor({ id })]),
    ...PROVIDERS.map((id): AnyRow => ['auth_providers', aProvider({ id })]),
    ...IDENTITIES.map((id, i): AnyRow => [
      'identities',
      anIdentity({ id, actorId: at(ACTORS, i), providerId: at(PROVIDERS, i) }),
    ]),
    ...GROUPS.map((id): AnyRow => ['groups', aGroup({ id })]),
    ...ACTORS.map((actorId, i): AnyRow => [
      'memberships',
      aMembership({ id: idOf(`m${i + 1}`), actorId, groupId: at(GROUPS, i) }),
    ]),
    ...SITES.map((id): AnyRow => ['sites', aSite({ id })]),
    ...GATEWAYS.map((id, i): AnyRow => ['gateways', aGateway({ id, siteId: at(SITES, i) })]),
    ...CLIENTS.map((id, i): AnyRow => ['clients', aClient({ id, actorId: at(ACTORS, i) })]),
    ...RESOURCES.map((id): AnyRow => ['resources', aResource({ id })]),
    ...RESOURCES.map((resourceId, i): AnyRow => ['resource_sites', aLink({ resourceId, siteId: at(SITES, i) })]),
    ...POLICIES.map((id, i): AnyRow => [
      'policies',
      aPolicy({ id, groupId: at(GROUPS, i), resourceId: at(RESOURCES, i + (i >> 1)) }),
    ]),
    ...TOKENS.map((id, i): AnyRow => [
      'tokens',
      aToken({ id, actorId: at(ACTORS, i), identityId: i === 3 ? null : at(IDENTITIES, i) }),
    ]),
  ];
}

export function connectedClients(): ConnectionFacts[] {
  return CLIENTS.map((clientId, i) => someFacts({ clientId, tokenId: at(TOKENS, i) }));
}

function at<T>(from: readonly T[], index: number): T {
  const item = from[index % from.length];
  if (item === undefined) throw new RangeError('nothing to choose from');
  return item;
}

const one = <T>(from: readonly T[]): fc.Arbitrary<T> => fc.constantFrom(...from);
const mostlyEnabled = fc.oneof(
  { weight: 4, arbitrary: fc.constant(null) },
  { weight: 1, arbitrary: fc.constant(MONDAY_9) },
);
const boundary = fc.integer({ min: -2, max: 40 }).map((hours) => MONDAY_9 + hours * HOUR);

/** Any row of the small account. */
export const anyRow: fc.Arbitrary<AnyRow> = fc.oneof(
  {
    weight: 2,
    arbitrary: fc
      .record({ disabledAt: mostlyEnabled, slug: one(['acme', 'acme2']) })
      .map((of): AnyRow => ['accounts', anAccount(of)]),
  },
  {
    weight: 2,
    arbitrary: fc
      .record({ id: one(ACTORS), disabledAt: mostlyEnabled, name: one(['A', 'B']) })
      .map((of): AnyRow => ['actors', anActor(of)]),
  },
  {
    weight: 1,
    arbitrary: fc
      .record({ id: one(PROVIDERS), disabledAt: mostlyEnabled })
      .map((of): AnyRow => ['auth_providers', aProvider(of)]),
  },
  {
    weight: 2,
    arbitrary: fc
      .record({ id: one(IDENTITIES), actorId: one(ACTORS), providerId: one(PROVIDERS) })
      .map((of): AnyRow => ['identities', anIdentity(of)]),
  },
  { weight: 1, arbitrary: fc.record({ id: one(GROUPS) }).map((of): AnyRow => ['groups', aGroup(of)]) },
  {
    weight: 5,
    arbitrary: fc
      .record({ id: one(MEMBERSHIPS).map((name) => idOf<never>(name)), actorId: one(ACTORS), groupId: one(GROUPS) })
      .map((of): AnyRow => ['memberships', aMembership(of)]),
  },
  {
    weight: 2,
    arbitrary: fc.record({ id: one(SITES), name: one(['Berlin', 'Paris']) }).map((of): AnyRow => ['sites', aSite(of)]),
  },
  {
    weight: 2,
    arbitrary: fc.record({ id: one(GATEWAYS), siteId: one(SITES) }).map((of): AnyRow => ['gateways', aGateway(of)]),
  },
  {
    weight: 3,
    arbitrary: fc
      .record({ id: one(CLIENTS), actorId: one(ACTORS), verifiedAt: fc.option(fc.constant(MONDAY_9)) })
      .map((of): AnyRow => ['clients', aClient(of)]),
  },
  {
    weight: 3,
    arbitrary: fc
      .record({
        id: one(RESOURCES),
        name: one(['GitLab', 'Wiki']),
        address: one(['gitlab.acme.example', 'wiki.acme.example']),
      })
      .map((of): AnyRow => ['resources', aResource(of)]),
  },
  {
    weight: 4,
    arbitrary: fc
      .record({ resourceId: one(RESOURCES), siteId: one(SITES) })
      .map((of): AnyRow => ['resource_sites', aLink(of)]),
  },
  {
    weight: 8,
    arbitrary: fc
      .record({
        id: one(POLICIES),
        groupId: one(GROUPS),
        resourceId: one(RESOURCES),
        conditions: conditionList(PROVIDERS),
        disabledAt: mostlyEnabled,
      })
      .map((of): AnyRow => ['policies', aPolicy(of)]),
  },
  {
    weight: 3,
    arbitrary: fc
      .record({
        id: one(TOKENS),
        actorId: one(ACTORS),
        identityId: fc.option(one(IDENTITIES)),
        expiresAt: fc.option(boundary),
        kind: fc.constantFrom('client' as const, 'client' as const, 'api' as const),
      })
      .map((of): AnyRow => ['tokens', aToken(of)]),
  },
);

export const edit: fc.Arbitrary<Edit> = fc.oneof(
  { weight: 10, arbitrary: anyRow.map((row): Edit => ({ kind: 'put', row })) },
  { weight: 6, arbitrary: anyRow.map((row): Edit => ({ kind: 'delete', table: row[0], key: keyOf(row) })) },
  {
    weight: 1,
    arbitrary: anyRow.chain((row) =>
      anyRow.filter((other) => other[0] === row[0]).map((other): Edit => ({ kind: 'rename', old: keyOf(other), row })),
    ),
  },
  {
    weight: 1,
    arbitrary: anyRow.filter(([table]) => !NEVER_ABSENT.includes(table)).map((row): Edit => ({ kind: 'spoil', row })),
  },
  {
    weight: 1,
    arbitrary: fc
      .subarray([...ACCOUNT_TABLES], { minLength: 1, maxLength: 2 })
      .map((tables): Edit => ({ kind: 'truncate', tables })),
  },
);

export const facts: fc.Arbitrary<ConnectionFacts> = fc
  .record({
    clientId: one(CLIENTS),
    tokenId: one(TOKENS),
    region,
    remoteIp,
  })
  .map(someFacts);

/** Whole hours mostly, so that the ends of windows and tokens are met to the millisecond. */
const later = fc.oneof(
  fc.integer({ min: 1, max: 30 }).map((hours) => hours * HOUR),
  fc.constantFrom(1, HOUR - 1, 7 * DAY),
);

export const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 10,
    arbitrary: fc.array(edit, { minLength: 1, maxLength: 5 }).map((edits): Step => ({ kind: 'commit', edits })),
  },
  { weight: 3, arbitrary: facts.map((of): Step => ({ kind: 'connect', facts: of })) },
  { weight: 1, arbitrary: one(CLIENTS).map((clientId): Step => ({ kind: 'leave', clientId })) },
  { weight: 2, arbitrary: later.map((ms): Step => ({ kind: 'later', ms })) },
);

/** Runs of a property: more when asked for, by the variable RUNS. */
export function runs(usual: number): number {
  return Number(process.env['RUNS'] ?? usual);
}
