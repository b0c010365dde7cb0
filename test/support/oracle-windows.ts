/**
 * The oracle's weekly windows (domain.md 2.3): is `now` inside one, by the wall clock of its zone, and until when.
 *
 * There is no schedule here: the only question asked of a zone is what its clock shows at an instant, and only Intl
 * answers it. A window ends at the last instant of today at which that clock shows its end or less. One sentence says
 * all of it: on an ordinary day that is the end itself; where the clock is put back it is the later of two equal times;
 * where the end is skipped it is the instant of the jump.
 *
 * Where domain.md leaves a choice:
 * - A zone is its name, in any case of letters. Two names of one zone are two zones, so their ranges do not merge.
 * - Ranges merge within a weekday, whichever value they stand in. Across midnight nothing merges.
 * - Spaces around a value and around a range mean nothing; any other space makes the value unreadable.
 */

interface Range {
  readonly day: string;
  readonly zone: string;
  readonly from: number;
  readonly to: number;
}

/** The end of the latest window that `now` is in; undefined: it is in none, or some value cannot be read. */
export function windowEnd(values: readonly string[], now: number): number | undefined {
  const ranges: Range[] = [];
  for (const value of values) {
    const read = rangesOf(value.trim());
    if (read === undefined) return undefined;
    ranges.push(...read);
  }
  let latest: number | undefined;
  for (const range of ranges) {
    const shown = wallClock(range.zone, now);
    if (shown.day !== range.day || shown.msOfDay < range.from || shown.msOfDay > range.to) continue;
    const end = lastInstantOfToday(range.zone, now, endOfMerged(range, ranges));
    if (latest === undefined || end > latest) latest = end;
  }
  return latest;
}

// ---- reading -----------------------------------------------------------------------------------------------------

function rangesOf(value: string): Range[] | undefined {
  const first = value.indexOf('/');
  const second = value.indexOf('/', first + 1);
  if (first < 0 || second < 0) return undefined;
  const day = value.slice(0, first);
  const zone = value.slice(second + 1).toLowerCase();
  if (!['M', 'T', 'W', 'R', 'F', 'S', 'U'].includes(day) || !isZone(zone)) return undefined;
  const ranges: Range[] = [];
  for (const piece of value.slice(first + 1, second).split(',')) {
    const text = piece.trim();
    if (text === '') continue;
    const [from, to, ...more] = text === 'true' ? [0, LAST_SECOND] : text.split('-').map(msOfDay);
    if (from === undefined || to === undefined || more.length > 0 || from > to) return undefined;
    ranges.push({ day, zone, from, to });
  }
  return ranges;
}

const LAST_SECOND = 86_399_000;

/** `H[H][:M[M][:S[S][.fraction]]]`; the fraction is dropped. */
function msOfDay(text: string): number | undefined {
  const parts = text.split(':');
  const seconds = parts[2]?.split('.');
  if (parts.length > 3 || (seconds !== undefined && seconds.length > 2)) return undefined;
  if (seconds?.[1] !== undefined && !/^[0-9]+$/.test(seconds[1])) return undefined;
  const fields = [parts[0], parts[1] ?? '0', seconds?.[0] ?? '0'];
  let total = 0;
  for (const [index, field] of fields.entries()) {
    if (field === undefined || !/^[0-9]{1,2}$/.test(field) || Number(field) > (index === 0 ? 23 : 59)) return undefined;
    total = total * 60 + Number(field);
  }
  return total * 1000;
}

/** A name of the IANA database: no offset, no POSIX rule, nothing that only Intl's source of zones still knows. */
function isZone(zone: string): boolean {
  if (!/^[a-z]/.test(zone) || LEGACY.test(zone)) return false;
  try {
    formatOf(zone);
    return true;
  } catch {
    return false;
  }
}

/** Names that ICU keeps for the sake of old Java programs, and its zone for "unknown". */
const LEGACY =
  /^(etc\/unknown|systemv\/.*|us\/pacific-new|canada\/east-saskatchewan|act|aet|agt|art|ast|bet|bst|cat|cnt|cst|ctt|eat|ect|iet|ist|jst|mit|net|nst|plt|pnt|prt|pst|sst|vst)$/;

