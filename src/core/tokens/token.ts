/**
 * The bearer tokens of clients, gateways, relays and the API: their text, their check and their stored digest (D27).
 *
 *   [<nonce>.]pc<k>_<token id: 22><secret: 43><check: 6>      k = c client, g gateway, r relay, a api
 *
 * The three parts are base62 numbers of fixed width, so that a token is one word to whoever double-clicks it. The kind
 * stands in the text and is covered by the check: a gateway token is refused on the client socket before any query.
 * The nonce is what an app put before the dot at its sign-in; only the digest knows it.
 */
import { sha3_256 } from '@noble/hashes/sha3.js';
import { bytesToHex, concatBytes, hexToBytes, utf8ToBytes } from '@noble/hashes/utils.js';
import { isUuid } from '../model/ids.js';
import type { TokenId } from '../model/ids.js';
import type { TokenKind } from '../model/rows.js';

export const TOKEN_SECRET_BYTES = 32;
export const TOKEN_SALT_BYTES = 16;

export type ParsedToken =
  | {
      readonly ok: true;
      readonly kind: TokenKind;
      readonly tokenId: TokenId;
      /** Empty when nothing stands before the dot, or there is no dot. */
      readonly nonce: string;
      /** The secret as it stands in the token. Goes into `digestToken` and nowhere else. */
      readonly material: string;
    }
  | { readonly ok: false };

/** Writes a token without nonce. `secret` is 32 fresh random bytes; anything else throws. */
export function mintToken(kind: TokenKind, tokenId: TokenId, secret: Uint8Array): string {
  if (!isUuid(tokenId)) throw new RangeError('a token id is a lower-case UUID');
  const body = `pc${LETTER_BY_KIND[kind]}_${toBase62(hexToBytes(tokenId.replaceAll('-', '')), ID_WIDTH)}${materialOf(secret)}`;
  return body + checkOf(body);
}

/**
 * Reads a token as a peer sent it. Refuses what is not exactly the form above: wrong length, foreign characters, a
 * number too large for its width, a check that does not fit. Says nothing about whether such a token exists.
 */
export function parseToken(text: string): ParsedToken {
  if (text.length > MAX_NONCE_LENGTH + 1 + TOKEN_LENGTH) return REFUSED;
  const dot = text.indexOf('.');
  const nonce = dot < 0 ? '' : text.slice(0, dot);
  if (nonce.length > MAX_NONCE_LENGTH) return REFUSED;

  const match = TOKEN.exec(text.slice(dot + 1));
  const kind = KIND_BY_LETTER.get(match?.[2] ?? '');
  const [, body = '', , id = '', material = '', check = ''] = match ?? [];
  if (!kind || checkOf(body) !== check) return REFUSED;

  const idBytes = fromBase62(id, ID_BYTES);
  if (!idBytes || !fromBase62(material, TOKEN_SECRET_BYTES)) return REFUSED;
  return { ok: true, kind, tokenId: uuidOf(idBytes), nonce, material };
}

/**
 * What is stored instead of the secret: SHA3-256 over nonce, secret and salt. Each part follows its own length, so that
 * no two inputs run together.
 * @param material the `material` of a parsed token, or the 32 secret bytes it was minted from
 * @param salt 16 random bytes of the token's row
 */
export function digestToken(nonce: string, material: string | Uint8Array, salt: Uint8Array): Uint8Array {
  const text = typeof material === 'string' ? material : materialOf(material);
  return sha3_256(concatBytes(...[utf8ToBytes(nonce), utf8ToBytes(text), salt].map(lengthPrefixed)));
}

/** Compares in a time that depends on the length alone. Different lengths are unequal. */
export function digestsEqual(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  let difference = 0;
  for (let i = 0; i < a.length; i += 1) difference |= (a[i] ?? 0) ^ (b[i] ?? 0);
  return difference === 0;
}

const REFUSED = { ok: false } as const;
const MAX_NONCE_LENGTH = 128;
const ID_BYTES = 16;
const ID_WIDTH = 22;
const SECRET_WIDTH = 43;
const CHECK_WIDTH = 6;
const TOKEN_LENGTH = 'pcx_'.length + ID_WIDTH + SECRET_WIDTH + CHECK_WIDTH;
const TOKEN = /^(pc([cgra])_([0-9A-Za-z]{22})([0-9A-Za-z]{43}))([0-9A-Za-z]{6})$/;

const LETTER_BY_KIND = { client: 'c', gateway: 'g', relay: 'r', api: 'a' } as const satisfies Record<TokenKind, string>;
const KIND_BY_LETTER = new Map<string, TokenKind>([
  ['c', 'client'],
  ['g', 'gateway'],
  ['r', 'relay'],
  ['a', 'api'],
]);

function materialOf(secret: Uint8Array): string {
  if (secret.length !== TOKEN_SECRET_BYTES) throw new RangeError(`a token secret has ${TOKEN_SECRET_BYTES} bytes`);
  return toBase62(secret, SECRET_WIDTH);
}

/** 32 bits of a hash over everything before it: one mistyped token in four thousand million passes. Not a secret. */
function checkOf(body: string): string {
  return toBase62(sha3_256(utf8ToBytes(`portcullis token check:${body}`)).subarray(0, 4), CHECK_WIDTH);
}

function lengthPrefixed(part: Uint8Array): Uint8Array {
  const length = new Uint8Array(4);
  new DataView(length.buffer).setUint32(0, part.length);
  return concatBytes(length, part);
}

function uuidOf(bytes: Uint8Array): TokenId {
  const hex = bytesToHex(bytes);
  const groups = [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)];
  return groups.join('-') as TokenId;
}

const BASE62 = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';

/** The big-endian number `bytes`, written with leading zeros to `width` digits. */
function toBase62(bytes: Uint8Array, width: number): string {
  let rest = BigInt(`0x${bytesToHex(bytes)}`);
  let text = '';
  for (let i = 0; i < width; i += 1, rest /= 62n) text = BASE62.charAt(Number(rest % 62n)) + text;
  return text;
}

/** `undefined` when the number needs more than `length` bytes: each value has one text only. */
function fromBase62(text: string, length: number): Uint8Array | undefined {
  let value = 0n;
  for (const digit of text) value = value * 62n + BigInt(BASE62.indexOf(digit));
  const hex = value.toString(16).padStart(length * 2, '0');
  return hex.length > length * 2 ? undefined : hexToBytes(hex);
}
