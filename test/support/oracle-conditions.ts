/**
 * The oracle's conditions (domain.md 2.2 and 2.4, D17): until when a policy's list holds for one client's latest
 * connection. Everything that is not understood is violated (S9).
 *
 * Where domain.md leaves a choice, doubt denies:
 * - Spaces around an element of `values` mean nothing. A value that cannot be read makes its condition violated, also a
 *   negated one: nobody knows what it was meant to keep out.
 * - What is unknown of the connection (region, address) violates both a condition and its negation; so does a region
 *   that is no country and an address that is none. No provider is not unknown: it is known that there is none.
 * - An IPv4-mapped IPv6 address is one IPv6 address, as domain.md says, and `is_in_cidr` looks at nothing else. But what
 *   is kept out as IPv4 must not come in by that spelling: `is_not_in_cidr` looks at the IPv4 address inside as well.
 *   A network inside ::ffff:0:0/96 says IPv4 and IPv6 in one: it counts as unreadable.
 */
import { REGION_CODES } from '../../src/core/model/country-codes.js';
import type { ConditionSource } from '../../src/core/model/rows.js';
import { windowEnd } from './oracle-windows.js';

/** What conditions look at. */
export interface Asker {
  readonly region: string | null;
  readonly remoteIp: string | null;
  readonly providerId: string | null;
  readonly verifiedAt: number | null;
}

/** Infinity: all hold, without end. Otherwise the earliest end. Undefined: one is violated. */
export function conditionsEnd(list: readonly ConditionSource[], asker: Asker, now: number): number | undefined {
  let earliest = Infinity;
  for (const condition of list) {
    const end = conditionEnd(condition, asker, now);
    if (end === undefined) return undefined;
    earliest = Math.min(earliest, end);
  }
  return earliest;
}

/** The known properties of which some condition is violated. */
export function violatedIn(list: readonly ConditionSource[], asker: Asker, now: number): Set<string> {
  const violated = new Set<string>();
  for (const condition of list) {
    const isKnown = PROPERTIES.includes(condition.property);
    if (isKnown && conditionEnd(condition, asker, now) === undefined) violated.add(condition.property);
  }
  return violated;
}

const PROPERTIES = ['remote_ip_location_region', 'remote_ip', 'provider_id', 'current_utc_datetime', 'client_verified'];

function conditionEnd({ property, operator, values }: ConditionSource, asker: Asker, now: number): number | undefined {
  const texts = values.map((value) => value.trim());
  const forever = (holds: boolean | undefined): number | undefined => (holds === true ? Infinity : undefined);
  switch (`${property} ${operator}`) {
    case 'remote_ip_location_region is_in':
      return forever(regionIsIn(asker.region, texts));
    case 'remote_ip_location_region is_not_in':
      return forever(not(regionIsIn(asker.region, texts)));
    case 'remote_ip is_in_cidr':
      return forever(addressIsIn(asker.remoteIp, texts));
    case 'remote_ip is_not_in_cidr':
      return forever(not(addressIsIn(asker.remoteIp, texts)) === true && !isSmuggled(asker.remoteIp, texts));
    case 'provider_id is_in':
      return forever(providerIsIn(asker.providerId, texts));
    case 'provider_id is_not_in':
      return forever(not(providerIsIn(asker.providerId, texts)));
    case 'client_verified is':
      return forever(verificationSuffices(asker.verifiedAt, texts));
    case 'current_utc_datetime is_in_day_of_week_time_ranges':
      return windowEnd(texts, now);
    default:
      return undefined;
  }
}

// Three answers: yes, no, and undefined for doubt, whose negation is doubt.

function not(answer: boolean | undefined): boolean | undefined {
  return answer === undefined ? undefined : !answer;
}

function regionIsIn(region: string | null, codes: readonly string[]): boolean | undefined {
  if (region === null || !REGION_CODES.has(region)) return undefined;
  if (!codes.every((code) => REGION_CODES.has(code))) return undefined;
  return codes.includes(region);
}

