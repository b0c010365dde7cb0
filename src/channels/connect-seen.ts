import type { AccountHandle } from '../core/ports/account-stores.js';
import type { ConnectedClient, ConnectedGateway } from './connected-peer.js';

/** The stream must have shown a connect's own rows by then, else the peer is closed and comes again (D13). */
const SEEN_WITHIN_MS = 2000;

/**
 * Resolves true when the store is at least as new as the peer's connect: its device and token are there and nothing it
 * changed is missing, or the stream has brought its connect message. A token that was made a moment ago would otherwise
 * be taken for a deleted one, which signs a client out.
 */
export async function connectIsSeen(peer: ConnectedClient | ConnectedGateway, handle: AccountHandle): Promise<boolean> {
  const { state } = handle;
  const device = peer.role === 'client' ? state.row('clients', peer.clientId) : state.row('gateways', peer.gatewayId);
  const isHeld = device !== undefined && state.row('tokens', peer.tokenId) !== undefined;
  return (isHeld && !peer.mustSeeConnect) || (await handle.sawConnect(peer.connectionId, SEEN_WITHIN_MS));
}
