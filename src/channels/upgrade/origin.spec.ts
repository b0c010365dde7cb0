import { describe, expect, it } from '@jest/globals';
import { parseRange } from '../../core/authorizer/ip-ranges.js';
import { isOriginAllowed } from './origin.js';

const TRUSTED = [parseRange('10.0.0.0/8')].flatMap((range) => range ?? []);

function isAllowed(origin: string | undefined, host: string | undefined, proto?: string, remoteAddress = '10.0.0.1') {
  const headers = { origin, host, 'x-forwarded-proto': proto };
  return isOriginAllowed(
    { method: 'GET', httpVersion: '1.1', url: '/client/websocket', headers, remoteAddress },
    TRUSTED,
  );
}

describe('the origin of an upgrade (B18)', () => {
  it('is absent for native peers, who pass', () => {
    expect(isAllowed(undefined, 'api.example')).toBe(true);
    expect(isAllowed(undefined, undefined)).toBe(true);
  });

  it.each([
    ['http://api.example', 'api.example', undefined],
    ['http://api.example:80', 'api.example', undefined],
    ['http://api.example', 'api.example:80', undefined],
    ['http://API.example', 'api.EXAMPLE', undefined],
    ['http://127.0.0.1:8081', '127.0.0.1:8081', undefined],
    ['http://[::1]:8081', '[::1]:8081', undefined],
    ['https://api.example', 'api.example', 'https'],
    ['https://api.example:443', 'api.example', 'HTTPS'],
  ])('%s passes at Host %s, forwarded proto %s', (origin, host, proto) => {
    expect(isAllowed(origin, host, proto)).toBe(true);
  });

  it.each([
    ['http://evil-api.example', 'api.example', undefined],
    ['http://api.example.evil', 'api.example', undefined],
    ['http://evil.example', 'api.example', undefined],
    ['http://sub.api.example', 'api.example', undefined],
    ['http://api.example:8080', 'api.example', undefined],
    ['https://api.example', 'api.example', undefined],
    ['http://api.example', 'api.example', 'https'],
    ['null', 'api.example', undefined],
    ['', 'api.example', undefined],
    ['api.example', 'api.example', undefined],
    ['file://', 'api.example', undefined],
    ['http://api.example@evil.example', 'api.example', undefined],
    ['http://api.example#', 'api.example', undefined],
    ['http://api.example/', 'api.example', undefined],
    ['http://api.example, http://evil.example', 'api.example', undefined],
    ['http://api.example', undefined, undefined],
    ['http://api.example', '', undefined],
    ['http://evil.example', 'evil.example@api.example', undefined],
    ['http://api.example', 'api.example/..', undefined],
    [`http://${'a'.repeat(100_000)}`, 'api.example', undefined],
  ])('%s is refused at Host %s, forwarded proto %s', (origin, host, proto) => {
    expect(isAllowed(origin, host, proto)).toBe(false);
  });

  it('takes the scheme only from a trusted proxy', () => {
    expect(isAllowed('https://api.example', 'api.example', 'https', '203.0.113.9')).toBe(false);
  });
});
