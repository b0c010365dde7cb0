import type { Clock } from '../core/support/clock.js';

/** Connect messages seen in the stream, and channels that wait for one. Either may come first. */
export class ConnectMessages {
  readonly #waiting = new Map<string, () => void>();
  /** The last ones seen, so that a message which overtook its waiter is not missed. */
  readonly #seen = new Set<string>();

  saw(connectionId: string): void {
    const wake = this.#waiting.get(connectionId);
    if (wake) wake();
    this.#seen.add(connectionId);
    if (this.#seen.size > 10_000) for (const oldest of this.#seen) return void this.#seen.delete(oldest);
  }

  wait(connectionId: string, withinMs: number, clock: Clock): Promise<boolean> {
    if (this.#seen.has(connectionId)) return Promise.resolve(true);
    return new Promise((resolve) => {
      const done = (saw: boolean): void => {
        cancel();
        this.#waiting.delete(connectionId);
        resolve(saw);
      };
      const cancel = clock.after(withinMs, () => {
        done(false);
      });
      this.#waiting.set(connectionId, () => {
        done(true);
      });
    });
  }
}
