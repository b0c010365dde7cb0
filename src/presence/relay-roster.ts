/** The relays that are online, by account and for all accounts, and who wants to hear of changes. */
import type { AccountId, RelayId } from '../core/model/ids.js';
import { relayAddress, type RelayPeer } from '../core/ports/presence.js';
import { MultiMap } from '../core/support/multi-map.js';

export class RelayRoster {
  readonly #relays = new Map<AccountId | null, Map<RelayId, RelayPeer>>();
  readonly #listeners = new MultiMap<AccountId, () => void>();

  of(accountId: AccountId): readonly RelayPeer[] {
    const found = new Map(this.#relays.get(null));
    for (const [id, relay] of this.#relays.get(accountId) ?? []) {
      const other = found.get(id);
      if (!other || other.upgradeNumber < relay.upgradeNumber) found.set(id, relay);
    }
    return [...found.values()];
  }

  enter(peer: RelayPeer): () => void {
    const others = [...(this.#relays.get(peer.accountId)?.values() ?? [])].filter((other) => isReplacedBy(other, peer));
    if (others.some((other) => other.upgradeNumber > peer.upgradeNumber)) {
      peer.evict();
      return () => undefined;
    }
    // One change to whoever listens: the old one is gone and the new one is here.
    for (const other of others) this.#remove(other);
    this.#add(peer);
    this.#changed(peer.accountId);
    for (const other of others) other.evict();
    return () => {
      if (this.#remove(peer)) this.#changed(peer.accountId);
    };
  }

  on(accountId: AccountId, changed: () => void): () => void {
    this.#listeners.add(accountId, changed);
    return () => {
      this.#listeners.delete(accountId, changed);
    };
  }

  #add(peer: RelayPeer): void {
    const relays = this.#relays.get(peer.accountId) ?? new Map<RelayId, RelayPeer>();
    this.#relays.set(peer.accountId, relays.set(peer.relayId, peer));
  }

  #remove(peer: RelayPeer): boolean {
    const relays = this.#relays.get(peer.accountId);
    if (relays?.get(peer.relayId) !== peer) return false;
    relays.delete(peer.relayId);
    if (relays.size === 0) this.#relays.delete(peer.accountId);
    return true;
  }

  #changed(accountId: AccountId | null): void {
    const concerned = accountId === null ? this.#listeners.allValues() : [...this.#listeners.get(accountId)];
    for (const changed of concerned) changed();
  }
}

function isReplacedBy(other: RelayPeer, peer: RelayPeer): boolean {
  return other.relayId === peer.relayId || relayAddress(other) === relayAddress(peer);
}
