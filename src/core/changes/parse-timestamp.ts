import type { EpochMs } from '../model/time.js';

/** What a JavaScript date can express; PostgreSQL goes 18,000 years further, and has infinities. Those are cut to these. */
export const EARLIEST: EpochMs = -8_640_000_000_000_000;
export const LATEST: EpochMs = 8_640_000_000_000_000;

/**
 * A timestamptz as PostgreSQL prints it with `DateStyle=ISO`: `2026-11-21 02:32:26.123456+00`, any offset, `BC` years,
 * `infinity`. Fractions are cut to milliseconds, so an expiry is never later than stored. `undefined` for anything else,
 * also for text without an offset.
 */
export function parseTimestamp(text: string): EpochMs | undefined {
  if (text === 'infinity') return LATEST;
  if (text === '-infinity') return EARLIEST;
  const match = TIMESTAMP.exec(text);
  if (!match) return undefined;
  const [, yearText, monthDay, time, fraction = '', sign, hours, minutes = '0', seconds = '0', era] = match;
  const year = era === undefined ? Number(yearText) : 1 - Number(yearText);
  if (year > LAST_YEAR) return LATEST;
  if (year < FIRST_YEAR) return EARLIEST;
  const isoYear = `${year < 0 ? '-' : '+'}${String(Math.abs(year)).padStart(6, '0')}`;
  const utc = Date.parse(`${isoYear}-${monthDay}T${time}.${fraction.slice(0, 3).padEnd(3, '0')}Z`);
  // the fields are in range, so what is no date lies in the first or last year of dates
  if (Number.isNaN(utc)) return year > 0 ? LATEST : EARLIEST;
  const offsetMs = (Number(hours) * 3600 + Number(minutes) * 60 + Number(seconds)) * 1000;
  return Math.min(LATEST, Math.max(EARLIEST, sign === '-' ? utc + offsetMs : utc - offsetMs));
}

const FIRST_YEAR = -271_821;
const LAST_YEAR = 275_760;

const DATE = String.raw`(\d{4,6})-((?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01]))`;
const TIME = String.raw`((?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d)(?:\.(\d{1,6}))?`;
const OFFSET = String.raw`([+-])(\d\d)(?::([0-5]\d))?(?::([0-5]\d))?`;
const TIMESTAMP = new RegExp(`^${DATE} ${TIME}${OFFSET}( BC)?$`);
