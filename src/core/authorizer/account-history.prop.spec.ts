/** Whatever happens to an account, memory decides as plain loops over its rows do, and nobody concerned is passed over. */
import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import {
  CLIENTS,
  connectedClients,
  denseAccount,
  FakeDatabase,
  GATEWAYS,
  RESOURCES,
  runs,
  step,
  type Step,
} from '../../../test/support/histories.js';
import { accessAll, justifyAll } from '../../../test/support/oracle-loops.js';
import { MONDAY_9 } from '../../../test/support/builders.js';
import type { ConnectionFacts } from '../model/connection-facts.js';
import { shapeOf } from '../model/flow.js';
import type { ClientId, FlowId, GatewayId, ResourceId } from '../model/ids.js';
import { ClientView, type ShownResource } from '../views/client-view.js';
import { AccountState } from './account-state.js';
import { authorize, authorizeFlow, candidateResources, subjectOf, UNLIMITED_GRANT_MS } from './authorize.js';
import { clientImpacts, type ClientImpact } from './client-impact.js';
import { FlowTable, type Flow, type Grant } from './flow-table.js';
import type { StateDelta } from './state-delta.js';

/** One account in memory with every pair granted that may be, and the views of its connected clients. */
class AccountUnderTest {
  readonly database = new FakeDatabase(denseAccount());
  readonly state = new AccountState();
  readonly flows = new FlowTable();
  readonly views = new Map<ClientId, ClientView>();
  /** What each live client holds after everything it was sent. */
  readonly told = new Map<ClientId, Map<ResourceId, ShownResource>>();
  #now = MONDAY_9;

  constructor() {
    this.state.replaceAll(this.database.raw());
    for (const facts of connectedClients()) this.#connect(facts);
    this.#grantAll();
  }

  run(doing: Step): void {
    switch (doing.kind) {
      case 'commit':
        this.#commit(doing.edits.flatMap((edit) => this.database.edit(edit)));
        break;
      case 'connect':
        this.#connect(doing.facts);
        break;
      case 'leave':
        this.#leave(doing.clientId);
        break;
      case 'later':
        this.#now += doing.ms;
        for (const [clientId] of this.views) this.#look(clientId, EVERYTHING);
        this.#reconsider(this.#allFlows());
        break;
    }
    this.checkDecisions();
    this.checkViews();
    this.#grantAll();
  }

