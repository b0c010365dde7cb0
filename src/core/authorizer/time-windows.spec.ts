import { describe, expect, it } from '@jest/globals';
import { InvalidTimeWindowError, parseTimeWindows, WindowSchedule } from './time-windows.js';

const at = (text: string) => Date.parse(`${text.replace(' ', 'T')}Z`);
const schedule = (...values: string[]) => new WindowSchedule(parseTimeWindows(values));
const openUntil = (text: string) => ({ isOpen: true, until: at(text) });
const closed = { isOpen: false };

describe('a time window', () => {
  const night = ['F/22-23:59:59/Europe/Kyiv', 'S/0-6/Europe/Kyiv'];
  const newYork = ['F/9-17/America/New_York'];

  it.each([
    [['F/true/UTC'], '2025-07-18 10:00:00', openUntil('2025-07-18 23:59:59')],
    [['F/true/UTC'], '2025-07-18 23:59:59.500', closed],
    [newYork, '2025-07-18 13:00:00', openUntil('2025-07-18 21:00:00')],
    [newYork, '2025-07-18 12:59:59', closed],
    [newYork, '2025-07-18 21:00:00', openUntil('2025-07-18 21:00:00')],
    [newYork, '2025-07-18 21:00:01', closed],
    [['F/9-12,12-15,14-22/UTC'], '2025-07-18 10:00:00', openUntil('2025-07-18 22:00:00')],
    [night, '2025-07-18 20:30:00', openUntil('2025-07-18 20:59:59')],
    [night, '2025-07-18 21:30:00', openUntil('2025-07-19 03:00:00')],
    [['R/15-19/US/Pacific'], '2021-01-01 01:00:00', openUntil('2021-01-01 03:00:00')],
    [['S/true/Pacific/Auckland'], '2025-07-18 13:00:00', openUntil('2025-07-19 11:59:59')],
    [['W/9:05-9:05:30/UTC'], '2025-07-16 09:05:30', openUntil('2025-07-16 09:05:30')],
    [['F//UTC'], '2025-07-18 10:00:00', closed],
    [[], '2025-07-18 10:00:00', closed],
    // touching by a shared endpoint merges; one second apart does not
    [['F/10-11,11:00:01-12/UTC'], '2025-07-18 10:30:00', openUntil('2025-07-18 11:00:00')],
    [['F/10-11/UTC', 'F/11-12/UTC'], '2025-07-18 10:30:00', openUntil('2025-07-18 12:00:00')],
    [['F/10-16,11-12/UTC'], '2025-07-18 13:00:00', openUntil('2025-07-18 16:00:00')],
    // several zones match: the latest end counts, whatever the order
    [['F/9-17/UTC', 'F/9-17/America/New_York'], '2025-07-18 14:00:00', openUntil('2025-07-18 21:00:00')],
    [['F/9-17/America/New_York', 'F/9-17/UTC'], '2025-07-18 14:00:00', openUntil('2025-07-18 21:00:00')],
    [['F/ 9-10 ,, 11-12.5/UTC'.replace('.5', ':00:00.75')], '2025-07-18 12:00:00', openUntil('2025-07-18 12:00:00')],
  ])('%j at %s', (values, now, verdict) => {
    expect(schedule(...values).verdictAt(at(now))).toEqual(verdict);
  });

  it.each([
    ['F/22-6/Europe/Kyiv', 'start of the time range must be less than or equal to the end of it'],
    ['F/9-24/UTC', 'invalid time range: 9-24'],
    ['F/10-11', 'timezone is required'],
    ['F/10-11/', 'timezone is required'],
    ['F/false/UTC', 'invalid time range: false'],
    ['F/9:60-10/UTC', 'invalid time range: 9:60-10'],
    ['F/9-10:00:60/UTC', 'invalid time range: 9-10:00:60'],
    ['F/9-10-11/UTC', 'invalid time range: 9-10-11'],
    ['F/9/UTC', 'invalid time range: 9'],
    ['F/9-10/Mars/Olympus', 'invalid timezone'],
    ['F/9-10/+01:00', 'invalid timezone'],
    ['F/9-10/2020-01-01T00:00Z', 'invalid timezone'],
    ['F/9-10/__proto__', 'invalid timezone'],
    ['X/9-10/UTC', 'invalid day of the week, must be one of M, T, W, R, F, S, U'],
    ['f/9-10/UTC', 'invalid day of the week, must be one of M, T, W, R, F, S, U'],
    ['', 'invalid day of the week, must be one of M, T, W, R, F, S, U'],
  ])('%j is refused: %s', (value, message) => {
    expect(() => parseTimeWindows(['F/true/UTC', value])).toThrow(new InvalidTimeWindowError(message));
  });
});

