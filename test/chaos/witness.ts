/**
 * What really happened: every committed transaction in commit order, read from a logical slot of the harness's own.
 *
 * Why a slot and not what the writers remember, nor the product's event store: the log is the one order there is, it holds
 * exactly what was committed (also the COMMIT whose answer was lost, and the product's own writes), and nothing the product
 * does reaches it. It is decoded here from the published message formats, apart from the product's decoder, and proves
 * itself at the end: replayed, it must give the rows that are in the tables.
 */
import type { Client } from 'pg';

export type Row = Readonly<Record<string, string | null>>;

export type WitnessedChange =
  | {
      readonly op: 'insert' | 'update' | 'delete';
      readonly table: string;
      readonly old: Row | null;
      readonly new: Row | null;
    }
  | { readonly op: 'truncate'; readonly table: string; readonly old: null; readonly new: null };

export interface WitnessedCommit {
  /** END LSN. */
  readonly position: bigint;
  readonly xid: number;
  /** When its commit record was made, by the harness's monotonic clock, in ms; never before that of the commit before. */
  readonly at: number;
  readonly changes: readonly WitnessedChange[];
  /** What the writer of the campaign called it; absent when somebody else made it. */
  readonly mark: string | undefined;
}

/** Of the logical message that a writer puts into each of its transactions, so that the history has it whatever it changes. */
export const MARK_PREFIX = 'chaos';

const SLOT = 'chaos_witness';
/** Published by the product, and what its decisions rest on besides: the latest connect of each client. */
export const WITNESSED_TABLES = [
  ...(['accounts', 'actors', 'auth_providers', 'identities', 'groups', 'memberships', 'sites', 'gateways'] as const),
  ...(['clients', 'resources', 'resource_sites', 'policies', 'tokens', 'client_sessions'] as const),
] as const;

export class Witness {
  readonly commits: WitnessedCommit[] = [];
  readonly #decoder = new Decoder();

  /** Sees whatever is committed after this. */
  static async begin(sql: Client): Promise<Witness> {
    await sql.query(`
      CREATE PUBLICATION ${SLOT}_rows FOR TABLE ${WITNESSED_TABLES.join(', ')};
      CREATE PUBLICATION ${SLOT}_flows FOR TABLE flows WITH (publish = 'update, delete, truncate')`);
    await sql.query(`SELECT pg_create_logical_replication_slot('${SLOT}', 'pgoutput')`);
    return new Witness();
  }

  /**
   * Takes what was committed since the last time. The slot moves on only when all of it has arrived here: a connection that is
   * killed between would lose it. What comes again is passed over.
   */
  async read(sql: Client): Promise<void> {
    await sql.query(`SET TimeZone TO 'UTC'; SET DateStyle TO 'ISO'`);
    const [end] = (await sql.query<{ position: string }>('SELECT pg_current_wal_flush_lsn() AS position')).rows;
    const { rows } = await sql.query<{ data: Buffer }>(
      `SELECT data FROM pg_logical_slot_peek_binary_changes($1, NULL, NULL, 'proto_version', '1', 'messages', 'true',
        'publication_names', '${SLOT}_rows,${SLOT}_flows')`,
      [SLOT],
    );
    this.#decoder.startOver();
    for (const { data } of rows) {
      const commit = this.#decoder.take(data);
      const last = this.commits.at(-1);
      if (!commit || (last && commit.position <= last.position)) continue;
      this.commits.push({ ...commit, at: Math.max(commit.at, last?.at ?? -Infinity) });
    }
    await sql.query('SELECT pg_replication_slot_advance($1, $2)', [SLOT, end?.position]);
  }

  /**
   * Lets go of segments that only this slot keeps, so that a limit on kept WAL meets the product's slot and not this one.
   * True: it needs none but the newest. One call does not always do: a slot moves on two snapshots late.
   */
  async catchUp(sql: Client): Promise<boolean> {
    await sql.query('SELECT pg_log_standby_snapshot()');
    await this.read(sql);
    const { rows } = await sql.query<{ kept: string }>(
      'SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn) AS kept FROM pg_replication_slots WHERE slot_name = $1',
      [SLOT],
    );
    return Number(rows[0]?.kept) < ONE_SEGMENT;
  }
}

const ONE_SEGMENT = 16 * 1024 * 1024;

/**
 * Messages of pgoutput, protocol version 1. Source: PostgreSQL documentation, "Logical Replication Message Formats" and
 * "Logical Replication Message Formats, TupleData".
 */
class Decoder {
  readonly #relations = new Map<number, { readonly table: string; readonly columns: readonly string[] }>();
  #begun:
    | { readonly xid: number; readonly at: number; mark: string | undefined; readonly changes: WitnessedChange[] }
    | undefined;

