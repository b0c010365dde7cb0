/** The worked examples of domain.md, as rows: every reader of rows must come to the answer printed there. */
import type { ConnectionFacts } from '../../src/core/model/connection-facts.js';
import type { PolicyId } from '../../src/core/model/ids.js';
import type { ConditionSource } from '../../src/core/model/rows.js';
import { aGroup, aMembership, anAccountInUse, aPolicy, aToken, duringHours, idOf, someFacts } from './builders.js';
import type { AnyRow } from './builders.js';

export interface WorkedExample {
  readonly title: string;
  readonly rows: readonly AnyRow[];
  readonly facts: ConnectionFacts;
  readonly now: number;
  readonly expected:
    | { readonly policyId: PolicyId; readonly until: number | null }
    /** In no order: which policy is judged first is nobody's business. */
    | { readonly violated: readonly string[] };
}

const at = (text: string): number => Date.parse(`${text.replace(' ', 'T')}Z`);
const A = idOf<PolicyId>('a');
const B = idOf<PolicyId>('b');
const TIME = 'current_utc_datetime';

// ---- 2.3: windows ------------------------------------------------------------------------------------------------

const newYork = ['F/9-17/America/New_York'];
const night = ['F/22-23:59:59/Europe/Kyiv', 'S/0-6/Europe/Kyiv'];
const anyTime = ['2025-07-18 10:00:00', '2025-07-18 22:30:00', '2025-07-19 03:00:00'];

/** `until` may be the word violated. */
const WINDOWS: readonly (readonly [values: readonly string[], now: string, until: string])[] = [
  [['F/true/UTC'], '2025-07-18 10:00:00', '2025-07-18 23:59:59'],
  [['F/true/UTC'], '2025-07-18 23:59:59.500', 'violated'],
  [newYork, '2025-07-18 13:00:00', '2025-07-18 21:00:00'],
  [newYork, '2025-07-18 12:59:59', 'violated'],
  [newYork, '2025-07-18 21:00:00', '2025-07-18 21:00:00'],
  [newYork, '2025-07-18 21:00:01', 'violated'],
  [['F/9-12,12-15,14-22/UTC'], '2025-07-18 10:00:00', '2025-07-18 22:00:00'],
  [night, '2025-07-18 20:30:00', '2025-07-18 20:59:59'],
  [night, '2025-07-18 21:30:00', '2025-07-19 03:00:00'],
  ...anyTime.map((now) => [['F/22-6/Europe/Kyiv'], now, 'violated'] as const),
  [['R/15-19/US/Pacific'], '2021-01-01 01:00:00', '2021-01-01 03:00:00'],
  [['S/true/Pacific/Auckland'], '2025-07-18 13:00:00', '2025-07-19 11:59:59'],
  [['W/9:05-9:05:30/UTC'], '2025-07-16 09:05:30', '2025-07-16 09:05:30'],
  ...['F/9-24/UTC', 'F/10-11', 'F/10-11/', 'F/false/UTC', 'F//UTC'].flatMap((value) =>
    anyTime.map((now) => [[value], now, 'violated'] as const),
  ),
  ...anyTime.map((now) => [[], now, 'violated'] as const),
  // What the text above the table says: touching ranges merge, a second apart they do not; the latest end of all zones.
  [['F/10-11,11:00:01-12/UTC'], '2025-07-18 10:30:00', '2025-07-18 11:00:00'],
  [['F/10-11/UTC', 'F/11-12/UTC'], '2025-07-18 10:30:00', '2025-07-18 12:00:00'],
  [['F/9-17/UTC', ...newYork], '2025-07-18 14:00:00', '2025-07-18 21:00:00'],
  [['F/true/UTC', 'F/22-6/UTC'], '2025-07-18 10:00:00', 'violated'],
  // An end that the clock skips is the jump; of two equal times the later one; 23:59:59 stays 23:59:59.
  [['U/1-2:30/America/New_York'], '2025-03-09 06:30:00', '2025-03-09 07:00:00'],
  [['U/1-2/America/New_York'], '2025-03-09 06:30:00', '2025-03-09 07:00:00'],
  [['U/0-1:30/America/New_York'], '2025-11-02 04:30:00', '2025-11-02 06:30:00'],
  [['U/0-1:30/America/New_York'], '2025-11-02 05:45:00', 'violated'],
  [['U/0-1:30/America/New_York'], '2025-11-02 06:15:00', '2025-11-02 06:30:00'],
  [['U/true/America/New_York'], '2025-03-09 12:00:00', '2025-03-10 03:59:59'],
  [['U/true/America/New_York'], '2025-11-02 12:00:00', '2025-11-03 04:59:59'],
  [['U/1-2:15/Australia/Lord_Howe'], '2025-10-04 15:00:00', '2025-10-04 15:30:00'],
];

