/** The two ends of a tunnel, as every derivation of their shared secrets sees them. */
import { concatBytes } from '@noble/hashes/utils.js';
import type { ClientId, GatewayId } from '../model/ids.js';

export interface PairEnd<Id> {
  readonly id: Id;
  /** 44 characters of base64: the text, not the bytes, goes into the derivations. */
  readonly publicKey: string;
  /** 32 secret bytes of the device row, alive as long as the row. */
  readonly pskBase: Uint8Array;
}

export interface DevicePair {
  readonly client: PairEnd<ClientId>;
  readonly gateway: PairEnd<GatewayId>;
}

/** Key of everything derived for the pair. Both parts have a fixed size, so that no two pairs share it by accident. */
export function pairKey({ client, gateway }: DevicePair): Uint8Array {
  if (client.pskBase.length !== 32 || gateway.pskBase.length !== 32) throw new RangeError('a psk base has 32 bytes');
  return concatBytes(client.pskBase, gateway.pskBase);
}
