/**
 * The WireGuard preshared key of a client and a gateway. The same every time while both public keys are unchanged:
 * a key that changed per flow would blackhole the traffic of a tunnel that is already up (wire-protocol.md 0.11, 6.7).
 */
import { pbkdf2 } from '@noble/hashes/pbkdf2.js';
import { sha256 } from '@noble/hashes/sha2.js';
import { utf8ToBytes } from '@noble/hashes/utils.js';
import { pairKey } from './device-pair.js';
import type { DevicePair } from './device-pair.js';
import { toBase64 } from './rfc4648.js';

/**
 * 32 bytes as padded base64. One iteration is enough: the password is 64 random bytes, nothing that could be guessed.
 * Takes about 45 µs (Node 20, one core), so whoever has many flows of one pair keeps the result for the pair.
 */
export function presharedKey(pair: DevicePair): string {
  const { client, gateway } = pair;
  const salt = `WG_PSK|C_ID:${client.id}|G_ID:${gateway.id}|C_PK:${client.publicKey}|G_PK:${gateway.publicKey}`;
  return toBase64(pbkdf2(sha256, pairKey(pair), utf8ToBytes(salt), { c: 1, dkLen: 32 }));
}
