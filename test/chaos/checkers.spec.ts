/** Each checker finds what was planted, and nothing in what is right. */
import { describe, expect, it } from '@jest/globals';
import { accountsNamedIn } from './chaos-account.js';
import {
  ackViolations,
  type Bounds,
  differences,
  distribution,
  historyViolations,
  lateness,
  orderViolations,
  staleGrants,
  uncutPairs,
} from './checkers.js';
import { lastOnBefore, minus, type Timeline, Timelines, within } from './intervals.js';

const CALM: Bounds = { deltaMs: 100, faults: [] };
const ALWAYS: Timeline = [{ from: 0, to: 10_000 }];

function late(
  observed: Timeline,
  truth: Timeline,
  {
    bounds = CALM,
    spans = ALWAYS,
    since = 'truth-ended',
  }: { readonly bounds?: Bounds; readonly spans?: Timeline; readonly since?: 'truth-ended' | 'began' } = {},
) {
  const found = lateness(new Map([['k', observed]]), new Map([['k', truth]]), { since, spansOf: () => spans }, bounds);
  return found.map(({ from, to, since: at, isLate }) => ({ since: at, from, to, isLate }));
}

describe('revocation intervals (S1, S2, L1)', () => {
  it('what is held only while it is justified is right', () => {
    expect(late([{ from: 10, to: 500 }], [{ from: 0, to: 500 }])).toEqual([]);
  });

  it('a pair that is held beyond the bound is late, and one within it is not', () => {
    const truth = [{ from: 0, to: 500 }];
    expect(late([{ from: 10, to: 599 }], truth)).toEqual([{ since: 500, from: 500, to: 599, isLate: false }]);
    expect(late([{ from: 10, to: 650 }], truth)).toEqual([{ since: 500, from: 500, to: 650, isLate: true }]);
  });

  it('S2: a grant on a state that is older than the bound is late, however soon it is taken back', () => {
    expect(late([{ from: 2_000, to: 2_001 }], [{ from: 0, to: 500 }])).toEqual([
      { since: 500, from: 2_000, to: 2_001, isLate: true },
    ]);
  });

  it('a pair that was never justified is late from the join on', () => {
    const found = late([{ from: 3_000, to: 3_010 }], [], { spans: [{ from: 2_000, to: 5_000 }] });
    expect(found).toEqual([{ since: 2_000, from: 3_000, to: 3_010, isLate: true }]);
  });

  it('what a gateway that is away holds is judged from its return', () => {
    const spans = [
      { from: 0, to: 400 },
      { from: 3_000, to: 5_000 },
    ];
    const truth = [{ from: 0, to: 500 }];
    expect(late([{ from: 10, to: 3_050 }], truth, { spans })).toEqual([
      { since: 3_000, from: 3_000, to: 3_050, isLate: false },
    ]);
    expect(late([{ from: 10, to: 3_150 }], truth, { spans })[0]?.isLate).toBe(true);
  });

  it('a fault prolongs the time until its grace has passed, one after the other, and not longer', () => {
    const faults = [
      { id: 'F1', from: 550, to: 800, graceMs: 300 },
      { id: 'F2', from: 1_000, to: 1_200, graceMs: 300 },
      { id: 'F3', from: 5_000, to: 6_000, graceMs: 300 },
    ];
    const truth = [{ from: 0, to: 500 }];
    const bounds = { deltaMs: 100, faults };
    expect(late([{ from: 10, to: 1_499 }], truth, { bounds })[0]?.isLate).toBe(false);
    expect(late([{ from: 10, to: 1_501 }], truth, { bounds })[0]?.isLate).toBe(true);
  });

  it('a fault that was made good before the commit excuses nothing', () => {
    const bounds = { deltaMs: 100, faults: [{ id: 'F1', from: 0, to: 100, graceMs: 300 }] };
    expect(late([{ from: 10, to: 700 }], [{ from: 0, to: 500 }], { bounds })[0]?.isLate).toBe(true);
  });

  it('L2: what is to be shown and is not is late from when it was to be', () => {
    const toBeShown = [{ from: 1_000, to: 2_000 }];
    expect(late(toBeShown, [{ from: 1_050, to: 2_000 }], { since: 'began' })[0]?.isLate).toBe(false);
    expect(late(toBeShown, [{ from: 1_150, to: 2_000 }], { since: 'began' })[0]?.isLate).toBe(true);
  });
});

describe('cuts by hand (D8a)', () => {
  const cuts = [{ at: 500, key: 'g|c|r' }];
  const uncut = (held: Timeline) => uncutPairs(new Map([['g|c|r|a', held]]), cuts, () => ALWAYS, CALM);

  it('a pair that is held across a cut is late, also when everything else justifies it', () => {
    expect(uncut([{ from: 0, to: 700 }]).map(({ isLate }) => isLate)).toEqual([true]);
  });

  it('one that ends in time, and one that is granted again, is right', () => {
    const again = [
      { from: 0, to: 550 },
      { from: 560, to: 900 },
    ];
    expect(uncut(again).map(({ isLate }) => isLate)).toEqual([false]);
  });
});

