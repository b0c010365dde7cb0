/** Policy conditions whose windows lie around the present second, for tests that cannot move the clock. */
import { condition } from './scene-rows.js';

/** Seconds after the one the clock shows now, both ends included. */
type Span = readonly [from: number, to: number];

export interface Window {
  /** JSON for `policies.conditions`. */
  readonly conditions: string;
  /** Unix second at which the last span ends. */
  readonly endsAt: number;
}

/** In a zone where it is noon now, so that no span comes near midnight whenever the test runs. */
export function windowOf(...spans: Span[]): Window {
  const second = Math.floor(Date.now() / 1000);
  const hoursToNoon = 12 - new Date(second * 1000).getUTCHours();
  const local = (offset: number): Date => new Date((second + offset + hoursToNoon * 3600) * 1000);
  const time = (offset: number): string => local(offset).toISOString().slice(11, 19);
  const day = 'UMTWRFS'.charAt(local(0).getUTCDay());
  // POSIX names count the other way round: Etc/GMT-5 is five hours ahead.
  const zone = hoursToNoon === 0 ? 'UTC' : `Etc/GMT${hoursToNoon > 0 ? '-' : '+'}${Math.abs(hoursToNoon)}`;
  const ranges = spans.map(([from, to]) => `${time(from)}-${time(to)}`).join(',');
  return {
    conditions: condition('current_utc_datetime', 'is_in_day_of_week_time_ranges', `${day}/${ranges}/${zone}`),
    endsAt: second + Math.max(...spans.map(([, to]) => to)),
  };
}
