/** What may happen to an account and whoever asks about it (reliability.md 2): the alphabet of random histories. */
import fc from 'fast-check';
import type { ConnectionFacts } from '../../src/core/model/connection-facts.js';
import type { GroupId, MembershipId, ResourceId } from '../../src/core/model/ids.js';
import { conditionList, region, remoteIp } from './arbitrary-conditions.js';
import { idOf, MONDAY_9, type AnyRow } from './builders.js';
import { ACCOUNT_TABLES, type AccountTable, type PolicyRow } from '../../src/core/model/rows.js';
import {
  connectedClients,
  denseAccount,
  edit,
  facts,
  GROUPS,
  keyOf,
  PROVIDERS,
  RESOURCES,
  type Edit,
} from './histories.js';
import type { OracleRows } from './oracle-loops.js';

/** `place`s choose among whatever is there when the command runs. */
export type Command =
  | { readonly kind: 'commit'; readonly writes: readonly Write[] }
  | { readonly kind: 'preview'; readonly writes: readonly Write[] }
  | { readonly kind: 'connect'; readonly facts: ConnectionFacts }
  | { readonly kind: 'time'; readonly by: number }
  | { readonly kind: 'time-at'; readonly at: number }
  /** A millisecond before, at or after an end of a token or a policy, or a transition. */
  | { readonly kind: 'boundary'; readonly place: number; readonly offset: -1 | 0 | 1 }
  | { readonly kind: 'snapshot' }
  /** Of the latest snapshot. */
  | { readonly kind: 'snapshot-again' }
  | { readonly kind: 'release'; readonly place: number };

/** An edit of whatever row, or something a person does to a row that is there. */
export type Write =
  | Edit
  | { readonly kind: 'toggle'; readonly table: Switchable; readonly place: number }
  | { readonly kind: 'move'; readonly place: number; readonly to: { groupId?: GroupId; resourceId?: ResourceId } }
  /** A membership leaves and returns under another id. */
  | { readonly kind: 'rejoin'; readonly place: number }
  /** A policy that is there gets other conditions. */
  | { readonly kind: 'guard'; readonly place: number; readonly conditions: PolicyRow['conditions'] }
  /** Everything of a table, or of all, is as it was in the beginning. */
  | { readonly kind: 'restore'; readonly table: AccountTable | undefined }
  /** A token gets its end relative to the moment; undefined: none. */
  | { readonly kind: 'expire'; readonly place: number; readonly inMs: number | undefined };

type Switchable = 'accounts' | 'actors' | 'auth_providers' | 'policies';

const HOUR = 3_600_000;
const DAY = 24 * HOUR;
const place = fc.nat(7);

const write: fc.Arbitrary<Write> = fc.oneof(
  { weight: 10, arbitrary: edit },
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constant('toggle' as const),
      table: fc.constantFrom<Switchable[]>('accounts', 'actors', 'auth_providers', 'policies', 'policies'),
      place,
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant('move' as const),
      place,
      to: fc.oneof(
        fc.record({ groupId: fc.constantFrom(...GROUPS) }),
        fc.record({ resourceId: fc.constantFrom(...RESOURCES) }),
      ),
    }),
  },
  { weight: 1, arbitrary: place.map((of): Write => ({ kind: 'rejoin', place: of })) },
  {
    weight: 5,
    arbitrary: fc.record({ kind: fc.constant('guard' as const), place, conditions: conditionList(PROVIDERS) }),
  },
  {
    weight: 3,
    arbitrary: fc
      .option(fc.constantFrom(...ACCOUNT_TABLES), { nil: undefined, freq: 2 })
      .map((table): Write => ({ kind: 'restore', table })),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant('expire' as const),
      place,
      inMs: fc.constantFrom(undefined, -1, 0, 1, HOUR, 5 * HOUR, DAY),
    }),
  },
);

const writes = fc.oneof(
  { weight: 3, arbitrary: fc.array(write, { minLength: 1, maxLength: 1 }) },
  { weight: 2, arbitrary: fc.array(write, { minLength: 2, maxLength: 5 }) },
);

