/** Relays as peers want them, with credentials of the peer that gets them (wire-protocol.md 6.5). */
import { DISTANT_TURN_EXPIRY, turnCredentials } from '../../core/derivations/turn-credentials.js';
import { toUnixSeconds, type EpochMs } from '../../core/model/time.js';
import type { RelayId } from '../../core/model/ids.js';
import type { ClientPushes, RelayEntry } from '../outbound.js';

/** What of an online relay its entries are made from. */
export interface RelayFacts {
  readonly id: RelayId;
  readonly ipv4: string | null;
  readonly ipv6: string | null;
  readonly port: number;
  /** Keys the credentials; never logged. */
  readonly stampSecret: string;
}

/**
 * One entry per address, a relay's own next to each other and always for the same addresses (D28).
 * @param publicKey the receiving peer's
 * @param expiresAt unix seconds, the same at every call for one peer: another value means another password, and relayed
 *   traffic drops. The token's expiry for a client, `DISTANT_TURN_EXPIRY` for a gateway or a token without expiry.
 */
export function relayEntries(relays: readonly RelayFacts[], publicKey: string, expiresAt: number): RelayEntry[] {
  return relays.flatMap((relay) => {
    const credentials = turnCredentials(publicKey, relay.stampSecret, expiresAt);
    return addressesOf(relay).map((addr) => ({
      id: relay.id,
      type: 'turn' as const,
      addr,
      ...credentials,
      expires_at: expiresAt,
    }));
  });
}

/** @param tokenEndsAt of a client's token; null when it never ends, and for gateways, whose tokens do not */
export function turnExpiry(tokenEndsAt: EpochMs | null): number {
  return tokenEndsAt === null ? DISTANT_TURN_EXPIRY : toUnixSeconds(tokenEndsAt);
}

/** Peers remove first, then add. Both lists come from one snapshot of presence (wire-protocol.md 5.2). */
export function relaysPresence(
  disconnectedIds: readonly RelayId[],
  connected: readonly RelayEntry[],
): ClientPushes['relays_presence'] {
  return { disconnected_ids: disconnectedIds, connected };
}

function addressesOf({ ipv4, ipv6, port }: RelayFacts): string[] {
  return [...(ipv4 === null ? [] : [`${ipv4}:${port}`]), ...(ipv6 === null ? [] : [`[${ipv6}]:${port}`])];
}
