/**
 * One account's rows and the indexes that decisions need, in memory. `apply` moves it from one committed state of the
 * database to the next in one synchronous step and says what changed (STORE-1): nobody ever sees half a transaction.
 */
import { keyOf, parseRow, rowKey, type RowFault } from '../changes/parse-row.js';
import type { Change, RawRow, RowChange } from '../changes/commit.js';
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
import { MultiMap } from '../support/multi-map.js';
import { sameValue } from '../support/same-value.js';
import { compileConditions, type CompiledConditions } from './conditions.js';
import type { RowDelta, StateDelta } from './state-delta.js';

/** A policy with its conditions compiled, once per change of the row. */
export interface CompiledPolicy {
  readonly row: PolicyRow;
  readonly conditions: CompiledConditions;
}

/** A row, or a part of one, that could not be read and therefore grants nothing (D15). */
export interface StateFault extends RowFault {
  readonly table: AccountTable;
  readonly key: string;
}

type TableMaps = { readonly [T in AccountTable]: Map<string, AccountTables[T]> };
type WantedMaps = { readonly [T in AccountTable]: Map<string, AccountTables[T] | undefined> };

export class AccountState {
  readonly #tables: TableMaps = emptyTables();
  readonly #faults = new Map<string, readonly StateFault[]>();
  readonly #newFaults: StateFault[] = [];

  readonly #policies = new Map<PolicyId, CompiledPolicy>();
  readonly #groupsByActor = new Map<ActorId, Map<GroupId, MembershipId>>();
  readonly #actorsByGroup = new MultiMap<GroupId, ActorId>();
  readonly #policiesByGroup = new MultiMap<GroupId, CompiledPolicy>();
  readonly #policiesByResource = new MultiMap<ResourceId, CompiledPolicy>();
  readonly #sitesByResource = new MultiMap<ResourceId, SiteId>();
  readonly #resourcesBySite = new MultiMap<SiteId, ResourceId>();
  readonly #clientsByActor = new MultiMap<ActorId, ClientId>();
  readonly #tokensByIdentity = new MultiMap<IdentityId, TokenId>();
  readonly #identitiesByProvider = new MultiMap<ProviderId, IdentityId>();

  readonly #connections = new Map<ClientId, ConnectionFacts>();
  readonly #clientsByToken = new MultiMap<TokenId, ClientId>();

  // ---- questions -------------------------------------------------------------------------------------------------

