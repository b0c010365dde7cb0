import { describe, expect, it } from '@jest/globals';
import type { ProviderId } from '../model/ids.js';
import type { ConditionSource } from '../model/rows.js';
import {
  type CompiledConditions,
  type ConditionInput,
  type ConditionProperty,
  compileConditions,
  conditionInput,
  conformsUntil,
  nextTransition,
  addViolations,
} from './conditions.js';

const OKTA = 'a0000000-0000-4000-8000-00000000000a' as ProviderId;
const OTHER = 'b0000000-0000-4000-8000-00000000000b' as ProviderId;

const at = (text: string) => Date.parse(`${text.replace(' ', 'T')}Z`);
const fridayNoon = at('2025-07-18 12:00:00');

const condition = (property: string, operator: string, ...values: string[]): ConditionSource => ({
  property,
  operator,
  values,
});
interface Facts {
  readonly region: string | null;
  readonly remoteIp: string | null;
  readonly providerId: ProviderId | null;
  readonly verifiedAt: number | null;
}

const aClient = (over: Partial<Facts> = {}): Facts => ({
  region: 'US',
  remoteIp: '10.1.2.3',
  providerId: OKTA,
  verifiedAt: 0,
  ...over,
});

function verdict(source: readonly ConditionSource[] | 'unreadable', client = aClient(), now = fridayNoon) {
  const compiled = compileConditions(source);
  const input = conditionInput(client, client.providerId, client.verifiedAt);
  const until = conformsUntil(compiled, input, now);
  return until === undefined
    ? { holds: false, violated: violationsOf(compiled, input, now) }
    : { holds: true, until: until === Infinity ? null : until };
}

function violationsOf(...of: [CompiledConditions, ConditionInput, number]): ConditionProperty[] {
  const violated: ConditionProperty[] = [];
  addViolations(violated, ...of);
  return violated;
}

