/**
 * A typed row as column text, as PostgreSQL prints it: the reverse of parseRow. For changes that no database made, such
 * as those of a preview.
 */
import type { AccountConfig, AccountTable, AccountTables, Filter } from '../model/rows.js';
import type { EpochMs } from '../model/time.js';
import type { RawRow } from './commit.js';
import { EARLIEST, LATEST } from './parse-timestamp.js';

/** `parseRow` of the result is the row again; what was unreadable stays so. */
export function printRow(row: AccountTables[AccountTable]): RawRow {
  const raw: Record<string, string | null> = {};
  for (const [name, value] of Object.entries(row)) {
    raw[name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)] = printValue(name, value);
  }
  return raw;
}

export function printTimestamp(at: EpochMs): string {
  if (at <= EARLIEST) return '-infinity';
  if (at >= LATEST) return 'infinity';
  const iso = new Date(at).toISOString(); // ends in Z; years beyond four digits have a sign
  const afterYear = iso.indexOf('-', 1);
  const year = Number(iso.slice(0, afterYear));
  const shown = String(year > 0 ? year : 1 - year).padStart(4, '0');
  return `${shown}${iso.slice(afterYear, -1).replace('T', ' ')}+00${year > 0 ? '' : ' BC'}`;
}

function printValue(name: string, value: unknown): string | null {
  if (name === 'conditions') return JSON.stringify(value);
  if (value === null || typeof value === 'string') return value;
  if (typeof value === 'number') return printTimestamp(value);
  if (name === 'config') return printConfig(value as AccountConfig);
  return printFilters(value as readonly Filter[]);
}

function printConfig({ searchDomain, upstreamDns }: AccountConfig): string {
  const servers = upstreamDns.map((address) => ({ protocol: 'ip_port', address }));
  return JSON.stringify({ search_domain: searchDomain, clients_upstream_dns: servers });
}

function printFilters(filters: readonly Filter[]): string {
  return JSON.stringify(
    filters.map(({ protocol, ports }) => ({ protocol, ports: ports.map(({ from, to }) => `${from} - ${to}`) })),
  );
}
