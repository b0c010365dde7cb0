/** Milliseconds since a commit compare two clocks. Says so when they are not one. */
import type { Clock } from '../core/support/clock.js';
import type { Query } from './demo-options.js';

/** Rounding and scheduling alone explain this much. */
const TOLERATED_MS = 3;
const ATTEMPTS = 5;

/** A sentence for the reader, or `undefined` when the figures can be believed. Rejects when the database does not answer. */
export async function clockWarning(query: Query, clock: Clock): Promise<string | undefined> {
  let best = { offsetMs: 0, errorMs: Infinity };
  for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
    const before = clock.now();
    const [row] = await query('SELECT (extract(epoch FROM clock_timestamp()) * 1000)::float8 AS now_ms');
    const after = clock.now();
    const errorMs = (after - before) / 2;
    if (errorMs < best.errorMs) best = { offsetMs: Number(row?.['now_ms']) - (before + after) / 2, errorMs };
  }
  if (Math.abs(best.offsetMs) <= best.errorMs + TOLERATED_MS) return undefined;
  const ms = Math.round(Math.abs(best.offsetMs));
  return `The database's clock is about ${ms} ms ${best.offsetMs > 0 ? 'ahead of' : 'behind'} this machine's: the figures under "since" are off by that much.`;
}
