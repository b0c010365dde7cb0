/** What the simulated peers hear, as it comes, and a way to wait for some of it. */
import type { EpochMs } from '../core/model/time.js';
import type { Clock } from '../core/support/clock.js';

export type PeerName = 'client' | 'gateway';

/** One frame that the server pushed to a peer. */
export interface HeardPush {
  readonly at: EpochMs;
  readonly peer: PeerName;
  readonly event: string;
  /** What it concerns, for a person. */
  readonly about: string;
  /** Set when the peer had asked for it; otherwise the server spoke first, normally because of a commit. */
  readonly answers?: { readonly request: string; readonly afterMs: number };
}

/** An expected push did not come. */
export class NotHeardError extends Error {}

interface Waiter {
  readonly peer: PeerName;
  readonly event: string;
  readonly resolve: (push: HeardPush) => void;
}

export class PushWatch {
  readonly #waiters = new Set<Waiter>();

  constructor(private readonly clock: Clock) {}

  heard(push: HeardPush): void {
    for (const waiter of [...this.#waiters]) {
      if (waiter.peer === push.peer && waiter.event === push.event) waiter.resolve(push);
    }
  }

  /** The next such push that is heard after this call. Rejects with NotHeardError. */
  next(peer: PeerName, event: string, withinMs: number): Promise<HeardPush> {
    return new Promise((resolve, reject) => {
      const waiter: Waiter = {
        peer,
        event,
        resolve: (push) => {
          cancel();
          this.#waiters.delete(waiter);
          resolve(push);
        },
      };
      const cancel = this.clock.after(withinMs, () => {
        this.#waiters.delete(waiter);
        reject(new NotHeardError(`the ${peer} heard no ${event} within ${withinMs / 1000} s`));
      });
      this.#waiters.add(waiter);
    });
  }
}
