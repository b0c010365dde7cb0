/**
 * Why a client may or may not use a resource: every policy that names the resource, every condition of it, and what was
 * compared. For people and as JSON; decides nothing itself: the verdict is the authorizer's own.
 */
import { Temporal } from 'temporal-polyfill';
import type {
  ActorId,
  ClientId,
  GroupId,
  MembershipId,
  PolicyId,
  ProviderId,
  ResourceId,
  SiteId,
  TokenId,
} from '../model/ids.js';
import type { EpochMs } from '../model/time.js';
import { compareText } from '../support/compare-text.js';
import { judge } from './access.js';
import type { CompiledPolicy } from './account-layers.js';
import type { AccountState } from './account-state.js';
import { subjectOf, type Decision } from './authorize.js';
import type { Subject } from './subject.js';
import { formatAddress } from './ip-ranges.js';
import { conformsUntil, UNREADABLE, type CompiledCondition, type ConditionInput } from './conditions.js';

/** Plain values only: `JSON.stringify` says all of it. Times are milliseconds since 1970. */
export interface Explanation {
  readonly at: EpochMs;
  readonly decision: Decision;
  readonly client: Named<ClientId>;
  readonly resource: Named<ResourceId>;
  /** Null when nobody may act as this client; the decision says why. No policy is then looked at. */
  readonly subject: ExplainedSubject | null;
  /** Of the resource, by id. */
  readonly sites: readonly Named<SiteId>[];
  /** Every policy that names the resource, by id. */
  readonly policies: readonly ExplainedPolicy[];
}

/** A row that is gone has no name. */
export interface Named<Id> {
  readonly id: Id;
  readonly name: string | null;
}

export interface ExplainedSubject {
  readonly actor: Named<ActorId>;
  readonly tokenId: TokenId;
  /** Null: never. */
  readonly tokenExpiresAt: EpochMs | null;
  /** Null when it is unknown or no address. */
  readonly remoteIp: string | null;
  /** Null when it is unknown or no country we know. */
  readonly region: string | null;
  readonly providerId: ProviderId | null;
  readonly verifiedAt: EpochMs | null;
}

/** `chosen`: this one grants. `conforms`: it would, but another lasts longer, or no site serves the resource. */
export type PolicyVerdict = 'chosen' | 'conforms' | 'violated' | 'not-a-member' | 'disabled';

export interface ExplainedPolicy {
  readonly id: PolicyId;
  readonly group: Named<GroupId>;
  /** What joins the actor to the group. */
  readonly membershipId: MembershipId | null;
  readonly verdict: PolicyVerdict;
  /** Last instant at which all its conditions hold; null when none ends, or when they do not hold. */
  readonly until: EpochMs | null;
  /** Why the list itself could not be read; it then grants nothing. */
  readonly problem: string | null;
  readonly conditions: readonly ExplainedCondition[];
}

export interface ExplainedCondition {
  readonly property: string;
  readonly operator: string;
  readonly values: readonly string[];
  /** `unreadable`: it can never hold. */
  readonly verdict: 'holds' | 'violated' | 'unreadable';
  /** What the values were compared with. */
  readonly actual: string;
  readonly until: EpochMs | null;
  readonly problem: string | null;
}

export function explain(state: AccountState, clientId: ClientId, resourceId: ResourceId, now: EpochMs): Explanation {
  const subject = subjectOf(state, clientId, now);
  const decision = judge(state, subject, resourceId, now);
  const policies = [...state.policiesOfResource(resourceId)].sort((a, b) => compareText(a.id, b.id));
  return {
    at: now,
    decision,
    client: namedBy(clientId, state.row('clients', clientId)),
    resource: namedBy(resourceId, state.resource(resourceId)),
    subject: typeof subject === 'string' ? null : explainSubject(state, subject),
    sites: (state.served(resourceId)?.sites ?? []).map(({ id, name }) => ({ id, name })),
    policies:
      typeof subject === 'string' ? [] : policies.map((policy) => explainPolicy(state, subject, policy, decision, now)),
  };
}

/** As text, one fact a line. */
export function printExplanation(explanation: Explanation): string {
  const { at, client, resource, subject, sites, policies } = explanation;
  const lines = [
    `${named(client)} to ${named(resource)} at ${time(at)}: ${verdictText(explanation.decision)}`,
    ...(subject ? [`  who: ${subjectText(subject)}`] : []),
    `  sites: ${sites.length === 0 ? 'none' : sites.map(named).join(', ')}`,
    ...policies.flatMap((policy) => [
      `  policy ${policy.id} for ${named(policy.group)}: ${policyText(policy)}`,
      ...policy.conditions.map((condition) => `    ${conditionText(condition)}`),
    ]),
    ...(subject && policies.length === 0 ? ['  no policy names the resource'] : []),
  ];
  return lines.join('\n');
}

