/**
 * A map that can be forked: the fork shows what the map held at that moment, whatever either of them becomes later.
 *
 * Forking costs nothing but a small object. A fork keeps only keys that differ from its origin; before the origin changes
 * a key, it hands the old value down to forks that have none of their own. So a change costs as much as there are forks,
 * and one who is done with a fork must release it. A persistent tree would need no such care, but every lookup would pay.
 *
 * Values are never `undefined`.
 */
export class LayeredMap<Key, Value> {
  readonly #own = new Map<Key, Value | typeof ABSENT>();
  #size = 0;
  #origin: LayeredMap<Key, Value> | undefined;
  #forks: Set<LayeredMap<Key, Value>> | undefined;
  #isReleased = false;

  get size(): number {
    return this.#size;
  }

  get(key: Key): Value | undefined {
    const own = this.#own.get(key);
    if (own !== undefined) return own === ABSENT ? undefined : own;
    return this.#origin?.get(key);
  }

  has(key: Key): boolean {
    return this.get(key) !== undefined;
  }

  set(key: Key, value: Value): void {
    const before = this.get(key);
    this.#handDown(key, before);
    if (before === undefined) this.#size += 1;
    this.#own.set(key, value);
  }

  delete(key: Key): void {
    const before = this.get(key);
    if (before === undefined) return;
    this.#handDown(key, before);
    this.#size -= 1;
    if (this.#origin) this.#own.set(key, ABSENT);
    else this.#own.delete(key);
  }

  /** In no particular order. Deleting the key just given does no harm. */
  *entries(): IterableIterator<[Key, Value]> {
    for (const [key, value] of this.#own) if (value !== ABSENT) yield [key, value];
    if (!this.#origin) return;
    for (const entry of this.#origin.entries()) if (!this.#own.has(entry[0])) yield entry;
  }

  *keys(): IterableIterator<Key> {
    for (const [key] of this.entries()) yield key;
  }

  *values(): IterableIterator<Value> {
    for (const [, value] of this.entries()) yield value;
  }

  [Symbol.iterator](): IterableIterator<Key> {
    return this.keys();
  }

  /**
   * Keys whose values may differ in `other`. Between a fork and its origin, or two forks of one origin, those are few and
   * found without looking at the rest; between strangers every key may differ.
   */
  differingKeys(other: LayeredMap<Key, Value>): Set<Key> {
    if (this === other.#origin) return new Set(other.#own.keys());
    if (other === this.#origin) return new Set(this.#own.keys());
    if (this.#origin && this.#origin === other.#origin) return new Set([...this.#own.keys(), ...other.#own.keys()]);
    return new Set([...this.keys(), ...other.keys()]);
  }

  fork(): LayeredMap<Key, Value> {
    const fork = new LayeredMap<Key, Value>();
    fork.#origin = this;
    fork.#size = this.#size;
    (this.#forks ??= new Set()).add(fork);
    return fork;
  }

  /** Of a fork: it must not be used any more. Costs its origin nothing once its own forks are released as well. */
  release(): void {
    this.#isReleased = true;
    this.#detach();
  }

  #detach(): void {
    const origin = this.#origin;
    if (!origin || !this.#isReleased || this.#forks) return;
    origin.#forks?.delete(this);
    if (origin.#forks?.size === 0) origin.#forks = undefined;
    origin.#detach();
  }

  #handDown(key: Key, before: Value | undefined): void {
    if (!this.#forks) return;
    for (const fork of this.#forks) if (!fork.#own.has(key)) fork.#own.set(key, before ?? ABSENT);
  }
}

const ABSENT = Symbol('absent');
