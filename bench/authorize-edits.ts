/** A process that edits one account of a given size, one row per commit, and times each step until it is applied. */
import { once } from 'node:events';
import type { Change, RawRow } from '../src/core/changes/commit.js';
import type { AccountTable } from '../src/core/model/rows.js';
import { stateOf } from './authorize-ours.js';
import { rowsOf } from './authorize-rows.js';
import { accountOf, Chance, FULL_SIZE, ownStrings } from './authorize-rules.js';
import { summarize, type Summary } from './statistics.js';

export interface EditsInput {
  /** Times the full size. What one edit touches stays the same: members of a group, policies of a group and a resource. */
  readonly times: number;
}

export interface Edits {
  readonly policies: number;
  readonly memberships: number;
  readonly policy: Edited;
  readonly membership: Edited;
}

export interface Edited {
  /** Unit ms. */
  readonly took: Summary;
  /** Clients for whom an edit changed something, on average. */
  readonly clients: number;
}

const SAMPLES = 2_000;

const [{ times }] = (await once(process, 'message')) as [EditsInput];
process.send?.(measure());
process.disconnect();

function measure(): Edits {
  const { groups, actors, resources, policies, groupsPerActor } = FULL_SIZE;
  const size = { groups: groups * times, actors: actors * times, resources: resources * times };
  const account = accountOf({ ...size, policies: policies * times, groupsPerActor });
  const rows = rowsOf(account);
  const state = stateOf(account);
  const chance = new Chance(4);

  /** Away and back again, so that every edit finds the account as it was generated. */
  const edit = (table: AccountTable, raw: RawRow, away: RawRow | null): number[] =>
    [step(table, raw, away), step(table, away, raw)].map((change) => {
      const startedAt = performance.now();
      state.apply([change]);
      return performance.now() - startedAt;
    });
  const editPolicy = (): number[] => {
    const raw = chance.oneOf(rows.get('policies') ?? []);
    return edit('policies', raw, { ...raw, disabled_at: '2026-03-03 10:00:00+00' });
  };
  const editMembership = (): number[] => edit('memberships', chance.oneOf(rows.get('memberships') ?? []), null);
  return {
    policies: account.policies.length,
    memberships: rows.get('memberships')?.length ?? 0,
    policy: repeated(editPolicy),
    membership: repeated(editMembership),
  };
}

function step(table: AccountTable, before: RawRow | null, after: RawRow | null): Change {
  const kind = before === null ? 'insert' : after === null ? 'delete' : 'update';
  return { kind, table, seq: 0, old: ownStrings(before), new: ownStrings(after) };
}

function repeated(edit: () => number[]): Edited {
  const all = (): number[] => Array.from({ length: SAMPLES / 2 }, edit).flat();
  all(); // warm-up
  return { took: summarize(all()), clients: 0 };
}
