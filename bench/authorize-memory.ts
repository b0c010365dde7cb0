/** A process (with --expose-gc) that says what an account's state weighs, or what the views of all its clients weigh. */
import { once } from 'node:events';
import { AccountState } from '../src/core/authorizer/account-state.js';
import { authorize, candidateResources, subjectOf } from '../src/core/authorizer/authorize.js';
import type { ClientId, ResourceId } from '../src/core/model/ids.js';
import type { AccountTable } from '../src/core/model/rows.js';
import { ClientView, type ShownResource } from '../src/core/views/client-view.js';
import { connectionsOf, NOW, rowsOf, type RowOptions } from './authorize-rows.js';
import { type Account, accountOf, FULL_SIZE } from './authorize-rules.js';

export interface MemoryInput {
  readonly of: 'state' | 'views';
}

/** Unit bytes of heap, garbage collected first. */
export interface StateMemory {
  readonly whole: number;
  /** How much less it is without the table, per 1,000 of its rows. */
  readonly perThousand: { readonly policies: number; readonly resources: number; readonly memberships: number };
}

export interface ViewsMemory {
  readonly clients: number;
  readonly policies: number;
  /** Told to each client. */
  readonly resources: number;
  readonly perClient: number;
  readonly state: number;
  /** Of the whole process, all clients' views in it. */
  readonly rss: number;
}

const [input] = (await once(process, 'message')) as [MemoryInput];
process.send?.(input.of === 'state' ? stateMemory() : viewsMemory());
process.disconnect();

function stateMemory(): StateMemory {
  const account = accountOf(FULL_SIZE);
  const without = (...tables: readonly AccountTable[]): number => weigh(() => stateOf(account, { without: tables }));
  const whole = without();
  const memberships = account.actors.reduce((count, { groupIds }) => count + groupIds.length, 0);
  return {
    whole,
    perThousand: {
      policies: ((whole - without('policies')) / account.policies.length) * 1_000,
      resources: ((whole - without('resources', 'resource_sites')) / account.resourceIds.length) * 1_000,
      memberships: ((whole - without('memberships')) / memberships) * 1_000,
    },
  };
}

/** The most that so many rules can make of it: everybody is in every group and is told every resource. */
function viewsMemory(): ViewsMemory {
  const size = { groups: 20, actors: 10_000, resources: 500, policies: 1_000, groupsPerActor: 20 };
  const start = heapInUse();
  const state = stateOf(unconditional(accountOf(size)));
  const withState = heapInUse();
  const views = Array.from(state.rows('clients'), ({ id }) => viewOf(state, id));
  const withViews = heapInUse();
  if (views.some((view) => [...view.toldIds()].length !== size.resources)) throw new Error('not told everything');
  return {
    ...{ clients: views.length, policies: size.policies, resources: size.resources },
    perClient: (withViews - withState) / views.length,
    state: withState - start,
    rss: process.memoryUsage().rss,
  };
}

function unconditional(account: Account): Account {
  const { resourceIds, policies } = account;
  const resourceOf = (i: number): string => resourceIds[i % resourceIds.length] ?? '';
  return {
    ...account,
    policies: policies.map((policy, i) => ({ ...policy, resourceId: resourceOf(i), conditions: [] })),
  };
}

/** As a client's channel fills it when the client joins. */
function viewOf(state: AccountState, clientId: ClientId): ClientView {
  const view = new ClientView();
  const subject = subjectOf(state, clientId, NOW);
  if (typeof subject === 'string') throw new Error(`nobody may act as ${clientId}: ${subject}`);
  const shown = (id: ResourceId): ShownResource | undefined =>
    authorize(state, subject, id, NOW).verdict === 'allow' ? state.served(id) : undefined;
  view.update(candidateResources(state, subject.client), shown);
  return view;
}

function stateOf(account: Account, options?: RowOptions): AccountState {
  const state = new AccountState();
  state.replaceAll(rowsOf(account, options));
  for (const facts of connectionsOf(account)) state.setConnection(facts);
  return state;
}

/** @returns bytes that are held while the made thing is, and not before */
function weigh(make: () => unknown): number {
  const before = heapInUse();
  const held = [make()];
  const after = heapInUse();
  held.pop();
  return after - before;
}

function heapInUse(): number {
  if (!globalThis.gc) throw new Error('start it with --expose-gc');
  for (let i = 0; i < 3; i += 1) globalThis.gc();
  return process.memoryUsage().heapUsed;
}