describe('one condition (domain 2.2)', () => {
  const region = 'remote_ip_location_region';
  const time = 'current_utc_datetime';

  it.each<[ConditionSource, Partial<Facts>, boolean]>([
    [condition(region, 'is_in', 'US', 'CA'), {}, true],
    [condition(region, 'is_in', ' US '), {}, true],
    [condition(region, 'is_in', 'CA'), {}, false],
    [condition(region, 'is_not_in', 'CA'), {}, true],
    [condition(region, 'is_not_in', 'US'), {}, false],
    [condition(region, 'is_in'), {}, false],
    [condition(region, 'is_not_in'), {}, true],
    [condition(region, 'is_in', 'US'), { region: null }, false],
    [condition(region, 'is_not_in', 'US'), { region: null }, false],
    [condition(region, 'is_not_in'), { region: null }, false],
    [condition(region, 'is_not_in', 'US'), { region: 'us' }, false],
    [condition(region, 'is_not_in', 'US'), { region: 'ZZ' }, false],
    [condition(region, 'is_not_in', 'us'), { region: 'CA' }, false],
    [condition(region, 'is_not_in', 'UK'), { region: 'CA' }, false],
    [condition(region, 'is_in', 'US', 'Atlantis'), {}, false],
    [condition(region, 'contains', 'US'), {}, false],
    [condition(region, 'does_not_contain', 'CA'), {}, false],
    [condition(region, 'is_in_cidr', 'US'), {}, false],

    [condition('remote_ip', 'is_in_cidr', '10.0.0.0/8'), {}, true],
    [condition('remote_ip', 'is_in_cidr', '11.0.0.0/8', '10.0.0.0/8'), {}, true],
    [condition('remote_ip', 'is_not_in_cidr', '10.0.0.0/8'), {}, false],
    [condition('remote_ip', 'is_not_in_cidr', '11.0.0.0/8'), {}, true],
    [condition('remote_ip', 'is_in_cidr'), {}, false],
    [condition('remote_ip', 'is_not_in_cidr'), {}, true],
    [condition('remote_ip', 'is_in_cidr', '192.168.0.1'), { remoteIp: '192.168.0.1' }, true],
    [condition('remote_ip', 'is_in_cidr', '192.168.0.1'), { remoteIp: '192.168.0.2' }, false],
    [condition('remote_ip', 'is_in_cidr', '2001:db8::1'), { remoteIp: '2001:DB8:0::1' }, true],
    [condition('remote_ip', 'is_in_cidr', '2001:db8::1'), { remoteIp: '2001:db8::2' }, false],
    [condition('remote_ip', 'is_in_cidr', '192.168.0.1/24'), { remoteIp: '192.168.0.255' }, true],
    [condition('remote_ip', 'is_in_cidr', '192.168.0.1/24'), { remoteIp: '192.168.1.0' }, false],
    [condition('remote_ip', 'is_in_cidr', '::/0'), {}, false],
    [condition('remote_ip', 'is_not_in_cidr', '::/0'), {}, true],
    [condition('remote_ip', 'is_in_cidr', '0.0.0.0/0'), { remoteIp: '2001:db8::1' }, false],
    [condition('remote_ip', 'is_not_in_cidr', '0.0.0.0/0'), { remoteIp: '2001:db8::1' }, true],
    [condition('remote_ip', 'is_in_cidr', '10.0.0.0/8'), { remoteIp: '::ffff:10.1.2.3' }, false],
    [condition('remote_ip', 'is_not_in_cidr', '10.0.0.0/8'), { remoteIp: '::ffff:10.1.2.3' }, false],
    [condition('remote_ip', 'is_not_in_cidr', '::ffff:10.0.0.0/104'), {}, false],
    [condition('remote_ip', 'is_in_cidr', '0.0.0.0/0'), { remoteIp: null }, false],
    [condition('remote_ip', 'is_not_in_cidr', '11.0.0.0/8'), { remoteIp: null }, false],
    [condition('remote_ip', 'is_not_in_cidr'), { remoteIp: 'unknown' }, false],
    [condition('remote_ip', 'is_not_in_cidr', '11.0.0.0/8'), { remoteIp: '012.1.2.3' }, false],
    [condition('remote_ip', 'is_in_cidr', '10.0.0.0/8', 'rubbish'), {}, false],
    [condition('remote_ip', 'is_not_in_cidr', 'rubbish'), {}, false],
    [condition('remote_ip', 'is_in', '10.1.2.3'), {}, false],

    [condition('provider_id', 'is_in', OKTA), {}, true],
    [condition('provider_id', 'is_in', OKTA.toUpperCase()), {}, true],
    [condition('provider_id', 'is_in', OTHER), {}, false],
    [condition('provider_id', 'is_not_in', OTHER), {}, true],
    [condition('provider_id', 'is_not_in', OKTA), {}, false],
    [condition('provider_id', 'is_in'), {}, false],
    [condition('provider_id', 'is_not_in'), {}, true],
    [condition('provider_id', 'is_in', OKTA), { providerId: null }, false],
    [condition('provider_id', 'is_not_in', OKTA), { providerId: null }, true],
    [condition('provider_id', 'is_not_in', 'okta'), {}, false],
    [condition('provider_id', 'is_not_in', 'okta'), { providerId: null }, false],

    [condition('client_verified', 'is', 'true'), {}, true],
    [condition('client_verified', 'is', 'true'), { verifiedAt: null }, false],
    [condition('client_verified', 'is', 'false'), { verifiedAt: null }, true],
    [condition('client_verified', 'is', 'false'), {}, true],
    [condition('client_verified', 'is'), { verifiedAt: null }, true],
    [condition('client_verified', 'is', 'yes'), {}, false],
    [condition('client_verified', 'is', 'false', 'true'), {}, false],
    [condition('client_verified', 'is_in', 'true'), {}, false],

    [condition(time, 'is_in_day_of_week_time_ranges', 'F/9-17/UTC'), {}, true],
    [condition(time, 'is_in_day_of_week_time_ranges', 'R/9-17/UTC'), {}, false],
    [condition(time, 'is_in_day_of_week_time_ranges'), {}, false],
    [condition(time, 'is_in_day_of_week_time_ranges', 'F//UTC'), {}, false],
    [condition(time, 'is_in_day_of_week_time_ranges', 'F/9-17/UTC', 'F/22-6/UTC'), {}, false],
    [condition(time, 'is_in_day_of_week_time_ranges', 'F/9-17/UTC', 'F/9-17/Mars/Olympus'), {}, false],
    [condition(time, 'is_in', 'F/9-17/UTC'), {}, false],
  ])('%j against %j holds: %s', (source, client, holds) => {
    const until = source.property === time ? at('2025-07-18 17:00:00') : null;
    const expected = holds ? { holds: true, until } : { holds: false, violated: [source.property] };
    expect(verdict([source], aClient(client))).toEqual(expected);
  });
});

