/**
 * Bytes of one pgoutput message → what it says. Protocol version 1, text format.
 * Source: PostgreSQL documentation, "Logical Replication Message Formats".
 */
import type { RawRow } from '../core/changes/commit.js';
import { ByteReader } from './byte-reader.js';
import { MalformedWalError } from './malformed-wal-error.js';
import { epochMsOf } from './wal-frames.js';
import type {
  DeleteMessage,
  InsertMessage,
  LogicalWalMessage,
  Relation,
  RelationColumn,
  RelationMessage,
  TruncateMessage,
  UpdateMessage,
  WalMessage,
} from './wal-message.js';

const NOTHING_UNFILLED: readonly string[] = [];

const KEY_TUPLE = 0x4b; // K
const OLD_TUPLE = 0x4f; // O
const NEW_TUPLE = 0x4e; // N
const NULL_VALUE = 0x6e; // n
const UNCHANGED_TOAST = 0x75; // u
const TEXT_VALUE = 0x74; // t

/**
 * Remembers the Relation messages of one connection: rows name their table by oid and their columns by place. A new
 * connection starts with a new decoder. Keeping the map across a reconnect would be wrong: a column dropped and another
 * added while we were away leave the oid and perhaps the width, and values would land under the wrong names.
 */
export class PgoutputDecoder {
  readonly #relations = new Map<number, Relation>();

  /** Throws MalformedWalError, and nothing else, when the bytes are not one whole message. */
  decode(body: Buffer): WalMessage {
    const reader = new ByteReader(body);
    const message = this.#read(reader.uint8(), reader);
    reader.expectEnd();
    if (message.kind === 'relation') this.#relations.set(message.relation.oid, message.relation);
    return message;
  }

  #read(kind: number, reader: ByteReader): WalMessage {
    switch (kind) {
      case 0x49: // I
        return this.#insert(reader);
      case 0x55: // U
        return this.#update(reader);
      case 0x44: // D
        return this.#delete(reader);
      case 0x42: // B
        return {
          kind: 'begin',
          commitLsn: reader.uint64(),
          committedAt: epochMsOf(reader.int64()),
          xid32: reader.uint32(),
        };
      case 0x43: // C
        reader.uint8(); // flags, unused
        return { kind: 'commit', commitLsn: reader.uint64(), position: committed(reader) };
      case 0x52: // R
        return relationMessage(reader);
      case 0x54: // T
        return this.#truncate(reader);
      case 0x4d: // M
        return logicalMessage(reader);
      case 0x59: // Y
        return { kind: 'type', oid: reader.uint32(), namespace: reader.cstring(), name: reader.cstring() };
      case 0x4f: // O
        return { kind: 'origin', commitLsn: reader.uint64(), name: reader.cstring() };
      default:
        throw new MalformedWalError(`unknown message kind ${kind}`);
    }
  }

  #insert(reader: ByteReader): InsertMessage {
    const relation = this.#relation(reader.uint32());
    expectNewTuple(reader.uint8());
    const unfilled: string[] = [];
    const row = readTuple(reader, relation, null, unfilled);
    return { kind: 'insert', relation, new: row, unfilled: unfilled.length === 0 ? NOTHING_UNFILLED : unfilled };
  }

  #update(reader: ByteReader): UpdateMessage {
    const relation = this.#relation(reader.uint32());
    let marker = reader.uint8();
    let old: RawRow | null = null;
    let oldIsWhole = false;
    if (marker === OLD_TUPLE || marker === KEY_TUPLE) {
      const unfilled: string[] = [];
      old = marker === OLD_TUPLE ? readTuple(reader, relation, null, unfilled) : readKeyTuple(reader, relation);
      oldIsWhole = marker === OLD_TUPLE && unfilled.length === 0;
      marker = reader.uint8();
    }
    expectNewTuple(marker);
    const unfilled: string[] = [];
    const row = readTuple(reader, relation, old, unfilled);
    return {
      kind: 'update',
      relation,
      old,
      oldIsWhole,
      new: row,
      unfilled: unfilled.length === 0 ? NOTHING_UNFILLED : unfilled,
    };
  }

  #delete(reader: ByteReader): DeleteMessage {
    const relation = this.#relation(reader.uint32());
    const marker = reader.uint8();
    if (marker === KEY_TUPLE)
      return { kind: 'delete', relation, old: readKeyTuple(reader, relation), oldIsWhole: false };
    if (marker !== OLD_TUPLE) throw new MalformedWalError(`unknown old tuple kind ${marker}`);
    const unfilled: string[] = [];
    const old = readTuple(reader, relation, null, unfilled);
    return { kind: 'delete', relation, old, oldIsWhole: unfilled.length === 0 };
  }

  #truncate(reader: ByteReader): TruncateMessage {
    const count = reader.uint32();
    reader.uint8(); // options: cascade, restart identity
    const relations: Relation[] = [];
    for (let i = 0; i < count; i += 1) relations.push(this.#relation(reader.uint32()));
    return { kind: 'truncate', relations };
  }

  #relation(oid: number): Relation {
    const relation = this.#relations.get(oid);
    if (!relation) throw new MalformedWalError(`relation ${oid} was never described`);
    return relation;
  }
}