// ---- the end -----------------------------------------------------------------------------------------------------

/** As far as touching or overlapping ranges of that day and zone reach. */
function endOfMerged(range: Range, ranges: readonly Range[]): number {
  let { to } = range;
  for (let grew = true; grew;) {
    grew = false;
    for (const other of ranges) {
      if (other.day !== range.day || other.zone !== range.zone) continue;
      if (other.from <= to && other.to > to) {
        to = other.to;
        grew = true;
      }
    }
  }
  return to;
}

const HOUR = 3_600_000;
/** A local day is never longer, not even where the clock is put back. */
const LONGEST_DAY = 26 * HOUR;

/** The last instant at which the zone's clock shows today's date and `end` or less; the jump, if it skips `end`. */
function lastInstantOfToday(zone: string, now: number, end: number): number {
  const endAsUtc = Math.floor((now + offsetAt(zone, now)) / DAY) * DAY + end;
  let latest = now;
  let from = now;
  while (from <= now + LONGEST_DAY) {
    const offset = offsetAt(zone, from);
    const until = endOfOffset(zone, from, now + LONGEST_DAY + 1);
    // While this offset lasts, the clock shows `end` at one instant; all before it in the stretch are less.
    const inStretch = Math.min(endAsUtc - offset, until);
    if (inStretch >= from && sameDate(zone, inStretch === until ? until - 1 : inStretch, endAsUtc)) latest = inStretch;
    from = until;
  }
  return latest;
}

const DAY = 24 * HOUR;

function sameDate(zone: string, at: number, asUtc: number): boolean {
  return Math.floor((at + offsetAt(zone, at)) / DAY) === Math.floor(asUtc / DAY);
}

/** The first instant after `from` with another offset, looked for hour by hour, not beyond `limit`. */
function endOfOffset(zone: string, from: number, limit: number): number {
  const offset = offsetAt(zone, from);
  let before = from;
  for (let hour = Math.floor(from / HOUR) * HOUR + HOUR; before < limit; hour += HOUR) {
    if (offsetAt(zone, hour) !== offset) {
      let after = hour;
      while (after - before > 1) {
        const middle = Math.floor((before + after) / 2);
        if (offsetAt(zone, middle) === offset) before = middle;
        else after = middle;
      }
      return Math.min(after, limit);
    }
    before = hour;
  }
  return limit;
}

// ---- what a clock on the wall shows --------------------------------------------------------------------------------

function wallClock(zone: string, now: number): { readonly day: string; readonly msOfDay: number } {
  const local = now + offsetAt(zone, now);
  return { day: 'UMTWRFS'.charAt(new Date(local).getUTCDay()), msOfDay: ((local % DAY) + DAY) % DAY };
}

const offsets = new Map<string, number>();

/** What is to be added to `at` for UTC to show the local time. Remembered, because Intl takes its time. */
function offsetAt(zone: string, at: number): number {
  if (zone === 'utc') return 0;
  const second = Math.floor(at / 1000) * 1000;
  const key = `${zone} ${second}`;
  let offset = offsets.get(key);
  if (offset === undefined) {
    const shown: Record<string, number> = {};
    for (const { type, value } of formatOf(zone).formatToParts(second)) shown[type] = Number(value);
    const { year = NaN, month = NaN, day = NaN, hour = NaN, minute = NaN, second: seconds = NaN } = shown;
    offset = Date.UTC(year, month - 1, day, hour, minute, seconds) - second;
    if (offsets.size > 200_000) offsets.clear();
    offsets.set(key, offset);
  }
  return offset;
}

const formats = new Map<string, Intl.DateTimeFormat>();

/** Throws RangeError for what is no zone. */
function formatOf(zone: string): Intl.DateTimeFormat {
  let format = formats.get(zone);
  if (!format) {
    const twoDigits = {
      month: '2-digit',
      day: '2-digit',
      hour: '2-digit',
      minute: '2-digit',
      second: '2-digit',
    } as const;
    format = new Intl.DateTimeFormat('en-GB', { timeZone: zone, year: 'numeric', ...twoDigits, hourCycle: 'h23' });
    formats.set(zone, format);
  }
  return format;
}
