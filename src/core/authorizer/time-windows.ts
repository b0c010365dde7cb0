/**
 * Weekly time windows of a policy condition: `F/9-12,13-17/Europe/Berlin`. Says whether a window is open at an instant,
 * until when, and when that answer next changes by time alone (D18).
 *
 * A time zone enters only as its offset, which is constant between two transitions: inside such a stretch everything is
 * arithmetic on local milliseconds. Matching goes by the local clock, so an hour that occurs twice matches twice.
 */
import { Temporal } from 'temporal-polyfill';
import type { EpochMs } from '../model/time.js';

/** `until` is the last instant of the local day's window: it still holds then, and no longer 1 ms later. */
export type WindowVerdict = { readonly isOpen: true; readonly until: EpochMs } | { readonly isOpen: false };

export interface TimeWindow {
  /** 0 is Monday. */
  readonly weekday: number;
  /** Seconds of the local day, both inclusive. */
  readonly from: number;
  readonly to: number;
  readonly zone: string;
}

/** Thrown by the parser with a reason fit for an operator. Its condition is violated as a whole. */
export class InvalidTimeWindowError extends Error {}

/**
 * Parses values of the form `day/ranges/zone`, split at the first two slashes. Ranges of one day and zone that touch or
 * overlap are merged. Throws InvalidTimeWindowError when any value is wrong.
 */
export function parseTimeWindows(values: readonly string[]): readonly TimeWindow[] {
  return merged(values.flatMap(parseValue));
}

/**
 * The windows of one condition as a function of time. Remembers the stretch of time around the last question in which
 * the answer is constant, so asking again inside it costs two comparisons; any other instant, also an earlier one, is
 * computed afresh.
 */
export class WindowSchedule {
  readonly #zones: readonly ZoneWindows[];
  #known: Stretch | undefined;

  constructor(windows: readonly TimeWindow[]) {
    this.#zones = grouped(windows, (window) => window.zone).map((ofZone) => new ZoneWindows(ofZone));
  }

  verdictAt(now: EpochMs): WindowVerdict {
    return this.#stretchAt(now).verdict;
  }

  /** The first instant after `now` with another verdict; `undefined` when time will not change it. */
  nextChange(now: EpochMs): EpochMs | undefined {
    const { until } = this.#stretchAt(now);
    return until === Infinity ? undefined : until;
  }

  #stretchAt(now: EpochMs): Stretch {
    if (!this.#known || now < this.#known.from || now >= this.#known.until) this.#known = stretchFrom(this.#zones, now);
    return this.#known;
  }
}

/** The answer from `from` to just before `until`. */
interface Stretch {
  readonly from: EpochMs;
  readonly until: EpochMs;
  readonly verdict: WindowVerdict;
}

const DAY_MS = 86_400_000;
const DAYS = ['M', 'T', 'W', 'R', 'F', 'S', 'U'];
/** 1970-01-01 was a Thursday. */
const EPOCH_WEEKDAY = 3;

/**
 * Boundaries looked at before we settle for one that may change nothing. Windows of several zones can cover one another;
 * a caller that is woken once too often asks again, so too small costs wake-ups and too large costs one slow answer.
 */
const MAX_BOUNDARIES = 64;

function stretchFrom(zones: readonly ZoneWindows[], now: EpochMs): Stretch {
  const verdict = verdictOf(zones, now);
  let until = nextBoundary(zones, now);
  for (let i = 1; i < MAX_BOUNDARIES && until < Infinity && sameVerdict(verdictOf(zones, until), verdict); i++) {
    until = nextBoundary(zones, until);
  }
  return { from: now, until, verdict };
}

/** Of all matching windows the latest end counts. */
function verdictOf(zones: readonly ZoneWindows[], now: EpochMs): WindowVerdict {
  const ends = zones.flatMap((zone) => zone.endsAt(now));
  // Not Math.max(...ends): a list typed by hand may be longer than a call has arguments.
  return ends.length === 0 ? { isOpen: false } : { isOpen: true, until: ends.reduce((a, b) => Math.max(a, b)) };
}