/** The end LSN of a Commit message; its time repeats the Begin's. */
function committed(reader: ByteReader): bigint {
  const position = reader.uint64();
  reader.int64();
  return position;
}

function relationMessage(reader: ByteReader): RelationMessage {
  const oid = reader.uint32();
  const namespace = reader.cstring();
  const name = reader.cstring();
  const identity = String.fromCharCode(reader.uint8());
  const columns: RelationColumn[] = [];
  for (let left = reader.int16(); left > 0; left -= 1) {
    const isKey = (reader.uint8() & 1) === 1;
    columns.push({ name: reader.cstring(), isKey, typeOid: reader.uint32() });
    reader.int32(); // type modifier
  }
  return { kind: 'relation', relation: { oid, namespace, name, identity, columns } };
}

function logicalMessage(reader: ByteReader): LogicalWalMessage {
  const transactional = (reader.uint8() & 1) === 1;
  const lsn = reader.uint64();
  const prefix = reader.cstring();
  return { kind: 'message', transactional, lsn, prefix, content: reader.sizedText() };
}

/** Unchanged TOASTed values come from `fillFrom`; where it has none the column is left out and named in `unfilled`. */
function readTuple(reader: ByteReader, relation: Relation, fillFrom: RawRow | null, unfilled: string[]): RawRow {
  expectWidth(reader.int16(), relation);
  const row: Record<string, string | null> = {};
  for (const { name } of relation.columns) {
    const kind = reader.uint8();
    if (kind === TEXT_VALUE) {
      row[name] = reader.sizedText();
    } else if (kind === NULL_VALUE) {
      row[name] = null;
    } else if (kind === UNCHANGED_TOAST) {
      const kept = fillFrom?.[name];
      if (kept === undefined) unfilled.push(name);
      else row[name] = kept;
    } else {
      throw new MalformedWalError(`unknown value kind ${kind} in ${relation.name}.${name}`);
    }
  }
  return row;
}

/** The server fills the columns outside the key with nulls that mean nothing: they are left out. */
function readKeyTuple(reader: ByteReader, relation: Relation): RawRow {
  expectWidth(reader.int16(), relation);
  const row: Record<string, string | null> = {};
  for (const { name, isKey } of relation.columns) {
    const kind = reader.uint8();
    if (kind === TEXT_VALUE) {
      if (isKey) row[name] = reader.sizedText();
      else reader.skipSized();
    } else if (kind === NULL_VALUE) {
      if (isKey) row[name] = null;
    } else if (kind !== UNCHANGED_TOAST) {
      throw new MalformedWalError(`unknown value kind ${kind} in ${relation.name}.${name}`);
    }
  }
  return row;
}

function expectNewTuple(marker: number): void {
  if (marker !== NEW_TUPLE) throw new MalformedWalError(`unknown tuple kind ${marker}`);
}

function expectWidth(width: number, relation: Relation): void {
  if (width !== relation.columns.length) {
    throw new MalformedWalError(`${relation.name} has ${relation.columns.length} columns, a row came with ${width}`);
  }
}
