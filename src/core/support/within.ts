import type { Clock } from './clock.js';

/** What the task settles to; rejects when that takes longer than `limitMs`. The task itself goes on. */
export async function within<Result>(clock: Clock, limitMs: number, task: Promise<Result>): Promise<Result> {
  let cancel = (): void => undefined;
  const tooLate = new Promise<never>((_resolve, reject) => {
    cancel = clock.after(limitMs, () => {
      reject(new Error(`not within ${limitMs} ms`));
    });
  });
  try {
    return await Promise.race([task, tooLate]);
  } finally {
    cancel();
  }
}
