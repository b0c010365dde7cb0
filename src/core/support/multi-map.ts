/** One key, many values. An empty set is never kept, so the size of the index follows the size of what it indexes. */
export class MultiMap<Key, Value> {
  readonly #sets = new Map<Key, Set<Value>>();

  add(key: Key, value: Value): void {
    const set = this.#sets.get(key);
    if (set) set.add(value);
    else this.#sets.set(key, new Set([value]));
  }

  delete(key: Key, value: Value): void {
    const set = this.#sets.get(key);
    if (!set) return;
    set.delete(value);
    if (set.size === 0) this.#sets.delete(key);
  }

  get isEmpty(): boolean {
    return this.#sets.size === 0;
  }

  /** Every value of every key, as they are now: adding and deleting while walking does no harm. */
  allValues(): Value[] {
    return [...this.#sets.values()].flatMap((set) => [...set]);
  }

  /** The live set: do not keep it across a change. */
  get(key: Key): ReadonlySet<Value> {
    return this.#sets.get(key) ?? (EMPTY as ReadonlySet<Value>);
  }
}

const EMPTY: ReadonlySet<unknown> = new Set();
