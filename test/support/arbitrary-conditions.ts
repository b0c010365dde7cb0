/**
 * Random conditions and the connections they are asked about, chosen so that most have something to do with each other:
 * few countries, networks that hold one another, windows that touch, in zones across the world.
 */
import fc from 'fast-check';
import type { ConnectionFacts } from '../../src/core/model/connection-facts.js';
import type { ConditionSource } from '../../src/core/model/rows.js';

const REGIONS = ['DE', 'FR'];
const NETWORKS = [
  ...['192.0.2.1', '192.0.2.2', '192.0.2.2/31', '192.0.2.77/24', ' 192.0.0.0/16 ', '0.0.0.0/0'],
  ...['2001:db8::1', '2001:DB8:0:0::/32', '2001:db8:8000::/33', '::/0', '::ffff:0:0/95', '::192.0.2.1'],
];
/** The first of them in its IPv6 spelling. */
const MAPPED = ['::ffff:192.0.2.1', '::ffff:c000:201'];
const ADDRESSES = ['192.0.2.1', '192.0.2.2', '192.0.2.3', '2001:db8::1', '2001:db8:8000::1', '::192.0.2.1', ...MAPPED];

/** Whole hours, half hours and quarters from UTC; clocks that change on different days, by an hour or half of one. */
const ZONES = [
  ...['UTC', 'utc', 'Etc/GMT+5', 'Europe/Berlin', 'europe/BERLIN', 'Europe/London', 'Europe/Kyiv', 'Africa/Cairo'],
  ...['Africa/Casablanca', 'Asia/Kathmandu', 'Asia/Kolkata', 'Asia/Tokyo', 'Australia/Lord_Howe', 'Pacific/Auckland'],
  ...['Pacific/Chatham', 'Pacific/Kiritimati', 'Pacific/Pago_Pago', 'America/New_York', 'US/Pacific'],
  ...['America/Los_Angeles', 'America/St_Johns', 'America/Santiago', 'America/Havana'],
];

const one = <T>(from: readonly T[]): fc.Arbitrary<T> => fc.constantFrom(...from);
const some = <T>(from: readonly T[]): fc.Arbitrary<T[]> => fc.array(one(from), { maxLength: 3 });

/** Ranges mostly meet at whole hours, so that they touch, and so that a clock which moves by hours meets their ends. */
const time = fc.oneof(
  { weight: 6, arbitrary: fc.nat(23).map((hour) => [hour, 0, 0] as const) },
  { weight: 1, arbitrary: fc.tuple(fc.nat(23), fc.nat(59), fc.nat(59)) },
  {
    weight: 1,
    arbitrary: fc.tuple(
      fc.nat(3),
      fc.nat(3).map((quarter) => quarter * 15),
      fc.constant(0),
    ),
  },
);
const range = fc.oneof(
  { weight: 1, arbitrary: fc.constant('true') },
  {
    weight: 6,
    arbitrary: fc
      .tuple(time, time)
      .map(([a, b]) => [a, b].sort((x, y) => secondOf(x) - secondOf(y)))
      .chain(([a, b]) => fc.tuple(timeText(a ?? MIDNIGHT), timeText(b ?? MIDNIGHT)).map((texts) => texts.join('-'))),
  },
);
const MIDNIGHT = [0, 0, 0] as const;

function secondOf([hours, minutes, seconds]: readonly [number, number, number]): number {
  return hours * 3600 + minutes * 60 + seconds;
}

/** In one of the ways the grammar has for it. */
function timeText([hours, minutes, seconds]: readonly [number, number, number]): fc.Arbitrary<string> {
  const full = [hours, minutes, seconds].map((part) => String(part).padStart(2, '0')).join(':');
  const ways = [`${hours}:${minutes}:${seconds}`, full, `${full}.75`];
  if (seconds === 0) ways.push(`${hours}:${minutes}`);
  if (seconds === 0 && minutes === 0) ways.push(`${hours}`, `${hours}`, `${hours}`);
  return one(ways);
}

