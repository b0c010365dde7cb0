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
import { contains, IPV4_MAPPED, parseAddress, parseRange, unmapped, type IpRange } from './ip-ranges.js';
import { InvalidTimeWindowError, parseTimeWindows, WindowSchedule } from './time-windows.js';

/** As on the wire, in `violated_properties`. */
export type ConditionProperty =
  'remote_ip_location_region' | 'remote_ip' | 'provider_id' | 'current_utc_datetime' | 'client_verified';

/** What conditions may look at. Null is unknown; for `providerId` it is a session without identity. */
export interface ConditionInput {
  readonly region: string | null;
  readonly remoteIp: string | null;
  readonly providerId: ProviderId | null;
  readonly verifiedAt: EpochMs | null;
}

/** Made by compileConditions, read by the functions below. Time windows inside remember their last answer. */
export interface CompiledConditions {
  readonly conditions: readonly CompiledCondition[];
  /** True when no client can ever satisfy them: something in them could not be read. */
  readonly isHopeless: boolean;
  readonly faults: readonly RowFault[];
}

interface CompiledCondition {
  /** Undefined when it is no property we know: it denies, but has no name on the wire. */
  readonly property: ConditionProperty | undefined;
  /** How long it holds: undefined is not at all, Infinity is without end of its own. */
  readonly holdsUntil: (input: ConditionInput, now: EpochMs) => EpochMs | undefined;
  readonly schedule: WindowSchedule | undefined;
}

export type Conformance =
  | { readonly holds: true; readonly until: EpochMs | null }
  | { readonly holds: false; readonly violated: readonly ConditionProperty[] };

export function compileConditions(source: readonly ConditionSource[] | 'unreadable'): CompiledConditions {
  if (source === 'unreadable') return { conditions: [], isHopeless: true, faults: [UNREADABLE] };
  const compiled = source.map(compileCondition);
  const faults = compiled.flatMap(({ problem }, index) =>
    problem === undefined ? [] : [{ part: `conditions[${index}]`, problem }],
  );
  return { conditions: compiled.map(({ condition }) => condition), isHopeless: faults.length > 0, faults };
}

/**
 * Every condition must hold. `until` is the last instant at which the earliest ending time window holds, null without
 * time windows; where the clock is set back it can lie beyond the next transition, so wait for both. Violated
 * properties are named once, in the order of the list; a property already violated is not looked at again.
 */
export function evaluate(compiled: CompiledConditions, input: ConditionInput, now: EpochMs): Conformance {
  const violated: ConditionProperty[] = [];
  let until = Infinity;
  for (const { property, holdsUntil } of compiled.conditions) {
    if (property === undefined || violated.includes(property)) continue;
    const end = holdsUntil(input, now);
    if (end === undefined) violated.push(property);
    else until = Math.min(until, end);
  }
  if (compiled.isHopeless || violated.length > 0) return { holds: false, violated };
  return { holds: true, until: until === Infinity ? null : until };
}

/**
 * The first instant after `now` at which time alone can change what `evaluate` says of any client: a window opens, or
 * the end of one has passed (ends are inclusive, so 1 ms after it). Undefined: never, without another change.
 */
export function nextTransition(compiled: CompiledConditions, now: EpochMs): EpochMs | undefined {
  if (compiled.isHopeless) return undefined;
  let next = Infinity;
  for (const { schedule } of compiled.conditions) next = Math.min(next, schedule?.nextChange(now) ?? Infinity);
  return next === Infinity ? undefined : next;
}

/** What `doctor` tells the policy's author: every part that denies because it could not be read. */
export function faults(compiled: CompiledConditions): readonly RowFault[] {
  return compiled.faults;
}

const UNREADABLE: RowFault = { part: 'conditions', problem: 'not a list of {property, operator, values}' };

type HoldsUntil = CompiledCondition['holdsUntil'];
type Compiler = (operator: string, values: readonly string[]) => HoldsUntil | WindowSchedule;

/** A condition that always violates; the message is for its author. */
class BadConditionError extends Error {}

function compileCondition(source: ConditionSource): { condition: CompiledCondition; problem: string | undefined } {
  const compile = COMPILERS.get(source.property);
  if (!compile) {
    const condition = { property: undefined, holdsUntil: never, schedule: undefined };
    return { condition, problem: `unknown property ${excerpt(source.property)}` };
  }
  const property = source.property as ConditionProperty; // it is a key of COMPILERS
  try {
    const compiled = compile(
      source.operator,
      source.values.map((value) => value.trim()),
    );
    if (!(compiled instanceof WindowSchedule)) {
      return { condition: { property, holdsUntil: compiled, schedule: undefined }, problem: undefined };
    }
    const holdsUntil: HoldsUntil = (_input, now) => endOf(compiled, now);
    return { condition: { property, holdsUntil, schedule: compiled }, problem: undefined };
  } catch (error) {
    if (!(error instanceof BadConditionError || error instanceof InvalidTimeWindowError)) throw error;
    return {
      condition: { property, holdsUntil: never, schedule: undefined },
      problem: `${property}: ${error.message}`,
    };
  }
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

function endless(test: (input: ConditionInput) => boolean): HoldsUntil {
  return (input) => (test(input) ? Infinity : undefined);
}

function endOf(schedule: WindowSchedule, now: EpochMs): EpochMs | undefined {
  const verdict = schedule.verdictAt(now);
  return verdict.isOpen ? verdict.until : undefined;
}

/** A region that is no country we know is as unknown as none: both operators are violated. */
function compileRegion(operator: string, values: readonly string[]): HoldsUntil {
  const isWanted = wantsMember(operator, 'is_in', 'is_not_in');
  const regions = new Set(
    values.map((value) => mustParse(value, 'a country code', (text) => REGION_CODES.has(text) && text)),
  );
  return endless(({ region }) => region !== null && REGION_CODES.has(region) && regions.has(region) === isWanted);
}

/**
 * IPv4 and IPv6 never contain each other. An IPv4-mapped client address is not unwrapped to grant, only to deny; a
 * mapped value is refused, as its author cannot have meant an address that no client has.
 */
function compileRemoteIp(operator: string, values: readonly string[]): HoldsUntil {
  const isWanted = wantsMember(operator, 'is_in_cidr', 'is_not_in_cidr');
  const ranges = values.map((value) => mustParse(value, 'an IP address or network', parseConditionRange));
  return endless(({ remoteIp }) => {
    const address = remoteIp === null ? undefined : parseAddress(remoteIp);
    if (!address) return false;
    if (isWanted) return ranges.some((range) => contains(range, address));
    const inner = unmapped(address);
    return !ranges.some((range) => contains(range, address) || (inner !== undefined && contains(range, inner)));
  });
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
  return endless(({ providerId }) => (providerId !== null && providers.has(providerId)) === isWanted);
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
  if (value === 'true') return endless(({ verifiedAt }) => verifiedAt !== null);
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
