import { describe, expect, it } from '@jest/globals';
import { bytesToHex } from '@noble/hashes/utils.js';
import fc from 'fast-check';
import type { TokenId } from '../model/ids.js';
import type { TokenKind } from '../model/rows.js';
import { digestsEqual, digestToken, mintToken, parseToken } from './token.js';

const TOKEN_ID = '0c8f2b0e-6f0a-4a55-9d5c-2f4f7a1b9c01' as TokenId;
const SECRET = new Uint8Array(32).fill(0xa3);
const SALT = new Uint8Array(16).fill(0x5a);
const FROZEN = 'pcc_0NhKpSpxilgh6W17GgrK1xcnqBPsFnFVzWq4gZbQWFPoSfqUTwVSyxnwORofT8cdf4A2zQY';

const aKind = fc.constantFrom<TokenKind>('client', 'gateway', 'relay', 'api');
const anId = fc.uuid({ version: [1, 2, 3, 4, 5, 6, 7, 8] }).map((id) => id as TokenId);
const aSecret = fc.uint8Array({ minLength: 32, maxLength: 32 });

describe('the text of a token (D27)', () => {
  it('does not change between releases: a stored token must stay readable', () => {
    expect(mintToken('client', TOKEN_ID, SECRET)).toBe(FROZEN);
  });

  it('has fixed widths whatever the numbers are', () => {
    const smallest = mintToken('gateway', '00000000-0000-0000-0000-000000000001' as TokenId, new Uint8Array(32));
    const largest = mintToken(
      'gateway',
      'ffffffff-ffff-ffff-ffff-ffffffffffff' as TokenId,
      new Uint8Array(32).fill(255),
    );
    for (const token of [smallest, largest]) {
      expect(token).toMatch(/^pcg_[0-9A-Za-z]{71}$/);
      expect(parseToken(token)).toMatchObject({ ok: true });
    }
  });

  it('gives back kind and id, with and without a nonce', () => {
    fc.assert(
      fc.property(aKind, anId, aSecret, fc.stringMatching(/^[^.]{0,60}$/), (kind, tokenId, secret, nonce) => {
        const token = mintToken(kind, tokenId, secret);
        expect(parseToken(token)).toMatchObject({ ok: true, kind, tokenId, nonce: '' });
        expect(parseToken(`.${token}`)).toEqual(parseToken(token));
        expect(parseToken(`${nonce}.${token}`)).toMatchObject({ ok: true, kind, tokenId, nonce });
      }),
    );
  });

  it('refuses a secret or an id of the wrong size when minting', () => {
    expect(() => mintToken('client', TOKEN_ID, new Uint8Array(31))).toThrow(RangeError);
    expect(() => mintToken('client', 'nonsense' as TokenId, SECRET)).toThrow(RangeError);
  });
});

