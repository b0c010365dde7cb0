/** Resident memory of another process, as Linux counts it. Unit bytes. */
import { readFileSync } from 'node:fs';

export function rssOf(pid: number): number {
  return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) * 1024;
}

/** Shorter would miss less of what is freed at once, and take time from what is measured. */
const LOOK_EVERY_MS = 50;

/** Looks again and again from now on; `stop` returns the most that was seen. */
export function watchRss(pid: number): { stop(): number } {
  let most = rssOf(pid);
  const timer = setInterval(() => {
    most = Math.max(most, rssOf(pid));
  }, LOOK_EVERY_MS);
  return {
    stop: () => {
      clearInterval(timer);
      return Math.max(most, rssOf(pid));
    },
  };
}
