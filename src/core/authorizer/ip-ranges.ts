/**
 * IP addresses and networks as comparable values. Text is parsed once, strictly: four plain decimal octets or IPv6
 * without a zone. The lax notations of the resolver world (octal, hexadecimal, fewer octets) are not addresses here:
 * two readers could disagree on what they mean.
 */
import ipaddr from 'ipaddr.js';

export interface IpAddress {
  readonly version: 4 | 6;
  readonly bits: bigint;
}

/** A network; `bits` has its host bits zero. */
export interface IpRange extends IpAddress {
  /** 0 to 32, or 0 to 128. */
  readonly prefixLength: number;
}

/** An address without prefix or zone; `undefined` when the text is anything else. */
export function parseAddress(text: string): IpAddress | undefined {
  if (text.length > MAX_ADDRESS_LENGTH) return undefined;
  if (ipaddr.IPv4.isValidFourPartDecimal(text)) return toAddress(4, ipaddr.IPv4.parse(text));
  if (!text.includes(':') || text.includes('%')) return undefined;
  const hexadecimal = withoutDots(text);
  return hexadecimal !== undefined && ipaddr.IPv6.isValid(hexadecimal)
    ? toAddress(6, ipaddr.IPv6.parse(hexadecimal))
    : undefined;
}

/** `::1.2.3.4` as `::102:304`: the parser would take it for `::ffff:1.2.3.4`. */
function withoutDots(text: string): string | undefined {
  if (!text.includes('.')) return text;
  const tailAt = text.lastIndexOf(':') + 1;
  const tail = text.slice(tailAt);
  if (!ipaddr.IPv4.isValidFourPartDecimal(tail)) return undefined;
  const { bits } = toAddress(4, ipaddr.IPv4.parse(tail));
  return `${text.slice(0, tailAt)}${(bits >> 16n).toString(16)}:${(bits & 0xffffn).toString(16)}`;
}

/** `address/prefix`; host bits may be set and are cleared. `undefined` when the prefix is missing or out of range. */
export function parseCidr(text: string): IpRange | undefined {
  const slash = text.lastIndexOf('/');
  const prefix = text.slice(slash + 1);
  const address = slash < 0 ? undefined : parseAddress(text.slice(0, slash));
  if (!address || !/^(0|[1-9]\d{0,2})$/.test(prefix)) return undefined;
  const prefixLength = Number(prefix);
  return prefixLength <= widthOf(address) ? rangeOf(address, prefixLength) : undefined;
}

/** A network, or one address as the network that holds just it. */
export function parseRange(text: string): IpRange | undefined {
  if (text.includes('/')) return parseCidr(text);
  const address = parseAddress(text);
  return address && hostRange(address);
}

export function hostRange(address: IpAddress): IpRange {
  return rangeOf(address, widthOf(address));
}

/** True for a network without room for a second address. */
export function isOneAddress(range: IpRange): boolean {
  return range.prefixLength === widthOf(range);
}

/** The highest address of a network, as bits. */
export function lastOf(range: IpRange): bigint {
  return range.bits | ((1n << BigInt(widthOf(range) - range.prefixLength)) - 1n);
}

/** False across address families: an IPv4-mapped IPv6 address is not unwrapped here. */
export function contains(range: IpRange, address: IpAddress): boolean {
  if (range.version !== address.version) return false;
  const hostBits = BigInt(widthOf(range) - range.prefixLength);
  return range.bits >> hostBits === address.bits >> hostBits;
}

/** Networks either nest or are disjoint, so one contains the other's first address or they share nothing. */
export function overlaps(a: IpRange, b: IpRange): boolean {
  return contains(a, b) || contains(b, a);
}

/** The IPv4 address inside `::ffff:a.b.c.d`; `undefined` for every other address. */
export function unmapped(address: IpAddress): IpAddress | undefined {
  return contains(IPV4_MAPPED, address) ? { version: 4, bits: address.bits & 0xffff_ffffn } : undefined;
}

/** `10.20.0.0/16`, `2001:db8::/32`: the canonical text, IPv6 in RFC 5952 form. */
export function formatRange(range: IpRange): string {
  return `${formatAddress(range)}/${range.prefixLength}`;
}

/** The canonical text, IPv6 in RFC 5952 form. */
export function formatAddress(address: IpAddress): string {
  const byteCount = widthOf(address) / 8;
  const bytes = Array.from({ length: byteCount }, (_, i) =>
    Number((address.bits >> BigInt(8 * (byteCount - 1 - i))) & 255n),
  );
  return ipaddr.fromByteArray(bytes).toString();
}

/** The longest text of an IPv6 address: eight groups, the last two as dotted IPv4. */
const MAX_ADDRESS_LENGTH = 45;

/** Source: RFC 4291, section 2.5.5.2. */
export const IPV4_MAPPED: IpRange = { version: 6, bits: 0xffffn << 32n, prefixLength: 96 };

function widthOf(address: IpAddress): 32 | 128 {
  return address.version === 4 ? 32 : 128;
}

function rangeOf(address: IpAddress, prefixLength: number): IpRange {
  const hostBits = BigInt(widthOf(address) - prefixLength);
  return { version: address.version, bits: (address.bits >> hostBits) << hostBits, prefixLength };
}

function toAddress(version: 4 | 6, parsed: { toByteArray(): number[] }): IpAddress {
  return { version, bits: parsed.toByteArray().reduce((bits, byte) => (bits << 8n) | BigInt(byte), 0n) };
}
