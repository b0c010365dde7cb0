/** A MultiMap that can be forked; what LayeredMap says of cost and release holds here as well. */
import { MultiMap } from './multi-map.js';

/** What readers need of a set; a plain Set is one. */
export interface ValueSet<Value> extends Iterable<Value> {
  readonly size: number;
  has(value: Value): boolean;
}

export class LayeredMultiMap<Key, Value> {
  /** Without an origin: everything. In a fork: what it has and its origin need not have. */
  readonly #added = new MultiMap<Key, Value>();
  /** In a fork: what its origin may have and it has not. */
  readonly #removed = new MultiMap<Key, Value>();
  #origin: LayeredMultiMap<Key, Value> | undefined;
  #forks: Set<LayeredMultiMap<Key, Value>> | undefined;
  #isReleased = false;

  /** The live set: do not keep it across a change. */
  get(key: Key): ValueSet<Value> {
    const added = this.#added.get(key);
    if (!this.#origin) return added;
    const removed = this.#removed.get(key);
    const inherited = this.#origin.get(key);
    return added.size === 0 && removed.size === 0 ? inherited : new OverlaidSet(inherited, added, removed);
  }

  add(key: Key, value: Value): void {
    if (this.#has(key, value)) return;
    if (this.#forks) for (const fork of this.#forks) if (!fork.#decides(key, value)) fork.#removed.add(key, value);
    this.#removed.delete(key, value);
    this.#added.add(key, value);
  }

  delete(key: Key, value: Value): void {
    if (!this.#has(key, value)) return;
    if (this.#forks) for (const fork of this.#forks) if (!fork.#decides(key, value)) fork.#added.add(key, value);
    this.#added.delete(key, value);
    if (this.#origin) this.#removed.add(key, value);
  }

  fork(): LayeredMultiMap<Key, Value> {
    const fork = new LayeredMultiMap<Key, Value>();
    fork.#origin = this;
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

  #has(key: Key, value: Value): boolean {
    return this.#added.get(key).has(value) || (!this.#removed.get(key).has(value) && this.#inherits(key, value));
  }

  #inherits(key: Key, value: Value): boolean {
    return this.#origin !== undefined && this.#origin.#has(key, value);
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
