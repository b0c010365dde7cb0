/** A process that puts the questions to one engine: first every answer is checked, then the asking is timed. */
import { once } from 'node:events';
import { bareLookup, oursByClient, oursBySubject, oursWithWindows } from './authorize-ours.js';
import {
  type Ask,
  caslById,
  caslByType,
  casbinSlice,
  casbinWhole,
  cedarSlice,
  cedarWhole,
  type MakeAsk,
} from './authorize-peers.js';
import { accountOf, allowedByActor, FULL_SIZE, type Question, questionsOf } from './authorize-rules.js';

export interface Engine {
  readonly make: MakeAsk;
  /** How many of the questions it is asked, from the first one on; all when not set. */
  readonly sample?: number;
}

const ENGINES = {
  bare: { make: bareLookup },
  'ours-subject': { make: oursBySubject },
  'ours-client': { make: oursByClient },
  'ours-windows': { make: oursWithWindows },
  'casl-type': { make: caslByType },
  'casl-id': { make: caslById },
  'casbin-slice': { make: casbinSlice },
  'casbin-whole': { make: casbinWhole, sample: 200 },
  'cedar-slice': { make: cedarSlice },
  'cedar-whole': { make: cedarWhole, sample: 100 },
} as const satisfies Record<string, Engine>;

export type EngineName = keyof typeof ENGINES;

export interface DecisionsInput {
  readonly engine: EngineName;
}

export interface Decisions {
  readonly asked: number;
  readonly allowed: number;
  /** By processor time, collecting garbage included, so that it is one core's; one per pass over what is asked. */
  readonly perSecond: readonly number[];
}

/** Passes are repeated this long to let the compiler settle, then this long for the record, and so often at least. */
const WARM_UP = { forMs: 2_000, least: 1 };
const MEASURE = { forMs: 2_000, least: 3 };

const [{ engine }] = (await once(process, 'message')) as [DecisionsInput];
process.send?.(await measure(ENGINES[engine]));
process.disconnect();

async function measure({ make, sample }: Engine): Promise<Decisions> {
  const account = accountOf(FULL_SIZE);
  const all = questionsOf(account);
  const truth = allowedByActor(account);
  const questions = all.slice(0, sample);
  const expected = questions.map(({ actorId, resourceId }) => truth.get(actorId)?.get(resourceId) === true);
  const ask = await make(account, questions);

  questions.forEach((question, index) => {
    if (ask(question, index) === expected[index]) return;
    throw new Error(`${engine} does not answer ${expected[index]} to question ${index}: ${JSON.stringify(question)}`);
  });
  const allowed = expected.filter(Boolean).length;
  passes(ask, questions, allowed, WARM_UP);
  return { asked: questions.length, allowed, perSecond: passes(ask, questions, allowed, MEASURE) };
}

function passes(ask: Ask, questions: readonly Question[], allowed: number, { forMs, least }: typeof MEASURE): number[] {
  const perSecond: number[] = [];
  const until = performance.now() + forMs;
  while (performance.now() < until || perSecond.length < least) {
    const before = process.cpuUsage();
    const seen = countAllowed(ask, questions);
    const { user, system } = process.cpuUsage(before);
    if (seen !== allowed) throw new Error(`${engine} allows ${seen} instead of ${allowed}`);
    perSecond.push((questions.length / (user + system)) * 1_000_000);
  }
  return perSecond;
}

function countAllowed(ask: Ask, questions: readonly Question[]): number {
  let allowed = 0;
  for (let i = 0; i < questions.length; i += 1) {
    const question = questions[i];
    if (question && ask(question, i)) allowed += 1;
  }
  return allowed;
}
