import type { Filter } from '../model/rows.js';
import { membersOf, parseJson } from './parse-json.js';
import { excerpt, type RowFault } from './row-fault.js';

/**
 * `resources.filters`: a JSON list of `{protocol, ports}`, ports being texts like `80` or `8000 - 8100`. Without ports
 * every port is meant; icmp has none. No filters means everything is allowed, so whatever is not understood, also a key
 * we do not know, is a fault of the whole list and its resource counts as absent.
 */
export function parseFilters(text: string | null): readonly Filter[] | RowFault {
  const list = parseJson(text);
  if (!Array.isArray(list)) return { part: 'filters', problem: 'not a list' };
  const filters: Filter[] = [];
  for (const [index, entry] of (list as readonly unknown[]).entries()) {
    const filter = parseFilter(entry);
    if (typeof filter === 'string') return { part: `filters[${index}]`, problem: filter };
    filters.push(filter);
  }
  return filters;
}

/** The filter, or what is wrong with it. */
function parseFilter(entry: unknown): Filter | string {
  const members = membersOf(entry);
  if (!members) return 'not an object';
  const unknownKey = [...members.keys()].find((key) => key !== 'protocol' && key !== 'ports');
  if (unknownKey !== undefined) return `unknown key ${excerpt(unknownKey)}`;
  const protocol = members.get('protocol');
  if (protocol === 'icmp') return { protocol, ports: [] };
  if (protocol !== 'tcp' && protocol !== 'udp') return `unknown protocol ${excerpt(protocol)}`;
  const texts = members.has('ports') ? members.get('ports') : [];
  if (!Array.isArray(texts)) return 'ports is not a list';
  const ports: { from: number; to: number }[] = [];
  for (const text of texts as readonly unknown[]) {
    const range = parsePorts(text);
    if (!range) return `bad port range ${excerpt(text)}`;
    ports.push(range);
  }
  return { protocol, ports };
}

function parsePorts(text: unknown): { from: number; to: number } | undefined {
  const match = typeof text === 'string' ? /^(\d{1,5})(?: *- *(\d{1,5}))?$/.exec(text.trim()) : null;
  if (!match) return undefined;
  const from = Number(match[1]);
  const to = Number(match[2] ?? match[1]);
  return from <= to && to <= 65_535 ? { from, to } : undefined;
}