  /** The account's own row; undefined once it is deleted. */
  get account(): AccountRow | undefined {
    for (const row of this.#tables.accounts.values()) return row;
    return undefined;
  }

  row<T extends AccountTable>(table: T, key: string): AccountTables[T] | undefined {
    return this.#tables[table].get(key);
  }

  rows<T extends AccountTable>(table: T): Iterable<AccountTables[T]> {
    return this.#tables[table].values();
  }

  count(table: AccountTable): number {
    return this.#tables[table].size;
  }

  policiesOfResource(resourceId: ResourceId): ReadonlySet<CompiledPolicy> {
    return this.#policiesByResource.get(resourceId);
  }

  policiesOfGroup(groupId: GroupId): ReadonlySet<CompiledPolicy> {
    return this.#policiesByGroup.get(groupId);
  }

  /** The actor's groups with the membership that puts it there. */
  groupsOfActor(actorId: ActorId): ReadonlyMap<GroupId, MembershipId> {
    return this.#groupsByActor.get(actorId) ?? NO_GROUPS;
  }

  actorsOfGroup(groupId: GroupId): ReadonlySet<ActorId> {
    return this.#actorsByGroup.get(groupId);
  }

  clientsOfActor(actorId: ActorId): ReadonlySet<ClientId> {
    return this.#clientsByActor.get(actorId);
  }

  /** Clients whose latest connection used the token. */
  clientsOfToken(tokenId: TokenId): ReadonlySet<ClientId> {
    return this.#clientsByToken.get(tokenId);
  }

  tokensOfIdentity(identityId: IdentityId): ReadonlySet<TokenId> {
    return this.#tokensByIdentity.get(identityId);
  }

  identitiesOfProvider(providerId: ProviderId): ReadonlySet<IdentityId> {
    return this.#identitiesByProvider.get(providerId);
  }

  isServedBySite(resourceId: ResourceId, siteId: SiteId): boolean {
    return this.#sitesByResource.get(resourceId).has(siteId) && this.#tables.sites.has(siteId);
  }

  /** Sites of a resource, by id. */
  sitesOfResource(resourceId: ResourceId): readonly SiteRow[] {
    const sites: SiteRow[] = [];
    for (const siteId of this.#sitesByResource.get(resourceId)) {
      const site = this.#tables.sites.get(siteId);
      if (site) sites.push(site);
    }
    return sites.sort((a, b) => (a.id < b.id ? -1 : 1));
  }

  resourcesOfSite(siteId: SiteId): ReadonlySet<ResourceId> {
    return this.#resourcesBySite.get(siteId);
  }

  resource(resourceId: ResourceId): ResourceRow | undefined {
    return this.#tables.resources.get(resourceId);
  }

  connection(clientId: ClientId): ConnectionFacts | undefined {
    return this.#connections.get(clientId);
  }

  /** Everything that cannot be read now. */
  *faults(): Iterable<StateFault> {
    for (const faults of this.#faults.values()) yield* faults;
  }

  /** What could not be read since the last call, to be logged and counted once. */
  takeNewFaults(): readonly StateFault[] {
    return this.#newFaults.splice(0);
  }

  // ---- steps -----------------------------------------------------------------------------------------------------

  /** Replaces what is known of a client's connection (D13). */
  setConnection(facts: ConnectionFacts): void {
    const old = this.#connections.get(facts.clientId);
    if (old) this.#clientsByToken.delete(old.tokenId, facts.clientId);
    this.#connections.set(facts.clientId, facts);
    this.#clientsByToken.add(facts.tokenId, facts.clientId);
  }

  /**
   * Applies the account's part of one commit, in stream order, and returns the net difference. A key that is set twice
   * keeps its first old row and its last new one.
   * Throws UnreadableRowError when a row cannot be identified at all; the state is then unchanged and must be read again.
   */
  apply(changes: readonly Change[]): StateDelta {
    const step = new Step(this.#tables, this.#faults);
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
    const step = new Step(this.#tables, this.#faults);
    for (const table of ACCOUNT_TABLES) {
      step.clear(table);
      for (const raw of rows.get(table) ?? []) step.set(table, raw);
    }
    return this.#commit(step);
  }

  /** Makes the state equal to another one of the same account and returns the difference. The other must not be used again. */
  replaceWith(other: AccountState): StateDelta {
    const step = new Step(this.#tables, this.#faults);
    for (const table of ACCOUNT_TABLES) {
      step.clear(table);
      for (const [key, row] of other.#tables[table])
        step.put(table, key, row, other.#faults.get(`${table}/${key}`) ?? []);
    }
    for (const [name, faults] of other.#faults) step.faults.set(name, faults);
    return this.#commit(step);
  }

  #commit(step: Step): StateDelta {
    for (const [name, faults] of step.faults) {
      if (faults.length > 0) {
        if (!sameValue(this.#faults.get(name), faults)) this.#newFaults.push(...faults);
        this.#faults.set(name, faults);
      } else this.#faults.delete(name);
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
    return delta;
  }

  #settle<T extends AccountTable>(step: Step, table: T): RowDelta<AccountTables[T]>[] {
    const map = this.#tables[table];
    const deltas: RowDelta<AccountTables[T]>[] = [];
    for (const [key, after] of step.touched(table)) {
      const before = map.get(key);
      if (before !== undefined && after !== undefined && sameValue(before, after)) continue; // the old object stays
      if (before === undefined && after === undefined) continue;
      if (after === undefined) map.delete(key);
      else map.set(key, after);
      deltas.push({ before, after });
    }
    return deltas;
  }

  /** Removals of every index come before its additions, so that a row that took another's place is not lost. */
  #reindex(delta: StateDelta): void {
    for (const { before } of delta.policies) if (before) this.#forgetPolicy(before.id);
    for (const { after } of delta.policies) if (after) this.#learnPolicy(after);
    for (const { before } of delta.memberships) {
      if (!before) continue;
      const groups = this.#groupsByActor.get(before.actorId);
      if (groups?.get(before.groupId) !== before.id) continue;
      groups.delete(before.groupId);
      if (groups.size === 0) this.#groupsByActor.delete(before.actorId);
      this.#actorsByGroup.delete(before.groupId, before.actorId);
    }
    for (const { after } of delta.memberships) {
      if (!after) continue;
      const groups = this.#groupsByActor.get(after.actorId) ?? new Map<GroupId, MembershipId>();
      groups.set(after.groupId, after.id);
      this.#groupsByActor.set(after.actorId, groups);
      this.#actorsByGroup.add(after.groupId, after.actorId);
    }
    reindex(delta.resource_sites, this.#sitesByResource, (link) => [link.resourceId, link.siteId]);
    reindex(delta.resource_sites, this.#resourcesBySite, (link) => [link.siteId, link.resourceId]);
    reindex(delta.clients, this.#clientsByActor, (client) => [client.actorId, client.id]);
    reindex(delta.tokens, this.#tokensByIdentity, (token) => token.identityId && [token.identityId, token.id]);
    reindex(delta.identities, this.#identitiesByProvider, (identity) => [identity.providerId, identity.id]);
  }

  #forgetPolicy(id: PolicyId): void {
    const policy = this.#policies.get(id);
    if (!policy) return;
    this.#policies.delete(id);
    this.#policiesByGroup.delete(policy.row.groupId, policy);
    this.#policiesByResource.delete(policy.row.resourceId, policy);
  }

  #learnPolicy(row: PolicyRow): void {
    const policy = { row, conditions: compileConditions(row.conditions) };
    if (row.conditions !== 'unreadable') {
      // An unreadable list was reported with its row; a part that cannot be met is found only here (D15).
      for (const fault of policy.conditions.faults) this.#newFaults.push({ ...fault, table: 'policies', key: row.id });
    }
    this.#policies.set(row.id, policy);
    this.#policiesByGroup.add(row.groupId, policy);
    this.#policiesByResource.add(row.resourceId, policy);
  }
}

const NO_GROUPS: ReadonlyMap<GroupId, MembershipId> = new Map();

/** Collects what a step wants each key to become, without changing anything: a step that throws leaves no trace. */
class Step {
  readonly faults = new Map<string, readonly StateFault[]>();
  readonly #wanted: WantedMaps = emptyTables();

  constructor(
    private readonly tables: TableMaps,
    private readonly knownFaults: ReadonlyMap<string, readonly StateFault[]>,
  ) {}

  touched<T extends AccountTable>(table: T): Iterable<[string, AccountTables[T] | undefined]> {
    return this.#wanted[table];
  }

  clear(table: AccountTable): void {
    const wanted = this.#wanted[table];
    for (const key of wanted.keys()) this.#remove(table, key);
    for (const key of this.tables[table].keys()) this.#remove(table, key);
    for (const [fault] of this.knownFaults.values()) if (fault?.table === table) this.#remove(table, fault.key);
  }

  change(table: AccountTable, change: RowChange): void {
    const oldKey = change.old && rowKey(table, change.old);
    const newKey = change.new && rowKey(table, change.new);
    if (oldKey !== null && oldKey !== newKey) this.#remove(table, oldKey);
    if (change.new) this.set(table, change.new);
  }

  set(table: AccountTable, raw: RawRow): void {
    const { row, faults } = parseRow(table, raw);
    const key = row ? keyOf(table, row) : rowKey(table, raw);
    this.put(
      table,
      key,
      row ?? undefined,
      faults.map((fault) => ({ ...fault, table, key })),
    );
  }

  put(
    table: AccountTable,
    key: string,
    row: AccountTables[AccountTable] | undefined,
    faults: readonly StateFault[],
  ): void {
    this.faults.set(`${table}/${key}`, faults);
    (this.#wanted[table] as Map<string, typeof row>).set(key, row);
  }

  #remove(table: AccountTable, key: string): void {
    this.put(table, key, undefined, []);
  }
}

function emptyTables<Maps>(): Maps {
  return Object.fromEntries(ACCOUNT_TABLES.map((table) => [table, new Map()])) as Maps;
}

function reindex<Row, Key, Value>(
  deltas: readonly RowDelta<Row>[],
  index: MultiMap<Key, Value>,
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