describe('a list of conditions (domain 2.4)', () => {
  const inUs = condition('remote_ip_location_region', 'is_in', 'US');
  const tenNet = condition('remote_ip', 'is_in_cidr', '10.0.0.0/8');
  const friday = condition('current_utc_datetime', 'is_in_day_of_week_time_ranges', 'F/9-17/UTC');
  const fridayMorning = condition('current_utc_datetime', 'is_in_day_of_week_time_ranges', 'F/0-13/UTC');
  const verified = condition('client_verified', 'is', 'true');

  it('an empty list holds without an end of its own', () => {
    expect(verdict([])).toEqual({ holds: true, until: null });
  });

  it('names what is violated in list order', () => {
    const client = aClient({ region: 'CA' });
    expect(verdict([inUs, tenNet, friday], client, at('2025-07-18 20:00:00'))).toEqual({
      holds: false,
      violated: ['remote_ip_location_region', 'current_utc_datetime'],
    });
  });

  it('names a property once, and requires both of two conditions on it', () => {
    const inCanada = condition('remote_ip_location_region', 'is_in', 'CA');
    expect(verdict([inUs, verified, inCanada])).toEqual({ holds: false, violated: ['remote_ip_location_region'] });
    expect(verdict([inCanada, verified, inUs])).toEqual({ holds: false, violated: ['remote_ip_location_region'] });
    expect(verdict([inCanada, inCanada])).toEqual({ holds: false, violated: ['remote_ip_location_region'] });
  });

  it('D9: the earliest end counts, wherever the unlimited conditions stand', () => {
    const until = at('2025-07-18 13:00:00');
    for (const list of [
      [friday, fridayMorning, verified],
      [verified, fridayMorning, friday],
      [fridayMorning, inUs, friday],
    ]) {
      expect(verdict(list)).toEqual({ holds: true, until });
    }
  });

  it('S9: an unknown property denies, and is not named to the peer', () => {
    expect(verdict([condition('phase_of_moon', 'is', 'full')])).toEqual({ holds: false, violated: [] });
    expect(verdict([condition('__proto__', 'is', 'true'), inUs])).toEqual({ holds: false, violated: [] });
    expect(verdict([condition('constructor', 'is'), verified], aClient({ verifiedAt: null }))).toEqual({
      holds: false,
      violated: ['client_verified'],
    });
  });

  it('S9: an unreadable list denies without naming anything', () => {
    expect(verdict('unreadable')).toEqual({ holds: false, violated: [] });
  });
});

describe('the next transition', () => {
  const time = (...values: string[]) => condition('current_utc_datetime', 'is_in_day_of_week_time_ranges', ...values);

  it('D18: is the first of all windows to open or close', () => {
    const compiled = compileConditions([time('F/9-17/UTC'), time('F/12-20/UTC')]);
    expect(nextTransition(compiled, at('2025-07-18 08:00:00'))).toBe(at('2025-07-18 09:00:00'));
    expect(nextTransition(compiled, at('2025-07-18 10:00:00'))).toBe(at('2025-07-18 12:00:00'));
    expect(nextTransition(compiled, at('2025-07-18 12:00:00'))).toBe(at('2025-07-18 17:00:00.001'));
  });

  it('does not exist where time changes nothing', () => {
    const verified = condition('client_verified', 'is', 'true');
    expect(nextTransition(compileConditions([verified]), fridayNoon)).toBeUndefined();
    expect(nextTransition(compileConditions('unreadable'), fridayNoon)).toBeUndefined();
    expect(
      nextTransition(compileConditions([time('F/9-17/UTC'), condition('moon', 'is')]), fridayNoon),
    ).toBeUndefined();
  });
});

describe('faults', () => {
  it('D15: name every condition that denies because it cannot be read', () => {
    const compiled = compileConditions([
      condition('client_verified', 'is', 'true'),
      condition('phase_of_moon', 'is', 'full'),
      condition('remote_ip', 'is_in', '10.0.0.0/8'),
      condition('remote_ip', 'is_in_cidr', 'rubbish'),
      condition('current_utc_datetime', 'is_in_day_of_week_time_ranges', 'F/22-6/UTC'),
    ]);
    expect(compiled.faults).toEqual([
      { part: 'conditions[1]', problem: 'unknown property "phase_of_moon"' },
      { part: 'conditions[2]', problem: 'remote_ip: unknown operator "is_in"' },
      { part: 'conditions[3]', problem: 'remote_ip: "rubbish" is not an IP address or network' },
      {
        part: 'conditions[4]',
        problem: 'current_utc_datetime: start of the time range must be less than or equal to the end of it',
      },
    ]);
  });

  it('are none for conditions that are merely violated, or can never hold', () => {
    const list = [
      condition('remote_ip_location_region', 'is_in'),
      condition('current_utc_datetime', 'is_in_day_of_week_time_ranges', 'F//UTC'),
    ];
    expect(compileConditions(list).faults).toEqual([]);
    expect(verdict(list)).toMatchObject({ holds: false });
  });
});
