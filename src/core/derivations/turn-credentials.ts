/**
 * What a peer shows to a relay. The relay computes the same from its stamp secret, which it tells only us
 * (wire-protocol.md 6.5). Same key, secret and expiry give the same password: a changed one drops relayed traffic.
 */
import { sha256 } from '@noble/hashes/sha2.js';
import { utf8ToBytes } from '@noble/hashes/utils.js';
import { toBase64Unpadded } from './rfc4648.js';

/**
 * Unix seconds, 2038-01-01T00:00:00Z. Gateways get this constant, so that a reconnect keeps their allocations; so do
 * clients whose token never expires (D28, wire-protocol.md 1.4).
 */
export const DISTANT_TURN_EXPIRY = 2_145_916_800;

export interface TurnCredentials {
  readonly username: string;
  readonly password: string;
}

/**
 * @param publicKey the peer's 44 characters of base64, as text
 * @param expiresAt unix seconds; part of the username and of the password
 */
export function turnCredentials(publicKey: string, stampSecret: string, expiresAt: number): TurnCredentials {
  const salt = hashed(publicKey);
  return { username: `${expiresAt}:${salt}`, password: hashed(`${expiresAt}:${stampSecret}:${salt}`) };
}

function hashed(text: string): string {
  return toBase64Unpadded(sha256(utf8ToBytes(text)));
}
