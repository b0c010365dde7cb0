/** Leaves out of each peek what an earlier one of the same connection has brought already. */
import type { Position } from '../core/model/position.js';

/** Where a commit ends among the messages of one peek. */
interface Boundary {
  readonly position: Position;
  /** Messages up to and with it. */
  readonly rows: number;
}

/** Source: PostgreSQL documentation, "Logical Replication Message Formats", Begin, Commit, Message. */
const BEGIN = 0x42; // B
const COMMIT = 0x43; // C
const MESSAGE = 0x4d; // M
const BEGIN_COMMIT_LSN_AT = 1;
const COMMIT_END_LSN_AT = 10;
const MESSAGE_FLAGS_AT = 1;
const MESSAGE_LSN_AT = 2;
const TRANSACTIONAL = 1;

/**
 * Whole transactions are left out, by where their commit stands in the log: one whose commit record begins before the end
 * of the last commit handed on is that one or an earlier one. With it goes its description of tables, which comes once per
 * peek: what the decoder knows is as good, since it has read the same transaction over this connection.
 *
 * The intake would drop a repeated commit too, and does after a reconnect. But only here is it known whether a peek brought
 * anything new, without which there is no rest between two; and a row that cannot be read would be counted with each peek.
 */
export class PeekedMessages {
  #handedUpTo: Position = 0n;
  #messagesUpTo: Position = 0n;
  #isLeavingOut = false;
  #boundaries: Boundary[] = [];
  #rows = 0;
  #wasNew = false;

  constructor(private readonly handOn: (message: Buffer) => void) {}

  /** How many messages the present peek has brought, old and new. */
  get rows(): number {
    return this.#rows;
  }

  /** Whether the present peek has brought anything new. */
  get wasNew(): boolean {
    return this.#wasNew;
  }

  /** @returns how many messages of the former peek will come again, when the slot stands at `acknowledged` */
  startPeek(acknowledged: Position): number {
    const gone = this.#boundaries.findLast(({ position }) => position <= acknowledged)?.rows ?? 0;
    const again = this.#rows - gone;
    this.#boundaries = [];
    this.#rows = 0;
    this.#wasNew = false;
    return again;
  }

  /** Throws what `handOn` throws. */
  take(message: Buffer): void {
    this.#rows += 1;
    const kind = message[0];
    if (kind === BEGIN && message.readBigUInt64BE(BEGIN_COMMIT_LSN_AT) < this.#handedUpTo) this.#isLeavingOut = true;
    if (!this.#isLeavingOut && !this.#isOldMessage(message)) {
      this.#wasNew = true;
      this.handOn(message);
    }
    if (kind === COMMIT) this.#committed(message.readBigUInt64BE(COMMIT_END_LSN_AT));
  }

  #committed(position: Position): void {
    this.#isLeavingOut = false;
    this.#boundaries.push({ position, rows: this.#rows });
    if (position > this.#handedUpTo) this.#handedUpTo = position;
  }

  /** A message that belongs to no transaction; told by its own position, as they come in the order of the log. */
  #isOldMessage(message: Buffer): boolean {
    if (message[0] !== MESSAGE || message.readUInt8(MESSAGE_FLAGS_AT) === TRANSACTIONAL) return false;
    const position = message.readBigUInt64BE(MESSAGE_LSN_AT);
    if (position <= this.#messagesUpTo) return true;
    this.#messagesUpTo = position;
    return false;
  }
}
