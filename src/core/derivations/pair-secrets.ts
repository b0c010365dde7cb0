/** Everything a client and a gateway need to know of each other's tunnel in secret, in one piece. */
import type { PairSecrets } from '../ports/presence.js';
import type { DevicePair } from './device-pair.js';
import { iceCredentials } from './ice-credentials.js';
import { presharedKey } from './preshared-key.js';

/** About 85 µs: call once per pair and keep the answer while both public keys are the same. */
export function pairSecrets(pair: DevicePair): PairSecrets {
  const ice = iceCredentials(pair);
  return { presharedKey: presharedKey(pair), clientIce: ice.client, gatewayIce: ice.gateway };
}
