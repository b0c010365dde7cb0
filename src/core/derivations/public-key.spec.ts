import { describe, expect, it } from '@jest/globals';
import { hexToBytes } from '@noble/hashes/utils.js';
import fc from 'fast-check';
import nacl from 'tweetnacl';
import { judgePublicKey } from './public-key.js';
import { toBase64, toBase64Url } from './rfc4648.js';

const LOW_ORDER = {
  zero: '00'.repeat(32),
  one: `01${'00'.repeat(31)}`,
  'the first of order 8': 'e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800',
  'the second of order 8': '5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157',
  'p - 1': `ec${'ff'.repeat(30)}7f`,
  p: `ed${'ff'.repeat(30)}7f`,
  'p + 1': `ee${'ff'.repeat(30)}7f`,
};

const GOOD = toBase64(new Uint8Array(32).fill(1));

function withHighBit(hex: string): Uint8Array {
  return hexToBytes(hex).map((byte, index) => (index === 31 ? byte | 0x80 : byte));
}

describe('the public key of a device (D30, B7)', () => {
  it('is accepted as it came', () => {
    expect(judgePublicKey(GOOD)).toEqual({ ok: true, publicKey: GOOD, pointKey: GOOD });
  });

  it.each(Object.entries(LOW_ORDER))(
    'is refused when it is the low-order point %s, with bit 255 or without',
    (_, hex) => {
      for (const bytes of [hexToBytes(hex), withHighBit(hex)]) {
        // That it is of low order is arithmetic, not a list: every multiple by 8 is zero.
        expect(nacl.scalarMult(new Uint8Array(32).fill(0x42), bytes)).toEqual(new Uint8Array(32));
        expect(judgePublicKey(toBase64(bytes))).toEqual({ ok: false, why: 'low-order' });
      }
    },
  );

  it.each([
    ['nothing', '', 'wrong-length'],
    ['31 bytes', toBase64(new Uint8Array(31).fill(1)), 'not-base64'],
    ['33 bytes', toBase64(new Uint8Array(33).fill(1)), 'not-base64'],
    ['32 bytes without padding', GOOD.slice(0, 43), 'wrong-length'],
    ['30 bytes and four paddings', `${toBase64(new Uint8Array(30).fill(1))}====`, 'not-base64'],
    ['base64url', `${toBase64Url(new Uint8Array(32).fill(0xff))}=`, 'not-base64'],
    ['padding bits that are not zero', `${GOOD.slice(0, 42)}F=`, 'not-base64'],
    ['a line break', `${GOOD.slice(0, 43)}\n`, 'not-base64'],
    ['NUL characters', '\0'.repeat(44), 'not-base64'],
    ['characters above ASCII', 'é'.repeat(44), 'not-base64'],
    ['hex', 'ab'.repeat(22), 'not-base64'],
    ['a megabyte', 'A'.repeat(1_000_000), 'wrong-length'],
  ])('is refused when it is %s', (_what, text, why) => {
    expect(judgePublicKey(text)).toEqual({ ok: false, why });
  });

  it('has one point key for both texts of a point', () => {
    const plain = judgePublicKey(GOOD);
    const alias = judgePublicKey(toBase64(withHighBit('01'.repeat(32))));
    expect(alias).toMatchObject({ ok: true });
    expect(alias).toMatchObject({ pointKey: plain.ok && plain.pointKey });
  });

  it('is accepted for every key pair that a peer can make', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 32, maxLength: 32 }), (secret) => {
        expect(judgePublicKey(toBase64(nacl.scalarMult.base(secret)))).toMatchObject({ ok: true });
      }),
      { numRuns: 20 },
    );
  });
});
