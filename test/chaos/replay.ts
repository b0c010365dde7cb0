/**
 * The history, replayed: rows as they were after each commit, and from them, by the oracle of plain loops, who might use what and
 * who was to be shown what, as timelines. One evaluation after each commit of the account it touched.
 */
import type { ConnectionFacts } from '../../src/core/model/connection-facts.js';
import type { AccountId } from '../../src/core/model/ids.js';
import { ACCOUNT_TABLES, type AccountTable, type ConditionSource } from '../../src/core/model/rows.js';
import { accessAll, justifyAll, type OracleRows } from '../support/oracle-loops.js';
import { type Timeline, Timelines } from './intervals.js';
import { type Row, WALL_MINUS_MONOTONIC_MS, type WitnessedChange, type WitnessedCommit } from './witness.js';

export interface Truth {
  /** `gateway|client|resource|address`, by external ids of the devices; also with `*` for any address. */
  readonly justified: ReadonlyMap<string, Timeline>;
  /** `client|resource`, the client by its external id. */
  readonly shown: ReadonlyMap<string, Timeline>;
  /** By token id: may who holds it stay connected? The gateways of an account that is disabled stay. */
  readonly welcome: ReadonlyMap<string, Timeline>;
  /** What each name of a resource means: the position at which a commit left it there. */
  readonly names: ReadonlyMap<string, bigint>;
  readonly cuts: readonly Cut[];
  /** `table` → rows as the history leaves them. */
  readonly rows: ReadonlyMap<string, readonly Row[]>;
  /** At the end: `client|resource` → what it is to be shown as. */
  readonly finalShown: ReadonlyMap<string, string>;
  /** Row id of a device → external id, for all rows there ever were. */
  readonly externalIds: ReadonlyMap<string, string>;
}

/** A person ended the flow of a pair by hand (D8a). */
export interface Cut {
  readonly at: number;
  /** `gateway|client|resource`, by external ids of the devices. */
  readonly key: string;
}

export function replay(commits: readonly WitnessedCommit[], endsAt: number): Truth {
  const history = new History();
  for (const commit of commits) history.apply(commit);
  return history.finish(endsAt);
}

type Tables = Map<string, Map<string, Row>>;

class History {
  /** By account. A row of `accounts` is its own account's. */
  readonly #accounts = new Map<string, Tables>();
  readonly #justified = new Timelines();
  readonly #shown = new Timelines();
  readonly #welcome = new Timelines();
  readonly #on = new Map<string, Set<string>[]>();
  readonly #names = new Map<string, bigint>();
  readonly #cuts: Cut[] = [];
  readonly #externalIds = new Map<string, string>();

  apply(commit: WitnessedCommit): void {
    const touched = new Set<string>();
    for (const change of commit.changes) {
      if (change.table === 'flows') this.#flowEdit(change, commit.at);
      else this.#change(change, touched);
    }
    for (const account of touched) this.#evaluate(account, commit);
  }

  finish(at: number): Truth {
    const finalShown = new Map<string, string>();
    for (const account of this.#accounts.keys()) {
      const db = this.#rowsOf(account);
      for (const [key, resource] of this.#shownNow(db, at)) finalShown.set(key, resource);
    }
    return {
      justified: this.#justified.finish(at),
      shown: this.#shown.finish(at),
      welcome: this.#welcome.finish(at),
      names: this.#names,
      cuts: this.#cuts,
      rows: this.#rows(),
      finalShown,
      externalIds: this.#externalIds,
    };
  }

  #change(change: WitnessedChange, touched: Set<string>): void {
    if (change.op === 'truncate') {
      for (const [account, tables] of this.#accounts) {
        if (tables.get(change.table)?.size) touched.add(account);
        tables.get(change.table)?.clear();
      }
      return;
    }
    // A key that changes is a row that goes and one that comes: of a table without an old row the key did not change.
    const gone = change.old ?? (change.op === 'update' ? change.new : null);
    if (gone) {
      const account = accountOf(change.table, gone);
      this.#table(account, change.table).delete(keyOf(change.table, gone));
      touched.add(account);
    }
    if (change.new) {
      const account = accountOf(change.table, change.new);
      this.#table(account, change.table).set(keyOf(change.table, change.new), change.new);
      touched.add(account);
      const { id, external_id: externalId } = change.new;
      if (id != null && externalId != null) this.#externalIds.set(id, externalId);
    }
  }

