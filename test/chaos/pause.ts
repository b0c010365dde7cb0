/** Waiting, for the harness: it is what makes the time pass that a fault needs. */

export function pause(delayMs: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, delayMs));
}

/** Asks every `everyMs` until it is so. False: it was not within the limit. */
export async function within(limitMs: number, isSo: () => Promise<boolean> | boolean, everyMs = 25): Promise<boolean> {
  const giveUpAt = performance.now() + limitMs;
  for (;;) {
    if (await isSo()) return true;
    if (performance.now() > giveUpAt) return false;
    await pause(everyMs);
  }
}
