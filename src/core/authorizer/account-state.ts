/**
 * One account's rows and the indexes that decisions need, in memory. `apply` moves it from one committed state of the
 * database to the next in one synchronous step and says what changed (STORE-1): nobody ever sees half a transaction.
 * A fork shows the account as it was, or as it would be (STORE-3).
 */
import type { Change, RawRow } from '../changes/commit.js';
import type { ConnectionFacts } from '../model/connection-facts.js';
import type {
  ActorId,
  ClientId,
  GroupId,
  IdentityId,
  MembershipId,
  PolicyId,
  ProviderId,
  ResourceId,
  SiteId,
  TokenId,
} from '../model/ids.js';
import {
  ACCOUNT_TABLES,
  type AccountRow,
  type AccountTable,
  type AccountTables,
  type PolicyRow,
  type ResourceRow,
  type SiteRow,
} from '../model/rows.js';
import { compareText } from '../support/compare-text.js';
import type { LayeredMap } from '../support/layered-map.js';
import type { LayeredMultiMap, ValueSet } from '../support/layered-multi-map.js';
import { sameValue } from '../support/same-value.js';
import {
  byTable,
  emptyLayers,
  forkLayers,
  type CompiledPolicy,
  type Layers,
  releaseLayers,
  type StateFault,
} from './account-layers.js';
import { AccountStep } from './account-step.js';
import { compileConditions } from './conditions.js';
import { bothRows, eitherRow, type RowDelta, type StateDelta } from './state-delta.js';
import { identify, type Identified } from './subject.js';

/** A resource with the sites that serve it, at least one, by id. One object for all who are shown it, until it changes. */
export interface ServedResource {
  readonly resource: ResourceRow;
  readonly sites: readonly SiteRow[];
}

/** What decisions ask of a resource, worked out once until something of it changes. */
export interface Offer {
  /** Enabled policies that name it, by id. */
  readonly policies: readonly CompiledPolicy[];
  /** Undefined: no site serves it. */
  readonly served: ServedResource | undefined;
}

export class AccountState {
  readonly #at: Layers;
  readonly #newFaults: StateFault[] = [];
  /** Worked out of the rows when first asked for, and dropped when one of those changes. */
  readonly #offers = new Map<ResourceId, Offer>();
  readonly #served = new Map<ResourceId, ServedResource>();
  readonly #identified = new Map<ClientId, Identified>();

  constructor(layers = emptyLayers()) {
    this.#at = layers;
  }

  // ---- questions -------------------------------------------------------------------------------------------------

