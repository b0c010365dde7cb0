/** A MultiMap that can be forked; see Layer. */
import { Layer } from './layer.js';
import { MultiMap } from './multi-map.js';

/** What readers need of a set; a plain Set is one. */
export interface ValueSet<Value> extends Iterable<Value> {
  readonly size: number;
  has(value: Value): boolean;
}

export class LayeredMultiMap<Key, Value> extends Layer<LayeredMultiMap<Key, Value>> {
  /** Without an origin: everything. In a fork: what it has and its origin need not have. */
  readonly #added = new MultiMap<Key, Value>();
  /** In a fork: what its origin may have and it has not. */
  readonly #removed = new MultiMap<Key, Value>();

  /** The live set: do not keep it across a change. */
  get(key: Key): ValueSet<Value> {
    const added = this.#added.get(key);
    if (!this.origin) return added;
    const removed = this.#removed.get(key);
    const inherited = this.origin.get(key);
    return added.size === 0 && removed.size === 0 ? inherited : new OverlaidSet(inherited, added, removed);
  }

  add(key: Key, value: Value): void {
    if (this.#has(key, value)) return;
    if (this.forks) for (const fork of this.forks) if (!fork.#decides(key, value)) fork.#removed.add(key, value);
    this.#removed.delete(key, value);
    this.#added.add(key, value);
  }

  delete(key: Key, value: Value): void {
    if (!this.#has(key, value)) return;
    if (this.forks) for (const fork of this.forks) if (!fork.#decides(key, value)) fork.#added.add(key, value);
    this.#added.delete(key, value);
    if (this.origin) this.#removed.add(key, value);
  }

  fork(): LayeredMultiMap<Key, Value> {
    return this.adopt(new LayeredMultiMap<Key, Value>());
  }

  #has(key: Key, value: Value): boolean {
    return this.#added.get(key).has(value) || (!this.#removed.get(key).has(value) && this.#inherits(key, value));
  }

  #inherits(key: Key, value: Value): boolean {
    return this.origin !== undefined && this.origin.#has(key, value);
  }

  #decides(key: Key, value: Value): boolean {
    return this.#added.get(key).has(value) || this.#removed.get(key).has(value);
  }
}

class OverlaidSet<Value> implements ValueSet<Value> {
  constructor(
    private readonly inherited: ValueSet<Value>,
    private readonly added: ValueSet<Value>,
    private readonly removed: ValueSet<Value>,
  ) {}

  /** Counts what differs only, not the whole. */
  get size(): number {
    let size = this.inherited.size;
    for (const value of this.added) if (!this.inherited.has(value)) size += 1;
    for (const value of this.removed) if (this.inherited.has(value)) size -= 1;
    return size;
  }

  has(value: Value): boolean {
    return this.added.has(value) || (!this.removed.has(value) && this.inherited.has(value));
  }

  *[Symbol.iterator](): IterableIterator<Value> {
    yield* this.added;
    for (const value of this.inherited) if (!this.added.has(value) && !this.removed.has(value)) yield value;
  }
}
