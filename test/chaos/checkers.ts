/**
 * The checkers of reliability.md 2.4: pure functions from what was observed and what is true to what is wrong. Each has a
 * test that plants a violation.
 */
import { type Interval, lastOnBefore, minus, type Timeline, within } from './intervals.js';
import type { SeenName } from './peer-models.js';
import type { Cut } from './replay.js';

/** A fault was in force from `from` to `to`; what it delayed must be made good `graceMs` later. */
export interface FaultWindow extends Interval {
  readonly id: string;
  readonly graceMs: number;
}

/** Something was so that should not have been, for a while. */
export interface Lateness {
  readonly key: string;
  /** When it became wrong: the commit, or the join of the socket if that was later. */
  readonly since: number;
  /** When it was wrong: not before `since`. */
  readonly from: number;
  readonly to: number;
  /** Faults that were in force meanwhile; for what took longer than the bound, also those that were only just over. */
  readonly faults: readonly string[];
  readonly isLate: boolean;
}

export interface Bounds {
  /** How long the effect of a commit may take with no fault. */
  readonly deltaMs: number;
  readonly faults: readonly FaultWindow[];
}

type Keyed = ReadonlyMap<string, Timeline>;

/**
 * Checker 1 (S1, S2, L1; with `observed` and `truth` exchanged, L2): where was `observed` on and `truth` off, while the
 * peer was connected? Each such span is judged by how long after `since` it ended. A fault prolongs the
 * time that is allowed until its grace has passed, also when it begins inside the time another one prolonged.
 *
 * @param since when it became wrong: `truth-ended`, the last moment of truth, however late `observed` came on after it (a
 * grant on old state is as late as its state is old); or `began`, the beginning of the span
 * @param spansOf when the peer of an observed key was connected
 */
export function lateness(
  observed: Keyed,
  truth: Keyed,
  {
    since: sinceWhen,
    spansOf,
  }: { readonly since: 'truth-ended' | 'began'; readonly spansOf: (key: string) => Timeline },
  bounds: Bounds,
): Lateness[] {
  const windows = [...bounds.faults].sort((a, b) => a.from - b.from);
  const found: Lateness[] = [];
  for (const [key, timeline] of observed) {
    const right = truth.get(key) ?? [];
    const spans = spansOf(key);
    for (const wrong of within(minus(timeline, right), spans)) {
      const span = spans.find(({ from, to }) => from <= wrong.from && wrong.from < to);
      const ended = sinceWhen === 'began' ? wrong.from : lastOnBefore(right, wrong.from);
      const since = Math.max(ended, span?.from ?? wrong.from);
      found.push(judged({ key, since, from: wrong.from, to: wrong.to }, windows, bounds.deltaMs));
    }
  }
  return found;
}

/** @param windows sorted by `from` */
function judged(
  wrong: Omit<Lateness, 'faults' | 'isLate'>,
  windows: readonly FaultWindow[],
  deltaMs: number,
): Lateness {
  const { since, to } = wrong;
  let deadline = since + deltaMs;
  const faults = new Set<string>();
  for (const window of windows) {
    if (window.from > Math.max(deadline, to)) break;
    const madeGoodAt = window.to + window.graceMs;
    if (madeGoodAt < since) continue;
    if (window.from <= to && (window.to >= since || to - since > deltaMs)) faults.add(window.id);
    if (window.from <= deadline) deadline = Math.max(deadline, madeGoodAt);
  }
  return { ...wrong, faults: [...faults], isLate: to > deadline };
}

/** Checker 1 for cuts by hand (D8a): no pair is held across one, whatever else is true. */
export function uncutPairs(
  held: Keyed,
  cuts: readonly Cut[],
  spansOf: (key: string) => Timeline,
  bounds: Bounds,
): Lateness[] {
  const windows = [...bounds.faults].sort((a, b) => a.from - b.from);
  const found: Lateness[] = [];
  const byPair = new Map<string, Cut[]>();
  for (const cut of cuts) byPair.set(cut.key, [...(byPair.get(cut.key) ?? []), cut]);
  for (const [key, timeline] of held) {
    for (const { at } of byPair.get(key.slice(0, key.lastIndexOf('|'))) ?? []) {
      const across = timeline.find(({ from, to }) => from < at && at < to);
      if (!across) continue;
      for (const span of spansOf(key)) {
        const since = Math.max(at, span.from);
        const to = Math.min(across.to, span.to);
        if (to <= since) continue;
        found.push(judged({ key, since, from: since, to }, windows, bounds.deltaMs));
        break;
      }
    }
  }
  return found;
}

