import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import type { AccountId, ConnectionId, FlowId, GatewayId, ResourceId } from '../model/ids.js';
import { RefSealer } from './sealed-ref.js';
import type { RefClaims } from './sealed-ref.js';

const CLAIMS: RefClaims = {
  accountId: '3f1d0c52-8a47-4d5e-9b60-1c2d3e4f5a01' as AccountId,
  gatewayId: '5b1d3f77-2c84-4c0e-8a3e-7d2f90c4e102' as GatewayId,
  clientConnectionId: 'c7a1e9f0-4b2d-4c3e-8f5a-6b7c8d9e0f03' as ConnectionId,
  resourceId: '4f0c1f7e-58b1-4a3e-9d0f-0a2b1c7e9a10' as ResourceId,
  flowId: 'e0b9a3e1-2f4d-4b6c-8e7a-5d1c2b3a4f04' as FlowId,
  issuedAt: 1_767_225_600_123,
};

function aSealer(keyByte = 7): RefSealer {
  let calls = 0;
  const bytes = (length: number) => new Uint8Array(length).fill((calls += 1));
  return new RefSealer(new Uint8Array(32).fill(keyByte), { bytes, uuid: () => '', fraction: () => 0 });
}

describe('the sealed ref (D29)', () => {
  it('opens to the claims it was made from', () => {
    const sealer = aSealer();
    expect(sealer.open(sealer.seal(CLAIMS))).toEqual(CLAIMS);
  });

  it('is JSON-safe ASCII far below 2 KiB', () => {
    expect(aSealer().seal(CLAIMS)).toMatch(/^v1\.[A-Za-z0-9_-]{171}$/);
  });

  it('differs at every call and shows nothing of its content', () => {
    const sealer = aSealer();
    const [first, second] = [sealer.seal(CLAIMS), sealer.seal(CLAIMS)];
    expect(first).not.toBe(second);
    expect(sealer.open(second)).toEqual(sealer.open(first));
    const bytes = Buffer.from(first.slice(3), 'base64url').toString('hex');
    expect(bytes).not.toContain(CLAIMS.flowId.replaceAll('-', ''));
  });

  it('is invalid in another process', () => {
    expect(aSealer(8).open(aSealer(7).seal(CLAIMS))).toBeUndefined();
  });

  it('is refused after any change of any character (B12)', () => {
    const sealer = aSealer();
    const sealed = sealer.seal(CLAIMS);
    for (let at = 0; at < sealed.length; at += 1) {
      const other = sealed[at] === 'A' ? 'B' : 'A';
      expect(sealer.open(sealed.slice(0, at) + other + sealed.slice(at + 1))).toBeUndefined();
    }
  });

  it('is refused when cut, extended or made up (B12)', () => {
    const sealer = aSealer();
    const sealed = sealer.seal(CLAIMS);
    const texts = ['', 'v1.', sealed.slice(0, -1), `${sealed}A`, ` ${sealed}`, '__proto__', `v1.${'A'.repeat(171)}`];
    for (const text of texts) expect(sealer.open(text)).toBeUndefined();
  });

  it('never throws on what a gateway sends', () => {
    const sealer = aSealer();
    fc.assert(fc.property(fc.string({ unit: 'binary' }), (text) => expect(sealer.open(text)).toBeUndefined()));
  });

  it('needs a key of 32 bytes', () => {
    expect(
      () => new RefSealer(new Uint8Array(16), { bytes: () => new Uint8Array(), uuid: () => '', fraction: () => 0 }),
    ).toThrow(RangeError);
  });
});
