/**
 * The other engines with the same rules. Each gets what it can prepare: whatever does not depend on the resource asked
 * for is made before anything is timed. Where there are two ways to feed one, both are here.
 */
import { buildMongoQueryMatcher, createMongoAbility, type MongoAbility, type RawRuleOf } from '@casl/ability';
import { type EntityJson, preparsePolicySet, statefulIsAuthorized } from '@cedar-policy/cedar-wasm/nodejs';
import { type Assertion, type Enforcer, newEnforcer, newModelFromString, StringAdapter } from 'casbin';
import {
  type Account,
  type Condition,
  type Facts,
  holds,
  policiesBy,
  type Policy,
  type Question,
  type Range4,
} from './authorize-rules.js';

/** Answers the question that stands at `index` of those it was made for. */
export type Ask = (question: Question, index: number) => boolean;
export type MakeAsk = (account: Account, questions: readonly Question[]) => Ask | Promise<Ask>;

// ---- @casl/ability -------------------------------------------------------------------------------------------------

interface CaslSubject extends Facts {
  readonly resourceId: string;
}
type CaslAbility = MongoAbility<[string, string | CaslSubject]>;
type CaslRule = RawRuleOf<CaslAbility>;

/** One ability per actor; resources are one type and told apart by a condition on their id, as in its documentation. */
export const caslById: MakeAsk = (account, questions) =>
  askCasl(account, questions, {
    rule: ({ resourceId }, conditions) => {
      return { action: 'use', subject: 'Resource', conditions: { resourceId, ...conditions } };
    },
    typeOf: () => 'Resource',
  });

/** The same, but every resource is a type of its own, because rules are indexed by type. */
export const caslByType: MakeAsk = (account, questions) =>
  askCasl(account, questions, {
    rule: ({ resourceId }, conditions) => {
      return { action: 'use', subject: resourceId, ...(conditions && { conditions }) };
    },
    typeOf: ({ resourceId }) => resourceId,
  });

interface CaslWay {
  readonly rule: (policy: Policy, conditions: Record<string, unknown> | undefined) => CaslRule;
  readonly typeOf: (subject: CaslSubject) => string;
}

function askCasl({ actors, policies }: Account, questions: readonly Question[], { rule, typeOf }: CaslWay): Ask {
  const byGroup = policiesBy('groupId', policies);
  const options = { conditionsMatcher: CASL_MATCHER, detectSubjectType: typeOf as (subject: object) => string };
  const abilities = new Map(
    actors.map((actor) => {
      const granted = actor.groupIds.flatMap((groupId) => [...byGroup.get(groupId)]);
      const rules = granted.map((policy) => rule(policy, caslConditions(policy)));
      return [actor, createMongoAbility<CaslAbility>(rules, options)];
    }),
  );
  const prepared = questions.map(({ actor }) => abilities.get(actor));
  return ({ resourceId, actor: { facts } }, index) => {
    const { region, ip, ipNumber, providerId, isVerified } = facts;
    return prepared[index]?.can('use', { resourceId, region, ip, ipNumber, providerId, isVerified }) === true;
  };
}

function caslConditions({ conditions }: Policy): Record<string, unknown> | undefined {
  return conditions.length === 0 ? undefined : Object.fromEntries(conditions.map(caslCondition));
}

function caslCondition(condition: Condition): readonly [string, unknown] {
  switch (condition.kind) {
    case 'region':
      return ['region', { $in: condition.values }];
    case 'cidr':
      return ['ipNumber', { $inRange: condition.ranges }];
    case 'provider':
      return ['providerId', { $in: condition.ids }];
    case 'verified':
      return ['isVerified', true];
  }
}

/** Its own matcher, with one operator more. */
const CASL_MATCHER = buildMongoQueryMatcher(
  { $inRange: { type: 'field' } },
  {
    inRange: (condition: { readonly value: readonly Range4[] }, { ipNumber }: CaslSubject) =>
      condition.value.some(({ first, last }) => first <= ipNumber && ipNumber <= last),
  },
);

// ---- casbin --------------------------------------------------------------------------------------------------------

/** What rules out most policies comes first. Conditions are a function of ours, handed over by policy id. */
const CASBIN_MODEL = `
[request_definition]
r = actor, resource, facts
[policy_definition]
p = group, resource, id
[role_definition]
g = _, _
[policy_effect]
e = some(where (p.eft == allow))
[matchers]
m = r.resource == p.resource && g(r.actor, p.group) && conform(p.id, r.facts)
`;

