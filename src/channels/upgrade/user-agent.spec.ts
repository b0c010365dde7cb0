import { describe, expect, it } from '@jest/globals';
import { versionOf } from './user-agent.js';

describe('the version in a user agent', () => {
  it.each([
    ['Ubuntu/24.4.0 connlib/1.5.2 (x86_64; 6.8.0-40-generic)', '1.5.2'],
    ['Mac OS/15.1.0 connlib/1.5.5 (arm64)', '1.5.5'],
    ['relay/0.1.0', '0.1.0'],
    ['Debian/12 headless-client/1.5.4 (x86_64)', '1.5.4'],
    ['Windows/10.0.22631 gui-client/1.5.8', '1.5.8'],
    ['iOS/18.1 apple-client/1.5.9 (24.1.0)', '1.5.9'],
    ['Android/15 android-client/1.5.5', '1.5.5'],
    ['Fedora/41 gateway/1.4.17', '1.4.17'],
    ['connlib/1.5.2 gateway/1.4.17', '1.5.2'],
    ['connlib/1.4.0-rc.1', '1.4.0-rc.1'],
    ['connlib/anything', 'anything'],
    ['Mac  OS  connlib/1.5.5', '1.5.5'],
  ])('%j is %j', (userAgent, version) => {
    expect(versionOf(userAgent)).toBe(version);
  });

  it.each([
    undefined,
    '',
    ' ',
    'curl/8.5.0',
    'connlib',
    'connlib/',
    'xconnlib/1.5.2',
    'Connlib/1.5.2',
    '(connlib/1.5.2)',
    'os\tconnlib/1.5.2',
    'connlib/1.5.2\0',
    `connlib/${'1'.repeat(256)}`,
    `${'x '.repeat(1_000)}connlib/1.5.2`,
    '__proto__',
  ])('%j has none', (userAgent) => {
    expect(versionOf(userAgent)).toBeUndefined();
  });
});
