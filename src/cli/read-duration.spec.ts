import { describe, expect, it } from '@jest/globals';
import { UsageError } from './command.js';
import { readDuration } from './read-duration.js';

describe('readDuration', () => {
  it.each([
    ['30s', 30_000],
    ['15m', 900_000],
    ['12h', 43_200_000],
    ['7d', 604_800_000],
  ])('%s is %d ms', (text, ms) => {
    expect(readDuration('--since', text)).toBe(ms);
  });

  it.each(['', '7', 'd', '0h', '-1h', '1.5h', '1w', '1h30m', '12 h', '1234567d', '１h'])('refuses %j', (text) => {
    expect(() => readDuration('--since', text)).toThrow(new UsageError('--since takes a time such as 30m, 12h or 7d'));
  });
});