function providerIsIn(providerId: string | null, ids: readonly string[]): boolean | undefined {
  const isUuid = (id: string): boolean => /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(id);
  if (!ids.every(isUuid)) return undefined;
  return ids.some((id) => id.toLowerCase() === providerId);
}

function verificationSuffices(verifiedAt: number | null, wanted: readonly string[]): boolean | undefined {
  if (wanted.length === 0) return true;
  if (wanted.length > 1 || (wanted[0] !== 'true' && wanted[0] !== 'false')) return undefined;
  return wanted[0] === 'false' || verifiedAt !== null;
}

// ---- networks, as strings of bits -----------------------------------------------------------------------------------

function addressIsIn(address: string | null, networks: readonly string[]): boolean | undefined {
  const bits = address === null ? undefined : bitsOf(address);
  const prefixes = networks.map(prefixOf);
  if (bits === undefined || prefixes.includes(undefined)) return undefined;
  return prefixes.some((prefix) => prefix !== undefined && isUnder(bits, prefix));
}

function isSmuggled(address: string | null, networks: readonly string[]): boolean {
  const bits = address === null ? undefined : bitsOf(address);
  if (bits?.startsWith(MAPPED) !== true) return false;
  const inside = `4:${bits.slice(MAPPED.length)}`;
  return networks.some((network) => isUnder(inside, prefixOf(network) ?? inside));
}

function isUnder(bits: string, prefix: string): boolean {
  return bits.startsWith(prefix);
}

/** ::ffff:0:0/96 */
const MAPPED = `6:${'0'.repeat(80)}${'1'.repeat(16)}`;

/** The bits that all addresses of the network begin with. */
function prefixOf(network: string): string | undefined {
  const [address = '', length, ...more] = network.split('/');
  const bits = bitsOf(address);
  if (bits === undefined || more.length > 0) return undefined;
  if (length !== undefined && !/^(0|[1-9][0-9]{0,2})$/.test(length)) return undefined;
  const size = length === undefined ? bits.length - 2 : Number(length);
  if (size > bits.length - 2) return undefined;
  const prefix = bits.slice(0, size + 2);
  return prefix.startsWith(MAPPED) ? undefined : prefix;
}

/** `4:` or `6:` and the 32 or 128 bits of an address. */
function bitsOf(address: string): string | undefined {
  if (!address.includes(':')) {
    const bytes = quadOf(address);
    return bytes && `4:${binary(bytes, 8)}`;
  }
  const groups = groupsOf(address);
  return groups && `6:${binary(groups, 16)}`;
}

function binary(numbers: readonly number[], width: number): string {
  return numbers.map((number) => number.toString(2).padStart(width, '0')).join('');
}

function quadOf(text: string): number[] | undefined {
  const parts = text.split('.');
  const isQuad = parts.length === 4 && parts.every((part) => /^(0|[1-9][0-9]{0,2})$/.test(part) && Number(part) < 256);
  return isQuad ? parts.map(Number) : undefined;
}

/** The eight groups of an IPv6 address. `::` stands for one group of zeros or more. */
function groupsOf(text: string): number[] | undefined {
  const halves = text.split('::');
  if (halves.length > 2) return undefined;
  const [left = [], right] = halves.map((half) => (half === '' ? [] : half.split(':')));
  const parts = [...left, ...(right ?? [])];
  const tail = parts.at(-1);
  if (tail?.includes('.')) {
    const quad = quadOf(tail);
    const isLast = text.endsWith(tail);
    if (quad === undefined || !isLast) return undefined;
    const [a = 0, b = 0, c = 0, d = 0] = quad;
    const list = right === undefined || right.length === 0 ? left : right;
    list.splice(-1, 1, (a * 256 + b).toString(16), (c * 256 + d).toString(16));
  }
  const missing = 8 - left.length - (right?.length ?? 0);
  if (right === undefined ? missing !== 0 : missing < 1) return undefined;
  const groups = [...left, ...Array<string>(right === undefined ? 0 : missing).fill('0'), ...(right ?? [])];
  return groups.every((group) => /^[0-9a-f]{1,4}$/i.test(group))
    ? groups.map((group) => parseInt(group, 16))
    : undefined;
}
