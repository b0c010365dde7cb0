/** A client channel's open requests: which answers are still wanted, where they go, and when `offline` was last said. */
import type { ResourceId } from '../../core/model/ids.js';
import type { EpochMs } from '../../core/model/time.js';
import type { Clock } from '../../core/support/clock.js';
import type { Addressed } from '../../protocol/frame.js';

/** A client repeats a request every 2 s, but `offline` removes its throttle: more often would be a storm (D26). */
const OFFLINE_EVERY_MS = 2000;
/** Requests of clients before 1.4 that wait for a reply. The oldest go first: gateways of 1.4 never answer some of them. */
const MAX_REPLIES = 256;

export class OpenRequests {
  #sequence = 0;
  /** Answers up to this number are void: the client forgot the request when the resource was taken from it (D20b). */
  readonly #voidUpTo = new Map<ResourceId, number>();
  readonly #offlineAt = new Map<ResourceId, EpochMs>();
  readonly #replies = new Map<number, Addressed>();

  constructor(private readonly clock: Clock) {}

  /** The number an answer must carry. @param to where it goes, when it is a reply */
  add(to?: Addressed): number {
    this.#sequence += 1;
    if (to) this.#replies.set(this.#sequence, to);
    for (const oldest of this.#replies.keys()) {
      if (this.#replies.size <= MAX_REPLIES) break;
      this.#replies.delete(oldest);
    }
    return this.#sequence;
  }

  /** Where the answer with this number goes; once. */
  takeReply(sequence: number): Addressed | undefined {
    const to = this.#replies.get(sequence);
    this.#replies.delete(sequence);
    return to;
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
