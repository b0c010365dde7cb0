/**
 * Decides whether a client may use a resource, and until when. Pure: the caller passes the account's state and the time.
 * The same rule serves a new flow, a flow that is decided again after a commit, and the list a client is shown.
 */
import type { ClientId, GatewayId, MembershipId, PolicyId, ResourceId, TokenId } from '../model/ids.js';
import type { ClientRow, TokenRow } from '../model/rows.js';
import type { EpochMs } from '../model/time.js';
import { compareText } from '../support/compare-text.js';
import type { AccountState, CompiledPolicy } from './account-state.js';
import {
  conditionInput,
  conformsUntil,
  violations,
  type ConditionInput,
  type ConditionProperty,
} from './conditions.js';

/** Who asks: a client with the facts of its latest connection. Valid for one state; make it again after a change. */
export interface Subject {
  readonly client: ClientRow;
  readonly token: TokenRow;
  readonly input: ConditionInput;
}

/** Why nobody may act as this client at all; each one denies everything (D17). */
export type SubjectProblem =
  | 'account-gone'
  | 'account-disabled'
  | 'client-gone'
  | 'never-connected'
  | 'actor-gone'
  | 'actor-disabled'
  | 'token-gone'
  | 'token-expired'
  | 'identity-gone'
  | 'provider-disabled';

export type Decision = Allowed | Denied;

export interface Allowed {
  readonly verdict: 'allow';
  readonly policyId: PolicyId;
  /** Informational: which membership joined the actor to the policy's group. */
  readonly membershipId: MembershipId;
  readonly tokenId: TokenId;
  /** The earlier of the policy window's end and the token's; null when neither ends. */
  readonly until: EpochMs | null;
}

export interface Denied {
  readonly verdict: 'deny';
  /** `not-found`: no policy of any group of the actor names the resource. `site-not-served`: no site, or not this gateway's, serves it. */
  readonly reason: 'not-found' | 'forbidden' | 'site-not-served' | SubjectProblem;
  /** With `forbidden`: what was violated, in order of evaluation, without repeats. */
  readonly violated: readonly ConditionProperty[];
}

/** A grant that neither policy nor token ends is renewed after this long (decisions D17). */
export const UNLIMITED_GRANT_MS = 14 * 24 * 60 * 60 * 1000;

/** Who this client is now, or why nobody may act as it. */
export function subjectOf(state: AccountState, clientId: ClientId, now: EpochMs): Subject | SubjectProblem {
  const account = state.account;
  if (!account) return 'account-gone';
  if (account.disabledAt !== null) return 'account-disabled';
  const client = state.row('clients', clientId);
  if (!client) return 'client-gone';
  const actor = state.row('actors', client.actorId);
  if (!actor) return 'actor-gone';
  if (actor.disabledAt !== null) return 'actor-disabled';
  const facts = state.connection(clientId);
  if (!facts) return 'never-connected';
  const token = state.row('tokens', facts.tokenId);
  if (token?.kind !== 'client' || token.actorId !== client.actorId) return 'token-gone';
  if (token.expiresAt !== null && token.expiresAt <= now) return 'token-expired';
  const identity = token.identityId === null ? null : state.row('identities', token.identityId);
  if (identity === undefined || (identity !== null && identity.actorId !== client.actorId)) return 'identity-gone';
  if (identity !== null && state.row('auth_providers', identity.providerId)?.disabledAt !== null)
    return 'provider-disabled';

  return { client, token, input: conditionInput(facts, identity?.providerId ?? null, client.verifiedAt) };
}

/**
 * Picks the conforming policy that lasts longest; ties go to the smaller id. A grant never outlives its policy's window
 * or the token (AUTH-2). Which gateway serves the resource is not looked at.
 */
export function authorize(state: AccountState, subject: Subject, resourceId: ResourceId, now: EpochMs): Decision {
  if (!state.resource(resourceId)) return NOT_FOUND;
  const groups = state.groupsOfActor(subject.client.actorId);

  let best: CompiledPolicy | undefined;
  let bestUntil: EpochMs = -Infinity;
  let isNamed = false;
  for (const policy of state.policiesOfResource(resourceId)) {
    if (policy.row.disabledAt !== null || !groups.has(policy.row.groupId)) continue;
    isNamed = true;
    const until = conformsUntil(policy.conditions, subject.input, now);
    if (until === undefined || until < bestUntil) continue;
    if (best && until === bestUntil && best.row.id < policy.row.id) continue;
    best = policy;
    bestUntil = until;
  }

  const membershipId = best && groups.get(best.row.groupId);
  if (!best || membershipId === undefined) return isNamed ? forbidden(state, subject, resourceId, now) : NOT_FOUND;
  const until = Math.min(bestUntil, subject.token.expiresAt ?? Infinity);
  return {
    verdict: 'allow',
    policyId: best.row.id,
    membershipId,
    tokenId: subject.token.id,
    until: until === Infinity ? null : until,
  };
}

/** As `authorize`, and some site must serve the resource: exactly what a client is shown (VIEW-1). */
export function authorizeAccess(state: AccountState, subject: Subject, resourceId: ResourceId, now: EpochMs): Decision {
  const decision = authorize(state, subject, resourceId, now);
  return decision.verdict === 'deny' || state.isServed(resourceId) ? decision : SITE_NOT_SERVED;
}

/** Whether this gateway may let this client through to this resource now: the whole of D17. */
export function authorizeFlow(
  state: AccountState,
  clientId: ClientId,
  gatewayId: GatewayId,
  resourceId: ResourceId,
  now: EpochMs,
): Decision {
  const gateway = state.row('gateways', gatewayId);
  if (!gateway || !state.isServedBySite(resourceId, gateway.siteId)) return SITE_NOT_SERVED;
  const subject = subjectOf(state, clientId, now);
  return typeof subject === 'string' ? deny(subject) : authorize(state, subject, resourceId, now);
}

/** Resources named by at least one enabled policy of the actor's groups, conforming or not. Unordered, without repeats. */
export function candidateResources(state: AccountState, client: ClientRow): Set<ResourceId> {
  const candidates = new Set<ResourceId>();
  for (const groupId of state.groupsOfActor(client.actorId).keys()) {
    for (const policy of state.policiesOfGroup(groupId)) {
      if (policy.row.disabledAt === null) candidates.add(policy.row.resourceId);
    }
  }
  return candidates;
}

const NOT_FOUND = deny('not-found');
const SITE_NOT_SERVED = deny('site-not-served');

function forbidden(state: AccountState, subject: Subject, resourceId: ResourceId, now: EpochMs): Denied {
  const groups = state.groupsOfActor(subject.client.actorId);
  const violating = [...state.policiesOfResource(resourceId)]
    .filter(({ row }) => row.disabledAt === null && groups.has(row.groupId))
    .sort((a, b) => compareText(a.row.id, b.row.id));
  return deny('forbidden', [
    ...new Set(violating.flatMap(({ conditions }) => violations(conditions, subject.input, now))),
  ]);
}

function deny(reason: Denied['reason'], violated: readonly ConditionProperty[] = []): Denied {
  return { verdict: 'deny', reason, violated };
}
