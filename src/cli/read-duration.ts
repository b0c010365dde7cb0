/** A span of time as a person types it: 30s, 15m, 12h, 7d. */
import { UsageError } from './command.js';

const UNIT_MS: ReadonlyMap<string, number> = new Map([
  ['s', 1_000],
  ['m', 60_000],
  ['h', 3_600_000],
  ['d', 86_400_000],
]);

/** Unit ms, at least one of the units. @param flag named in the UsageError */
export function readDuration(flag: string, text: string): number {
  const [, count = '', unit = ''] = /^(\d{1,6})([smhd])$/.exec(text) ?? [];
  const unitMs = UNIT_MS.get(unit);
  if (unitMs === undefined || Number(count) === 0) throw new UsageError(`${flag} takes a time such as 30m, 12h or 7d`);
  return Number(count) * unitMs;
}