function nextBoundary(zones: readonly ZoneWindows[], now: EpochMs): EpochMs {
  return Math.min(Infinity, ...zones.map((zone) => zone.boundaryAfter(now)));
}

function sameVerdict(a: WindowVerdict, b: WindowVerdict): boolean {
  return a.isOpen ? b.isOpen && a.until === b.until : !b.isOpen;
}

/** The windows of one zone. Outside the years that dates can express nothing matches and nothing changes. */
class ZoneWindows {
  #offset: { readonly from: EpochMs; readonly until: EpochMs; readonly ms: number } | undefined;

  readonly #zone: string;

  constructor(private readonly windows: readonly [TimeWindow, ...TimeWindow[]]) {
    this.#zone = windows[0].zone;
  }

  /** The last instant of each window open at `now`. */
  endsAt(now: EpochMs): readonly EpochMs[] {
    const offset = this.#offsetAt(now);
    if (!offset) return [];
    const local = now + offset.ms;
    const day = Math.floor(local / DAY_MS);
    const msOfDay = local - day * DAY_MS;
    return this.windows
      .filter((w) => w.weekday === weekdayOf(day) && w.from * 1000 <= msOfDay && msOfDay <= w.to * 1000)
      .map((w) => this.#instantOf(day, w.to));
  }

  /** The first instant after `now` at which a window of this zone may open or close, or the offset changes. */
  boundaryAfter(now: EpochMs): EpochMs {
    const offset = this.#offsetAt(now);
    if (!offset) return Infinity;
    const local = now + offset.ms;
    const boundaries = this.windows.flatMap((w) => [
      firstAfter(local, w.weekday, w.from * 1000),
      firstAfter(local, w.weekday, w.to * 1000 + 1),
    ]);
    return boundaries.reduce((first, boundary) => Math.min(first, boundary - offset.ms), offset.until);
  }

  #offsetAt(now: EpochMs): { readonly until: EpochMs; readonly ms: number } | undefined {
    if (this.#offset && now >= this.#offset.from && now < this.#offset.until) return this.#offset;
    if (!(Math.abs(now) <= LAST_INSTANT)) return undefined;
    const here = Temporal.Instant.fromEpochMilliseconds(Math.floor(now)).toZonedDateTimeISO(this.#zone);
    const until = here.getTimeZoneTransition('next')?.epochMilliseconds ?? Infinity;
    this.#offset = { from: now, until, ms: here.offsetNanoseconds / 1_000_000 };
    return this.#offset;
  }

  /** A local time that occurs twice means the later one; one that is skipped means the moment the clock jumps. */
  #instantOf(day: number, second: number): EpochMs {
    const wanted = EPOCH.add({ days: day }).toPlainDateTime(MIDNIGHT.add({ seconds: second }));
    const later = wanted.toZonedDateTime(this.#zone, { disambiguation: 'later' });
    if (later.toPlainDateTime().equals(wanted)) return later.epochMilliseconds;
    const before = wanted.toZonedDateTime(this.#zone, { disambiguation: 'earlier' });
    const jump = before.getTimeZoneTransition('next') as Temporal.ZonedDateTime; // it is what skips `wanted`
    return jump.epochMilliseconds;
  }
}

const EPOCH = new Temporal.PlainDate(1970, 1, 1);
const MIDNIGHT = new Temporal.PlainTime();
/** About 600 years inside the range of instants, so that every local time computed from one still has an instant. */
const LAST_INSTANT = 8_620_000_000_000_000;

function weekdayOf(day: number): number {
  return (((day + EPOCH_WEEKDAY) % 7) + 7) % 7;
}

/** The first local time after `local` that lies `msOfDay` into a day of this weekday. */
function firstAfter(local: number, weekday: number, msOfDay: number): number {
  const day = Math.floor(local / DAY_MS);
  const next = (day + ((weekday - weekdayOf(day) + 7) % 7)) * DAY_MS + msOfDay;
  return next > local ? next : next + 7 * DAY_MS;
}

function parseValue(value: string): readonly TimeWindow[] {
  const [day, ranges = '', ...rest] = value.trim().split('/') as [string, ...string[]];
  const weekday = DAYS.indexOf(day);
  if (weekday < 0) throw new InvalidTimeWindowError(`invalid day of the week, must be one of ${DAYS.join(', ')}`);
  const zone = mustBeZone(rest.join('/'));
  return ranges
    .split(',')
    .map((range) => range.trim())
    .filter((range) => range !== '')
    .map((range) => ({ weekday, zone, ...parseTimeRange(range) }));
}

/** Temporal would also take an offset or a whole timestamp for a zone, hence the shape check. */
const ZONE_NAME = /^[A-Za-z][A-Za-z0-9_+-]*(\/[A-Za-z0-9_+-]+)*$/;

/** Names that the time zone database has given up and ICU still reads. */
const FORMER_NAME = /^(systemv\/.*|us\/pacific-new|canada\/east-saskatchewan)$/i;

function mustBeZone(zone: string): string {
  if (zone === '') throw new InvalidTimeWindowError('timezone is required');
  try {
    if (ZONE_NAME.test(zone) && !FORMER_NAME.test(zone)) return new Temporal.ZonedDateTime(0n, zone).timeZoneId;
  } catch {
    // unknown to the time zone database
  }
  throw new InvalidTimeWindowError('invalid timezone');
}

const WHOLE_DAY = { from: 0, to: 86_399 };
const TIME = String.raw`(\d{1,2})(?::(\d{1,2})(?::(\d{1,2})(?:\.\d+)?)?)?`;
const TIME_RANGE = new RegExp(`^${TIME}-${TIME}$`);

function parseTimeRange(text: string): { from: number; to: number } {
  if (text === 'true') return WHOLE_DAY;
  const match = TIME_RANGE.exec(text) ?? [];
  const from = secondOfDay(match.slice(1, 4));
  const to = secondOfDay(match.slice(4, 7));
  if (from === undefined || to === undefined) {
    throw new InvalidTimeWindowError(`invalid time range: ${text.slice(0, 40)}`);
  }
  if (from > to) {
    throw new InvalidTimeWindowError('start of the time range must be less than or equal to the end of it');
  }
  return { from, to };
}

/** Hour, and perhaps minute and second, as matched. */
function secondOfDay(parts: readonly (string | undefined)[]): number | undefined {
  const [hour = NaN, minute = 0, second = 0] = parts.map((part) => (part === undefined ? undefined : Number(part)));
  return hour <= 23 && minute <= 59 && second <= 59 ? hour * 3600 + minute * 60 + second : undefined;
}

function merged(windows: readonly TimeWindow[]): readonly TimeWindow[] {
  return grouped(windows, (window) => `${window.weekday}/${window.zone}`).flatMap((sameDay) => {
    const result: TimeWindow[] = [];
    for (const window of sameDay.sort((a, b) => a.from - b.from)) {
      const last = result.at(-1);
      if (last && window.from <= last.to) result[result.length - 1] = { ...last, to: Math.max(last.to, window.to) };
      else result.push(window);
    }
    return result;
  });
}

function grouped(
  windows: readonly TimeWindow[],
  keyOf: (window: TimeWindow) => string,
): readonly [TimeWindow, ...TimeWindow[]][] {
  const groups = new Map<string, [TimeWindow, ...TimeWindow[]]>();
  for (const window of windows) {
    const group = groups.get(keyOf(window));
    if (group) group.push(window);
    else groups.set(keyOf(window), [window]);
  }
  return [...groups.values()];
}