  #flowEdit({ old, new: row }: WitnessedChange, at: number): void {
    if (!old) return; // TRUNCATE has none
    const wasOpen = old['revoked_at'] === null && (timeOf(old['expires_at'] ?? null) ?? Infinity) > wall(at);
    const isCut = row ? row['revoked_at'] !== null && row['revoked_position'] === null : true;
    if (!wasOpen || !isCut) return;
    const [gateway, client] = [old['gateway_id'], old['client_id']].map((id) => this.#externalIds.get(id ?? '') ?? id);
    this.#cuts.push({ at, key: `${gateway}|${client}|${old['resource_id']}` });
  }

  #evaluate(account: string, { at, position }: WitnessedCommit): void {
    const db = this.#rowsOf(account);
    for (const { id, name } of db.resources) {
      const key = `${id} ${name}`;
      if (!this.#names.has(key)) this.#names.set(key, position);
    }
    this.#mark(account, 0, this.#justified, this.#justifiedNow(db, at), at);
    const shown = [...this.#shownNow(db, at)].map(([key]) => [key, this.#tokenEnd(db, key)] as const);
    this.#mark(account, 1, this.#shown, new Map(shown), at);
    this.#mark(account, 2, this.#welcome, this.#welcomeNow(db, at), at);
  }

  /** The timelines of this account alone: what it does not name any more is off. */
  #mark(account: string, place: number, timelines: Timelines, now: ReadonlyMap<string, number>, at: number): void {
    const sets = this.#on.get(account) ?? [new Set(), new Set(), new Set()];
    this.#on.set(account, sets);
    for (const key of sets[place] ?? []) if (!now.has(key)) timelines.off(key, at);
    for (const [key, until] of now) timelines.on(key, at, until);
    sets[place] = new Set(now.keys());
  }

  #justifiedNow(db: OracleRows, at: number): Map<string, number> {
    const found = new Map<string, number>();
    const addresses = new Map(db.resources.map(({ id, address }) => [id as string, address]));
    for (const { gatewayId, clientId, resourceId, expiresAt } of justifyAll(db, wall(at))) {
      const pair = `${this.#externalIds.get(gatewayId)}|${this.#externalIds.get(clientId)}|${resourceId}`;
      for (const address of [addresses.get(resourceId) ?? '', '*'])
        found.set(`${pair}|${address}`, monotonic(expiresAt));
    }
    return found;
  }

  /** `client|resource` → how it is shown. */
  #shownNow(db: OracleRows, at: number): Map<string, string> {
    const found = new Map<string, string>();
    for (const { clientId, resourceId } of accessAll(db, wall(at))) {
      const row = db.resources.find(({ id }) => id === resourceId);
      const sites = db.resource_sites.filter((link) => link.resourceId === resourceId).map(({ siteId }) => siteId);
      const text = `${row?.name} ${row?.address} ${row?.addressDescription} ${sites.sort().join()}`;
      found.set(`${this.#externalIds.get(clientId)}|${resourceId}`, text);
    }
    return found;
  }

  #tokenEnd(db: OracleRows, key: string): number {
    const [externalId] = key.split('|');
    const client = db.clients.find((row) => row.externalId === externalId);
    const facts = db.connections.find(({ clientId }) => clientId === client?.id);
    return monotonic(db.tokens.find(({ id }) => id === facts?.tokenId)?.expiresAt ?? Infinity);
  }

  #welcomeNow(db: OracleRows, at: number): Map<string, number> {
    const found = new Map<string, number>();
    const isDisabled = db.accounts.some((account) => account.disabledAt !== null);
    for (const token of db.tokens) {
      const end = token.expiresAt ?? Infinity;
      if (end <= wall(at)) continue;
      if (token.kind === 'gateway') found.set(token.id, monotonic(end));
      const actor = db.actors.find((row) => row.id === token.actorId);
      if (token.kind !== 'client' || isDisabled || actor?.disabledAt !== null) continue;
      const identity = db.identities.find((row) => row.id === token.identityId);
      const provider = db.auth_providers.find((row) => row.id === identity?.providerId);
      if (token.identityId === null || provider?.disabledAt === null) found.set(token.id, monotonic(end));
    }
    return found;
  }

  #rowsOf(account: string): OracleRows {
    const typed = ACCOUNT_TABLES.map((table) => [
      table,
      [...this.#table(account, table).values()].flatMap((row) => typedRow(table, row)),
    ]);
    const sessions = [...this.#table(account, 'client_sessions').values()];
    const connections = sessions.map((row) => ({ ...factsOf(row), accountId: account as AccountId }));
    return { ...(Object.fromEntries(typed) as OracleRows), connections };
  }

  #table(account: string, table: string): Map<string, Row> {
    const tables: Tables = this.#accounts.get(account) ?? new Map<string, Map<string, Row>>();
    this.#accounts.set(account, tables);
    const rows = tables.get(table) ?? new Map<string, Row>();
    tables.set(table, rows);
    return rows;
  }

  #rows(): Map<string, Row[]> {
    const rows = new Map<string, Row[]>();
    for (const tables of this.#accounts.values()) {
      for (const [table, held] of tables) rows.set(table, [...(rows.get(table) ?? []), ...held.values()]);
    }
    return rows;
  }
}

