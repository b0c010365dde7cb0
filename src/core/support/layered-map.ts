/** A map that can be forked; see Layer. Values are never `undefined`. */
import { Layer } from './layer.js';

export class LayeredMap<Key, Value> extends Layer<LayeredMap<Key, Value>> {
  readonly #own = new Map<Key, Value | typeof ABSENT>();
  #size = 0;

  get size(): number {
    return this.#size;
  }

  get(key: Key): Value | undefined {
    const own = this.#own.get(key);
    if (own !== undefined) return own === ABSENT ? undefined : own;
    return this.origin?.get(key);
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
    if (this.origin) this.#own.set(key, ABSENT);
    else this.#own.delete(key);
  }

  /** In no particular order. Deleting the key just given does no harm. */
  *entries(): IterableIterator<[Key, Value]> {
    for (const [key, value] of this.#own) if (value !== ABSENT) yield [key, value];
    if (!this.origin) return;
    for (const entry of this.origin.entries()) if (!this.#own.has(entry[0])) yield entry;
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
    if (this === other.origin) return new Set(other.#own.keys());
    if (other === this.origin) return new Set(this.#own.keys());
    if (this.origin && this.origin === other.origin) return new Set([...this.#own.keys(), ...other.#own.keys()]);
    return new Set([...this.keys(), ...other.keys()]);
  }

  fork(): LayeredMap<Key, Value> {
    const fork = new LayeredMap<Key, Value>();
    fork.#size = this.#size;
    return this.adopt(fork);
  }

  #handDown(key: Key, before: Value | undefined): void {
    if (!this.forks) return;
    for (const fork of this.forks) if (!fork.#own.has(key)) fork.#own.set(key, before ?? ABSENT);
  }
}

const ABSENT = Symbol('absent');
