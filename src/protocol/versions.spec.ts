import { describe, expect, it } from '@jest/globals';
import type { AccountId, ResourceId } from '../core/model/ids.js';
import type { ResourceRow } from '../core/model/rows.js';
import { isVersion } from '../core/support/peer-version.js';
import { gatewaySuits, knowsExpiryUpdate, prunesOnInit, resourceForVersion } from './versions.js';

function aResource(given: Partial<ResourceRow>): ResourceRow {
  return {
    accountId: '3f1d0c52-8a47-4d5e-9b60-1c2d3e4f5a01' as AccountId,
    id: '4f0c1f7e-58b1-4a3e-9d0f-0a2b1c7e9a10' as ResourceId,
    type: 'dns',
    name: 'Git',
    address: 'example.com',
    addressDescription: null,
    ipStack: null,
    filters: [],
    ...given,
  };
}

describe('a gateway suits a client (D33)', () => {
  it.each([
    ['1.5.2', '1.4.0', true],
    ['1.4.0', '1.4.0', true],
    ['1.4.0', '1.3.99', false],
    ['1.4.0-rc.1', '1.3.99', false], // a candidate of 1.4.0 speaks flows already
    ['1.4.0', '1.4.0-rc.1', true],
    ['1.4.0+build.7', '1.4.0', true],
    ['1.10.0', '1.4.10', true],
    ['1.3.9', '1.1.0', true],
    ['1.3.9', '1.0.9', false],
    ['1.1.0', '1.1.0', true],
    ['1.0.9', '0.0.1', true],
    ['1.0.9', '1.6.0', true],
    ['2.0.0', '1.4.0', true],
    ['1.5.2', 'dev', false],
    ['1.0.0', '', false],
    ['1.0.0', '1.4', false],
  ])('client %s, gateway %s: %s', (client, gateway, suits) => {
    expect(gatewaySuits(client, gateway)).toBe(suits);
  });
});

describe('what gateways learned when', () => {
  it.each([
    ['1.4.12', false, false],
    ['1.4.13', true, false],
    ['1.4.14', true, true],
    ['1.4.14-rc.2', true, true],
    ['1.5.0', true, true],
    ['1.10.0', true, true],
    ['unreadable', false, false],
  ])('%s prunes: %s, moves expiries: %s', (version, prunes, moves) => {
    expect(prunesOnInit(version)).toBe(prunes);
    expect(knowsExpiryUpdate(version)).toBe(moves);
  });
});

describe('a resource for an old peer', () => {
  it.each([
    ['**.example.com', '*.example.com'],
    ['*.example.com', '?.example.com'],
    ['*-prod.corp', '?-prod.corp'],
    ['example.com', 'example.com'],
    ['a.*.com', undefined],
    ['?.example.com', undefined],
    ['foo?.example.com', undefined],
    ['***.example.com', undefined],
    ['**.*.example.com', undefined],
    ['*.example.com*', undefined],
    [`${'*'.repeat(1_000)}.com`, undefined],
    ['a.'.repeat(5_000), 'a.'.repeat(5_000)],
  ])('before 1.2.0, %s becomes %s (domain 8.5)', (address, adapted) => {
    expect(resourceForVersion(aResource({ address }), '1.1.9')?.address).toBe(adapted);
    expect(resourceForVersion(aResource({ address }), '1.2.0')?.address).toBe(address);
    expect(resourceForVersion(aResource({ address }), '1.2.0-rc.1')?.address).toBe(address);
  });

  it('has networks unchanged at any version', () => {
    const lan = aResource({ type: 'cidr', address: '10.0.0.0/8' });
    expect(resourceForVersion(lan, '1.0.0')).toBe(lan);
    expect(resourceForVersion(lan, 'unreadable')).toBe(lan);
  });

  it('has the Internet from 1.3.0 on', () => {
    const internet = aResource({ type: 'internet', address: null });
    expect(resourceForVersion(internet, '1.2.99')).toBeUndefined();
    expect(resourceForVersion(internet, '1.3.0')).toBe(internet);
    expect(resourceForVersion(internet, 'unreadable')).toBeUndefined();
  });
});

describe('version text', () => {
  it('is SemVer or nothing', () => {
    expect(['1.5.2', '1.5.2-rc.1', '0.0.0', '1.5.2+sha'].every(isVersion)).toBe(true);
    expect(['', '1', '1.5', '1.5.2.1', 'abc', '1.5.x', `1.5.2-${'a.'.repeat(4_000)}`].some(isVersion)).toBe(false);
  });
});