function windowExample(values: readonly string[], now: string, until: string): WorkedExample {
  return {
    title: `2.3: ${JSON.stringify(values)} at ${now}: ${until}`,
    ...policiesWith([[A, [duringHours(...values)]]]),
    now: at(now),
    expected: until === 'violated' ? { violated: [TIME] } : { policyId: A, until: at(until) },
  };
}

// ---- 2.4 and 2.5: lists of conditions, and the choice of the policy ----------------------------------------------

const inUs: ConditionSource = { property: 'remote_ip_location_region', operator: 'is_in', values: ['US'] };
const tenNet: ConditionSource = { property: 'remote_ip', operator: 'is_in_cidr', values: ['10.0.0.0/8'] };
const verified: ConditionSource = { property: 'client_verified', operator: 'is', values: ['true'] };

const MORNING = at('2025-07-18 10:00:00');
const SEVEN_DAYS = MORNING + 7 * 86_400_000;
const until17 = [duringHours('F/9-17/UTC')];
const until22 = [duringHours('F/9-22/UTC')];

const CHOICES: readonly WorkedExample[] = [
  {
    title: '2.4: what is violated is named in order',
    ...policiesWith([[A, [inUs, tenNet, duringHours('F/9-17/UTC')]]], { region: 'CA', remoteIp: '10.1.2.3' }),
    now: at('2025-07-18 20:00:00'),
    expected: { violated: ['remote_ip_location_region', TIME] },
  },
  {
    title: '2.5: A (17:00), B (none), token 7 d: B until the end of the token',
    ...policiesWith(
      [
        [A, until17],
        [B, []],
      ],
      {},
      SEVEN_DAYS,
    ),
    now: MORNING,
    expected: { policyId: B, until: SEVEN_DAYS },
  },
  {
    title: '2.5: A (17:00), B (22:00), token 7 d: B until 22:00',
    ...policiesWith(
      [
        [A, until17],
        [B, until22],
      ],
      {},
      SEVEN_DAYS,
    ),
    now: MORNING,
    expected: { policyId: B, until: at('2025-07-18 22:00:00') },
  },
  {
    title: '2.5: A (22:00), token 18:00: A until 18:00',
    ...policiesWith([[A, until22]], {}, at('2025-07-18 18:00:00')),
    now: MORNING,
    expected: { policyId: A, until: at('2025-07-18 18:00:00') },
  },
  {
    title: '2.5, D7: A (31 Jul 23:00), B (1 Aug 01:00), token 7 d: B until 1 Aug 01:00',
    // A Thursday evening in New York is Friday in UTC.
    ...policiesWith(
      [
        [A, [duringHours('R/9-23/UTC')]],
        [B, [duringHours('R/9-21/America/New_York')]],
      ],
      {},
      at('2025-08-07 00:00:00'),
    ),
    now: at('2025-07-31 20:00:00'),
    expected: { policyId: B, until: at('2025-08-01 01:00:00') },
  },
  {
    title: '2.5: A violated [remote_ip], B violated [remote_ip, client_verified]: none',
    ...policiesWith(
      [
        [A, [tenNet]],
        [B, [tenNet, verified]],
      ],
      { remoteIp: '192.0.2.7' },
    ),
    now: MORNING,
    expected: { violated: ['remote_ip', 'client_verified'] },
  },
  {
    title: '2.5: no policy: forbidden, and nothing is violated',
    ...policiesWith([]),
    now: MORNING,
    expected: { violated: [] },
  },
  {
    title: '2.5: neither ends: the smaller id, without end',
    ...policiesWith([
      [B, []],
      [A, []],
    ]),
    now: MORNING,
    expected: { policyId: A, until: null },
  },
];

/** The account in use, with these policies instead of its own; each is of a group of its own. */
function policiesWith(
  policies: readonly (readonly [PolicyId, readonly ConditionSource[]])[],
  facts: Partial<ConnectionFacts> = {},
  tokenEnd: number | null = null,
): Pick<WorkedExample, 'rows' | 'facts'> {
  const others = anAccountInUse().filter(([table, row]) => {
    return table !== 'policies' && !(table === 'tokens' && row.kind === 'client');
  });
  const granted = policies.flatMap(([id, conditions], index): AnyRow[] => {
    const groupId = idOf<never>(`only${index}`);
    return [
      ['groups', aGroup({ id: groupId })],
      ['memberships', aMembership({ id: idOf(`in${index}`), groupId })],
      ['policies', aPolicy({ id, groupId, conditions })],
    ];
  });
  return { rows: [...others, ...granted, ['tokens', aToken({ expiresAt: tokenEnd })]], facts: someFacts(facts) };
}

export const WORKED_EXAMPLES: readonly WorkedExample[] = [
  ...WINDOWS.map(([values, now, until]) => windowExample(values, now, until)),
  ...CHOICES,
];
