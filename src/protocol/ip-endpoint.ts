/** An address with or without a port, as it stands in settings and forwarding headers. */
import { formatRange, hostRange, parseAddress } from '../core/authorizer/ip-ranges.js';
import type { IpAddress } from '../core/authorizer/ip-ranges.js';

export interface IpEndpoint {
  readonly address: IpAddress;
  /** 1 to 65535. */
  readonly port: number | undefined;
}

/** `1.2.3.4`, `1.2.3.4:80`, `2001:db8::1`, `[2001:db8::1]` or `[2001:db8::1]:80`; `undefined` for anything else. */
export function parseIpEndpoint(text: string): IpEndpoint | undefined {
  const bracketed = /^\[([0-9A-Fa-f:.]{2,45})\](?::(\d{1,5}))?$/.exec(text);
  const dotted = /^([0-9.]{7,15})(?::(\d{1,5}))?$/.exec(text);
  const [, ip = text, portText] = bracketed ?? dotted ?? [];
  const address = parseAddress(ip);
  const port = portText === undefined ? undefined : Number(portText);
  if (!address || (bracketed && address.version === 4) || port === 0 || (port ?? 1) > 65_535) return undefined;
  return { address, port };
}

/** Canonical text without prefix, IPv6 in RFC 5952 form. */
export function addressText(address: IpAddress): string {
  const range = formatRange(hostRange(address));
  return range.slice(0, range.indexOf('/'));
}
