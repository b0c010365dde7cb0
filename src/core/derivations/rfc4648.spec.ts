import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { fromBase64, fromBase64Url, toBase32Lower, toBase64, toBase64Unpadded, toBase64Url } from './rfc4648.js';

const anyBytes = fc.uint8Array({ maxLength: 100 });

describe('the RFC 4648 encodings', () => {
  it('write what the runtime writes', () => {
    fc.assert(
      fc.property(anyBytes, (bytes) => {
        const buffer = Buffer.from(bytes);
        expect(toBase64(bytes)).toBe(buffer.toString('base64'));
        expect(toBase64Unpadded(bytes)).toBe(buffer.toString('base64').replaceAll('=', ''));
        expect(toBase64Url(bytes)).toBe(buffer.toString('base64url'));
      }),
    );
  });

  it('write base32 as section 10 of the RFC lists it, lower case and unpadded', () => {
    const texts = ['', 'f', 'fo', 'foo', 'foob', 'fooba', 'foobar'];
    const encoded = ['', 'my', 'mzxq', 'mzxw6', 'mzxw6yq', 'mzxw6ytb', 'mzxw6ytboi'];
    expect(texts.map((text) => toBase32Lower(Buffer.from(text)))).toEqual(encoded);
  });

  it('read back what they wrote', () => {
    fc.assert(
      fc.property(anyBytes, (bytes) => {
        expect(fromBase64(toBase64(bytes))).toEqual(bytes);
        expect(fromBase64Url(toBase64Url(bytes))).toEqual(bytes);
      }),
    );
  });

  it('have one text per value: what decodes, encodes to the same text again', () => {
    fc.assert(
      fc.property(fc.stringMatching(/^[A-D01+/_=-]{0,8}$/), (text) => {
        const standard = fromBase64(text);
        const url = fromBase64Url(text);
        if (standard) expect(toBase64(standard)).toBe(text);
        if (url) expect(toBase64Url(url)).toBe(text);
      }),
      { numRuns: 2000 },
    );
  });

  it.each(['A', 'AA', 'AAA', 'AB==', 'AAB=', 'A===', '====', 'AA=A', 'AA==AA==', 'AA==\n', 'A A=', 'AAAé', 'AA-_'])(
    'refuse %j as base64',
    (text) => {
      expect(fromBase64(text)).toBeUndefined();
    },
  );

  it.each(['A', 'AB', 'AA==', 'AA+/', 'AAAAA', ' AAA'])('refuse %j as base64url', (text) => {
    expect(fromBase64Url(text)).toBeUndefined();
  });
});
