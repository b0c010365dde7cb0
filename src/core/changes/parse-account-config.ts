import { overlaps, parseAddress, hostRange, formatRange } from '../authorizer/ip-ranges.js';
import type { AccountConfig } from '../model/rows.js';
import { membersOf, parseJson } from './parse-json.js';
import { CLIENT_NETWORKS } from './parse-network.js';
import { excerpt, type RowFault } from './row-fault.js';

/** `accounts.config`. Each part that does not parse counts as not set and is reported; keys of other concerns are ignored. */
export function parseAccountConfig(text: string | null): { config: AccountConfig; faults: readonly RowFault[] } {
  const members = membersOf(parseJson(text));
  if (!members) {
    return { config: { searchDomain: null, upstreamDns: [] }, faults: [{ part: 'config', problem: 'not an object' }] };
  }
  const faults: RowFault[] = [];
  const report = (part: string, problem: string): void => void faults.push({ part: `config.${part}`, problem });
  const searchDomain = parseSearchDomain(members.get('search_domain') ?? null, report);
  const upstreamDns = parseUpstreamDns(members.get('clients_upstream_dns') ?? [], report);
  return { config: { searchDomain, upstreamDns }, faults };
}

type Report = (part: string, problem: string) => void;

const SEARCH_DOMAIN = /^[a-z0-9][a-z0-9.-]*\.[a-z]{2,}$/i;

function parseSearchDomain(value: unknown, report: Report): string | null {
  if (value === null) return null;
  const isDomain =
    typeof value === 'string' &&
    value.length <= 255 &&
    SEARCH_DOMAIN.test(value) &&
    value.split('.').every((label) => label.length > 0 && label.length <= 63);
  if (isDomain) return value;
  report('search_domain', `${excerpt(value)} is not a domain name`);
  return null;
}

function parseUpstreamDns(value: unknown, report: Report): readonly string[] {
  if (!Array.isArray(value)) {
    report('clients_upstream_dns', 'not a list');
    return [];
  }
  const bySocket = new Map<string, string>();
  for (const [index, entry] of (value as readonly unknown[]).entries()) {
    const server = parseServer(entry);
    if (typeof server === 'string') report(`clients_upstream_dns[${index}]`, server);
    else if (bySocket.has(server.socket)) report(`clients_upstream_dns[${index}]`, 'named twice');
    else bySocket.set(server.socket, server.address);
  }
  return [...bySocket.values()];
}

/** The server's address as stored and in one comparable form, or what is wrong with it. */
function parseServer(entry: unknown): { address: string; socket: string } | string {
  const members = membersOf(entry);
  const protocol = members?.get('protocol');
  if (protocol !== 'ip_port') return `unsupported protocol ${excerpt(protocol)}`;
  const stored = members?.get('address');
  const address = typeof stored === 'string' ? stored.trim() : '';
  const [, bracketed, bracketPort, plain, plainPort] = SOCKET.exec(address) ?? [];
  const ip = parseAddress(bracketed ?? plain ?? address);
  const port = Number(bracketPort ?? plainPort ?? 53);
  if (!ip || (bracketed !== undefined && ip.version === 4) || port < 1 || port > 65_535) {
    return `${excerpt(stored)} is not an IP address with or without port`;
  }
  const host = hostRange(ip);
  if (CLIENT_NETWORKS.some((network) => overlaps(network, host))) return `${excerpt(stored)} is inside the tunnel`;
  return { address, socket: `${formatRange(host)} ${port}` };
}

/** `[v6]:port` or `v4:port`; a bare address matches neither. */
const SOCKET = /^(?:\[([^\]]+)\]:(\d{1,5})|([\d.]+):(\d{1,5}))$/;