describe('what is refused before any query (B9)', () => {
  it('refuses every flip of every bit of every character', () => {
    for (let at = 0; at < FROZEN.length; at += 1)
      for (let bit = 0; bit < 16; bit += 1) {
        const flipped = String.fromCharCode(FROZEN.charCodeAt(at) ^ (1 << bit));
        const token = FROZEN.slice(0, at) + flipped + FROZEN.slice(at + 1);
        const parsed = parseToken(token);
        // A dot in the first place leaves 74 characters, elsewhere even fewer: refused as well.
        expect(parsed).toEqual({ ok: false });
      }
  });

  it('refuses every exchange of two neighbours that differ', () => {
    for (let at = 0; at + 1 < FROZEN.length; at += 1) {
      if (FROZEN[at] === FROZEN[at + 1]) continue;
      const swapped = `${FROZEN.slice(0, at)}${FROZEN[at + 1]}${FROZEN[at]}${FROZEN.slice(at + 2)}`;
      expect(parseToken(swapped)).toEqual({ ok: false });
    }
  });

  it('refuses a secret moved into another token, whose check does not cover it', () => {
    const other = mintToken('client', '5b1d3f77-2c84-4c0e-8a3e-7d2f90c4e102' as TokenId, new Uint8Array(32).fill(1));
    expect(parseToken(FROZEN.slice(0, 26) + other.slice(26, 69) + FROZEN.slice(69))).toEqual({ ok: false });
  });

  it('refuses a kind changed by hand', () => {
    for (const letter of 'gra') expect(parseToken(`pc${letter}${FROZEN.slice(3)}`)).toEqual({ ok: false });
  });

  it.each([
    ['nothing', ''],
    ['a dot', '.'],
    ['a short one', FROZEN.slice(0, -1)],
    ['a long one', `${FROZEN}0`],
    ['white space around it', ` ${FROZEN}`],
    ['a line break after it', `${FROZEN}\n`],
    ['a nonce of 129 characters', `${'n'.repeat(129)}.${FROZEN}`],
    ['two dots', `a.b.${FROZEN}`],
    ['a foreign alphabet', FROZEN.replace(/.$/u, 'é')],
    ['the original product’s form', '.SFMyNTY.g2gDbQAAACQ.c2ln'],
    ['ten megabytes', 'x'.repeat(10_000_000)],
    ['an id above 2^128 under a good check', `pcc_${'z'.repeat(22)}${'0'.repeat(44)}gT4nP`],
    ['a secret above 2^256 under a good check', `pcc_${'0'.repeat(22)}${'z'.repeat(43)}3G7hd1`],
    ['a name of Object.prototype', '__proto__'],
  ])('refuses %s', (_what, text) => {
    expect(parseToken(text)).toEqual({ ok: false });
  });

  it('accepts a nonce of exactly 128 characters', () => {
    expect(parseToken(`${'n'.repeat(128)}.${FROZEN}`)).toMatchObject({ ok: true, nonce: 'n'.repeat(128) });
  });

  it('never throws', () => {
    fc.assert(fc.property(fc.string({ unit: 'binary', maxLength: 300 }), (text) => void parseToken(text)));
  });
});

describe('the stored digest', () => {
  it('does not change between releases', () => {
    expect(bytesToHex(digestToken('', SECRET, SALT))).toBe(
      'ead8b3c02bbad88bedb32b1910d4031876d5da43352e88e618981c7795ba3cb8',
    );
    expect(bytesToHex(digestToken('n0nce', SECRET, SALT))).toBe(
      '8d168a8fb4479567ccaa02cadbe8e206d6fde6e6308d4fd879d2f524b21a0d2a',
    );
  });

  it('is the same from the secret bytes and from the parsed token', () => {
    const parsed = parseToken(FROZEN);
    if (!parsed.ok) throw new Error('the frozen token must parse');
    expect(digestToken('', parsed.material, SALT)).toEqual(digestToken('', SECRET, SALT));
  });

  it('differs when nonce, secret or salt differ, and when characters move between them (B30)', () => {
    const digests = [
      digestToken('', 'abc', SALT),
      digestToken('a', 'bc', SALT),
      digestToken('ab', 'c', SALT),
      digestToken('', 'abc', SALT.subarray(1)),
      digestToken('', 'abcZ', SALT.subarray(1)), // 'Z' is 0x5a, a byte of the salt
    ].map(bytesToHex);
    expect(new Set(digests).size).toBe(digests.length);
  });

  it('is compared by content and length', () => {
    const digest = digestToken('', SECRET, SALT);
    expect(digestsEqual(digest, digestToken('', SECRET, SALT))).toBe(true);
    expect(digestsEqual(digest, digest.subarray(0, 31))).toBe(false);
    for (let at = 0; at < digest.length; at += 1) {
      const altered = Uint8Array.from(digest, (byte, index) => (index === at ? byte ^ 1 : byte));
      expect(digestsEqual(digest, altered)).toBe(false);
    }
  });
});
