/**
 * Reads PostgreSQL's big-endian fields from one message, each read checked against its end.
 * `Buffer.toString` clamps silently, so without the checks a cut message would read as a shorter row instead of an error.
 */
import { MalformedWalError } from './malformed-wal-error.js';

export class ByteReader {
  readonly #bytes: Buffer;
  #at: number;

  constructor(bytes: Buffer, offset = 0) {
    this.#bytes = bytes;
    this.#at = offset;
  }

  uint8(): number {
    return this.#bytes.readUInt8(this.#take(1));
  }

  int16(): number {
    return this.#bytes.readInt16BE(this.#take(2));
  }

  int32(): number {
    return this.#bytes.readInt32BE(this.#take(4));
  }

  uint32(): number {
    return this.#bytes.readUInt32BE(this.#take(4));
  }

  uint64(): bigint {
    return this.#bytes.readBigUInt64BE(this.#take(8));
  }

  int64(): bigint {
    return this.#bytes.readBigInt64BE(this.#take(8));
  }

  /** Text that ends with a zero byte. */
  cstring(): string {
    const end = this.#bytes.indexOf(0, this.#at);
    if (end < 0) throw new MalformedWalError(`text without end at byte ${this.#at}`);
    const text = this.#bytes.toString('utf8', this.#at, end);
    this.#at = end + 1;
    return text;
  }

  /** UTF-8 text after its 32-bit length. */
  sizedText(): string {
    const length = this.int32();
    if (length < 0) throw new MalformedWalError(`negative length ${length} at byte ${this.#at}`);
    const start = this.#take(length);
    return this.#bytes.toString('utf8', start, this.#at);
  }

  /** Passes over a value after its 32-bit length. */
  skipSized(): void {
    const length = this.int32();
    if (length < 0) throw new MalformedWalError(`negative length ${length} at byte ${this.#at}`);
    this.#take(length);
  }

  expectEnd(): void {
    if (this.#at !== this.#bytes.length) {
      throw new MalformedWalError(`${this.#bytes.length - this.#at} bytes too many after byte ${this.#at}`);
    }
  }

  #take(count: number): number {
    const start = this.#at;
    if (start + count > this.#bytes.length) {
      throw new MalformedWalError(`message of ${this.#bytes.length} bytes ends inside a field at byte ${start}`);
    }
    this.#at = start + count;
    return start;
  }
}