  /** A new reading of the slot describes its tables anew. */
  startOver(): void {
    this.#relations.clear();
    this.#begun = undefined;
  }

  take(message: Buffer): WitnessedCommit | undefined {
    const at = { byte: 1 };
    switch (String.fromCharCode(message[0] ?? 0)) {
      case 'B':
        this.#begun = {
          xid: message.readUInt32BE(17),
          at: monotonicOf(message.readBigInt64BE(9)),
          mark: undefined,
          changes: [],
        };
        return undefined;
      case 'C':
        return this.#commit(message.readBigUInt64BE(10));
      case 'R':
        this.#relation(message);
        return undefined;
      case 'I': {
        const relation = this.#relationAt(message, at);
        at.byte += 1; // N
        return this.#add({ op: 'insert', table: relation.table, old: null, new: tuple(message, at, relation, null) });
      }
      case 'U': {
        const relation = this.#relationAt(message, at);
        const hasOld = message[at.byte] !== 0x4e;
        if (hasOld) at.byte += 1;
        const old = hasOld ? tuple(message, at, relation, null) : null;
        at.byte += 1; // N
        return this.#add({ op: 'update', table: relation.table, old, new: tuple(message, at, relation, old) });
      }
      case 'D': {
        const relation = this.#relationAt(message, at);
        at.byte += 1; // O or K
        return this.#add({ op: 'delete', table: relation.table, old: tuple(message, at, relation, null), new: null });
      }
      case 'T':
        for (let i = 0; i < message.readUInt32BE(1); i += 1) {
          const relation = this.#relations.get(message.readUInt32BE(6 + 4 * i));
          if (relation) this.#add({ op: 'truncate', table: relation.table, old: null, new: null });
        }
        return undefined;
      case 'M':
        this.#message(message);
        return undefined;
      default:
        return undefined; // types and origins
    }
  }

  #message(message: Buffer): void {
    const at = { byte: 10 };
    if (cstring(message, at) === MARK_PREFIX && this.#begun) this.#begun.mark = message.toString('utf8', at.byte + 4);
  }

  #commit(position: bigint): WitnessedCommit | undefined {
    const begun = this.#begun;
    this.#begun = undefined;
    return begun && (begun.mark !== undefined || begun.changes.length > 0) ? { position, ...begun } : undefined;
  }

  #add(change: WitnessedChange): undefined {
    this.#begun?.changes.push(change);
    return undefined;
  }

  #relation(message: Buffer): void {
    const at = { byte: 5 };
    cstring(message, at); // namespace
    const table = cstring(message, at);
    at.byte += 1; // replica identity
    const count = message.readUInt16BE(at.byte);
    at.byte += 2;
    const columns: string[] = [];
    for (let i = 0; i < count; i += 1) {
      at.byte += 1; // flags
      columns.push(cstring(message, at));
      at.byte += 8; // type and modifier
    }
    this.#relations.set(message.readUInt32BE(1), { table, columns });
  }

  #relationAt(message: Buffer, at: { byte: number }) {
    const relation = this.#relations.get(message.readUInt32BE(at.byte));
    if (!relation) throw new Error('the witness met a row of a table that was never described');
    at.byte += 4;
    return relation;
  }
}

function tuple(
  message: Buffer,
  at: { byte: number },
  relation: { readonly columns: readonly string[] },
  old: Row | null,
): Row {
  const row: Record<string, string | null> = {};
  const count = message.readUInt16BE(at.byte);
  at.byte += 2;
  for (let i = 0; i < count; i += 1) {
    const column = relation.columns[i] ?? '';
    const kind = String.fromCharCode(message[at.byte] ?? 0);
    at.byte += 1;
    if (kind === 't') {
      const length = message.readUInt32BE(at.byte);
      row[column] = message.toString('utf8', at.byte + 4, at.byte + 4 + length);
      at.byte += 4 + length;
    } else {
      row[column] = kind === 'u' ? (old?.[column] ?? null) : null; // u: a long value that did not change
    }
  }
  return row;
}

function cstring(message: Buffer, at: { byte: number }): string {
  const end = message.indexOf(0, at.byte);
  const text = message.toString('utf8', at.byte, end);
  at.byte = end + 1;
  return text;
}

/** 2000-01-01, from which PostgreSQL counts microseconds. */
const POSTGRES_EPOCH_MS = 946_684_800_000;

/** Both clocks are this machine's. */
function monotonicOf(postgresMicroseconds: bigint): number {
  return Number(postgresMicroseconds) / 1000 + POSTGRES_EPOCH_MS - WALL_MINUS_MONOTONIC_MS;
}

/** What to add to the monotonic clock to have milliseconds since 1970. */
export const WALL_MINUS_MONOTONIC_MS = Date.now() - performance.now();