  /** The account's own row; undefined once it is deleted. */
  get account(): AccountRow | undefined {
    for (const row of this.#at.tables.accounts.values()) return row;
    return undefined;
  }

  row<T extends AccountTable>(table: T, key: string): AccountTables[T] | undefined {
    return this.#at.tables[table].get(key);
  }

  rows<T extends AccountTable>(table: T): Iterable<AccountTables[T]> {
    return this.#at.tables[table].values();
  }

  count(table: AccountTable): number {
    return this.#at.tables[table].size;
  }

  policiesOfResource(resourceId: ResourceId): ValueSet<CompiledPolicy> {
    return this.#at.policiesByResource.get(resourceId);
  }

  policiesOfGroup(groupId: GroupId): ValueSet<CompiledPolicy> {
    return this.#at.policiesByGroup.get(groupId);
  }

  /** The actor's groups with the membership that puts it there. */
  groupsOfActor(actorId: ActorId): ReadonlyMap<GroupId, MembershipId> {
    return this.#at.groupsByActor.get(actorId) ?? NO_GROUPS;
  }

  actorsOfGroup(groupId: GroupId): ValueSet<ActorId> {
    return this.#at.actorsByGroup.get(groupId);
  }

  clientsOfActor(actorId: ActorId): ValueSet<ClientId> {
    return this.#at.clientsByActor.get(actorId);
  }

  /** Clients whose latest connection used the token. */
  clientsOfToken(tokenId: TokenId): ValueSet<ClientId> {
    return this.#at.clientsByToken.get(tokenId);
  }

  tokensOfIdentity(identityId: IdentityId): ValueSet<TokenId> {
    return this.#at.tokensByIdentity.get(identityId);
  }

  identitiesOfProvider(providerId: ProviderId): ValueSet<IdentityId> {
    return this.#at.identitiesByProvider.get(providerId);
  }

  isServedBySite(resourceId: ResourceId, siteId: SiteId): boolean {
    return this.#at.sitesByResource.get(resourceId).has(siteId) && this.#at.tables.sites.has(siteId);
  }

  /** Undefined: there is no such resource. */
  offer(resourceId: ResourceId): Offer | undefined {
    const known = this.#offers.get(resourceId);
    if (known || !this.resource(resourceId)) return known;
    const policies = [...this.#at.policiesByResource.get(resourceId)]
      .filter(({ row }) => row.disabledAt === null)
      .sort((a, b) => compareText(a.id, b.id));
    const offer = { policies, served: this.served(resourceId) };
    this.#offers.set(resourceId, offer);
    return offer;
  }

  /** Undefined: there is no such resource, or no site serves it. */
  served(resourceId: ResourceId): ServedResource | undefined {
    const known = this.#served.get(resourceId);
    const resource = this.resource(resourceId);
    if (known || !resource) return known;
    const sites: SiteRow[] = [];
    for (const siteId of this.#at.sitesByResource.get(resourceId)) {
      const site = this.#at.tables.sites.get(siteId);
      if (site) sites.push(site);
    }
    if (sites.length === 0) return undefined;
    const served = { resource, sites: sites.sort((a, b) => compareText(a.id, b.id)).slice() };
    this.#served.set(resourceId, served);
    return served;
  }

  /** Who a client is, whatever the time. */
  identified(clientId: ClientId): Identified {
    const known = this.#identified.get(clientId);
    if (known) return known;
    const identified = identify(this, clientId);
    if (this.#at.tables.clients.has(clientId)) this.#identified.set(clientId, identified); // not for every stranger
    return identified;
  }

  resourcesOfSite(siteId: SiteId): ValueSet<ResourceId> {
    return this.#at.resourcesBySite.get(siteId);
  }

  resource(resourceId: ResourceId): ResourceRow | undefined {
    return this.#at.tables.resources.get(resourceId);
  }

  /** Clients that ever connected, present or not. */
  get connectedClients(): ValueSet<ClientId> {
    return this.#at.connections;
  }

  connection(clientId: ClientId): ConnectionFacts | undefined {
    return this.#at.connections.get(clientId);
  }

  /** Everything that cannot be read now. */
  *faults(): Iterable<StateFault> {
    for (const faults of this.#at.faults.values()) yield* faults;
  }

  /** What could not be read since the last call, to be logged and counted once. */
  takeNewFaults(): readonly StateFault[] {
    return this.#newFaults.splice(0);
  }

  // ---- forks -----------------------------------------------------------------------------------------------------

  /** The account as it is now: it stays so whatever happens here, and may be moved on by itself. Must be released. */
  fork(): AccountState {
    return new AccountState(forkLayers(this.#at));
  }

  /** Of a fork: it must not be used any more. Forks of it may. */
  release(): void {
    releaseLayers(this.#at);
  }

  /** Everything by which the rows of another state of the account differ. Between a state and its forks it costs what differs. */
  deltaTo(later: AccountState): StateDelta {
    return byTable((table) => {
      const before = this.#at.tables[table] as LayeredMap<string, AccountTables[AccountTable]>;
      const after = later.#at.tables[table] as LayeredMap<string, AccountTables[AccountTable]>;
      return [...before.differingKeys(after)]
        .map((key) => ({ before: before.get(key), after: after.get(key) }))
        .filter((row) => !sameValue(row.before, row.after));
    }) as StateDelta;
  }

  /** Clients whose latest connection is another one there. */
  reconnectedIn(later: AccountState): ClientId[] {
    const [before, after] = [this.#at.connections, later.#at.connections];
    return [...before.differingKeys(after)].filter((id) => !sameValue(before.get(id), after.get(id)));
  }

  // ---- steps -----------------------------------------------------------------------------------------------------

  /** Replaces what is known of a client's connection (D13). */
  setConnection(facts: ConnectionFacts): void {
    const old = this.#at.connections.get(facts.clientId);
    if (old) this.#at.clientsByToken.delete(old.tokenId, facts.clientId);
    this.#at.connections.set(facts.clientId, facts);
    this.#identified.delete(facts.clientId);
    this.#at.clientsByToken.add(facts.tokenId, facts.clientId);
  }

  /**
   * Applies the account's part of one commit, in stream order, and returns the net difference. A key that is set twice
   * keeps its first old row and its last new one.
   * Throws UnreadableRowError when a row cannot be identified at all; the state is then unchanged and must be read again.
   */
  apply(changes: readonly Change[]): StateDelta {
    const step = new AccountStep(this.#at);
    for (const change of changes) {
      if (change.kind === 'truncate') {
        for (const table of change.tables) if (table !== 'flows') step.clear(table);
      } else if (change.table !== 'flows') {
        step.change(change.table, change);
      }
    }
    return this.#commit(step);
  }

  /** Makes the state equal to `rows` and returns the difference to what it was: hydration and resync (D14). */
  replaceAll(rows: ReadonlyMap<AccountTable, readonly RawRow[]>): StateDelta {
    const step = new AccountStep(this.#at);
    for (const table of ACCOUNT_TABLES) {
      step.clear(table);
      for (const raw of rows.get(table) ?? []) step.set(table, raw);
    }
    return this.#commit(step);
  }

  /** Makes the state equal to another one of the same account and returns the difference. The other must not be used again. */
  replaceWith(other: AccountState): StateDelta {
    const step = new AccountStep(this.#at);
    for (const table of ACCOUNT_TABLES) {
      step.clear(table);
      for (const [key, row] of other.#at.tables[table].entries()) step.put(table, key, row, []);
    }
    for (const [name, faults] of other.#at.faults.entries()) step.faults.set(name, faults);
    return this.#commit(step);
  }

  #commit(step: AccountStep): StateDelta {
    for (const [name, faults] of step.faults) {
      if (faults.length > 0) {
        if (!sameValue(this.#at.faults.get(name), faults)) this.#newFaults.push(...faults);
        this.#at.faults.set(name, faults);
      } else this.#at.faults.delete(name);
    }
    const delta = {
      accounts: this.#settle(step, 'accounts'),
      actors: this.#settle(step, 'actors'),
      auth_providers: this.#settle(step, 'auth_providers'),
      identities: this.#settle(step, 'identities'),
      groups: this.#settle(step, 'groups'),
      memberships: this.#settle(step, 'memberships'),
      sites: this.#settle(step, 'sites'),
      gateways: this.#settle(step, 'gateways'),
      clients: this.#settle(step, 'clients'),
      resources: this.#settle(step, 'resources'),
      resource_sites: this.#settle(step, 'resource_sites'),
      policies: this.#settle(step, 'policies'),
      tokens: this.#settle(step, 'tokens'),
    };
    this.#reindex(delta);
    this.#dropDerived(delta);
    return delta;
  }

  /** Of what rests on many rows all is dropped: it is worked out again one by one, as it is asked for. */
  #dropDerived(delta: StateDelta): void {
    if (IDENTITY_TABLES.some((table) => delta[table].length > 0)) this.#identified.clear();
    for (const row of delta.policies.flatMap(bothRows)) this.#offers.delete(row.resourceId);
    for (const row of delta.resources) this.#dropServed(eitherRow(row).id);
    for (const row of delta.resource_sites) this.#dropServed(eitherRow(row).resourceId);
    for (const row of delta.sites) {
      for (const resourceId of this.#at.resourcesBySite.get(eitherRow(row).id)) this.#dropServed(resourceId);
    }
  }

  #dropServed(resourceId: ResourceId): void {
    this.#offers.delete(resourceId);
    this.#served.delete(resourceId);
  }

  #settle<T extends AccountTable>(step: AccountStep, table: T): RowDelta<AccountTables[T]>[] {
    const rows = this.#at.tables[table];
    const deltas: RowDelta<AccountTables[T]>[] = [];
    for (const [key, after] of step.touched(table)) {
      const before = rows.get(key);
      if (after !== undefined) this.#shareIds(after as References);
      if (before !== undefined && after !== undefined && sameValue(before, after)) continue; // the old object stays
      if (before === undefined && after === undefined) continue;
      if (after === undefined) rows.delete(key);
      else rows.set(key, after);
      deltas.push({ before, after });
    }
    return deltas;
  }

  /**
   * The ids by which a new row refers to others become those rows' own texts: looking one up then compares an address in
   * memory instead of 36 characters, and the copies are garbage. Tables are settled parents first.
   */
  #shareIds(row: References): void {
    for (const [field, table] of REFERENCES) {
      const id = row[field];
      if (typeof id === 'string') row[field] = this.#at.tables[table].get(id)?.id ?? id;
    }
  }

  /** Removals of every index come before its additions, so that a row that took another's place is not lost. */
  #reindex(delta: StateDelta): void {
    for (const { before } of delta.policies) if (before) this.#forgetPolicy(before.id);
    for (const { after } of delta.policies) if (after) this.#learnPolicy(after);
    this.#reindexMemberships(delta.memberships);
    reindex(delta.resource_sites, this.#at.sitesByResource, (link) => [link.resourceId, link.siteId]);
    reindex(delta.resource_sites, this.#at.resourcesBySite, (link) => [link.siteId, link.resourceId]);
    reindex(delta.clients, this.#at.clientsByActor, (client) => [client.actorId, client.id]);
    reindex(delta.tokens, this.#at.tokensByIdentity, (token) => token.identityId && [token.identityId, token.id]);
    reindex(delta.identities, this.#at.identitiesByProvider, (identity) => [identity.providerId, identity.id]);
  }

  /** An actor's groups are replaced as a whole, once per step: forks may hold the old ones. */
  #reindexMemberships(deltas: StateDelta['memberships']): void {
    const changed = new Map<ActorId, Map<GroupId, MembershipId>>();
    const groupsOf = (actorId: ActorId): Map<GroupId, MembershipId> => {
      const groups = changed.get(actorId) ?? new Map(this.#at.groupsByActor.get(actorId));
      changed.set(actorId, groups);
      return groups;
    };
    for (const { before } of deltas) {
      if (!before || groupsOf(before.actorId).get(before.groupId) !== before.id) continue;
      groupsOf(before.actorId).delete(before.groupId);
      this.#at.actorsByGroup.delete(before.groupId, before.actorId);
    }
    for (const { after } of deltas) {
      if (!after) continue;
      groupsOf(after.actorId).set(after.groupId, after.id);
      this.#at.actorsByGroup.add(after.groupId, after.actorId);
    }
    for (const [actorId, groups] of changed) {
      if (groups.size === 0) this.#at.groupsByActor.delete(actorId);
      else this.#at.groupsByActor.set(actorId, groups);
    }
  }

  #forgetPolicy(id: PolicyId): void {
    const policy = this.#at.policies.get(id) as CompiledPolicy; // every row has one
    this.#at.policies.delete(id);
    this.#at.policiesByGroup.delete(policy.row.groupId, policy);
    this.#at.policiesByResource.delete(policy.row.resourceId, policy);
  }

  #learnPolicy(row: PolicyRow): void {
    const policy = { row, id: row.id, groupId: row.groupId, conditions: compileConditions(row.conditions) };
    if (row.conditions !== 'unreadable') {
      // An unreadable list was reported with its row; a part that cannot be met is found only here (D15).
      for (const fault of policy.conditions.faults) this.#newFaults.push({ ...fault, table: 'policies', key: row.id });
    }
    this.#at.policies.set(row.id, policy);
    this.#at.policiesByGroup.add(row.groupId, policy);
    this.#at.policiesByResource.add(row.resourceId, policy);
  }
}

const REFERENCES = [
  ['accountId', 'accounts'],
  ['actorId', 'actors'],
  ['providerId', 'auth_providers'],
  ['identityId', 'identities'],
  ['groupId', 'groups'],
  ['siteId', 'sites'],
  ['resourceId', 'resources'],
] as const satisfies readonly (readonly [string, AccountTable])[];

/** Of a row that nobody has seen yet. */
type References = { [Field in (typeof REFERENCES)[number][0]]?: string | null };

/** What a subject is made of. */
const IDENTITY_TABLES = [
  ...['accounts', 'actors', 'auth_providers', 'identities', 'memberships', 'clients', 'tokens'],
] as const satisfies readonly AccountTable[];

const NO_GROUPS: ReadonlyMap<GroupId, MembershipId> = new Map();

function reindex<Row, Key, Value>(
  deltas: readonly RowDelta<Row>[],
  index: LayeredMultiMap<Key, Value>,
  entry: (row: Row) => readonly [Key, Value] | null,
): void {
  for (const { before } of deltas) {
    const pair = before && entry(before);
    if (pair) index.delete(...pair);
  }
  for (const { after } of deltas) {
    const pair = after && entry(after);
    if (pair) index.add(...pair);
  }
}
