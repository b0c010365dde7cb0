/** Spans of time in which something held, by key, and what they have in common. Unit: ms of the monotonic clock. */

/** From `from` on, up to but not including `to`. */
export interface Interval {
  readonly from: number;
  readonly to: number;
}

/** Sorted by `from`, none touching the next. */
export type Timeline = readonly Interval[];

/** Remembers what is on, and makes intervals of it. */
export class Timelines {
  readonly #closed = new Map<string, Interval[]>();
  readonly #open = new Map<string, { from: number; until: number }>();

  /** @param until it ends by itself then, unless told otherwise before */
  on(key: string, at: number, until = Infinity): void {
    const open = this.#open.get(key);
    if (open && open.until > at) {
      open.until = until;
      return;
    }
    this.off(key, at);
    if (until > at) this.#open.set(key, { from: at, until });
  }

  off(key: string, at: number): void {
    const open = this.#open.get(key);
    if (!open) return;
    this.#open.delete(key);
    const to = Math.min(at, open.until);
    if (to <= open.from) return;
    const closed = this.#closed.get(key) ?? [];
    const last = closed.at(-1);
    if (last?.to === open.from) closed[closed.length - 1] = { from: last.from, to };
    else closed.push({ from: open.from, to });
    this.#closed.set(key, closed);
  }

  /** Turns off whatever is on and not named. */
  onlyOn(keys: ReadonlyMap<string, number>, at: number): void {
    for (const key of [...this.#open.keys()]) if (!keys.has(key)) this.off(key, at);
    for (const [key, until] of keys) this.on(key, at, until);
  }

  isOn(key: string, at: number): boolean {
    return (this.#open.get(key)?.until ?? -Infinity) > at;
  }

  get keysOn(): string[] {
    return [...this.#open.keys()];
  }

  /** All of them; what is still on ends at `at`. */
  finish(at: number): ReadonlyMap<string, Timeline> {
    for (const key of this.keysOn) this.off(key, at);
    return this.#closed;
  }
}

/** The parts of `whole` that lie in none of `parts`. Both sorted. */
export function minus(whole: Timeline, parts: Timeline): Interval[] {
  const left: Interval[] = [];
  let next = 0;
  for (const { from, to } of whole) {
    let at = from;
    while (next < parts.length && (parts[next]?.to ?? Infinity) <= at) next += 1;
    for (let i = next; i < parts.length; i += 1) {
      const part = parts[i];
      if (!part || part.from >= to) break;
      if (part.from > at) left.push({ from: at, to: part.from });
      at = Math.max(at, part.to);
    }
    if (at < to) left.push({ from: at, to });
  }
  return left;
}

/** The parts of `whole` that lie in one of `parts`. Both sorted. */
export function within(whole: Timeline, parts: Timeline): Interval[] {
  const found: Interval[] = [];
  let next = 0;
  for (const { from, to } of whole) {
    while (next < parts.length && (parts[next]?.to ?? Infinity) <= from) next += 1;
    for (let i = next; i < parts.length; i += 1) {
      const part = parts[i];
      if (!part || part.from >= to) break;
      found.push({ from: Math.max(from, part.from), to: Math.min(to, part.to) });
    }
  }
  return found;
}

/** When the timeline was on last, at `at` or before; -Infinity: never. */
export function lastOnBefore(timeline: Timeline, at: number): number {
  let low = 0;
  let high = timeline.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((timeline[middle]?.from ?? Infinity) < at) low = middle + 1;
    else high = middle;
  }
  const last = timeline[low - 1];
  return last ? Math.min(last.to, at) : -Infinity;
}