/** With the token it had in the beginning, from anywhere. */
const ownConnection = fc
  .tuple(fc.constantFrom(...connectedClients()), region, remoteIp)
  .map(([of, from, address]): ConnectionFacts => ({ ...of, region: from, remoteIp: address }));

const step = fc.oneof(
  fc.integer({ min: 1, max: 30 }).map((hours) => hours * HOUR),
  fc.integer({ min: 1, max: 3 * DAY }),
  fc.constantFrom(1, HOUR - 1, HOUR + 1, 7 * DAY),
);

/** Around which clocks change somewhere. */
const NEAR_CHANGES = ['2026-03-08T06:30Z', '2026-03-29T00:30Z', '2025-11-02T05:30Z', '2026-04-04T14:45Z'];

export const command: fc.Arbitrary<Command> = fc.oneof(
  { weight: 10, arbitrary: writes.map((of): Command => ({ kind: 'commit', writes: of })) },
  { weight: 3, arbitrary: writes.map((of): Command => ({ kind: 'preview', writes: of })) },
  {
    weight: 4,
    arbitrary: fc.oneof(facts, ownConnection, ownConnection).map((of): Command => ({ kind: 'connect', facts: of })),
  },
  { weight: 2, arbitrary: step.map((by): Command => ({ kind: 'time', by })) },
  { weight: 1, arbitrary: step.map((by): Command => ({ kind: 'time', by: -by })) },
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constant('boundary' as const),
      place: fc.nat(20),
      offset: fc.constantFrom(-1 as const, 0 as const, 1 as const),
    }),
  },
  {
    weight: 1,
    arbitrary: fc
      .constantFrom(MONDAY_9, ...NEAR_CHANGES.map((text) => Date.parse(text)))
      .map((at): Command => ({ kind: 'time-at', at })),
  },
  {
    weight: 2,
    arbitrary: fc.constantFrom<Command[]>({ kind: 'snapshot' }, { kind: 'snapshot' }, { kind: 'snapshot-again' }),
  },
  { weight: 1, arbitrary: place.map((of): Command => ({ kind: 'release', place: of })) },
);

/** What a write means for the rows that are there; nothing, when there is none to write to. */
export function editsOf(write: Write, rows: OracleRows, now: number): Edit[] {
  switch (write.kind) {
    case 'toggle': {
      const row = chosen<OracleRows[Switchable][number]>(rows[write.table], write.place);
      return row
        ? [{ kind: 'put', row: [write.table, { ...row, disabledAt: row.disabledAt === null ? now : null }] as AnyRow }]
        : [];
    }
    case 'move': {
      const row = chosen(rows.policies, write.place);
      return row ? [{ kind: 'put', row: ['policies', { ...row, ...write.to }] }] : [];
    }
    case 'guard': {
      const row = chosen(rows.policies, write.place);
      return row ? [{ kind: 'put', row: ['policies', { ...row, conditions: write.conditions }] }] : [];
    }
    case 'rejoin': {
      const row = chosen(rows.memberships, write.place);
      if (!row) return [];
      const free = Array.from({ length: 9 }, (_, i) => idOf<MembershipId>(`n${i}`)).find(
        (id) => !rows.memberships.some((other) => other.id === id),
      );
      if (!free) return [];
      const returned: AnyRow = ['memberships', { ...row, id: free }];
      return [
        { kind: 'delete', table: 'memberships', key: keyOf(['memberships', row]) },
        { kind: 'put', row: returned },
      ];
    }
    case 'restore':
      return denseAccount().flatMap((row) =>
        write.table === undefined || write.table === row[0] ? [{ kind: 'put', row }] : [],
      );
    case 'expire': {
      const row = chosen(rows.tokens, write.place);
      const expiresAt = write.inMs === undefined ? null : now + write.inMs;
      return row ? [{ kind: 'put', row: ['tokens', { ...row, expiresAt }] }] : [];
    }
    case 'put':
    case 'rename':
    case 'spoil':
    case 'delete':
    case 'truncate':
      return [write];
  }
}

function chosen<T>(from: readonly T[], place: number): T | undefined {
  return from[place % Math.max(1, from.length)];
}
