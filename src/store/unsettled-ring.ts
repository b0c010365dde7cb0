/**
 * Commits already streamed that are not yet known to be visible to new snapshots (events.md B.3.2, B.4.2).
 *
 * A walsender may send a transaction before its backend has left the set of running ones: with a synchronous standby,
 * long before. A hydration that starts then neither sees the rows in its snapshot nor gets the commit from the stream,
 * which has passed. So the ring keeps such commits and hands them to every hydration that begins; a commit leaves when
 * some snapshot contains it. Without the ring one join in eight was wrong under synchronous replication.
 */
import type { Commit } from '../core/changes/commit.js';
import type { Position } from '../core/model/position.js';
import { contains, type XidSnapshot } from '../core/ports/hydration-reader.js';

interface Entry {
  readonly commit: Commit;
  readonly bytes: number;
}

export class UnsettledRing {
  #entries: Entry[] = [];
  #bytes = 0;

  get isEmpty(): boolean {
    return this.#entries.length === 0;
  }

  get bytes(): number {
    return this.#bytes;
  }

  add(commit: Commit, bytes: number): void {
    this.#entries.push({ commit, bytes });
    this.#bytes += bytes;
  }

  /** In stream order. */
  *commits(): Iterable<Commit> {
    for (const { commit } of this.#entries) yield commit;
  }

  /** Lets go of what the snapshot contains. */
  settle(snapshot: XidSnapshot): void {
    const kept = this.#entries.filter((entry) => !contains(snapshot, entry.commit.xid));
    if (kept.length === this.#entries.length) return;
    this.#entries = kept;
    this.#bytes = kept.reduce((sum, entry) => sum + entry.bytes, 0);
  }

  /** After a failover: ids of the lost branch may be given out again, so nothing kept can be compared any more. */
  clear(): void {
    this.#entries = [];
    this.#bytes = 0;
  }

  /** Position of the oldest commit kept; undefined when all have settled. */
  oldestPosition(): Position | undefined {
    return this.#entries[0]?.commit.position;
  }
}
