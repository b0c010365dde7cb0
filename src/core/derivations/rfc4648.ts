/**
 * The RFC 4648 encodings that the wire needs, in plain TypeScript: the core has neither Buffer nor atob.
 * Encoding is total. Decoding is strict: one text per value, so that a text can be compared instead of its bytes.
 */

export function toBase64(bytes: Uint8Array): string {
  const text = encode(bytes, BASE64, 6);
  return text.padEnd(Math.ceil(text.length / 4) * 4, '=');
}

export function toBase64Unpadded(bytes: Uint8Array): string {
  return encode(bytes, BASE64, 6);
}

export function toBase64Url(bytes: Uint8Array): string {
  return encode(bytes, BASE64_URL, 6);
}

export function toBase32Lower(bytes: Uint8Array): string {
  return encode(bytes, BASE32_LOWER, 5);
}

/** `undefined` for anything but padded, standard base64 whose unused last bits are zero. */
export function fromBase64(text: string): Uint8Array | undefined {
  if (text.length % 4 !== 0) return undefined;
  const padding = text.endsWith('==') ? 2 : text.endsWith('=') ? 1 : 0;
  return decode(text, text.length - padding, BASE64_VALUES);
}

/** `undefined` for anything but unpadded base64url whose unused last bits are zero. */
export function fromBase64Url(text: string): Uint8Array | undefined {
  return decode(text, text.length, BASE64_URL_VALUES);
}

const LETTERS = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ';
const BASE64 = `${LETTERS}${LETTERS.toLowerCase()}0123456789+/`;
const BASE64_URL = `${LETTERS}${LETTERS.toLowerCase()}0123456789-_`;
const BASE32_LOWER = `${LETTERS.toLowerCase()}234567`;
const BASE64_VALUES = valuesOf(BASE64);
const BASE64_URL_VALUES = valuesOf(BASE64_URL);

function encode(bytes: Uint8Array, alphabet: string, width: number): string {
  const mask = (1 << width) - 1;
  let text = '';
  let held = 0;
  let heldBits = 0;
  for (const byte of bytes) {
    held = ((held << 8) | byte) & 0xffff;
    for (heldBits += 8; heldBits >= width; heldBits -= width)
      text += alphabet.charAt((held >> (heldBits - width)) & mask);
  }
  return heldBits === 0 ? text : text + alphabet.charAt((held << (width - heldBits)) & mask);
}

/** Value by character code; 255 where the alphabet has no such character. */
function valuesOf(alphabet: string): Uint8Array {
  const values = new Uint8Array(128).fill(255);
  for (let value = 0; value < alphabet.length; value += 1) values[alphabet.charCodeAt(value)] = value;
  return values;
}

/** Reads the first `length` characters, six bits each. */
function decode(text: string, length: number, values: Uint8Array): Uint8Array | undefined {
  if (length % 4 === 1) return undefined;
  const bytes = new Uint8Array(Math.floor((length * 6) / 8));
  let held = 0;
  let heldBits = 0;
  let at = 0;
  for (let i = 0; i < length; i += 1) {
    const value = values[text.charCodeAt(i)] ?? 255;
    if (value === 255) return undefined;
    held = ((held << 6) | value) & 0xffff;
    heldBits += 6;
    if (heldBits < 8) continue;
    heldBits -= 8;
    bytes[at++] = held >> heldBits;
  }
  return (held & ((1 << heldBits) - 1)) === 0 ? bytes : undefined;
}
