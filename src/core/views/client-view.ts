/**
 * What one client has been told: its resources, as they looked when it was told. The difference to what is true now is
 * what must be pushed (VIEW-1), so a change that is undone before the view is looked at pushes nothing.
 */
import type { ResourceId } from '../model/ids.js';
import type { ResourceRow, SiteRow } from '../model/rows.js';
import { sameValue } from '../support/same-value.js';

/** A resource as a client sees it: at least one site. */
export interface ShownResource {
  readonly resource: ResourceRow;
  /** By id. */
  readonly sites: readonly SiteRow[];
}

/** Removals are pushed before additions, each by resource id. An id in both lists is removed and added again. */
export interface ViewDifference {
  readonly removed: readonly ResourceId[];
  readonly upserted: readonly ShownResource[];
}

export class ClientView {
  readonly #told = new Map<ResourceId, ShownResource>();

  has(resourceId: ResourceId): boolean {
    return this.#told.has(resourceId);
  }

  toldIds(): Iterable<ResourceId> {
    return this.#told.keys();
  }

  /**
   * Looks at `ids` again and brings the view up to date with `shown`, which says what the client may see of a resource
   * now (`undefined`: nothing). What it has of `anew` is removed and added again whatever changed (D20b).
   */
  update(
    ids: Iterable<ResourceId>,
    shown: (id: ResourceId) => ShownResource | undefined,
    anew: ReadonlySet<ResourceId> = NONE,
  ): ViewDifference {
    const removed: ResourceId[] = [];
    const upserted: ShownResource[] = [];
    for (const id of [...new Set(ids)].sort()) {
      const before = this.#told.get(id);
      const after = shown(id);
      if (!before && !after) continue;
      if (!after) {
        this.#told.delete(id);
        removed.push(id);
        continue;
      }
      this.#told.set(id, after);
      if (before && looksTheSame(before, after) && !anew.has(id)) continue;
      if (before && (anew.has(id) || mustBeMadeAnew(before, after))) removed.push(id);
      upserted.push(after);
    }
    return { removed, upserted };
  }
}

const NONE: ReadonlySet<ResourceId> = new Set();

/** Clients of 2025 do not apply a change of sites or type to a resource they have (wire-protocol.md 3.3, decisions section 5). */
function mustBeMadeAnew(before: ShownResource, after: ShownResource): boolean {
  return (
    before.resource.type !== after.resource.type ||
    before.sites.length !== after.sites.length ||
    before.sites.some((site, i) => site.id !== after.sites[i]?.id)
  );
}

function looksTheSame(before: ShownResource, after: ShownResource): boolean {
  if (before === after) return true;
  return (
    sameValue(before.resource, after.resource) &&
    before.sites.length === after.sites.length &&
    before.sites.every((site, i) => site.id === after.sites[i]?.id && site.name === after.sites[i]?.name)
  );
}
