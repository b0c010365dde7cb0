/**
 * The conditions of one policy: compiled when the policy changes, evaluated for one client at one instant.
 * Doubt is a violation (S9, D17): an unknown property or operator, a value that does not parse, an unknown fact of the
 * client, a list that is no list of conditions.
 */
import { excerpt, type RowFault } from '../changes/row-fault.js';
import { REGION_CODES } from '../model/country-codes.js';
import { isUuid, type ProviderId } from '../model/ids.js';
import type { ConditionSource } from '../model/rows.js';
import type { EpochMs } from '../model/time.js';
import type { ConnectionFacts } from '../model/connection-facts.js';
import { IpRangeSet } from './ip-range-set.js';
import {
  contains,
  IPV4_MAPPED,
  parseAddress,
  parseRange,
  unmapped,
  type IpAddress,
  type IpRange,
} from './ip-ranges.js';
import { parseTimeWindows, WindowSchedule } from './time-windows.js';

/** As on the wire, in `violated_properties`. */
export type ConditionProperty =
  'remote_ip_location_region' | 'remote_ip' | 'provider_id' | 'current_utc_datetime' | 'client_verified';

/** What conditions may look at: facts of a client's latest connection, read once (see conditionInput). Null is unknown. */
export interface ConditionInput {
  /** ISO 3166-1 alpha-2, one we know. */
  readonly region: string | null;
  readonly address: IpAddress | null;
  /** Null: a session without identity. */
  readonly providerId: ProviderId | null;
  readonly verifiedAt: EpochMs | null;
}

/** Made by compileConditions, read by the functions below. Time windows inside remember their last answer. */
export interface CompiledConditions {
  readonly conditions: readonly CompiledCondition[];
  /** Every part that denies because it could not be read; any at all, and no client can ever satisfy the whole. */
  readonly faults: readonly RowFault[];
}

export interface CompiledCondition {
  readonly source: ConditionSource;
  /** Undefined when it is no property we know: it denies, but has no name on the wire. */
  readonly property: ConditionProperty | undefined;
  /** Why it can never hold: something in it could not be read. */
  readonly problem: string | undefined;
  /** How long it holds: undefined is not at all, Infinity is without end of its own. */
  readonly holdsUntil: (input: ConditionInput, now: EpochMs) => EpochMs | undefined;
  readonly schedule: WindowSchedule | undefined;
}

/** A region that is no country we know, and an address that is none, are as unknown as a missing one (S9). */
export function conditionInput(
  { region, remoteIp }: Pick<ConnectionFacts, 'region' | 'remoteIp'>,
  providerId: ProviderId | null,
  verifiedAt: EpochMs | null,
): ConditionInput {
  return {
    region: region !== null && REGION_CODES.has(region) ? region : null,
    address: remoteIp === null ? null : (parseAddress(remoteIp) ?? null),
    providerId,
    verifiedAt,
  };
}

export function compileConditions(source: readonly ConditionSource[] | 'unreadable'): CompiledConditions {
  if (source === 'unreadable') return { conditions: [], faults: [UNREADABLE] };
  const conditions = source.map(compileCondition);
  const faults = conditions.flatMap(({ problem }, index) =>
    problem === undefined ? [] : [{ part: `conditions[${index}]`, problem }],
  );
  return { conditions, faults };
}

/**
 * The last instant at which every condition holds if nothing but time changes: the end of the earliest ending window,
 * Infinity without windows, undefined when one does not hold now. Where the clock is set back, the next transition can
 * come before it, so wait for both.
 */
export function conformsUntil(
  { conditions, faults }: CompiledConditions,
  input: ConditionInput,
  now: EpochMs,
): EpochMs | undefined {
  if (faults.length > 0) return undefined;
  let until = Infinity;
  for (let i = 0; i < conditions.length; i += 1) {
    const end = (conditions[i] as CompiledCondition).holdsUntil(input, now);
    if (end === undefined) return undefined;
    if (end < until) until = end;
  }
  return until;
}

/** Adds what is violated now to `violated`, each property once, in the order of the list. What has no name on the wire is not named. */
export function addViolations(
  violated: ConditionProperty[],
  { conditions }: CompiledConditions,
  input: ConditionInput,
  now: EpochMs,
): void {
  for (const { property, holdsUntil } of conditions) {
    if (property === undefined || violated.includes(property)) continue;
    if (holdsUntil(input, now) === undefined) violated.push(property);
  }
}

/**
 * The first instant after `now` at which time alone can change what `conformsUntil` says of any client: a window opens,
 * or the end of one has passed (ends are inclusive, so 1 ms after it). Undefined: never, without another change.
 */
export function nextTransition({ conditions, faults }: CompiledConditions, now: EpochMs): EpochMs | undefined {
  if (faults.length > 0) return undefined;
  let next = Infinity;
  for (const { schedule } of conditions) next = Math.min(next, schedule?.nextChange(now) ?? Infinity);
  return next === Infinity ? undefined : next;
}

/** What is wrong with a list of which nothing can be read. */
export const UNREADABLE: RowFault = { part: 'conditions', problem: 'not a list of {property, operator, values}' };

type HoldsUntil = CompiledCondition['holdsUntil'];
type Compiler = (operator: string, values: readonly string[]) => HoldsUntil | WindowSchedule;

