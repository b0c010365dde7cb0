import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { GARBAGE_WINDOWS } from '../../../test/support/arbitrary-conditions.js';
import { windowCase } from '../../../test/support/arbitrary-windows.js';
import { runs } from '../../../test/support/histories.js';
import { windowEnd } from '../../../test/support/oracle-windows.js';
import { InvalidTimeWindowError, parseTimeWindows, WindowSchedule } from './time-windows.js';

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const DAYS = 'MTWRFSU';

/** Zones with the UTC instants of their clock changes in 2025 and 2026, some on either side. */
const CLOCK_CHANGES = {
  'America/New_York': ['2025-03-09T07:00Z', '2025-11-02T06:00Z', '2026-03-08T07:00Z'],
  'Europe/Berlin': ['2025-03-30T01:00Z', '2025-10-26T01:00Z', '2026-03-29T01:00Z'],
  'Australia/Lord_Howe': ['2025-04-05T15:00Z', '2025-10-04T15:30Z', '2026-04-04T15:00Z'],
  'Pacific/Auckland': ['2025-04-05T14:00Z', '2025-09-27T14:00Z', '2026-04-04T14:00Z'],
  'Africa/Cairo': ['2025-04-24T22:00Z', '2025-10-30T21:00Z'],
  'America/Santiago': ['2025-04-06T03:00Z', '2025-09-07T04:00Z'],
  'Asia/Kathmandu': ['2025-07-01T00:00Z'],
  UTC: ['2025-12-31T23:00Z'],
} as const;
type Zone = keyof typeof CLOCK_CHANGES;

interface NaiveWindow {
  readonly zone: Zone;
  readonly day: number;
  readonly from: number;
  readonly to: number;
}

const minuteOfDay = fc.oneof(
  fc.nat(1439),
  fc.nat(36).map((step) => step * 5),
); // often around the change
const window = (zones: readonly Zone[]): fc.Arbitrary<NaiveWindow> =>
  fc
    .record({ zone: fc.constantFrom(...zones), day: fc.nat(6), a: minuteOfDay, b: minuteOfDay })
    .map(({ zone, day, a, b }) => ({ zone, day, from: Math.min(a, b), to: Math.max(a, b) }));

const clock = (minute: number) => `${Math.floor(minute / 60)}:${minute % 60}`;
const valueOf = (w: NaiveWindow) => `${DAYS[w.day]}/${clock(w.from)}-${clock(w.to)}/${w.zone}`;
const scheduleOf = (windows: readonly NaiveWindow[]) => new WindowSchedule(parseTimeWindows(windows.map(valueOf)));

const formats = new Map<string, Intl.DateTimeFormat>();
function formatFor(zone: string): Intl.DateTimeFormat {
  const known = formats.get(zone);
  if (known) return known;
  const made = new Intl.DateTimeFormat('en-GB', {
    timeZone: zone,
    weekday: 'short',
    day: '2-digit',
    hour: '2-digit',
    minute: '2-digit',
    second: '2-digit',
    hourCycle: 'h23',
  });
  formats.set(zone, made);
  return made;
}

/** What a wall clock in the zone shows, from Intl alone. */
function wallClock(zone: string, now: number): { day: number; date: string; second: number } {
  const parts = new Map(
    formatFor(zone)
      .formatToParts(now)
      .map((part) => [part.type, part.value]),
  );
  const number = (type: Intl.DateTimeFormatPartTypes) => Number(parts.get(type));
  return {
    day: ['Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat', 'Sun'].indexOf(parts.get('weekday') ?? ''),
    date: parts.get('day') ?? '',
    second: number('hour') * 3600 + number('minute') * 60 + number('second'),
  };
}

function naivelyOpen(windows: readonly NaiveWindow[], now: number): boolean {
  return windows.some((w) => {
    const shown = wallClock(w.zone, now);
    return shown.day === w.day && w.from * 60 <= shown.second && shown.second + (now % 1000) / 1000 <= w.to * 60;
  });
}

/**
 * The latest minute at which the zone's wall clock shows this date and minute; if none does, the first minute after
 * `now` at which it shows something later: the jump.
 */
function naiveEnd(zone: Zone, now: number, endMinute: number): number {
  const { date } = wallClock(zone, now);
  const start = now - (now % MINUTE);
  let jump: number | undefined;
  for (let t = start + 26 * HOUR; t >= start - 26 * HOUR; t -= MINUTE) {
    const shown = wallClock(zone, t);
    if (shown.date === date && shown.second === endMinute * 60) return t;
    if (t > now && (shown.date !== date || shown.second > endMinute * 60)) jump = t;
  }
  return jump ?? NaN;
}

const nearChange = fc.constantFrom(...(Object.keys(CLOCK_CHANGES) as Zone[])).chain((zone) =>
  fc.record({
    zone: fc.constant(zone),
    change: fc.constantFrom(...CLOCK_CHANGES[zone]).map((text) => Date.parse(text)),
  }),
);

