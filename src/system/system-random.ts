/** Real chance, from the system's cryptographic source: ids and secrets are made from it. */
import { randomBytes, randomUUID } from 'node:crypto';
import type { Random } from '../core/support/clock.js';

/** A double holds 53 bits of fraction; 48 fill `readUIntBE` and are plenty for jitter and picking. */
const FRACTION_BYTES = 6;

export class SystemRandom implements Random {
  uuid(): string {
    return randomUUID();
  }

  bytes(length: number): Uint8Array {
    return new Uint8Array(randomBytes(length));
  }

  fraction(): number {
    return randomBytes(FRACTION_BYTES).readUIntBE(0, FRACTION_BYTES) / 2 ** (8 * FRACTION_BYTES);
  }
}
