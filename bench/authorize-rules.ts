/**
 * One generated account in plain terms, the questions put to every engine, and their answers by plain loops. The same
 * seed gives the same account in every process, so that processes need not send each other theirs.
 */
import { MultiMap } from '../src/core/support/multi-map.js';

/** Only what every engine can express; time windows are for ours alone. IPv4 only: the peers compare plain numbers. */
export type Condition =
  | { readonly kind: 'region'; readonly values: readonly string[] }
  | { readonly kind: 'cidr'; readonly ranges: readonly Range4[] }
  | { readonly kind: 'provider'; readonly ids: readonly string[] }
  | { readonly kind: 'verified' };

export interface Range4 {
  readonly text: string;
  readonly first: number;
  readonly last: number;
}

export interface Facts {
  readonly region: string;
  readonly ip: string;
  readonly ipNumber: number;
  readonly providerId: string;
  readonly isVerified: boolean;
}

export interface Actor {
  readonly id: string;
  readonly clientId: string;
  readonly groupIds: readonly string[];
  readonly facts: Facts;
}

export interface Policy {
  readonly id: string;
  readonly groupId: string;
  readonly resourceId: string;
  readonly conditions: readonly Condition[];
}

export interface Account {
  readonly id: string;
  readonly providerIds: readonly string[];
  readonly groupIds: readonly string[];
  readonly resourceIds: readonly string[];
  readonly actors: readonly Actor[];
  readonly policies: readonly Policy[];
}

export interface AccountSize {
  readonly groups: number;
  readonly actors: number;
  readonly resources: number;
  readonly policies: number;
  readonly groupsPerActor: number;
}

export interface Question {
  readonly actor: Actor;
  readonly actorId: string;
  readonly clientId: string;
  readonly resourceId: string;
}

export const FULL_SIZE: AccountSize = {
  ...{ groups: 1_000, actors: 10_000, resources: 5_000, policies: 10_000, groupsPerActor: 5 },
};
const QUESTIONS = 100_000;
/** Of the questions, how many ask for something that a policy of one of the actor's groups names. */
const NAMED_SHARE = 0.75;

const REGIONS = ['AU', 'BR', 'CA', 'DE', 'FR', 'IN', 'JP', 'NZ', 'UA', 'US'];
const RANGES = ['10.0.0.0/10', '10.64.0.0/10', '10.128.0.0/10', '10.192.0.0/10'].map((text, i) => {
  const first = 10 * 2 ** 24 + i * 2 ** 22;
  return { text, first, last: first + 2 ** 22 - 1 };
});

/** Every other policy has two conditions, each of which about three clients of four meet. */
export function accountOf(size: AccountSize, seed = 1): Account {
  const chance = new Chance(seed);
  const ids = (count: number): string[] => Array.from({ length: count }, () => chance.id());
  const [id, providerIds, groupIds, resourceIds] = [chance.id(), ids(4), ids(size.groups), ids(size.resources)];
  const actors = Array.from({ length: size.actors }, () => {
    const offset = chance.below(2 ** 24);
    const facts = {
      region: chance.oneOf(REGIONS),
      ip: `10.${offset >>> 16}.${(offset >>> 8) & 255}.${offset & 255}`,
      ipNumber: 10 * 2 ** 24 + offset,
      providerId: chance.oneOf(providerIds),
      isVerified: chance.below(4) > 0,
    };
    return { id: chance.id(), clientId: chance.id(), groupIds: chance.some(groupIds, size.groupsPerActor), facts };
  });
  const conditionsOf = (): Condition[] => {
    const all: Condition[] = [
      { kind: 'region', values: chance.some(REGIONS, 7) },
      { kind: 'cidr', ranges: chance.some(RANGES, 3) },
      { kind: 'provider', ids: chance.some(providerIds, 3) },
      { kind: 'verified' },
    ];
    return chance.some(all, 2);
  };
  const policies = Array.from({ length: size.policies }, (_, i) => ({
    id: chance.id(),
    groupId: groupIds[i % size.groups] ?? '',
    resourceId: chance.oneOf(resourceIds),
    conditions: Math.floor(i / size.groups) % 2 === 0 ? [] : conditionsOf(),
  }));
  return { id, providerIds, groupIds, resourceIds, actors, policies };
}

/** In random order, so that the first n are a random sample. Ids are strings of their own, as those of a frame are. */
export function questionsOf({ actors, resourceIds, policies }: Account, seed = 2): Question[] {
  const chance = new Chance(seed);
  const byGroup = policiesBy('groupId', policies);
  return Array.from({ length: QUESTIONS }, () => {
    const actor = chance.oneOf(actors);
    const named = [...byGroup.get(chance.oneOf(actor.groupIds))];
    const isNamed = named.length > 0 && chance.below(1_000) < NAMED_SHARE * 1_000;
    const resourceId = isNamed ? chance.oneOf(named).resourceId : chance.oneOf(resourceIds);
    return { actor, ...ownStrings({ actorId: actor.id, clientId: actor.clientId, resourceId }) };
  });
}

/** Resources each actor may use, by loops over what was generated: what every engine must agree with. */
export function allowedByActor({ actors, policies }: Account): Map<string, Map<string, boolean>> {
  const byGroup = policiesBy('groupId', policies);
  return new Map(
    actors.map(({ id, groupIds, facts }) => {
      const answers = new Map<string, boolean>();
      for (const { resourceId, conditions } of groupIds.flatMap((groupId) => [...byGroup.get(groupId)])) {
        const conforms = conditions.every((condition) => holds(condition, facts));
        answers.set(resourceId, conforms || answers.get(resourceId) === true);
      }
      return [id, answers];
    }),
  );
}

export function policiesBy(key: 'groupId' | 'resourceId', policies: readonly Policy[]): MultiMap<string, Policy> {
  const index = new MultiMap<string, Policy>();
  for (const policy of policies) index.add(policy[key], policy);
  return index;
}

export function holds(condition: Condition, facts: Facts): boolean {
  switch (condition.kind) {
    case 'region':
      return condition.values.includes(facts.region);
    case 'cidr':
      return condition.ranges.some(({ first, last }) => first <= facts.ipNumber && facts.ipNumber <= last);
    case 'provider':
      return condition.ids.includes(facts.providerId);
    case 'verified':
      return facts.isVerified;
  }
}

/** The same value, every text in it a string that nothing else holds: as it is when rows and frames are decoded. */
export function ownStrings<Value>(value: Value): Value {
  return JSON.parse(JSON.stringify(value)) as Value;
}

/** mulberry32: small, and the same on every machine. */
export class Chance {
  #state: number;

  constructor(seed: number) {
    this.#state = seed;
  }

  #next(): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), this.#state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return (mixed ^ (mixed >>> 14)) >>> 0;
  }

  below(limit: number): number {
    return Math.floor((this.#next() / 2 ** 32) * limit);
  }

  oneOf<Value>(values: readonly Value[]): Value {
    const value = values[this.below(values.length)];
    if (value === undefined) throw new RangeError('nothing to choose from');
    return value;
  }

  /** So many different ones, in random order. */
  some<Value>(values: readonly Value[], count: number): Value[] {
    const chosen = new Set<Value>();
    while (chosen.size < Math.min(count, values.length)) chosen.add(this.oneOf(values));
    return [...chosen];
  }

  /** Text of a UUID. */
  id(): string {
    const hex = Array.from({ length: 4 }, () => this.#next().toString(16).padStart(8, '0')).join('');
    return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');
  }
}
