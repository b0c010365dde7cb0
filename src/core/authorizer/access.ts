/**
 * Who may use what at one instant, until when time alone leaves it so, and what a change of the account changes for whom.
 * What a client has is exactly what it is shown (VIEW-1).
 */
import type { ClientId, ResourceId } from '../model/ids.js';
import type { EpochMs } from '../model/time.js';
import { compareText } from '../support/compare-text.js';
import type { AccountState } from './account-state.js';
import {
  authorizeAccess,
  candidateResources,
  subjectOf,
  type Allowed,
  type Decision,
  type Denied,
} from './authorize.js';
import { clientImpacts, type ClientImpact } from './client-impact.js';
import { nextTransition } from './conditions.js';
import type { StateDelta } from './state-delta.js';
import type { Subject, SubjectProblem } from './subject.js';

/** By resource id, ascending. */
export type Access = ReadonlyMap<ResourceId, Allowed>;

/** By client id, ascending; clients for whom nothing differs are not in it. */
export type AccessDifference = ReadonlyMap<ClientId, ClientDifference>;

/** Each by resource id, ascending. */
export interface ClientDifference {
  readonly gained: Access;
  readonly lost: ReadonlyMap<ResourceId, Denied>;
  /** Still allowed, by another policy or until another time. Another membership or token alone is no difference (D17). */
  readonly moved: ReadonlyMap<ResourceId, { readonly before: Allowed; readonly after: Allowed }>;
}

export function accessOf(state: AccountState, clientId: ClientId, now: EpochMs): Access {
  const access = new Map<ResourceId, Allowed>();
  const subject = subjectOf(state, clientId, now);
  if (typeof subject === 'string') return access;
  for (const resourceId of [...candidateResources(state, subject.client)].sort(compareText)) {
    const decision = authorizeAccess(state, subject, resourceId, now);
    if (decision.verdict === 'allow') access.set(resourceId, decision);
  }
  return access;
}

/** Clients that may use the resource now, by id. Costs as much as its policies' groups have members. */
export function whoCanReach(state: AccountState, resourceId: ResourceId, now: EpochMs): ReadonlyMap<ClientId, Allowed> {
  const candidates = new Set<ClientId>();
  for (const { row } of state.policiesOfResource(resourceId)) {
    for (const actorId of state.actorsOfGroup(row.groupId)) {
      for (const clientId of state.clientsOfActor(actorId)) candidates.add(clientId);
    }
  }
  const reaching = new Map<ClientId, Allowed>();
  for (const clientId of [...candidates].sort(compareText)) {
    const decision = judge(state, subjectOf(state, clientId, now), resourceId, now);
    if (decision.verdict === 'allow') reaching.set(clientId, decision);
  }
  return reaching;
}

/** As authorizeAccess, for a subject or the reason why there is none. */
export function judge(
  state: AccountState,
  subject: Subject | SubjectProblem,
  resourceId: ResourceId,
  now: EpochMs,
): Decision {
  if (typeof subject === 'string') return { verdict: 'deny', reason: subject, violated: [] };
  return authorizeAccess(state, subject, resourceId, now);
}

/**
 * The first instant after `now` at which time alone may change what the client has: its token ends, or a window of a
 * policy that concerns it opens or has closed. Never too late; where windows overlap it may come early, and looking then
 * finds nothing. Undefined: never.
 */
export function nextAccessTransition(state: AccountState, clientId: ClientId, now: EpochMs): EpochMs | undefined {
  const subject = subjectOf(state, clientId, now);
  if (typeof subject === 'string') return undefined;
  let next = subject.token.expiresAt ?? Infinity;
  for (const groupId of state.groupsOfActor(subject.client.actorId).keys()) {
    for (const policy of state.policiesOfGroup(groupId)) {
      if (policy.row.disabledAt === null) next = Math.min(next, nextTransition(policy.conditions, now) ?? Infinity);
    }
  }
  return next === Infinity ? undefined : next;
}

/**
 * What is different for every client that ever connected, judged by both states at the same `now` (AUTH-3). Looks only at
 * whom `delta` may concern, and of them only at what it may concern.
 *
 * @param delta everything by which the rows of `after` differ from those of `before`
 * @param reconnected clients whose connections differ as well
 */
export function accessDifference(
  before: AccountState,
  after: AccountState,
  delta: StateDelta,
  reconnected: Iterable<ClientId>,
  now: EpochMs,
): AccessDifference {
  const impacts = new Map<ClientId, Concern>(clientImpacts(delta, after, after.connectedClients));
  for (const clientId of reconnected) impacts.set(clientId, EVERYTHING);
  const differences = new Map<ClientId, ClientDifference>();
  for (const clientId of [...impacts.keys()].sort(compareText)) {
    const concern = impacts.get(clientId);
    const difference = concern && clientDifference(before, after, clientId, concern, now);
    if (difference) differences.set(clientId, difference);
  }
  return differences;
}

type Concern = Pick<ClientImpact, 'everything' | 'resources' | 'ending'>;

const EVERYTHING: Concern = { everything: true, resources: new Set(), ending: undefined };

function clientDifference(
  before: AccountState,
  after: AccountState,
  clientId: ClientId,
  concern: Concern,
  now: EpochMs,
): ClientDifference | undefined {
  const looksAtAll = concern.everything || concern.ending !== undefined;
  const ids = looksAtAll ? [...candidatesOf(before, clientId), ...candidatesOf(after, clientId)] : concern.resources;
  const subjects = { before: subjectOf(before, clientId, now), after: subjectOf(after, clientId, now) };
  const gained = new Map<ResourceId, Allowed>();
  const lost = new Map<ResourceId, Denied>();
  const moved = new Map<ResourceId, { readonly before: Allowed; readonly after: Allowed }>();
  for (const id of [...new Set(ids)].sort(compareText)) {
    const was = judge(before, subjects.before, id, now);
    const is = judge(after, subjects.after, id, now);
    if (was.verdict === 'deny') {
      if (is.verdict === 'allow') gained.set(id, is);
    } else if (is.verdict === 'deny') lost.set(id, is);
    else if (was.policyId !== is.policyId || was.until !== is.until) moved.set(id, { before: was, after: is });
  }
  return gained.size + lost.size + moved.size === 0 ? undefined : { gained, lost, moved };
}

function candidatesOf(state: AccountState, clientId: ClientId): Iterable<ResourceId> {
  const client = state.row('clients', clientId);
  return client ? candidateResources(state, client) : [];
}
