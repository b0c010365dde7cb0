/** Milliseconds since the Unix epoch, the only time in code. SQL has timestamptz, the wire unix seconds (decisions D9). */
export type EpochMs = number;

/** The wire's unit. Rounds down: a peer must never hold access longer than we decided. */
export function toUnixSeconds(at: EpochMs): number {
  return Math.floor(at / 1000);
}
