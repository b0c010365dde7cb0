/** Real chance, from the system's cryptographic source: ids and secrets are made from it. */
import { randomFillSync, randomUUID } from 'node:crypto';
import type { Random } from '../core/support/clock.js';

/** One system call fetches this much. Larger keeps more chance in memory before its use; smaller asks more often. */
const POOL_BYTES = 4_096;
/** A double holds 53 bits of fraction; 48 fill `readUIntBE` and are plenty for jitter and picking. */
const FRACTION_BYTES = 6;

export class SystemRandom implements Random {
  readonly #pool = Buffer.alloc(POOL_BYTES);
  #used = POOL_BYTES;

  uuid(): string {
    return randomUUID();
  }

  bytes(length: number): Uint8Array {
    if (length > POOL_BYTES) return randomFillSync(new Uint8Array(length));
    const taken = this.#take(length);
    const bytes = new Uint8Array(taken);
    taken.fill(0); // what became a secret is not kept a second time
    return bytes;
  }

  fraction(): number {
    return this.#take(FRACTION_BYTES).readUIntBE(0, FRACTION_BYTES) / 2 ** (8 * FRACTION_BYTES);
  }

  /** Bytes that were never handed out; a view of the pool. */
  #take(length: number): Buffer {
    if (this.#used + length > POOL_BYTES) {
      randomFillSync(this.#pool);
      this.#used = 0;
    }
    this.#used += length;
    return this.#pool.subarray(this.#used - length, this.#used);
  }
}