/** A condition that always violates; the message is for its author. */
class BadConditionError extends Error {}

/** Whatever goes wrong while a condition is compiled, also a fault of ours, makes it one that denies: doubt is denial. */
function compileCondition(source: ConditionSource): CompiledCondition {
  const compile = COMPILERS.get(source.property);
  if (!compile) return denying(source, undefined, `unknown property ${excerpt(source.property)}`);
  const property = source.property as ConditionProperty; // it is a key of COMPILERS
  try {
    const compiled = compile(
      source.operator,
      source.values.map((value) => value.trim()),
    );
    if (!(compiled instanceof WindowSchedule)) {
      return { source, property, problem: undefined, holdsUntil: compiled, schedule: undefined };
    }
    const holdsUntil: HoldsUntil = (_input, now) => endOf(compiled, now);
    return { source, property, problem: undefined, holdsUntil, schedule: compiled };
  } catch (error) {
    return denying(source, property, `${property}: ${(error as Error).message}`);
  }
}

function denying(source: ConditionSource, property: ConditionProperty | undefined, problem: string): CompiledCondition {
  return { source, property, problem, holdsUntil: never, schedule: undefined };
}

const COMPILERS: ReadonlyMap<string, Compiler> = new Map<ConditionProperty, Compiler>([
  ['remote_ip_location_region', compileRegion],
  ['remote_ip', compileRemoteIp],
  ['provider_id', compileProvider],
  ['current_utc_datetime', compileTime],
  ['client_verified', compileVerified],
]);

const never: HoldsUntil = () => undefined;
const always: HoldsUntil = () => Infinity;

function endOf(schedule: WindowSchedule, now: EpochMs): EpochMs | undefined {
  const verdict = schedule.verdictAt(now);
  return verdict.isOpen ? verdict.until : undefined;
}

/** An unknown region violates both operators. */
function compileRegion(operator: string, values: readonly string[]): HoldsUntil {
  const isWanted = wantsMember(operator, 'is_in', 'is_not_in');
  const regions = new Set(
    values.map((value) => mustParse(value, 'a country code', (text) => REGION_CODES.has(text) && text)),
  );
  return ({ region }) => (region !== null && regions.has(region) === isWanted ? Infinity : undefined);
}

/**
 * IPv4 and IPv6 never contain each other. An IPv4-mapped client address is not unwrapped to grant, only to deny; a
 * mapped value is refused, as its author cannot have meant an address that no client has.
 */
function compileRemoteIp(operator: string, values: readonly string[]): HoldsUntil {
  const isWanted = wantsMember(operator, 'is_in_cidr', 'is_not_in_cidr');
  const ranges = new IpRangeSet(
    values.map((value) => mustParse(value, 'an IP address or network', parseConditionRange)),
  );
  if (isWanted) return ({ address }) => (address !== null && ranges.has(address) ? Infinity : undefined);
  return ({ address }) => {
    if (address === null || ranges.has(address)) return undefined;
    const inner = unmapped(address);
    return inner !== undefined && ranges.has(inner) ? undefined : Infinity;
  };
}

function parseConditionRange(text: string): IpRange | undefined {
  const range = parseRange(text);
  return range && contains(IPV4_MAPPED, range) && range.prefixLength >= IPV4_MAPPED.prefixLength ? undefined : range;
}

/** A session without identity has no provider: it is in no list, so it is also not in this one. */
function compileProvider(operator: string, values: readonly string[]): HoldsUntil {
  const isWanted = wantsMember(operator, 'is_in', 'is_not_in');
  const providers = new Set(
    values.map((value) => mustParse(value.toLowerCase(), 'a provider id', (text) => isUuid(text) && text)),
  );
  return ({ providerId }) => ((providerId !== null && providers.has(providerId)) === isWanted ? Infinity : undefined);
}

function compileTime(operator: string, values: readonly string[]): WindowSchedule {
  if (operator !== 'is_in_day_of_week_time_ranges') throw unknownOperator(operator);
  return new WindowSchedule(parseTimeWindows(values));
}

/** `["false"]` and no value at all mean "no requirement", not "must be unverified". */
function compileVerified(operator: string, values: readonly string[]): HoldsUntil {
  if (operator !== 'is') throw unknownOperator(operator);
  const [value, ...more] = values;
  if (more.length > 0) throw new BadConditionError('more than one value');
  if (value === undefined || value === 'false') return always;
  if (value === 'true') return ({ verifiedAt }) => (verifiedAt === null ? undefined : Infinity);
  throw new BadConditionError(`${excerpt(value)} is not true or false`);
}

/** True for the operator that wants the fact among the values, false for its opposite; throws for any other. */
function wantsMember(operator: string, isIn: string, isNotIn: string): boolean {
  if (operator !== isIn && operator !== isNotIn) throw unknownOperator(operator);
  return operator === isIn;
}

function mustParse<T>(text: string, what: string, parse: (text: string) => T | false | undefined): T {
  const value = parse(text);
  if (value === false || value === undefined) throw new BadConditionError(`${excerpt(text)} is not ${what}`);
  return value;
}

function unknownOperator(operator: string): BadConditionError {
  return new BadConditionError(`unknown operator ${excerpt(operator)}`);
}
