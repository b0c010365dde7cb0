/**
 * Decides whether a client may use a resource, and until when. Pure: the caller passes the account's state and the time.
 * The same rule serves a new flow, a flow that is decided again after a commit, and the list a client is shown.
 */
import type { ClientId, GatewayId, MembershipId, PolicyId, ResourceId, TokenId } from '../model/ids.js';
import type { ClientRow, TokenRow } from '../model/rows.js';
import type { EpochMs } from '../model/time.js';
import type { AccountState, CompiledPolicy } from './account-state.js';
import { evaluate, type ConditionInput, type ConditionProperty } from './conditions.js';

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
  /** `not-found`: no policy of any group of the actor names the resource. */
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

  const { region, remoteIp } = facts;
  return {
    client,
    token,
    input: { region, remoteIp, providerId: identity?.providerId ?? null, verifiedAt: client.verifiedAt },
  };
}

/**
 * Picks the conforming policy that lasts longest; ties go to the smaller id. A grant never outlives its policy's window
 * or the token (AUTH-2).
 */
export function authorize(state: AccountState, subject: Subject, resourceId: ResourceId, now: EpochMs): Decision {
  if (!state.resource(resourceId)) return deny('not-found');
  const groups = state.groupsOfActor(subject.client.actorId);

  let best: { policy: CompiledPolicy; membershipId: MembershipId; until: EpochMs } | undefined;
  let violating: { id: PolicyId; violated: readonly ConditionProperty[] }[] | undefined;
  for (const policy of state.policiesOfResource(resourceId)) {
    const membershipId = groups.get(policy.row.groupId);
    if (membershipId === undefined || policy.row.disabledAt !== null) continue;
    const result = evaluate(policy.conditions, subject.input, now);
    if (!result.holds) {
      (violating ??= []).push({ id: policy.row.id, violated: result.violated });
      continue;
    }
    const until = result.until ?? Infinity;
    if (!best || until > best.until || (until === best.until && policy.row.id < best.policy.row.id)) {
      best = { policy, membershipId, until };
    }
  }

  if (best) {
    const until = Math.min(best.until, subject.token.expiresAt ?? Infinity);
    return {
      verdict: 'allow',
      policyId: best.policy.row.id,
      membershipId: best.membershipId,
      tokenId: subject.token.id,
      until: until === Infinity ? null : until,
    };
  }
  if (!violating) return deny('not-found');
  violating.sort((a, b) => (a.id < b.id ? -1 : 1));
  return deny('forbidden', [...new Set(violating.flatMap((policy) => policy.violated))]);
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
  if (!gateway || !state.isServedBySite(resourceId, gateway.siteId)) return deny('site-not-served');
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

function deny(reason: Denied['reason'], violated: readonly ConditionProperty[] = []): Denied {
  return { verdict: 'deny', reason, violated };
}
