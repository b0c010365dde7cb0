/** Milliseconds since the Unix epoch, the only time in code. SQL has timestamptz, the wire unix seconds (decisions D9). */
export type EpochMs = number;

/**
 * The wire's unit. Rounds down: a peer must never hold access longer than we decided. Ends in the year 5138: a token may
 * last longer, and a peer whose calendar does not reach that far drops the whole message, `init` included.
 */
export function toUnixSeconds(at: EpochMs): number {
  return Math.min(Math.floor(at / 1000), LAST_UNIX_SECOND);
}

/** The last one that cannot be taken for milliseconds. */
const LAST_UNIX_SECOND = 99_999_999_999;
