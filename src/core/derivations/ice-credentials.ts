/**
 * The ICE credentials of a client and a gateway: the same every time while both public keys are unchanged, and known
 * to nobody who lacks the secrets of both device rows (D28). The unkeyed formula of wire-protocol.md 6.6 could be
 * computed from ids and public keys; peers only need the lengths and that the answer never varies.
 */
import { hmac } from '@noble/hashes/hmac.js';
import { sha256 } from '@noble/hashes/sha2.js';
import { utf8ToBytes } from '@noble/hashes/utils.js';
import type { IceCredentials } from '../ports/presence.js';
import { pairKey } from './device-pair.js';
import type { DevicePair } from './device-pair.js';
import { toBase32Lower } from './rfc4648.js';

/**
 * HMAC-SHA256 under both psk bases, cut into four: user names of 4 characters, passwords of 22. The message is a JSON list: whatever the fields hold, two different
 * pairs never write the same one, and it never reads like the salt of the preshared key, which has the same key.
 * Takes about 40 µs; kept per pair with the preshared key.
 */
export function iceCredentials(pair: DevicePair): { client: IceCredentials; gateway: IceCredentials } {
  const { client, gateway } = pair;
  const message = JSON.stringify(['ice', client.id, client.publicKey, gateway.id, gateway.publicKey]);
  const text = toBase32Lower(hmac(sha256, pairKey(pair), utf8ToBytes(message)));
  return {
    client: { username: text.slice(0, 4), password: text.slice(4, 26) },
    gateway: { username: text.slice(26, 30), password: text.slice(30, 52) },
  };
}