function namedBy<Id>(id: Id, row: { readonly name: string } | undefined): Named<Id> {
  return { id, name: row?.name ?? null };
}

function explainSubject(state: AccountState, { client, token, input }: Subject): ExplainedSubject {
  return {
    actor: namedBy(client.actorId, state.row('actors', client.actorId)),
    tokenId: token.id,
    tokenExpiresAt: token.expiresAt,
    remoteIp: input.address && formatAddress(input.address),
    region: input.region,
    providerId: input.providerId,
    verifiedAt: input.verifiedAt,
  };
}

function explainPolicy(
  state: AccountState,
  { client, input }: Subject,
  { row, conditions }: CompiledPolicy,
  decision: Decision,
  now: EpochMs,
): ExplainedPolicy {
  const membershipId = state.groupsOfActor(client.actorId).get(row.groupId) ?? null;
  const until = conformsUntil(conditions, input, now);
  return {
    id: row.id,
    group: namedBy(row.groupId, state.row('groups', row.groupId)),
    membershipId,
    verdict: policyVerdict(),
    until: until === undefined ? null : finite(until),
    problem: row.conditions === 'unreadable' ? UNREADABLE.problem : null,
    conditions: conditions.conditions.map((condition) => explainCondition(condition, input, now)),
  };

  function policyVerdict(): PolicyVerdict {
    if (row.disabledAt !== null) return 'disabled';
    if (membershipId === null) return 'not-a-member';
    if (until === undefined) return 'violated';
    return decision.verdict === 'allow' && decision.policyId === row.id ? 'chosen' : 'conforms';
  }
}

function explainCondition(
  { source, problem, holdsUntil, property }: CompiledCondition,
  input: ConditionInput,
  now: EpochMs,
): ExplainedCondition {
  const until = holdsUntil(input, now);
  const { operator, values } = source;
  return {
    property: source.property,
    operator,
    values,
    verdict: problem !== undefined ? 'unreadable' : until === undefined ? 'violated' : 'holds',
    actual: actualOf(property, input, now),
    until: until === undefined ? null : finite(until),
    problem: problem ?? null,
  };
}

function actualOf(property: CompiledCondition['property'], input: ConditionInput, now: EpochMs): string {
  switch (property) {
    case 'remote_ip_location_region':
      return input.region ?? 'unknown';
    case 'remote_ip':
      return input.address === null ? 'unknown' : formatAddress(input.address);
    case 'provider_id':
      return input.providerId ?? 'none';
    case 'current_utc_datetime':
      return time(now);
    case 'client_verified':
      return input.verifiedAt === null ? 'not verified' : `verified at ${time(input.verifiedAt)}`;
    case undefined:
      return 'nothing';
  }
}

function verdictText(decision: Decision): string {
  if (decision.verdict === 'allow') {
    return `allowed by policy ${decision.policyId} ${untilText(decision.until)}`;
  }
  const violated = decision.violated.length === 0 ? '' : ` (${decision.violated.join(', ')})`;
  return `denied, ${decision.reason}${violated}`;
}

function subjectText({
  actor,
  tokenId,
  tokenExpiresAt,
  remoteIp,
  region,
  providerId,
  verifiedAt,
}: ExplainedSubject): string {
  return [
    `actor ${named(actor)}`,
    `token ${tokenId} ${untilText(tokenExpiresAt)}`,
    `from ${remoteIp ?? 'an unknown address'} in ${region ?? 'an unknown region'}`,
    `provider ${providerId ?? 'none'}`,
    verifiedAt === null ? 'not verified' : `verified at ${time(verifiedAt)}`,
  ].join(', ');
}

function policyText({ verdict, until, problem }: ExplainedPolicy): string {
  if (problem !== null) return `${verdict}, conditions unreadable: ${problem}`;
  return verdict === 'chosen' || verdict === 'conforms' ? `${verdict} ${untilText(until)}` : verdict;
}

function conditionText({ property, operator, values, verdict, actual, until, problem }: ExplainedCondition): string {
  const end = verdict === 'holds' && until !== null ? ` ${untilText(until)}` : '';
  return `${verdict}${end}: ${property} ${operator} [${values.join(', ')}], is ${actual}${problem === null ? '' : ` (${problem})`}`;
}

function named({ id, name }: Named<string>): string {
  return name === null ? id : `"${name}" (${id})`;
}

function untilText(until: EpochMs | null): string {
  return until === null ? 'without end' : `until ${time(until)}`;
}

function time(at: EpochMs): string {
  return Temporal.Instant.fromEpochMilliseconds(at).toString();
}

function finite(until: EpochMs): EpochMs | null {
  return until === Infinity ? null : until;
}
