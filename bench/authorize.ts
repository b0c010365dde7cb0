/**
 * The authorizer beside other engines with the same rules and questions, and what it costs as the account grows: time of
 * an edit, memory of the state and of what clients have been told. Needs no server and no database; every figure is of a
 * process of its own.
 */
import type { DecisionsInput, Decisions, EngineName } from './authorize-decisions.js';
import type { Edited, Edits, EditsInput } from './authorize-edits.js';
import type { MemoryInput, StateMemory, ViewsMemory } from './authorize-memory.js';
import { FULL_SIZE } from './authorize-rules.js';
import type { BenchOptions } from './bench.js';
import { runChild } from './child-program.js';
import { range, type Section } from './report.js';
import { growthExponent, summarize, type Summary } from './statistics.js';

/** By the name of the engine; what is ours first, then the peers. */
const OURS: Readonly<Partial<Record<EngineName, string>>> = {
  'ours-subject': 'ours, subject at hand',
  'ours-client': 'ours, by client id',
  'ours-windows': 'ours, by client id, every tenth conditional policy with working hours too',
};
const PEERS: Readonly<Partial<Record<EngineName, string>>> = {
  'casl-type': '`@casl/ability`, each resource a type',
  'casl-id': '`@casl/ability`, resource id as a condition',
  'casbin-slice': '`casbin`, the policies of the resource',
  'casbin-whole': '`casbin`, all policies',
  'cedar-slice': '`@cedar-policy/cedar-wasm`, the policies of the resource',
  'cedar-whole': '`@cedar-policy/cedar-wasm`, all policies',
};
const FLOOR: Readonly<Partial<Record<EngineName, string>>> = { bare: 'bare lookup in two maps' };

/** Of the full size, in which one edit always touches as much. */
const GROWTH = [0.1, 1, 10];
/** The largest account needs more than Node's default where memory is scarce. */
const ROOM = '--max-old-space-size=6144';

export async function benchAuthorize({ rounds, profileDir }: BenchOptions): Promise<Section> {
  const measured = new Map<EngineName, Measured>();
  for (let round = 0; round < rounds; round += 1) {
    for (const engine of Object.keys({ ...FLOOR, ...OURS, ...PEERS }) as EngineName[]) {
      const profiling =
        profileDir === undefined || !(engine in OURS) ? [] : ['--cpu-prof', '--cpu-prof-dir', profileDir];
      const found = (await runChild(
        'authorize-decisions',
        { engine } satisfies DecisionsInput,
        profiling,
      )) as Decisions;
      const perSecond = [...(measured.get(engine)?.perSecond ?? []), ...found.perSecond];
      measured.set(engine, { ...found, perSecond, summary: summarize(perSecond) });
    }
  }
  const edits: Edits[] = [];
  for (const times of GROWTH) {
    edits.push((await runChild('authorize-edits', { times } satisfies EditsInput, [ROOM])) as Edits);
  }
  const weigh = (of: MemoryInput['of']): Promise<unknown> =>
    runChild('authorize-memory', { of } satisfies MemoryInput, ['--expose-gc', ROOM]);
  const [state, views] = [(await weigh('state')) as StateMemory, (await weigh('views')) as ViewsMemory];

  const { groups, actors, resources, policies } = FULL_SIZE;
  return {
    name: 'authorize',
    title: `bench:authorize, ${count(groups)} groups, ${count(actors)} actors, ${count(resources)} resources, ${count(policies)} policies`,
    lines: [...describeDecisions(measured, rounds), '', ...describeEdits(edits), '', ...describeMemory(state, views)],
  };
}

interface Measured extends Decisions {
  readonly summary: Summary;
}

function describeDecisions(measured: ReadonlyMap<EngineName, Measured>, rounds: number): string[] {
  const of = (engine: EngineName): Measured => {
    const found = measured.get(engine);
    if (!found) throw new Error(`${engine} was not measured`);
    return found;
  };
  const floor = of('bare');
  const fastest = Math.max(...(Object.keys(PEERS) as EngineName[]).map((engine) => of(engine).summary.p50));
  const row = ([engine, name]: [string, string]): string => {
    const { asked, perSecond, summary } = of(engine as EngineName);
    const shown = asked === floor.asked ? name : `${name} (the first ${asked} questions)`;
    const ratios = [times(summary.p50, floor.summary.p50), times(summary.p50, fastest)];
    return `| ${[shown, count(summary.p50), range(perSecond, count), ...ratios].join(' | ')} |`;
  };
  return [
    '| decisions a second of processor time | median | range | to the bare lookup | to the fastest peer |',
    '|---|---:|---:|---:|---:|',
    ...Object.entries({ ...FLOOR, ...OURS, ...PEERS }).map(row),
    '',
    '- Aim: ours ≥ 1,000,000 a second on one core, ≥ 0.5× of the bare lookup, ≥ 10× the fastest peer.',
    `- ${count(floor.asked)} questions in random order, ${count(floor.allowed)} of them allowed; each engine gave every answer right ` +
      'before it was timed, and the right number in each pass (else this bench fails).',
    `- Half of the policies have two conditions. Median and range over all passes of ${rounds === 1 ? 'one round' : `${rounds} rounds`}, each engine in a process of its own.`,
  ];
}

function describeEdits(edits: readonly Edits[]): string[] {
  const us = (ms: number): string => (ms * 1000).toFixed(1);
  const cells = ({ took, changed }: Edited): string[] => [us(took.p50), us(took.p99), changed.toFixed(1)];
  const exponent = (of: (each: Edits) => Edited): string =>
    growthExponent(edits.map((each) => [each.policies, of(each).took.p50])).toFixed(2);
  return [
    '| policies | memberships | policy edited, µs, p50 | p99 | grants changed | membership edited, µs, p50 | p99 | grants changed |',
    '|---:|---:|---:|---:|---:|---:|---:|---:|',
    ...edits.map((each) => {
      const sizes = [count(each.policies), count(each.memberships)];
      return `| ${[...sizes, ...cells(each.policy), ...cells(each.membership)].join(' | ')} |`;
    }),
    '',
    `- Slope of log time over log size: policy ${exponent((each) => each.policy)}, membership ` +
      `${exponent((each) => each.membership)}. 0 is flat, 1 is as the account. Aim: flat.`,
    '- A policy is disabled and enabled again, a membership deleted and inserted again; what each touches stays the same. ' +
      'Timed from the change to the answer for whom which grant differs.',
  ];
}

function describeMemory({ whole, perThousand }: StateMemory, views: ViewsMemory): string[] {
  const mib = (bytes: number): string => `${(bytes / 2 ** 20).toFixed(bytes < 10 * 2 ** 20 ? 2 : 0)} MiB`;
  const { policies, resources, memberships } = perThousand;
  return [
    `- Memory of the state: ${mib(whole)} of heap; per 1,000 policies ${mib(policies)}, resources (with their sites) ` +
      `${mib(resources)}, memberships ${mib(memberships)}.`,
    `- ${count(views.clients)} clients' views, each told all ${views.resources} resources of ${count(views.policies)} policies: ` +
      `${(views.perClient / 1024).toFixed(1)} KiB of heap each beside ${mib(views.state)} of state; the process ` +
      `${mib(views.rss)} (RSS). Aim: under 1.5 GB; the original's published estimate is about 0.8 MB per client.`,
  ];
}

/** Two digits that count, however far apart the two are. */
function times(value: number, of: number): string {
  return `${Number((value / of).toPrecision(2))}×`;
}

function count(value: number): string {
  return Math.round(value).toLocaleString('en');
}
