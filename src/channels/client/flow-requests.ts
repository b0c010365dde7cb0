/** A client channel's open requests: which answers are still wanted, and when `offline` was last said. */
import type { ResourceId } from '../../core/model/ids.js';
import type { EpochMs } from '../../core/model/time.js';
import type { Clock } from '../../core/support/clock.js';

/** A client repeats a request every 2 s, but `offline` removes its throttle: more often would be a storm (D26). */
const OFFLINE_EVERY_MS = 2000;

export class FlowRequests {
  #sequence = 0;
  /** Answers up to this number are void: the client forgot the request when the resource was taken from it (D20b). */
  readonly #voidUpTo = new Map<ResourceId, number>();
  readonly #offlineAt = new Map<ResourceId, EpochMs>();

  constructor(private readonly clock: Clock) {}

  /** The number an answer must carry. */
  open(): number {
    this.#sequence += 1;
    return this.#sequence;
  }

  /** `resource_deleted` goes out: older requests for it are void. */
  forget(resourceId: ResourceId): void {
    if (this.#sequence > 0) this.#voidUpTo.set(resourceId, this.#sequence);
    this.#offlineAt.delete(resourceId);
  }

  isAwaited(resourceId: ResourceId, sequence: number): boolean {
    return sequence > (this.#voidUpTo.get(resourceId) ?? 0);
  }

  /** At most once per resource and 2 s; when false the request is ignored. */
  mayReportOffline(resourceId: ResourceId): boolean {
    const now = this.clock.now();
    const last = this.#offlineAt.get(resourceId);
    if (last !== undefined && now - last < OFFLINE_EVERY_MS) return false;
    this.#offlineAt.set(resourceId, now);
    return true;
  }
}
