/**
 * Which connected clients a step may concern, and what each must look at again. Errs towards more: a client that looks
 * and finds nothing different pushes nothing. Cost follows what was touched, never the size of the account (D16).
 */
import type { ActorId, ClientId, GroupId, IdentityId, ResourceId } from '../model/ids.js';
import { sameValue } from '../support/same-value.js';
import type { AccountState } from './account-state.js';
import type { StateDelta } from './state-delta.js';

/** How a client's socket must end; the first that applies, in this order (decisions section 5). */
export type ClientEnding = 'refused-on-retry' | 'client-deleted' | 'token-deleted';

export interface ClientImpact {
  /** Look at every resource again. */
  everything: boolean;
  /** Look at these again. */
  readonly resources: Set<ResourceId>;
  /** The interface part of what it was told may differ. */
  interface: boolean;
  /** The token's expiry may differ. */
  token: boolean;
  ending: ClientEnding | undefined;
}

/** @param live clients with a channel here; only they get an impact. */
export function clientImpacts(
  delta: StateDelta,
  state: AccountState,
  live: ReadonlySet<ClientId>,
): Map<ClientId, ClientImpact> {
  const impacts = new Map<ClientId, ClientImpact>();
  if (live.size === 0) return impacts;

  const on = (clientId: ClientId, mark: (impact: ClientImpact) => void): void => {
    if (!live.has(clientId)) return;
    let impact = impacts.get(clientId);
    if (!impact) impacts.set(clientId, (impact = noImpact()));
    mark(impact);
  };
  const onActor = (actorId: ActorId, mark: (impact: ClientImpact) => void): void => {
    for (const clientId of state.clientsOfActor(actorId)) on(clientId, mark);
  };
  const onIdentity = (identityId: IdentityId, mark: (impact: ClientImpact) => void): void => {
    for (const tokenId of state.tokensOfIdentity(identityId)) {
      for (const clientId of state.clientsOfToken(tokenId)) on(clientId, mark);
    }
  };
  const onGroup = (groupId: GroupId, mark: (impact: ClientImpact) => void): void => {
    const members = state.actorsOfGroup(groupId);
    if (members.size <= live.size) {
      for (const actorId of members) onActor(actorId, mark);
      return;
    }
    for (const clientId of live) {
      const client = state.row('clients', clientId);
      if (client && members.has(client.actorId)) on(clientId, mark);
    }
  };
  const onResource = (resourceId: ResourceId): void => {
    for (const policy of state.policiesOfResource(resourceId)) onGroup(policy.row.groupId, lookAt(resourceId));
  };

  for (const { before, after } of delta.accounts) {
    const isEnabled = after?.disabledAt === null;
    if (!isEnabled) for (const id of live) on(id, end('refused-on-retry'));
    else if (!sameValue(before?.config, after.config)) for (const id of live) on(id, lookAtInterface);
  }
  for (const { before, after } of delta.actors) {
    if (after?.disabledAt === null) continue;
    if (before) onActor(before.id, end('refused-on-retry'));
  }
  for (const { before, after } of delta.auth_providers) {
    if (!before || after?.disabledAt === null) continue;
    for (const identityId of state.identitiesOfProvider(before.id)) onIdentity(identityId, end('refused-on-retry'));
  }
  for (const { before, after } of delta.identities) {
    if (before && !after) onIdentity(before.id, end('refused-on-retry'));
    else if (before && after) onIdentity(after.id, lookAtEverything);
  }
  for (const { before, after } of delta.clients) {
    if (before && !after) on(before.id, end(isGone(state, before.actorId) ? 'refused-on-retry' : 'client-deleted'));
    else if (after) {
      on(after.id, lookAtEverything);
      if (before?.ipv4 !== after.ipv4 || before.ipv6 !== after.ipv6) on(after.id, lookAtInterface);
    }
  }
  for (const { before, after } of delta.tokens) {
    const token = after ?? before;
    if (!token) continue;
    const bearerGone =
      (token.actorId !== null && isGone(state, token.actorId)) ||
      (token.identityId !== null && !state.row('identities', token.identityId));
    const mark = after ? lookAtToken : end(bearerGone ? 'refused-on-retry' : 'token-deleted');
    for (const clientId of state.clientsOfToken(token.id)) on(clientId, mark);
  }
  for (const { before, after } of delta.memberships) {
    for (const row of [before, after]) if (row) onActor(row.actorId, lookAtEverything);
  }
  for (const { before, after } of delta.policies) {
    for (const row of [before, after]) if (row) onGroup(row.groupId, lookAt(row.resourceId));
  }
  for (const { before, after } of delta.resources) {
    const row = after ?? before;
    if (row) onResource(row.id);
  }
  for (const { before, after } of delta.resource_sites) {
    const row = after ?? before;
    if (row) onResource(row.resourceId);
  }
  for (const { before, after } of delta.sites) {
    const row = after ?? before;
    if (row) for (const resourceId of state.resourcesOfSite(row.id)) onResource(resourceId);
  }
  return impacts;
}

export function noImpact(): ClientImpact {
  return { everything: false, resources: new Set(), interface: false, token: false, ending: undefined };
}

/** Adds what `more` says to `impact`. */
export function mergeImpact(impact: ClientImpact, more: ClientImpact): void {
  impact.everything ||= more.everything;
  impact.interface ||= more.interface;
  impact.token ||= more.token;
  for (const resourceId of more.resources) impact.resources.add(resourceId);
  impact.ending ??= more.ending;
}

const lookAtEverything = (impact: ClientImpact): void => {
  impact.everything = true;
};
const lookAtInterface = (impact: ClientImpact): void => {
  impact.interface = true;
};
const lookAtToken = (impact: ClientImpact): void => {
  impact.everything = true;
  impact.token = true;
};
const lookAt =
  (resourceId: ResourceId) =>
  (impact: ClientImpact): void => {
    impact.resources.add(resourceId);
  };
const end =
  (ending: ClientEnding) =>
  (impact: ClientImpact): void => {
    impact.ending ??= ending;
  };

function isGone(state: AccountState, actorId: ActorId): boolean {
  return state.account === undefined || state.row('actors', actorId) === undefined;
}
