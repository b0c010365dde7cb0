/**
 * What clients that are away must be told when they come back (D20b). Bounded: of many clients that never come back, those
 * that have been away longest are forgotten first; they then ask again as soon as they restart, as all do.
 */
import type { AccountId, ClientId, ResourceId } from '../core/model/ids.js';

/** About 200 bytes each. Fewer would forget clients of a large installation that are away over a weekend. */
const MAX_CLIENTS = 20_000;

export class OwedToggles {
  readonly #owed = new Map<string, Set<ResourceId>>();

  constructor(private readonly limit = MAX_CLIENTS) {}

  add(accountId: AccountId, clientId: ClientId, resourceId: ResourceId): void {
    const key = keyOf(accountId, clientId);
    const known = this.#owed.get(key);
    if (known) {
      known.add(resourceId);
      return;
    }
    this.#owed.set(key, new Set([resourceId]));
    for (const oldest of this.#owed.keys()) {
      if (this.#owed.size <= this.limit) break;
      this.#owed.delete(oldest);
    }
  }

  take(accountId: AccountId, clientId: ClientId): ReadonlySet<ResourceId> {
    const key = keyOf(accountId, clientId);
    const owed = this.#owed.get(key);
    this.#owed.delete(key);
    return owed ?? NONE;
  }
}

const NONE: ReadonlySet<ResourceId> = new Set();

function keyOf(accountId: AccountId, clientId: ClientId): string {
  return `${accountId}/${clientId}`;
}
