import type { EpochMs } from '../core/model/time.js';

/** What `pg` makes of a timestamptz: a Date, or the numbers ±Infinity for `infinity`, which its type does not say. */
export function toEpochMs(stored: Date): EpochMs {
  const ms = Number(stored);
  return Math.min(Math.max(ms, -LAST_DATE_MS), LAST_DATE_MS);
}

/** The last moment a JavaScript Date can hold. Source: ECMAScript, "Time Values and Time Range". */
const LAST_DATE_MS = 8_640_000_000_000_000;