  checkDecisions(): void {
    const justified = new Map(
      justifyAll(this.database.readable(), this.#now).map(
        ({ gatewayId, clientId, resourceId, policyId, expiresAt }) =>
          [`${gatewayId}|${clientId}|${resourceId}`, { policyId, expiresAt }] as const,
      ),
    );
    for (const gatewayId of GATEWAYS) {
      for (const clientId of CLIENTS) {
        for (const resourceId of RESOURCES) {
          const why = justified.get(`${gatewayId}|${clientId}|${resourceId}`);
          const decision = authorizeFlow(this.state, clientId, gatewayId, resourceId, this.#now);
          const flow = this.flows.get(gatewayId, clientId, resourceId);
          expect(decision.verdict).toBe(why ? 'allow' : 'deny');
          if (decision.verdict === 'allow') {
            expect({
              policyId: decision.policyId,
              expiresAt: decision.until ?? this.#now + UNLIMITED_GRANT_MS,
            }).toEqual(why);
          }
          if (flow) expect(why).toBeDefined();
        }
      }
    }
  }

  /** VIEW-1 */
  checkViews(): void {
    const db = this.database.readable();
    const shown = new Set(accessAll(db, this.#now).map(({ clientId, resourceId }) => `${clientId}|${resourceId}`));
    for (const [clientId, told] of this.told) {
      const wanted = db.resources.filter(({ id }) => shown.has(`${clientId}|${id}`));
      expect([...told.keys()].sort()).toEqual(wanted.map(({ id }) => id).sort());
      for (const resource of wanted) {
        const siteIds = new Set(db.resource_sites.filter((l) => l.resourceId === resource.id).map((l) => l.siteId));
        const sites = db.sites.filter(({ id }) => siteIds.has(id)).sort((a, b) => (a.id < b.id ? -1 : 1));
        expect(told.get(resource.id)).toEqual({ resource, sites });
      }
    }
  }

  #commit(changes: Parameters<AccountState['apply']>[0]): void {
    const before = new Map(this.#allFlows().map((flow) => [flow, this.#verdict(flow)]));
    const delta = this.state.apply(changes);
    const touched = this.flows.touchedBy(delta, this.state);
    for (const [flow, verdict] of before) {
      if (this.#verdict(flow) !== verdict) expect(touched.get(flow.gatewayId)?.has(flow)).toBe(true);
    }
    this.#reconsider([...touched.values()].flatMap((flows) => [...flows]));
    this.#tellClients(delta);
  }

  #tellClients(delta: StateDelta): void {
    const live = new Set(this.views.keys());
    const impacts = clientImpacts(delta, this.state, live);
    for (const [clientId, impact] of impacts) {
      expect(live.has(clientId)).toBe(true);
      if (impact.ending) {
        expect(typeof subjectOf(this.state, clientId, this.#now)).toBe('string');
        this.#leave(clientId);
      } else this.#look(clientId, impact);
    }
  }

  /** As a client's channel does it. */
  #look(clientId: ClientId, impact: Pick<ClientImpact, 'everything' | 'resources'>): void {
    const view = this.views.get(clientId);
    const told = this.told.get(clientId);
    if (!view || !told) return;
    const subject = subjectOf(this.state, clientId, this.#now);
    const ids = new Set(impact.resources);
    if (impact.everything) {
      for (const id of view.toldIds()) ids.add(id);
      if (typeof subject !== 'string') for (const id of candidateResources(this.state, subject.client)) ids.add(id);
    }
    const { removed, upserted } = view.update(ids, (id) => {
      if (typeof subject === 'string') return undefined;
      return authorize(this.state, subject, id, this.#now).verdict === 'allow' ? this.state.served(id) : undefined;
    });
    for (const id of removed) expect(told.delete(id)).toBe(true); // nothing is taken that was not given
    for (const shown of upserted) {
      const had = told.get(shown.resource.id);
      if (had)
        expect({ type: had.resource.type, sites: idsOf(had) }).toEqual({
          type: shown.resource.type,
          sites: idsOf(shown),
        });
      told.set(shown.resource.id, shown);
    }
    expect(removed).toEqual([...removed].sort());
    expect(upserted.map(({ resource }) => resource.id)).toEqual(upserted.map(({ resource }) => resource.id).sort());
  }

  #connect(facts: ConnectionFacts): void {
    this.database.connect(facts);
    this.state.setConnection(facts);
    this.#reconsider([...this.flows.ofClient(facts.clientId)]);
    if (typeof subjectOf(this.state, facts.clientId, this.#now) === 'string') {
      this.#leave(facts.clientId);
      return;
    }
    this.views.set(facts.clientId, new ClientView());
    this.told.set(facts.clientId, new Map());
    this.#look(facts.clientId, EVERYTHING);
  }

  #leave(clientId: ClientId): void {
    this.views.delete(clientId);
    this.told.delete(clientId);
  }

  #reconsider(flows: readonly Flow[]): void {
    for (const flow of flows) {
      const grant = this.#grantFor(flow.gatewayId, flow.clientId, flow.resourceId);
      if (grant) this.flows.regrant(flow, grant);
      else this.flows.remove(flow);
    }
  }

  #grantAll(): void {
    for (const gatewayId of GATEWAYS) {
      for (const clientId of CLIENTS) {
        for (const resourceId of RESOURCES) {
          const resource = this.state.resource(resourceId);
          if (!resource || this.flows.get(gatewayId, clientId, resourceId)) continue;
          const grant = this.#grantFor(gatewayId, clientId, resourceId);
          if (grant) this.flows.register({ gatewayId, clientId, resourceId, shape: shapeOf(resource), grant });
        }
      }
    }
  }

  #grantFor(gatewayId: GatewayId, clientId: ClientId, resourceId: ResourceId): Grant | undefined {
    const decision = authorizeFlow(this.state, clientId, gatewayId, resourceId, this.#now);
    if (decision.verdict === 'deny') return undefined;
    const { policyId, membershipId, tokenId, until } = decision;
    const expiresAt = until ?? this.#now + UNLIMITED_GRANT_MS;
    return { flowId: 'flow' as FlowId, policyId, membershipId, tokenId, expiresAt, isUnlimited: until === null };
  }

  #verdict({ clientId, gatewayId, resourceId }: Flow): string {
    const decision = authorizeFlow(this.state, clientId, gatewayId, resourceId, this.#now);
    return decision.verdict === 'allow' ? `${decision.policyId} until ${decision.until}` : 'deny';
  }

  #allFlows(): Flow[] {
    return GATEWAYS.flatMap((gatewayId) => [...this.flows.ofGateway(gatewayId)]);
  }
}

const EVERYTHING = { everything: true, resources: new Set<ResourceId>() };

function idsOf({ sites }: ShownResource): string[] {
  return sites.map(({ id }) => id);
}

describe('random histories of an account', () => {
  it('AUTH-1, VIEW-1: decisions equal the oracle, and every flow and view that changes is looked at', () => {
    let allowed = 0;
    fc.assert(
      fc.property(fc.array(step, { maxLength: 25 }), (steps) => {
        const account = new AccountUnderTest();
        account.checkViews();
        for (const doing of steps) {
          account.run(doing);
          allowed += account.flows.size;
        }
      }),
      { numRuns: runs(150) },
    );
    expect(allowed).toBeGreaterThan(1000); // the histories are about something
  });
});
