/**
 * What can be forked: the fork shows what its origin held at that moment, whatever either of them becomes later.
 *
 * Forking costs nothing but a small object. A fork keeps only what differs from its origin; before the origin changes
 * something, it hands the old value down to forks that have none of their own. So a change costs as much as there are
 * forks, and one who is done with a fork must release it. A persistent tree would need no such care, but every lookup
 * would pay.
 */
export abstract class Layer<Self extends Layer<Self>> {
  /** Undefined of what was not forked from another. */
  protected origin: Self | undefined;
  protected forks: Set<Self> | undefined;
  #isReleased = false;

  abstract fork(): Self;

  /** Of a fork: it must not be used any more. Costs its origin nothing once its own forks are released as well. */
  release(): void {
    this.#isReleased = true;
    this.#detach();
  }

  protected adopt(fork: Self): Self {
    fork.origin = this as unknown as Self;
    (this.forks ??= new Set()).add(fork);
    return fork;
  }

  #detach(): void {
    const { origin } = this;
    if (!origin || !this.#isReleased || this.forks) return;
    origin.forks?.delete(this as unknown as Self);
    if (origin.forks?.size === 0) origin.forks = undefined;
    origin.#detach();
  }
}
