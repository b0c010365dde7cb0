/** Who is connected to this process. One entry per device: the newest connection wins, the older one is evicted (D23). */
import type { AccountId, ClientId, GatewayId, ResourceId } from '../core/model/ids.js';
import type { ClientPeer, GatewayPeer, Presence, RelayPeer } from '../core/ports/presence.js';
import { OwedToggles } from './owed-toggles.js';
import { RelayRoster } from './relay-roster.js';

interface Peer {
  readonly accountId: AccountId;
  readonly upgradeNumber: number;
  evict(): void;
}

export class LocalPresence implements Presence {
  readonly #clients = new Roster<ClientId, ClientPeer>();
  readonly #gateways = new Roster<GatewayId, GatewayPeer>();
  readonly #relays = new RelayRoster();
  readonly #owed = new OwedToggles();

  client(accountId: AccountId, clientId: ClientId): ClientPeer | undefined {
    return this.#clients.get(accountId, clientId);
  }

  gateway(accountId: AccountId, gatewayId: GatewayId): GatewayPeer | undefined {
    return this.#gateways.get(accountId, gatewayId);
  }

  gateways(accountId: AccountId): Iterable<GatewayPeer> {
    return this.#gateways.all(accountId);
  }

  enterClient(peer: ClientPeer): () => void {
    return this.#clients.enter(peer.clientId, peer);
  }

  enterGateway(peer: GatewayPeer): () => void {
    return this.#gateways.enter(peer.gatewayId, peer);
  }

  toggle(accountId: AccountId, clientId: ClientId, resourceId: ResourceId): void {
    const client = this.client(accountId, clientId);
    if (client) client.toggle(resourceId);
    else this.#owed.add(accountId, clientId, resourceId);
  }

  takeOwedToggles(accountId: AccountId, clientId: ClientId): ReadonlySet<ResourceId> {
    return this.#owed.take(accountId, clientId);
  }

  relays(accountId: AccountId): readonly RelayPeer[] {
    return this.#relays.of(accountId);
  }

  enterRelay(peer: RelayPeer): () => void {
    return this.#relays.enter(peer);
  }

  onRelays(accountId: AccountId, changed: () => void): () => void {
    return this.#relays.on(accountId, changed);
  }
}

class Roster<Id extends string, P extends Peer> {
  readonly #accounts = new Map<AccountId, Map<Id, P>>();

  get(accountId: AccountId, id: Id): P | undefined {
    return this.#accounts.get(accountId)?.get(id);
  }

  all(accountId: AccountId): Iterable<P> {
    return this.#accounts.get(accountId)?.values() ?? [];
  }

  enter(id: Id, peer: P): () => void {
    let peers = this.#accounts.get(peer.accountId);
    if (!peers) this.#accounts.set(peer.accountId, (peers = new Map<Id, P>()));
    const other = peers.get(id);
    if (other && other.upgradeNumber > peer.upgradeNumber) {
      peer.evict();
      return () => undefined;
    }
    peers.set(id, peer);
    other?.evict();
    return () => {
      const current = this.#accounts.get(peer.accountId);
      if (current?.get(id) !== peer) return;
      current.delete(id);
      if (current.size === 0) this.#accounts.delete(peer.accountId);
    };
  }
}
