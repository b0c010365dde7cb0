/**
 * Which clients a step may concern, and what each must look at again. Errs towards more: a client that looks and finds
 * nothing different pushes nothing. Cost follows what was touched, never the size of the account (D16).
 */
import type { EpochMs } from '../model/time.js';
import type { ActorId, ClientId, GroupId, IdentityId, ResourceId } from '../model/ids.js';
import type { ValueSet } from '../support/layered-multi-map.js';
import { sameValue } from '../support/same-value.js';
import type { AccountState } from './account-state.js';
import { bothRows, eitherRow, type StateDelta } from './state-delta.js';

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

/** @param live those who want to hear, such as clients with a channel here; only they get an impact. */
export function clientImpacts(
  delta: StateDelta,
  state: AccountState,
  live: ValueSet<ClientId>,
): Map<ClientId, ClientImpact> {
  const impacts = new Map<ClientId, ClientImpact>();
  if (live.size === 0) return impacts;

  const on = (clientId: ClientId, mark: Mark): void => {
    if (!live.has(clientId)) return;
    let impact = impacts.get(clientId);
    if (!impact) impacts.set(clientId, (impact = noImpact()));
    mark(impact);
  };
  const onActor = (actorId: ActorId, mark: Mark): void => {
    for (const clientId of state.clientsOfActor(actorId)) on(clientId, mark);
  };
  const onIdentity = (identityId: IdentityId, mark: Mark): void => {
    for (const tokenId of state.tokensOfIdentity(identityId)) {
      for (const clientId of state.clientsOfToken(tokenId)) on(clientId, mark);
    }
  };
  const onGroup = (groupId: GroupId, mark: Mark): void => {
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
    const mark = switched(before, after);
    if (mark) for (const id of live) on(id, mark);
    if (!sameValue(before?.config, after?.config)) for (const id of live) on(id, lookAtInterface);
  }
  for (const { before, after } of delta.actors) {
    const mark = switched(before, after);
    if (mark) onActor(eitherRow({ before, after }).id, mark);
  }
  for (const { before, after } of delta.auth_providers) {
    const mark = switched(before, after);
    if (!mark) continue;
    for (const id of state.identitiesOfProvider(eitherRow({ before, after }).id)) onIdentity(id, mark);
  }
  for (const { before, after } of delta.identities) {
    onIdentity(eitherRow({ before, after }).id, after ? lookAtEverything : end('refused-on-retry'));
  }
  for (const { before, after } of delta.clients) {
    const { id, actorId } = eitherRow({ before, after });
    if (!after) {
      on(id, end(isGone(state, actorId) ? 'refused-on-retry' : 'client-deleted'));
      continue;
    }
    on(id, lookAtEverything);
    if (before?.ipv4 !== after.ipv4 || before.ipv6 !== after.ipv6) on(id, lookAtInterface);
  }
  for (const { before, after } of delta.tokens) {
    const token = eitherRow({ before, after });
    const bearerGone =
      (token.actorId !== null && isGone(state, token.actorId)) ||
      (token.identityId !== null && !state.row('identities', token.identityId));
    const mark = after ? lookAtToken : end(bearerGone ? 'refused-on-retry' : 'token-deleted');
    for (const clientId of state.clientsOfToken(token.id)) on(clientId, mark);
  }
  const changedPolicies = delta.policies.flatMap(bothRows);
  for (const { actorId, groupId } of delta.memberships.flatMap(bothRows)) {
    // What the group grants now, and what it granted until this very commit.
    for (const { row } of state.policiesOfGroup(groupId)) onActor(actorId, lookAt(row.resourceId));
    for (const row of changedPolicies) if (row.groupId === groupId) onActor(actorId, lookAt(row.resourceId));
  }
  for (const row of changedPolicies) onGroup(row.groupId, lookAt(row.resourceId));
  for (const row of delta.resources) onResource(eitherRow(row).id);
  for (const row of delta.resource_sites) onResource(eitherRow(row).resourceId);
  for (const row of delta.sites) for (const id of state.resourcesOfSite(eitherRow(row).id)) onResource(id);
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

interface Switchable {
  readonly disabledAt: EpochMs | null;
}

/** Who depends on something that was switched off, or is gone, ends; on or made anew, everything may differ. */
function switched(before: Switchable | undefined, after: Switchable | undefined): Mark | undefined {
  if (after?.disabledAt !== null) return end('refused-on-retry');
  return before?.disabledAt === null ? undefined : lookAtEverything;
}

type Mark = (impact: ClientImpact) => void;

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
