import { describe, expect, it } from '@jest/globals';
import { toUnixSeconds } from './time.js';

describe('toUnixSeconds', () => {
  it('rounds down', () => {
    expect(toUnixSeconds(1_999)).toBe(1);
    expect(toUnixSeconds(-1)).toBe(-1);
  });

  it('a token until the end of time ends for a peer while its calendar still reaches, not in milliseconds', () => {
    expect(toUnixSeconds(8_640_000_000_000_000)).toBe(99_999_999_999);
    expect(toUnixSeconds(99_999_999_999_000)).toBe(99_999_999_999);
  });
});