describe('time windows against a wall clock', () => {
  it('D18: scanned minute by minute over clock changes, open and change instants agree with Intl', () => {
    const cases = nearChange.chain(({ zone, change }) =>
      fc.record({
        windows: fc.array(window([zone, 'UTC']), { minLength: 1, maxLength: 4 }),
        from: fc.integer({ min: -30 * 60, max: 0 }).map((minutes) => change + minutes * MINUTE),
      }),
    );
    fc.assert(
      fc.property(cases, ({ windows, from }) => {
        const schedule = scheduleOf(windows);
        let expectedChange = schedule.nextChange(from);
        let before = schedule.verdictAt(from);
        for (let t = from; t < from + 36 * HOUR; t += MINUTE) {
          const verdict = schedule.verdictAt(t);
          if (verdict.isOpen !== naivelyOpen(windows, t)) throw new Error(`wrong at ${new Date(t).toISOString()}`);
          const changedBy = expectedChange !== undefined && expectedChange <= t;
          if (!changedBy) expect(verdict).toEqual(before);
          if (changedBy) {
            before = verdict;
            expectedChange = schedule.nextChange(t);
          }
        }
      }),
      { numRuns: 30 },
    );
  });

  it('the expiry is the latest end on the wall clock, or the jump that skips it', () => {
    const cases = nearChange.chain(({ zone, change }) =>
      fc.record({
        window: window([zone]),
        now: fc.integer({ min: -10 * 60, max: 10 * 60 }).map((minutes) => change + minutes * MINUTE),
      }),
    );
    fc.assert(
      fc.property(cases, ({ window: drawn, now }) => {
        // move the window to today and around now, so that most runs have something to compare
        const { day, second } = wallClock(drawn.zone, now);
        const minute = second / 60;
        const open = { ...drawn, day, from: Math.min(drawn.from, minute), to: Math.max(drawn.to, minute) };
        expect(scheduleOf([open]).verdictAt(now)).toEqual({ isOpen: true, until: naiveEnd(open.zone, now, open.to) });
      }),
      { numRuns: 150 },
    );
  });

  it('D18: the verdict is constant up to the next change and different at it', () => {
    const zones = Object.keys(CLOCK_CHANGES) as Zone[];
    const cases = fc.record({
      windows: fc.array(window(zones), { minLength: 1, maxLength: 6 }),
      now: fc.integer({ min: Date.parse('2025-01-01'), max: Date.parse('2027-01-01') }),
      samples: fc.array(fc.double({ min: 0, max: 1, noNaN: true, maxExcluded: true }), { minLength: 8, maxLength: 8 }),
    });
    fc.assert(
      fc.property(cases, ({ windows, now, samples }) => {
        const change = scheduleOf(windows).nextChange(now) ?? NaN;
        expect(change).toBeGreaterThan(now);
        expect(change).toBeLessThan(now + 15 * DAY);
        const verdict = scheduleOf(windows).verdictAt(now);
        const inside = samples.map((fraction) => Math.min(change - 1, Math.floor(now + (change - now) * fraction)));
        for (const t of [...inside, change - 1]) expect(scheduleOf(windows).verdictAt(t)).toEqual(verdict);
        expect(scheduleOf(windows).verdictAt(change)).not.toEqual(verdict);
      }),
      { numRuns: 300 },
    );
  });

  it('a schedule asked at any instants in any order answers as a fresh one', () => {
    const zones = Object.keys(CLOCK_CHANGES) as Zone[];
    const base = Date.parse('2025-10-20');
    const cases = fc.record({
      windows: fc.array(window(zones), { maxLength: 5 }),
      instants: fc.array(
        fc.oneof(fc.integer({ min: base, max: base + 14 * DAY }), fc.integer({ min: base, max: base + 2 * HOUR })),
        { minLength: 2, maxLength: 20 },
      ),
    });
    fc.assert(
      fc.property(cases, ({ windows, instants }) => {
        const kept = scheduleOf(windows);
        for (const t of instants) {
          const fresh = scheduleOf(windows);
          expect(kept.verdictAt(t)).toEqual(fresh.verdictAt(t));
          expect(kept.nextChange(t)).toEqual(fresh.nextChange(t));
        }
      }),
      { numRuns: 300 },
    );
  });
});

describe('time windows against the oracle', () => {
  const oracle = (values: readonly string[], now: number) => {
    const until = windowEnd(values, now);
    return until === undefined ? { isOpen: false } : { isOpen: true, until };
  };

  it('D18: in every zone, around changes of clocks and ends of weeks, both say the same until the next change', () => {
    const fraction = fc.double({ min: 0, max: 1, noNaN: true, maxExcluded: true });
    let open = 0;
    fc.assert(
      fc.property(windowCase, fc.array(fraction, { minLength: 3, maxLength: 3 }), ({ values, now }, fractions) => {
        const schedule = new WindowSchedule(parseTimeWindows(values));
        const verdict = schedule.verdictAt(now);
        expect(verdict).toEqual(oracle(values, now));
        if (verdict.isOpen) open += 1;
        const change = schedule.nextChange(now) ?? NaN;
        expect(change).toBeGreaterThan(now);
        const inside = fractions.map((part) => now + Math.floor((change - now) * part));
        for (const at of [...inside, change - 1]) expect(oracle(values, at)).toEqual(verdict);
        expect(oracle(values, change)).not.toEqual(verdict);
        expect(schedule.verdictAt(change)).toEqual(oracle(values, change));
      }),
      { numRuns: runs(400) },
    );
    expect(open).toBeGreaterThan(runs(400) / 5);
  });

  it.each(GARBAGE_WINDOWS)('S9: %j is refused by both, whatever stands beside it', (value) => {
    const everyDay = [...'MTWRFSU'].map((day) => `${day}/true/UTC`);
    expect(windowEnd([...everyDay, value], Date.UTC(2025, 6, 18))).toBeUndefined();
    expect(() => parseTimeWindows([...everyDay, value])).toThrow(InvalidTimeWindowError);
  });
});
