/** What every bench is given, and how it waits. */
export interface BenchOptions {
  /** Measured samples of each kind in a round. */
  readonly samples: number;
  /** Whole measurements; the quietest is reported, with the range over all. */
  readonly rounds: number;
  /** Processes under test write a CPU profile there when they end. */
  readonly profileDir: string | undefined;
}

/** @param noise smaller is quieter; judged by the floor alone, which is not ours to tune */
export async function quietestOf<Round>(
  count: number,
  round: () => Promise<Round>,
  noise: (round: Round) => number,
): Promise<{ readonly quietest: Round; readonly all: readonly Round[] }> {
  const first = await round();
  const all = [first];
  while (all.length < count) all.push(await round());
  return { quietest: all.reduce((best, each) => (noise(each) < noise(best) ? each : best), first), all };
}

export function pause(delayMs: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, delayMs));
}

/** Unmeasured samples before each round, without rests: a server that runs for days has compiled its code. */
export const WARM_UP = 1_000;

/** Long enough for what a sample leaves behind (history rows, 10 ms later) to be written before the next is timed. */
const REST_MS = { least: 15, most: 30 };

/** The machine comes to rest, for a time that falls in step with no timer. */
export function rest(): Promise<void> {
  return pause(REST_MS.least + Math.random() * (REST_MS.most - REST_MS.least));
}

/** Of the machine, not of the process: instants of two processes may be compared. */
export function monotonicMs(): number {
  return Number(process.hrtime.bigint()) / 1e6;
}

/** Longer than anything measured here: a frame that does not come ends the bench with its name, not in silence. */
const PATIENCE_MS = 15_000;

export function patiently<Value>(
  what: string,
  begin: (resolve: (value: Value) => void) => void,
  withinMs = PATIENCE_MS,
): Promise<Value> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      reject(new Error(`waited ${withinMs} ms for ${what}`));
    }, withinMs);
    begin((value) => {
      clearTimeout(timer);
      resolve(value);
    });
  });
}
