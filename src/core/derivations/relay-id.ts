/**
 * The id of a relay, from the secret it makes at each start: a restarted relay, which has lost its allocations, is another
 * relay to everybody (D31, domain.md 7.5).
 */
import { sha256 } from '@noble/hashes/sha2.js';
import { bytesToHex, utf8ToBytes } from '@noble/hashes/utils.js';
import type { RelayId } from '../model/ids.js';

/** 122 bits of SHA-256 in the form of a version 4 UUID. */
export function relayIdOf(stampSecret: string): RelayId {
  const bytes = sha256(utf8ToBytes(stampSecret)).slice(0, 16);
  const view = new DataView(bytes.buffer);
  view.setUint8(6, 0x40 | (view.getUint8(6) & 0x0f));
  view.setUint8(8, 0x80 | (view.getUint8(8) & 0x3f));
  const hex = bytesToHex(bytes);
  const parts = [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)];
  return parts.join('-') as RelayId;
}
