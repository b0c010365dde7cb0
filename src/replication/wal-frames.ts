/**
 * The outer framing of the replication stream: what a CopyData message carries, and the status update we answer with.
 * Source: PostgreSQL documentation, "Streaming Replication Protocol" (XLogData, primary keepalive, standby status update).
 */
import type { Position } from '../core/model/position.js';
import type { EpochMs } from '../core/model/time.js';
import { ByteReader } from './byte-reader.js';
import { MalformedWalError } from './malformed-wal-error.js';

export type WalFrame =
  /** `body` is a window into the socket's buffer, valid only until the next frame. */
  | { readonly kind: 'data'; readonly body: Buffer }
  | { readonly kind: 'keepalive'; readonly position: Position; readonly replyWanted: boolean };

export interface StatusUpdate {
  readonly received: Position;
  readonly acknowledged: Position;
  /** Asks the server for a keepalive: how a silent connection is told from a dead one. */
  readonly replyWanted: boolean;
}

/**
 * Microseconds between the Unix epoch and the PostgreSQL epoch (2000-01-01 UTC).
 * Source: PostgreSQL documentation, "Logical Replication Message Formats", Begin.
 */
const PG_EPOCH_US = 946_684_800_000_000n;

/** Start LSN, end LSN and clock come before the body; none is used: a change's own LSN is never compared (D11). */
const DATA_HEADER_BYTES = 25;

const DATA = 0x77; // w
const KEEPALIVE = 0x6b; // k
const STATUS_UPDATE = 0x72; // r
const STATUS_UPDATE_BYTES = 34;

export function readWalFrame(chunk: Buffer): WalFrame {
  const reader = new ByteReader(chunk);
  const kind = reader.uint8();
  if (kind === DATA) {
    if (chunk.length < DATA_HEADER_BYTES) throw new MalformedWalError('data frame shorter than its header');
    return { kind: 'data', body: chunk.subarray(DATA_HEADER_BYTES) };
  }
  if (kind !== KEEPALIVE) throw new MalformedWalError(`unknown frame kind ${kind}`);
  const position = reader.uint64();
  reader.uint64(); // the server's clock
  const replyWanted = reader.uint8() === 1;
  reader.expectEnd();
  return { kind: 'keepalive', position, replyWanted };
}

export function writeStatusUpdate(update: StatusUpdate, now: EpochMs): Buffer {
  const bytes = Buffer.alloc(STATUS_UPDATE_BYTES);
  bytes.writeUInt8(STATUS_UPDATE, 0);
  bytes.writeBigUInt64BE(update.received, 1); // written
  bytes.writeBigUInt64BE(update.acknowledged, 9); // flushed: what the server may forget
  bytes.writeBigUInt64BE(update.acknowledged, 17); // applied
  bytes.writeBigInt64BE(BigInt(Math.trunc(now)) * 1000n - PG_EPOCH_US, 25);
  bytes.writeUInt8(update.replyWanted ? 1 : 0, 33);
  return bytes;
}

/** Microseconds since 2000-01-01 UTC to milliseconds since 1970. */
export function epochMsOf(pgMicroseconds: bigint): EpochMs {
  return Number((pgMicroseconds + PG_EPOCH_US) / 1000n);
}
