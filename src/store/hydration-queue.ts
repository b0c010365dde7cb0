import type { AccountId } from '../core/model/ids.js';
import type { AccountSnapshot, HydrationReader } from '../core/ports/hydration-reader.js';

/** Lets only so many accounts be read at once, first come first served: a reconnect storm must not take every connection. */
export class HydrationQueue {
  readonly #waiting: (() => void)[] = [];
  #running = 0;

  constructor(
    private readonly reader: HydrationReader,
    private readonly concurrency: number,
  ) {}

  async read(accountId: AccountId): Promise<AccountSnapshot> {
    if (this.#running >= this.concurrency) await new Promise<void>((go) => this.#waiting.push(go));
    this.#running += 1;
    try {
      return await this.reader.readAccount(accountId);
    } finally {
      this.#running -= 1;
      this.#waiting.shift()?.();
    }
  }
}