describe('a time window when the clock changes', () => {
  // New York: 2025-03-09 07:00Z 02:00 EST -> 03:00 EDT; 2025-11-02 06:00Z 02:00 EDT -> 01:00 EST. Both are Sundays.
  it.each(['2:30', '2', '2:59:59'])('ends at the jump when its end %s is skipped that day', (end) => {
    const sunday = schedule(`U/1-${end}/America/New_York`);
    expect(sunday.verdictAt(at('2025-03-09 06:30:00'))).toEqual(openUntil('2025-03-09 07:00:00'));
    expect(sunday.nextChange(at('2025-03-09 06:30:00'))).toBe(at('2025-03-09 07:00:00'));
    expect(sunday.verdictAt(at('2025-03-09 07:00:00'))).toEqual(closed);
  });

  it('never opens on a day that skips all of it', () => {
    const skipped = schedule('U/2:10-2:50/America/New_York');
    expect(skipped.nextChange(at('2025-03-09 05:00:00'))).toBe(at('2025-03-16 06:10:00'));
  });

  it('ends at the later of two equal local times', () => {
    const sunday = schedule('U/0-1:30/America/New_York');
    expect(sunday.verdictAt(at('2025-11-02 04:30:00'))).toEqual(openUntil('2025-11-02 06:30:00'));
  });

  it('matches by the local clock: closed between the two occurrences of its end', () => {
    const sunday = schedule('U/0-1:30/America/New_York');
    expect(sunday.nextChange(at('2025-11-02 04:30:00'))).toBe(at('2025-11-02 05:30:00.001'));
    expect(sunday.nextChange(at('2025-11-02 05:30:00.001'))).toBe(at('2025-11-02 06:00:00'));
    expect(sunday.nextChange(at('2025-11-02 06:00:00'))).toBe(at('2025-11-02 06:30:00.001'));
  });

  it('lasts to 23:59:59 local on short and long days', () => {
    const sunday = schedule('U/true/America/New_York');
    expect(sunday.verdictAt(at('2025-03-09 12:00:00'))).toEqual(openUntil('2025-03-10 03:59:59'));
    expect(sunday.verdictAt(at('2025-11-02 12:00:00'))).toEqual(openUntil('2025-11-03 04:59:59'));
  });
});

describe('the next change', () => {
  it('is the opening, then one millisecond past the inclusive end, then the opening a week later', () => {
    const friday = schedule('F/9-17/UTC');
    expect(friday.nextChange(at('2025-07-18 08:00:00'))).toBe(at('2025-07-18 09:00:00'));
    expect(friday.nextChange(at('2025-07-18 09:00:00'))).toBe(at('2025-07-18 17:00:00.001'));
    expect(friday.nextChange(at('2025-07-18 17:00:00'))).toBe(at('2025-07-18 17:00:00.001'));
    expect(friday.nextChange(at('2025-07-18 17:00:00.001'))).toBe(at('2025-07-25 09:00:00'));
  });

  it('is not a boundary at which the verdict stays the same', () => {
    const covered = schedule('F/9-17/UTC', 'F/13-14/Europe/London');
    expect(covered.nextChange(at('2025-07-18 10:00:00'))).toBe(at('2025-07-18 17:00:00.001'));
  });

  it('is the opening of a window that ends later than the open one', () => {
    const relay = schedule('F/9-17/UTC', 'F/9-17/America/New_York');
    expect(relay.nextChange(at('2025-07-18 10:00:00'))).toBe(at('2025-07-18 13:00:00'));
  });

  it('does not exist without windows', () => {
    expect(schedule('F//UTC').nextChange(at('2025-07-18 10:00:00'))).toBeUndefined();
  });

  it('does not exist outside the years that dates can express, where nothing is open', () => {
    for (const now of [8.64e15, -8.64e15, Infinity, -Infinity, NaN]) {
      const everyDay = schedule(...[...'MTWRFSU'].map((day) => `${day}/true/America/New_York`));
      expect(everyDay.verdictAt(now)).toEqual(closed);
      expect(everyDay.nextChange(now)).toBeUndefined();
    }
  });

  it('remembers nothing wrong when time goes backwards', () => {
    const friday = schedule('F/9-17/UTC');
    expect(friday.verdictAt(at('2025-07-18 18:00:00'))).toEqual(closed);
    expect(friday.verdictAt(at('2025-07-18 12:00:00'))).toEqual(openUntil('2025-07-18 17:00:00'));
    expect(friday.verdictAt(at('2025-07-18 08:00:00'))).toEqual(closed);
  });
});
