/**
 * Judges the WireGuard public key a device connects with (D30). A low-order point would make the Diffie-Hellman result
 * of its tunnels a constant that everybody knows.
 */
import { bytesToHex } from '@noble/hashes/utils.js';
import { fromBase64, toBase64 } from './rfc4648.js';

export type JudgedPublicKey =
  | {
      readonly ok: true;
      /** As received. Peers hash the text, so it is never rewritten. */
      readonly publicKey: string;
      /**
       * The same for two texts that mean one point: X25519 ignores the highest bit of the last byte. Compare this one
       * where a key must be unique.
       */
      readonly pointKey: string;
    }
  | { readonly ok: false; readonly why: PublicKeyFault };

export type PublicKeyFault = 'wrong-length' | 'not-base64' | 'low-order';

/** Accepts 44 characters: canonical, padded, standard base64 of 32 bytes that are no point of low order. */
export function judgePublicKey(text: string): JudgedPublicKey {
  if (text.length !== 44) return { ok: false, why: 'wrong-length' };
  const bytes = fromBase64(text);
  if (bytes?.length !== 32) return { ok: false, why: 'not-base64' };

  const point = Uint8Array.from(bytes, (byte, index) => (index === 31 ? byte & 0x7f : byte));
  if (LOW_ORDER_POINTS.has(bytesToHex(point))) return { ok: false, why: 'low-order' };
  return { ok: true, publicKey: text, pointKey: toBase64(point) };
}

/**
 * Every u-coordinate below 2^255, little-endian, that X25519 multiplies to zero: 0, 1, two of order 8, p-1, p and p+1
 * (p = 2^255-19). Nothing here is taken on trust: the test multiplies each.
 */
const LOW_ORDER_POINTS: ReadonlySet<string> = new Set([
  '00'.repeat(32),
  `01${'00'.repeat(31)}`,
  'e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800',
  '5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157',
  `ec${'ff'.repeat(30)}7f`,
  `ed${'ff'.repeat(30)}7f`,
  `ee${'ff'.repeat(30)}7f`,
]);