describe('prefix order (S3)', () => {
  const names = new Map([
    ['r one', 1n],
    ['r two', 2n],
    ['r three', 3n],
  ]);
  const seen = (socket: string, ...said: string[]) => said.map((name) => ({ socket, resource: 'r', name }));

  it('names in commit order are right, with gaps and with another beginning on another socket', () => {
    expect(orderViolations([...seen('a', 'one', 'three'), ...seen('b', 'one', 'two')], names)).toEqual([]);
  });

  it('an older name after a newer one is a violation', () => {
    expect(orderViolations(seen('a', 'two', 'one'), names)).toEqual(['a was told "one" of r after "two"']);
  });

  it('F18, G2: a name that no commit left is a violation', () => {
    expect(orderViolations(seen('a', 'rolled back'), names)).toHaveLength(1);
  });
});

it('final equality names what is too much and what is too little', () => {
  expect(differences('c', ['a', 'b'], ['b', 'a'])).toEqual([]);
  expect(differences('c', ['a'], ['b'])).toEqual(['c: has a, which it should not', 'c: lacks b']);
});

describe('acknowledgement (S8)', () => {
  const commits = [10n, 20n, 30n];
  const sample = (recorded: number, confirmed = 25n, after = 0n) => [{ at: 0, confirmed, recorded, after }];

  it('all up to the acknowledged position is on record', () => {
    expect(ackViolations(sample(2), commits)).toEqual([]);
    expect(ackViolations(sample(1, 25n, 10n), commits)).toEqual([]);
  });

  it('a commit that is acknowledged and not on record is a violation', () => {
    expect(ackViolations(sample(1), commits)).toHaveLength(1);
    expect(ackViolations(sample(2, 30n), commits)).toHaveLength(1);
  });
});

it('a grant after the database was silent for too long is a violation, one before or after the repair is not', () => {
  const silences = [{ from: 1_000, to: 9_000 }];
  expect(staleGrants([5_000, 9_500], silences, 5_000)).toEqual([]);
  expect(staleGrants([8_000], silences, 5_000)).toHaveLength(1);
});

it('a history that lacks what was confirmed, or has what failed, is no history', () => {
  const committed = new Set(['a']);
  expect(
    historyViolations(
      [
        { mark: 'a', outcome: 'ok' },
        { mark: 'b', outcome: 'fail' },
        { mark: 'c', outcome: 'info' },
      ],
      committed,
    ),
  ).toEqual([]);
  expect(historyViolations([{ mark: 'b', outcome: 'ok' }], committed)).toHaveLength(1);
  expect(historyViolations([{ mark: 'a', outcome: 'fail' }], committed)).toHaveLength(1);
});

it('percentiles are durations that were measured', () => {
  expect(distribution([])).toBeUndefined();
  expect(distribution([3, 1, 2])).toEqual({ count: 3, p50: 2, p99: 3, max: 3 });
});

describe('intervals', () => {
  const whole = [
    { from: 0, to: 10 },
    { from: 20, to: 30 },
  ];

  it('are taken from one another', () => {
    expect(minus(whole, [{ from: 5, to: 25 }])).toEqual([
      { from: 0, to: 5 },
      { from: 25, to: 30 },
    ]);
    expect(minus(whole, [])).toEqual(whole);
    expect(minus(whole, [{ from: -5, to: 50 }])).toEqual([]);
  });

  it('are cut to those of others', () => {
    expect(within(whole, [{ from: 5, to: 25 }])).toEqual([
      { from: 5, to: 10 },
      { from: 20, to: 25 },
    ]);
  });

  it('tell when they were last on', () => {
    expect([-1, 5, 15, 25, 40].map((at) => lastOnBefore(whole, at))).toEqual([-Infinity, 5, 10, 25, 30]);
  });

  it('are made of what is switched on and off, and end by themselves where they have an end', () => {
    const timelines = new Timelines();
    timelines.on('a', 0, 50);
    timelines.on('a', 10, 40);
    timelines.off('a', 60);
    timelines.on('b', 0);
    timelines.on('c', 5);
    timelines.onlyOn(new Map([['c', Infinity]]), 20);
    expect(timelines.isOn('c', 25)).toBe(true);
    expect(Object.fromEntries(timelines.finish(100))).toEqual({
      a: [{ from: 0, to: 40 }],
      b: [{ from: 0, to: 20 }],
      c: [{ from: 5, to: 100 }],
    });
  });
});

describe('S5: of which account a frame speaks', () => {
  it.each([
    ['{"name":"acct1-459"}', [1]],
    ['{"id":"acc00002-0000-4000-8006-000000000004"}', [2]],
    ['{"external_id":"gw-acct3-0","address":"r4v0.acct1.example"}', [3, 1]],
    ['{"account_slug":"acct0_slug"}', [0]],
    ['{"address":"10.102.0.0/16"}', [2]],
    ['{"ref":"v1.i_BzEacct0HEZTVIUA-acct0HEZ_acct1-x","key":"Sz/acct2/PIPI="}', []], // sealed and random
    ['{"address":"110.102.0.0/16"}', []],
  ])('%s', (text, accounts) => {
    expect([...accountsNamedIn(text)]).toEqual(accounts);
  });
});
