/**
 * The flows registered on this process, with the indexes that find those a commit may touch (D16). Each gateway channel
 * registers its own and removes them when it leaves; the table only finds them.
 */
import type { ClientId, FlowId, GatewayId, MembershipId, PolicyId, ResourceId, TokenId } from '../model/ids.js';
import type { FlowRecord, ResourceShape } from '../model/flow.js';
import type { EpochMs } from '../model/time.js';
import { MultiMap } from '../support/multi-map.js';
import type { AccountState } from './account-state.js';
import { bothRows, eitherRow, type StateDelta } from './state-delta.js';

/** Why the pair is let through now, and until when. Replaced as a whole when the reason moves. */
export interface Grant {
  readonly flowId: FlowId;
  readonly policyId: PolicyId;
  readonly membershipId: MembershipId;
  readonly tokenId: TokenId;
  readonly expiresAt: EpochMs;
  /** True when neither policy nor token ends it: `expiresAt` is then only a date to look again. */
  readonly isUnlimited: boolean;
}

/** One (gateway, client, resource) that a gateway holds. Only its gateway's channel changes it, through the table. */
export interface Flow {
  readonly gatewayId: GatewayId;
  readonly clientId: ClientId;
  readonly resourceId: ResourceId;
  readonly shape: ResourceShape;
  readonly grant: Grant;
  /** The row of the current grant, once it is in the database; null until then. */
  readonly record: FlowRecord | null;
  /** Rows of grants before it that are not known to be closed: a hand may have cut one, unheard, before it moved on. */
  readonly formerRecords: readonly FlowRecord[];
}

type HeldFlow = { -readonly [K in keyof Flow]: Flow[K] } & { formerRecords: FlowRecord[] };

export class FlowTable {
  readonly #byPair = new Map<string, HeldFlow>();
  readonly #byGateway = new MultiMap<GatewayId, Flow>();
  readonly #byClient = new MultiMap<ClientId, Flow>();
  readonly #byResource = new MultiMap<ResourceId, Flow>();
  readonly #byPolicy = new MultiMap<PolicyId, Flow>();
  readonly #byFormerRecord = new Map<FlowId, HeldFlow>();

  get size(): number {
    return this.#byPair.size;
  }

  get(gatewayId: GatewayId, clientId: ClientId, resourceId: ResourceId): Flow | undefined {
    return this.#byPair.get(pairKey(gatewayId, clientId, resourceId));
  }

  /** The pair must not be registered yet. */
  register(flow: Omit<Flow, 'record' | 'formerRecords'>, record: FlowRecord | null = null): Flow {
    const held: HeldFlow = { ...flow, record, formerRecords: [] };
    this.#byPair.set(pairKey(held.gatewayId, held.clientId, held.resourceId), held);
    this.#byGateway.add(held.gatewayId, held);
    this.#byClient.add(held.clientId, held);
    this.#byResource.add(held.resourceId, held);
    this.#byPolicy.add(held.grant.policyId, held);
    return held;
  }

  /** Moves a registered flow to another reason or expiry. */
  regrant(flow: Flow, grant: Grant): void {
    this.#byPolicy.delete(flow.grant.policyId, flow);
    if (flow.record) this.#isFormer(flow as HeldFlow, flow.record);
    (flow as HeldFlow).grant = grant;
    (flow as HeldFlow).record = null;
    this.#byPolicy.add(grant.policyId, flow);
  }

  /** The row of a grant of the flow is in the database. */
  recorded(flow: Flow, record: FlowRecord): void {
    if (flow.grant.flowId === record.id) (flow as HeldFlow).record = record;
    else this.#isFormer(flow as HeldFlow, record);
  }

  /** The stream has brought our closing of this row: whatever a hand did to it before was brought before. */
  closed(flowId: FlowId): void {
    const flow = this.#byFormerRecord.get(flowId);
    if (!flow) return;
    this.#byFormerRecord.delete(flowId);
    flow.formerRecords = flow.formerRecords.filter(({ id }) => id !== flowId);
  }