function accountOf(table: string, row: Row): string {
  return (table === 'accounts' ? row['id'] : row['account_id']) ?? '';
}

function keyOf(table: string, row: Row): string {
  if (table === 'resource_sites') return `${row['resource_id']}/${row['site_id']}`;
  return (table === 'client_sessions' ? row['client_id'] : row['id']) ?? '';
}

function factsOf(row: Row): ConnectionFacts {
  return {
    clientId: row['client_id'],
    tokenId: row['token_id'],
    region: row['region'] ?? null,
    remoteIp: row['remote_ip'] ?? null,
    connectedAt: 0,
  } as ConnectionFacts;
}

/** A row is read once: replayed rows never change, they are replaced. */
const typedRows = new WeakMap<Row, unknown[]>();

function typedRow(table: AccountTable, row: Row): unknown[] {
  const known = typedRows.get(row);
  if (known) return known;
  const made = readRow(table, row);
  typedRows.set(row, made);
  return made;
}

/** Empty: the row counts as absent (D15). Knows only what the harness writes into rows, poison included. */
function readRow(table: AccountTable, row: Row): unknown[] {
  const typed: Record<string, unknown> = {};
  for (const [column, text] of Object.entries(row)) typed[camelCase(column)] = text;
  for (const column of ['disabled_at', 'expires_at', 'verified_at']) {
    if (column in row) typed[camelCase(column)] = timeOf(row[column] ?? null);
  }
  // Somebody who is switched off until the end of time is switched off; a token that ends then does not end.
  if (row['disabled_at'] != null) typed['disabledAt'] ??= Infinity;
  if (table === 'policies') typed['conditions'] = conditionsOf(row['conditions'] ?? '');
  if (table === 'resources' && !filtersAreReadable(row['filters'] ?? '')) return [];
  return [typed];
}

function conditionsOf(text: string): readonly ConditionSource[] | 'unreadable' {
  const list = JSON.parse(text) as readonly (Readonly<Record<string, unknown>> | null)[];
  const isReadable = list.every(
    (item) =>
      typeof item === 'object' &&
      item !== null &&
      typeof item['property'] === 'string' &&
      typeof item['operator'] === 'string' &&
      Array.isArray(item['values']),
  );
  return isReadable ? (list as unknown as readonly ConditionSource[]) : 'unreadable';
}

function filtersAreReadable(text: string): boolean {
  const list = JSON.parse(text) as readonly { readonly protocol?: string }[];
  return list.every(({ protocol }) => ['tcp', 'udp', 'icmp'].includes(protocol ?? ''));
}

/** Null: never, which a year of more than four digits is as well. */
function timeOf(text: string | null): number | null {
  if (text === null || text === 'infinity') return null;
  if (text === '-infinity') return -Infinity;
  const time = Date.parse(`${text.replace(' ', 'T')}:00`);
  return Number.isNaN(time) ? null : time;
}

function camelCase(column: string): string {
  return column.replaceAll(/_([a-z])/g, (_, letter: string) => letter.toUpperCase());
}

function wall(at: number): number {
  return at + WALL_MINUS_MONOTONIC_MS;
}

function monotonic(wallMs: number): number {
  return wallMs - WALL_MINUS_MONOTONIC_MS;
}