/** Any value of the grammar. */
const windowValue = fc
  .tuple(one([...'MMMTTTWRFSU']), fc.array(range, { minLength: 1, maxLength: 3 }), one(ZONES), one([',', ' , ']))
  .map(([day, ranges, zone, comma]) => `${day}/${ranges.join(comma)}/${zone}`);

/** The same on every day of the week. */
const dailyWindows = fc
  .tuple(fc.array(range, { minLength: 1, maxLength: 3 }), one(ZONES))
  .map(([ranges, zone]) => [...'MTWRFSU'].map((day) => `${day}/${ranges.join(',')}/${zone}`));

/** Values that some reader might take for a window, and none may. */
export const GARBAGE_WINDOWS = [
  ...[
    '',
    'F',
    'F/9-17',
    'F/9-17/',
    '/9-17/UTC',
    'X/9-17/UTC',
    'm/9-17/UTC',
    'M/22-6/UTC',
    'M/9-24/UTC',
    'M/9:60-10/UTC',
    'M/9-17/SystemV/EST5',
    'M/9-17/US/Pacific-New',
    'M/9-17/Canada/East-Saskatchewan',
  ],
  ...['M/9-10:0:60/UTC', 'M/9/UTC', 'M/9-10-11/UTC', 'M/false/UTC', 'M/TRUE/UTC', 'M/9 - 17/UTC', 'M/0-23/ UTC'],
  ...['M/0-23/Mars/Olympus', 'M/0-23/+01:00', 'M/0-23/UTC+1', 'M/0-23/PST', 'M/0-23/Etc/Unknown', 'M/0-23/Factory'],
  ...['M/0-23/localtime', 'M/0-23/posix/UTC', 'M/0-23/__proto__', 'M/-1-23/UTC', 'M/009-17/UTC', 'M/9.5-17/UTC'],
  ...['M/0-23/UTC/', 'M/0:-23/UTC', 'M/0-23:0:0./UTC', 'M/٠-٢٣/UTC'],
];
const GARBAGE_REGIONS = ['', 'us', 'de', 'EU', 'UK', 'Germany', 'D E', '*', '__proto__'];
const GARBAGE_NETWORKS = [
  ...['', 'rubbish', '10', '10/8', '10.0.0', '010.0.0.1', '0x0a.0.0.1', '10.0.0.256', '10.0.0.0/33', '10.0.0.0/08'],
  ...[
    '192.0.2.0/-1',
    '192.0.2.0/',
    '192.0.2.0/24/24',
    '192.0.2.0 /24',
    '::1%eth0',
    ':::',
    '1::2::3',
    '::/129',
    '::/00',
  ],
  ...['1:2:3:4:5:6:7', '1:2:3:4::5:6:7:8', '12345::', '::1.2.3', '::ffff:192.0.2.0/120', '::ffff:0:0/96', '*'],
];
const GARBAGE_PROVIDERS = [
  '',
  'oidc',
  '{00000000-0000-4000-8000-763100000000}',
  '00000000000040008000763100000000',
  '*',
];

/** A UUID that no provider has. */
const NO_PROVIDER = 'ffffffff-0000-4000-8000-00000000000f';

const REGION = { property: 'remote_ip_location_region', operators: ['is_in', 'is_not_in'] };
const REMOTE_IP = { property: 'remote_ip', operators: ['is_in_cidr', 'is_not_in_cidr'] };
const PROVIDER = { property: 'provider_id', operators: ['is_in', 'is_not_in'] };
const VERIFIED = { property: 'client_verified', operators: ['is'] };
const WINDOWS = { property: 'current_utc_datetime', operators: ['is_in_day_of_week_time_ranges'] };
const EVERY_KIND = [REGION, REMOTE_IP, PROVIDER, VERIFIED, WINDOWS];

interface Kind {
  readonly property: string;
  readonly operators: readonly string[];
}