/**
 * Checker 2 (S3, G2): the names a socket was told for a resource are names that a commit left it with, in commit order. A
 * name that was rolled back, or was there only inside a commit, is none of them.
 *
 * @param names `resource name` → position
 */
export function orderViolations(seen: readonly SeenName[], names: ReadonlyMap<string, bigint>): string[] {
  const found: string[] = [];
  const last = new Map<string, { readonly position: bigint; readonly name: string }>();
  for (const { socket, resource, name } of seen) {
    const position = names.get(`${resource} ${name}`);
    const place = `${socket} ${resource}`;
    const before = last.get(place);
    if (position === undefined) found.push(`${socket} was told "${name}" of ${resource}, which no commit left it with`);
    else if (before && position < before.position)
      found.push(`${socket} was told "${name}" of ${resource} after "${before.name}"`);
    else last.set(place, { position, name });
  }
  return found;
}

/**
 * Section 1 of reliability.md: who has heard nothing of the database for too long grants nothing. @param silences from the
 * last it can have heard to the repair
 */
export function staleGrants(
  grantedAt: readonly number[],
  silences: readonly Interval[],
  staleAfterMs: number,
): string[] {
  return silences.flatMap(({ from, to }) =>
    grantedAt
      .filter((at) => at > from + staleAfterMs && at < to)
      .map((at) => `a flow was granted ${Math.round(at - from)} ms after the database fell silent`),
  );
}

/** Checker 3: both are the same list. Names what only one of them has. */
export function differences(what: string, observed: Iterable<string>, expected: Iterable<string>): string[] {
  const [seen, wanted] = [new Set(observed), new Set(expected)];
  return [
    ...[...seen].filter((item) => !wanted.has(item)).map((item) => `${what}: has ${item}, which it should not`),
    ...[...wanted].filter((item) => !seen.has(item)).map((item) => `${what}: lacks ${item}`),
  ].sort();
}

/** What was acknowledged, and how much of the stream was on record then. */
export interface AckSample {
  readonly at: number;
  /** `confirmed_flush_lsn`, read before the count. */
  readonly confirmed: bigint;
  /** Commits on record up to it. */
  readonly recorded: number;
  /** Only those after it count: before it the slot was made anew. */
  readonly after: bigint;
}

/**
 * Checker 5 (S8): nothing is acknowledged before it is on record. @param commits positions of commits of published tables,
 * rising
 */
export function ackViolations(samples: readonly AckSample[], commits: readonly bigint[]): string[] {
  const found: string[] = [];
  for (const { at, confirmed, recorded, after } of samples) {
    const owed = countUpTo(commits, confirmed) - countUpTo(commits, after);
    if (recorded < owed) {
      found.push(`at ${Math.round(at)} ms ${owed} commits were acknowledged and ${recorded} of them recorded`);
    }
  }
  return found;
}

function countUpTo(sorted: readonly bigint[], limit: bigint): number {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((sorted[middle] ?? limit) <= limit) low = middle + 1;
    else high = middle;
  }
  return low;
}

export interface Distribution {
  readonly count: number;
  readonly p50: number;
  readonly p99: number;
  readonly max: number;
}

/** Checker 6. Nearest rank, in ms with one decimal. Undefined when there is nothing to tell. */
export function distribution(samples: readonly number[]): Distribution | undefined {
  const sorted = [...samples].sort((a, b) => a - b);
  const at = (share: number): number => {
    const value = sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)] ?? 0;
    return Math.round(value * 10) / 10;
  };
  return sorted.length === 0 ? undefined : { count: sorted.length, p50: at(0.5), p99: at(0.99), max: at(1) };
}

/**
 * What a writer was told about its transactions against the history: one that was confirmed is there, one that failed or was
 * rolled back is not. Finds faults of the database or of the harness: without it a history could be blamed on the product.
 */
export function historyViolations(
  operations: readonly { readonly mark: string; readonly outcome: 'ok' | 'fail' | 'info' }[],
  committed: ReadonlySet<string>,
): string[] {
  return operations.flatMap(({ mark, outcome }) => {
    if (outcome === 'info' || (outcome === 'ok') === committed.has(mark)) return [];
    return [
      outcome === 'ok' ? `${mark} was confirmed and is not in the history` : `${mark} failed and is in the history`,
    ];
  });
}
