import { describe, expect, it } from '@jest/globals';
import { isAtLeast, isVersion } from './peer-version.js';

describe('versions of peers', () => {
  it.each([
    ['1.4.10', '1.4.9', true],
    ['1.4.9', '1.4.10', false],
    ['1.4.0', '1.4.0', true],
    ['2.0.0', '1.99.99', true],
    ['1.4.0-rc.1', '1.4.0', true], // speaks the 1.4 protocol
    ['1.4.0+build.7', '1.4.0', true],
  ])('%s is at least %s: %s', (version, wanted, expected) => {
    expect(isAtLeast(version, wanted)).toBe(expected);
  });

  it.each(['', 'latest', '1.4', '1.4.x', 'v', '１.4.0'])('%j is no version and older than everything', (text) => {
    expect([isVersion(text), isAtLeast(text, '0.0.0')]).toEqual([false, false]);
  });
});
