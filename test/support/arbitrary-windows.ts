/**
 * Random weekly windows that have something to do with the moment they are asked about: on its weekday, near its time of
 * day, near a change of the zone's clock or the end of the week. Instants of changes come from Temporal, so that a
 * reader of windows is never checked against its own idea of them alone.
 */
import fc from 'fast-check';
import { Temporal } from 'temporal-polyfill';

export interface WindowCase {
  readonly values: readonly string[];
  readonly now: number;
}

/** Every zone of the database that Intl names, links such as `US/Pacific` and fixed offsets besides. */
export const EVERY_ZONE = [
  ...Intl.supportedValuesOf('timeZone'),
  ...['UTC', 'utc', 'GMT', 'Etc/GMT+12', 'Etc/GMT-14', 'US/Pacific', 'Asia/Calcutta', 'europe/berlin'],
];

const HOUR = 3_600_000;
const FROM = Date.UTC(2024, 0, 1);
const TO = Date.UTC(2026, 0, 1);

/** One question about windows of one zone, some of them in UTC. */
export const windowCase: fc.Arbitrary<WindowCase> = fc
  .constantFrom(...EVERY_ZONE)
  .chain((zone) => momentIn(zone).chain((now) => fc.record({ values: valuesAt(now, [zone]), now: fc.constant(now) })));

/** Many questions about one moment. */
export function windowCases(zones: readonly string[], count: number): fc.Arbitrary<readonly WindowCase[]> {
  return fc.constantFrom(...zones).chain((zone) =>
    momentIn(zone).chain((now) => {
      const values = fc.oneof(valuesAt(now, [zone]), valuesAt(now, zones));
      return fc.array(fc.record({ values, now: fc.constant(now) }), { minLength: 1, maxLength: count });
    }),
  );
}

function valuesAt(now: number, zones: readonly string[]): fc.Arbitrary<string[]> {
  return fc.constantFrom(...zones).chain((zone) => {
    const value = fc.constantFrom(zone, zone, zone, 'UTC').chain((of) => windowNear(of, now));
    return fc.array(value, { minLength: 1, maxLength: 3 });
  });
}

/** Mostly within hours of a change of the clock, or of a week's end on the wall; to the second, some to the millisecond. */
function momentIn(zone: string): fc.Arbitrary<number> {
  const changes = changesOf(zone);
  const weekEnd = fc.nat(102).map((week) => {
    const sunday = Temporal.PlainDateTime.from('2024-01-07T23:59:59').add({ weeks: week });
    return sunday.toZonedDateTime(zone).epochMilliseconds;
  });
  const landmark = changes.length === 0 ? weekEnd : fc.oneof(weekEnd, fc.constantFrom(...changes));
  const minutes = fc.integer({ min: -8 * 60, max: 8 * 60 }).map((minute) => minute * 60_000);
  const near = fc.tuple(landmark, fc.oneof(minutes, fc.constantFrom(-1000, -1, 0, 1, 500, 1000, HOUR - 1, HOUR)));
  return fc.oneof(
    { weight: 4, arbitrary: near.map(([at, offset]) => at + offset) },
    { weight: 1, arbitrary: fc.integer({ min: FROM, max: TO }) },
  );
}

/** The instants at which the zone's clock is put forward or back, in the years that moments are drawn from. */
export function changesOf(zone: string): number[] {
  const changes: number[] = [];
  let at: Temporal.ZonedDateTime | null = Temporal.Instant.fromEpochMilliseconds(FROM).toZonedDateTimeISO(zone);
  for (at = at.getTimeZoneTransition('next'); at && at.epochMilliseconds < TO; at = at.getTimeZoneTransition('next')) {
    changes.push(at.epochMilliseconds);
  }
  return changes;
}

/** A window of the day that the zone's wall clock shows, its ends within some hours of what it shows. */
function windowNear(zone: string, now: number): fc.Arbitrary<string> {
  const shown = Temporal.Instant.fromEpochMilliseconds(now).toZonedDateTimeISO(zone);
  const second = shown.hour * 3600 + shown.minute * 60 + shown.second;
  const quarters = fc.integer({ min: 0, max: 16 }).map((quarter) => quarter * 900);
  const distance = fc.oneof({ weight: 4, arbitrary: quarters }, fc.nat(4 * 3600), fc.constantFrom(0, 1));
  const range = fc.tuple(distance, distance, fc.boolean()).map(([before, after, onTheQuarter]) => {
    const round = (value: number): number => (onTheQuarter ? Math.round(value / 900) * 900 : value);
    const ends = [round(second - before), round(second + after)].map((end) => Math.min(86_399, Math.max(0, end)));
    return ends.map(clock).join('-');
  });
  const later = fc.nat(23).chain((hour) => fc.integer({ min: hour, max: 23 }).map((to) => `${hour}-${to}`));
  const dayShift = fc.constantFrom(0, 0, 0, 0, 0, 1, 6);
  return fc
    .tuple(dayShift, fc.array(fc.oneof({ weight: 3, arbitrary: range }, later), { minLength: 1, maxLength: 3 }))
    .map(([shift, ranges]) => `${'MTWRFSU'.charAt((shown.dayOfWeek - 1 + shift) % 7)}/${ranges.join(',')}/${zone}`);
}

function clock(second: number): string {
  return `${Math.floor(second / 3600)}:${Math.floor(second / 60) % 60}:${second % 60}`;
}
