/** A test that waits longer than this waits for something that does not come. */
const WAIT_MS = 5000;

/** Asks again and again until it is so. The question takes its own time; it must not answer at once for ever. */
export async function eventually(what: string, isSo: () => Promise<boolean>): Promise<void> {
  const giveUpAt = performance.now() + WAIT_MS;
  while (!(await isSo())) {
    if (performance.now() > giveUpAt) throw new Error(`waited ${WAIT_MS} ms for ${what}`);
  }
}
