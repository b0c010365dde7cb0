/**
 * Decides whether a client may use a resource, and until when. Pure: the caller passes the account's state and the time.
 * The same rule serves a new flow, a flow that is decided again after a commit, and the list a client is shown.
 */
import type { ClientId, GatewayId, MembershipId, PolicyId, ResourceId, TokenId } from '../model/ids.js';
import type { ClientRow } from '../model/rows.js';
import type { EpochMs } from '../model/time.js';
import type { CompiledPolicy } from './account-layers.js';
import type { AccountState, Offer } from './account-state.js';
import { addViolations, conformsUntil, type ConditionInput, type ConditionProperty } from './conditions.js';
import type { Subject, SubjectProblem } from './subject.js';

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
  const { outcome, tokenEnd } = state.identified(clientId);
  return tokenEnd !== null && tokenEnd <= now ? 'token-expired' : outcome;
}

/**
 * Picks the conforming policy that lasts longest; ties go to the smaller id. A grant never outlives its policy's window
 * or the token (AUTH-2). Which gateway serves the resource is not looked at.
 */
export function authorize(state: AccountState, subject: Subject, resourceId: ResourceId, now: EpochMs): Decision {
  const offer = state.offer(resourceId);
  return offer ? decide(offer, subject, now) : NOT_FOUND;
}

/** As `authorize`, and some site must serve the resource: exactly what a client is shown (VIEW-1). */
export function authorizeAccess(state: AccountState, subject: Subject, resourceId: ResourceId, now: EpochMs): Decision {
  const offer = state.offer(resourceId);
  if (!offer) return NOT_FOUND;
  const decision = decide(offer, subject, now);
  return decision.verdict === 'deny' || offer.served ? decision : SITE_NOT_SERVED;
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

/** The hot path: no iterator, no closure, nothing made but the answer. */
function decide({ policies }: Offer, { groups, input, token }: Subject, now: EpochMs): Decision {
  let best: CompiledPolicy | undefined;
  let bestMembership: MembershipId | undefined;
  let bestUntil: EpochMs = -Infinity;
  let isNamed = false;
  for (let i = 0; i < policies.length; i += 1) {
    const policy = policies[i] as CompiledPolicy;
    const membershipId = groups.get(policy.groupId);
    if (membershipId === undefined) continue;
    isNamed = true;
    const until = conformsUntil(policy.conditions, input, now);
    if (until === undefined || until <= bestUntil) continue; // of equal ones the first has the smallest id
    best = policy;
    bestMembership = membershipId;
    bestUntil = until;
  }
  if (!best) return isNamed ? forbidden(policies, groups, input, now) : NOT_FOUND;
  const until = Math.min(bestUntil, token.expiresAt ?? Infinity);
  return {
    verdict: 'allow',
    policyId: best.id,
    membershipId: bestMembership as MembershipId,
    tokenId: token.id,
    until: until === Infinity ? null : until,
  };
}

function forbidden(
  policies: readonly CompiledPolicy[],
  groups: Subject['groups'],
  input: ConditionInput,
  now: EpochMs,
): Denied {
  const violated: ConditionProperty[] = [];
  for (const policy of policies) {
    if (groups.has(policy.groupId)) addViolations(violated, policy.conditions, input, now);
  }
  return deny('forbidden', violated);
}

const NOT_FOUND = deny('not-found');
const SITE_NOT_SERVED = deny('site-not-served');

function deny(reason: Denied['reason'], violated: readonly ConditionProperty[] = []): Denied {
  return { verdict: 'deny', reason, violated };
}
