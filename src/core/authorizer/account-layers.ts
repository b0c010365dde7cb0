/** Everything an account's state holds, by name: rows and the indexes over them. Each part can be forked, and so the whole. */
import type { RowFault } from '../changes/parse-row.js';
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
import { ACCOUNT_TABLES, type AccountTable, type AccountTables, type PolicyRow } from '../model/rows.js';
import { LayeredMap } from '../support/layered-map.js';
import { LayeredMultiMap } from '../support/layered-multi-map.js';
import type { CompiledConditions } from './conditions.js';

/** A policy with its conditions compiled, once per change of the row. */
export interface CompiledPolicy {
  readonly row: PolicyRow;
  /** The row's own, one step nearer. */
  readonly id: PolicyId;
  readonly groupId: GroupId;
  readonly conditions: CompiledConditions;
}

/** A row, or a part of one, that could not be read and therefore grants nothing (D15). */
export interface StateFault extends RowFault {
  readonly table: AccountTable;
  readonly key: string;
}

export type TableMaps = { readonly [T in AccountTable]: LayeredMap<string, AccountTables[T]> };

export type Layers = ReturnType<typeof emptyLayers>;

export function emptyLayers() {
  return {
    tables: byTable(() => new LayeredMap<string, never>()) as TableMaps,
    faults: new LayeredMap<string, readonly StateFault[]>(),
    policies: new LayeredMap<PolicyId, CompiledPolicy>(),
    groupsByActor: new LayeredMap<ActorId, ReadonlyMap<GroupId, MembershipId>>(),
    actorsByGroup: new LayeredMultiMap<GroupId, ActorId>(),
    policiesByGroup: new LayeredMultiMap<GroupId, CompiledPolicy>(),
    policiesByResource: new LayeredMultiMap<ResourceId, CompiledPolicy>(),
    sitesByResource: new LayeredMultiMap<ResourceId, SiteId>(),
    resourcesBySite: new LayeredMultiMap<SiteId, ResourceId>(),
    clientsByActor: new LayeredMultiMap<ActorId, ClientId>(),
    tokensByIdentity: new LayeredMultiMap<IdentityId, TokenId>(),
    identitiesByProvider: new LayeredMultiMap<ProviderId, IdentityId>(),
    connections: new LayeredMap<ClientId, ConnectionFacts>(),
    clientsByToken: new LayeredMultiMap<TokenId, ClientId>(),
  };
}

export function forkLayers(layers: Layers): Layers {
  return mapLayers(layers, (layer) => layer.fork());
}

export function releaseLayers(layers: Layers): void {
  mapLayers(layers, (layer) => {
    layer.release();
    return layer;
  });
}

export function byTable<Value>(make: (table: AccountTable) => Value): { readonly [T in AccountTable]: Value } {
  return Object.fromEntries(ACCOUNT_TABLES.map((table) => [table, make(table)])) as { [T in AccountTable]: Value };
}

type AnyLayer = Pick<LayeredMap<string, unknown>, 'release'> & { fork(): AnyLayer };

/** Does the same to every layer, those of the tables included. */
function mapLayers({ tables, ...others }: Layers, change: (layer: AnyLayer) => AnyLayer): Layers {
  const changed = Object.fromEntries(Object.entries<AnyLayer>(others).map(([name, layer]) => [name, change(layer)]));
  return { ...changed, tables: byTable((table) => change(tables[table])) } as Layers;
}
