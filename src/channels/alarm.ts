import type { EpochMs } from '../core/model/time.js';
import type { Clock } from '../core/support/clock.js';

/**
 * One instant a channel waits for; setting another one replaces it. Never rings before it (`Clock.at`): the end of a token
 * signs a client out for good.
 */
export class Alarm {
  #at: EpochMs | null = null;
  #cancel: (() => void) | undefined;

  constructor(
    private readonly clock: Clock,
    private readonly ring: () => void,
  ) {}

  /** Null: wait for nothing. An instant in the past rings at the next turn. */
  set(at: EpochMs | null): void {
    if (at === this.#at) return;
    this.#cancel?.();
    this.#at = at;
    this.#cancel = at === null ? undefined : this.#wakeAt(at);
  }

  /** Rings at the earlier of `at` and what is set already. */
  setEarlier(at: EpochMs | undefined): void {
    if (at !== undefined && (this.#at === null || at < this.#at)) this.set(at);
  }

  #wakeAt(at: EpochMs): () => void {
    return this.clock.at(at, () => {
      this.#at = null;
      this.ring();
    });
  }
}
