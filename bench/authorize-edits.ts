/**
 * A process that edits one account of a given size, one row per commit, and times each step: applied, and known for whom it
 * changed what.
 */
import { once } from 'node:events';
import type { ClientDifference } from '../src/core/authorizer/access.js';
import type { Change, RawRow } from '../src/core/changes/commit.js';
import type { AccountTable } from '../src/core/model/rows.js';
import { authorizerOf } from './authorize-ours.js';
import { NOW, rowsOf } from './authorize-rows.js';
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
  /** Resources an edit gave, took or granted otherwise, counted for each client, on average. */
  readonly changed: number;
}

interface Sample {
  readonly tookMs: number;
  readonly changed: number;
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
  const authorizer = authorizerOf(account);
  const chance = new Chance(4);

  /** Away and back again, so that every edit finds the account as it was generated. */
  const edit = (table: AccountTable, raw: RawRow, away: RawRow | null): Sample[] =>
    [step(table, raw, away), step(table, away, raw)].map((change) => {
      const startedAt = performance.now();
      const { access } = authorizer.apply([change], NOW);
      const tookMs = performance.now() - startedAt;
      return { tookMs, changed: [...access.values()].reduce((sum, client) => sum + countOf(client), 0) };
    });
  const editPolicy = (): Sample[] => {
    const raw = chance.oneOf(rows.get('policies') ?? []);
    return edit('policies', raw, { ...raw, disabled_at: '2026-03-03 10:00:00+00' });
  };
  const editMembership = (): Sample[] => edit('memberships', chance.oneOf(rows.get('memberships') ?? []), null);
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

function countOf({ gained, lost, moved }: ClientDifference): number {
  return gained.size + lost.size + moved.size;
}

function repeated(edit: () => Sample[]): Edited {
  const all = (): Sample[] => Array.from({ length: SAMPLES / 2 }, edit).flat();
  all(); // warm-up
  const samples = all();
  const changed = samples.reduce((sum, sample) => sum + sample.changed, 0) / samples.length;
  return { took: summarize(samples.map(({ tookMs }) => tookMs)), changed };
}