  #isFormer(flow: HeldFlow, record: FlowRecord): void {
    if (!this.isRegistered(flow)) return;
    flow.formerRecords.push(record);
    this.#byFormerRecord.set(record.id, flow);
  }

  /** Every row that stands or stood for a registered flow, is in the database, and does not leave it for its age. */
  records(now: EpochMs): FlowRecord[] {
    const rows = [...this.#byPair.values()].flatMap(({ record, formerRecords }) => [
      ...formerRecords,
      ...(record ? [record] : []),
    ]);
    return rows.filter(({ expiresAt }) => expiresAt > now);
  }

  /** Does nothing when the flow is not registered (any more). */
  remove(flow: Flow): void {
    const key = pairKey(flow.gatewayId, flow.clientId, flow.resourceId);
    if (this.#byPair.get(key) !== flow) return;
    this.#byPair.delete(key);
    this.#byGateway.delete(flow.gatewayId, flow);
    this.#byClient.delete(flow.clientId, flow);
    this.#byResource.delete(flow.resourceId, flow);
    this.#byPolicy.delete(flow.grant.policyId, flow);
    for (const { id } of flow.formerRecords) this.#byFormerRecord.delete(id);
  }

  ofGateway(gatewayId: GatewayId): ReadonlySet<Flow> {
    return this.#byGateway.get(gatewayId);
  }

  ofClient(clientId: ClientId): ReadonlySet<Flow> {
    return this.#byClient.get(clientId);
  }

  ofResource(resourceId: ResourceId): ReadonlySet<Flow> {
    return this.#byResource.get(resourceId);
  }

  isRegistered(flow: Flow): boolean {
    return this.#byPair.get(pairKey(flow.gatewayId, flow.clientId, flow.resourceId)) === flow;
  }

  /**
   * Every registered flow whose justification the step may have changed, by gateway. Looks at rows as they were *and* as
   * they are (AUTH-1), so a policy that moved away from a group still reaches those who had it.
   */
  touchedBy(delta: StateDelta, state: AccountState): Map<GatewayId, Set<Flow>> {
    const touched = new Map<GatewayId, Set<Flow>>();
    const touch = (flows: Iterable<Flow>): void => {
      for (const flow of flows) {
        const set = touched.get(flow.gatewayId);
        if (set) set.add(flow);
        else touched.set(flow.gatewayId, new Set([flow]));
      }
    };
    const touchClients = (clients: Iterable<ClientId>): void => {
      for (const clientId of clients) touch(this.#byClient.get(clientId));
    };
    const touchIdentity = (identityId: Parameters<AccountState['tokensOfIdentity']>[0]): void => {
      for (const tokenId of state.tokensOfIdentity(identityId)) touchClients(state.clientsOfToken(tokenId));
    };

    if (delta.accounts.some(({ before, after }) => before?.disabledAt !== after?.disabledAt))
      touch(this.#byPair.values());
    for (const row of delta.actors) touchClients(state.clientsOfActor(eitherRow(row).id));
    for (const row of delta.auth_providers) {
      for (const identityId of state.identitiesOfProvider(eitherRow(row).id)) touchIdentity(identityId);
    }
    for (const row of delta.identities) touchIdentity(eitherRow(row).id);
    for (const row of delta.tokens) touchClients(state.clientsOfToken(eitherRow(row).id));
    for (const row of delta.clients) touch(this.#byClient.get(eitherRow(row).id));
    for (const row of delta.gateways) touch(this.#byGateway.get(eitherRow(row).id));
    for (const row of delta.resources) touch(this.#byResource.get(eitherRow(row).id));
    for (const row of delta.resource_sites) touch(this.#byResource.get(eitherRow(row).resourceId));
    for (const row of delta.sites) {
      if (row.before && row.after) continue; // a rename
      for (const resourceId of state.resourcesOfSite(eitherRow(row).id)) touch(this.#byResource.get(resourceId));
    }
    for (const row of delta.memberships.flatMap(bothRows)) touchClients(state.clientsOfActor(row.actorId));
    for (const { before, after } of delta.policies) {
      if (before) touch(this.#byPolicy.get(before.id));
      if (!after) continue;
      for (const flow of this.#byResource.get(after.resourceId)) {
        const client = state.row('clients', flow.clientId);
        if (client && state.groupsOfActor(client.actorId).has(after.groupId)) touch([flow]);
      }
    }
    return touched;
  }
}

function pairKey(gatewayId: GatewayId, clientId: ClientId, resourceId: ResourceId): string {
  return `${gatewayId}/${clientId}/${resourceId}`;
}