function of({ property, operators }: Kind, values: fc.Arbitrary<string[]>): fc.Arbitrary<ConditionSource> {
  return fc.record({ property: fc.constant(property), operator: one(operators), values });
}

/** A condition of any kind that can be read. */
export function readableCondition(providerIds: readonly string[]): fc.Arbitrary<ConditionSource> {
  return fc.oneof(
    of(REGION, some([...REGIONS, ...REGIONS, ' US '])),
    of(REMOTE_IP, some(NETWORKS)),
    of(PROVIDER, some([...providerIds, ...providerIds.map((id) => ` ${id.toUpperCase()}`)])),
    of(VERIFIED, one([['true'], [' true '], ['false'], []])),
    { weight: 2, arbitrary: of(WINDOWS, fc.array(windowValue, { minLength: 1, maxLength: 3 })) },
    { weight: 2, arbitrary: of(WINDOWS, dailyWindows) },
    of(WINDOWS, one([['M//UTC'], []])),
  );
}

/** A condition that looks like one and says nothing that can be understood: it never holds, whatever is asked. */
export function garbageCondition(): fc.Arbitrary<ConditionSource> {
  const spoilt = (kind: Kind, good: readonly string[], bad: readonly string[]): fc.Arbitrary<ConditionSource> =>
    of(
      kind,
      fc.tuple(some(good), one(bad), some(good)).map(([before, value, after]) => [...before, value, ...after]),
    );
  const everyValue = ['true', 'DE', '0.0.0.0/0', 'M/true/UTC'];
  return fc.oneof(
    spoilt(REGION, REGIONS, GARBAGE_REGIONS),
    spoilt(REMOTE_IP, NETWORKS, GARBAGE_NETWORKS),
    spoilt(PROVIDER, [NO_PROVIDER], GARBAGE_PROVIDERS),
    of(VERIFIED, one([['yes'], ['TRUE'], [''], ['true', 'true'], ['false', 'true'], ['1']])),
    spoilt(
      WINDOWS,
      [...'MTWRFSU'].map((day) => `${day}/true/UTC`),
      GARBAGE_WINDOWS,
    ),
    // a property with the operator of another, or with one that never worked
    fc
      .record({
        property: one([...EVERY_KIND.map(({ property }) => property), 'phase_of_moon', '', '__proto__', ' remote_ip']),
        operator: one([...EVERY_KIND.flatMap(({ operators }) => operators), 'contains', 'does_not_contain', '', 'IS']),
        values: some(everyValue),
      })
      .filter(({ property, operator }) => {
        const kind = EVERY_KIND.find((known) => known.property === property);
        return kind?.operators.includes(operator) !== true;
      }),
  );
}

/** The list of a policy; a sixth of them deny because something cannot be read. */
export function conditionList(providerIds: readonly string[]): fc.Arbitrary<readonly ConditionSource[] | 'unreadable'> {
  const readable = fc.array(readableCondition(providerIds), { minLength: 1, maxLength: 2 });
  return fc.oneof(
    { weight: 4, arbitrary: fc.constant([]) },
    { weight: 10, arbitrary: readable },
    { weight: 2, arbitrary: fc.tuple(garbageCondition(), readable).map(([bad, good]) => [...good.slice(1), bad]) },
    { weight: 1, arbitrary: fc.constant('unreadable' as const) },
  );
}

export const region: fc.Arbitrary<ConnectionFacts['region']> = fc.oneof(
  { weight: 6, arbitrary: one(REGIONS) },
  { weight: 1, arbitrary: one([null, 'de', 'ZZ', '']) },
);

export const remoteIp: fc.Arbitrary<ConnectionFacts['remoteIp']> = fc.oneof(
  { weight: 8, arbitrary: one(ADDRESSES) },
  { weight: 1, arbitrary: one([null, '', 'rubbish', '192.0.2.1/32', ' 192.0.2.1', '012.0.2.1', '::1%1']) },
);
