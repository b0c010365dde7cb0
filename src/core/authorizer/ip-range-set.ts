/** Many networks as one set: whether an address is in any of them takes a binary search, however many there are. */
import { lastOf, type IpAddress, type IpRange } from './ip-ranges.js';

export class IpRangeSet {
  readonly #v4: readonly Span[];
  readonly #v6: readonly Span[];

  constructor(ranges: readonly IpRange[]) {
    this.#v4 = spansOf(ranges.filter(({ version }) => version === 4));
    this.#v6 = spansOf(ranges.filter(({ version }) => version === 6));
  }

  /** False across address families: an IPv4-mapped IPv6 address is not unwrapped here. */
  has({ version, bits }: IpAddress): boolean {
    const spans = version === 4 ? this.#v4 : this.#v6;
    let low = 0;
    let high = spans.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      const span = spans[middle] as Span;
      if (bits < span.first) high = middle;
      else if (bits > span.last) low = middle + 1;
      else return true;
    }
    return false;
  }
}

/** Addresses from first to last, both inclusive. */
interface Span {
  readonly first: bigint;
  readonly last: bigint;
}

/** Ascending and disjoint: networks nest or share nothing, so one inside another is left out. */
function spansOf(ranges: readonly IpRange[]): readonly Span[] {
  const spans: Span[] = [];
  const sorted = [...ranges].sort((a, b) =>
    a.bits === b.bits ? a.prefixLength - b.prefixLength : a.bits < b.bits ? -1 : 1,
  );
  for (const range of sorted) {
    const last = spans.at(-1)?.last;
    if (last === undefined || range.bits > last) spans.push({ first: range.bits, last: lastOf(range) });
  }
  return spans;
}
