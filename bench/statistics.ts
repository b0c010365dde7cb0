/** Durations in, percentiles out; and what the garbage collector of this process did meanwhile. */
import { PerformanceObserver } from 'node:perf_hooks';

/** Unit ms. */
export interface Summary {
  readonly count: number;
  readonly p50: number;
  readonly p90: number;
  readonly p99: number;
  readonly max: number;
}

/** Nearest rank: every figure is a duration that was measured. Throws when there is none. */
export function summarize(samples: readonly number[]): Summary {
  const sorted = [...samples].sort((a, b) => a - b);
  const at = (share: number): number => {
    const value = sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)];
    if (value === undefined) throw new RangeError('no samples');
    return value;
  };
  return { count: sorted.length, p50: at(0.5), p90: at(0.9), p99: at(0.99), max: at(1) };
}

/** Slope of the line through log size and log cost, by least squares: 0 when size does not matter, 1 when it is paid in full. */
export function growthExponent(points: readonly (readonly [size: number, cost: number])[]): number {
  const logs = points.map(([size, cost]) => [Math.log(size), Math.log(cost)] as const);
  const mean = (of: (log: readonly [number, number]) => number): number =>
    logs.reduce((sum, log) => sum + of(log), 0) / logs.length;
  const [meanSize, meanCost] = [mean(([size]) => size), mean(([, cost]) => cost)];
  const spread = mean(([size]) => (size - meanSize) ** 2);
  return mean(([size, cost]) => (size - meanSize) * (cost - meanCost)) / spread;
}

export interface Collections {
  count: number;
  totalMs: number;
}

/** Counts collections of this process from now on; `stop` returns them. */
export function watchCollections(): { stop(): Collections } {
  const seen: Collections = { count: 0, totalMs: 0 };
  const take = (entries: readonly { readonly duration: number }[]): void => {
    for (const { duration } of entries) {
      seen.count += 1;
      seen.totalMs += duration;
    }
  };
  const observer = new PerformanceObserver((list) => {
    take(list.getEntries());
  });
  observer.observe({ entryTypes: ['gc'] });
  return {
    stop: () => {
      take(observer.takeRecords());
      observer.disconnect();
      return seen;
    },
  };
}