export const casbinWhole: MakeAsk = async (account) => {
  const { enforcer } = await casbinOf(account);
  return ({ actor, resourceId }) => enforcer.enforceSync(actor.id, resourceId, actor.facts);
};

/** It is shown the policies of the resource asked for and no others. */
export const casbinSlice: MakeAsk = async (account) => {
  const { enforcer, assertion } = await casbinOf(account);
  const slices = new Map<string, string[][]>();
  for (const line of assertion.policy) slices.set(line[1] ?? '', [...(slices.get(line[1] ?? '') ?? []), line]);
  return ({ actor, resourceId }) => {
    assertion.policy = slices.get(resourceId) ?? [];
    return enforcer.enforceSync(actor.id, resourceId, actor.facts);
  };
};

async function casbinOf({ actors, policies }: Account): Promise<{ enforcer: Enforcer; assertion: Assertion }> {
  const lines = [
    ...policies.map(({ groupId, resourceId, id }) => `p, ${groupId}, ${resourceId}, ${id}`),
    ...actors.flatMap(({ id, groupIds }) => groupIds.map((groupId) => `g, ${id}, ${groupId}`)),
  ];
  const enforcer = await newEnforcer(newModelFromString(CASBIN_MODEL), new StringAdapter(lines.join('\n')));
  const conditionsOf = new Map(policies.map(({ id, conditions }) => [id, conditions]));
  const conform = (id: string, facts: Facts): boolean =>
    conditionsOf.get(id)?.every((condition) => holds(condition, facts)) === true;
  await enforcer.addFunction('conform', conform);
  const assertion = enforcer.getModel().model.get('p')?.get('p');
  if (!assertion) throw new Error('casbin has read no policies');
  return { enforcer, assertion };
}

// ---- @cedar-policy/cedar-wasm --------------------------------------------------------------------------------------

export const cedarWhole: MakeAsk = (account, questions) => {
  prepareCedar('all', account.policies);
  return askCedar(account, questions, () => 'all');
};

/** A prepared policy set per resource. */
export const cedarSlice: MakeAsk = (account, questions) => {
  const byResource = policiesBy('resourceId', account.policies);
  for (const id of account.resourceIds) prepareCedar(id, byResource.get(id));
  return askCedar(account, questions, ({ resourceId }) => resourceId);
};

function prepareCedar(name: string, policies: Iterable<Policy>): void {
  const staticPolicies = Object.fromEntries([...policies].map((policy) => [policy.id, cedarPolicy(policy)]));
  const answer = preparsePolicySet(name, { staticPolicies });
  if (answer.type === 'failure') throw new Error(answer.errors.map(({ message }) => message).join('; '));
}

function cedarPolicy({ groupId, resourceId, conditions }: Policy): string {
  const when = conditions.length === 0 ? '' : ` when { ${conditions.map(cedarCondition).join(' && ')} }`;
  return `permit (principal in Group::"${groupId}", action == Action::"use", resource == Resource::"${resourceId}")${when};`;
}

function cedarCondition(condition: Condition): string {
  switch (condition.kind) {
    case 'region':
      return `${JSON.stringify(condition.values)}.contains(context.region)`;
    case 'cidr':
      return `(${condition.ranges.map(({ text }) => `context.ip.isInRange(ip("${text}"))`).join(' || ')})`;
    case 'provider':
      return `${JSON.stringify(condition.ids)}.contains(context.providerId)`;
    case 'verified':
      return 'context.isVerified';
  }
}

/** Principal, its groups and the facts are prepared; the entities given are the question's own. */
function askCedar({ actors }: Account, questions: readonly Question[], setFor: (question: Question) => string): Ask {
  const action = { type: 'Action', id: 'use' };
  const callers = new Map(
    actors.map((actor) => {
      const uid = { type: 'Actor', id: actor.id };
      const entity: EntityJson = { uid, attrs: {}, parents: actor.groupIds.map((id) => ({ type: 'Group', id })) };
      const { ip, region, providerId, isVerified } = actor.facts;
      const context = { ip: { __extn: { fn: 'ip', arg: ip } }, region, providerId, isVerified };
      return [actor, { principal: uid, action, context, entities: [entity] }];
    }),
  );
  const prepared = questions.map(({ actor }) => callers.get(actor));
  return (question, index) => {
    const caller = prepared[index];
    if (!caller) return false;
    const resource = { type: 'Resource', id: question.resourceId };
    const answer = statefulIsAuthorized({ ...caller, resource, preparsedPolicySetId: setFor(question) });
    if (answer.type === 'failure' || answer.response.diagnostics.errors.length > 0) throw new Error('cedar failed');
    return answer.response.decision === 'allow';
  };
}
