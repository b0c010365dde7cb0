import { describe, expect, it } from '@jest/globals';
import type { SlotFacts } from '../core/ports/slot-status.js';
import type { RunningFacts } from './running-facts.js';
import { type Examined, runningFaults } from './running-faults.js';

const FACTS: RunningFacts = {
  version: 180_000,
  settings: { synchronized_standby_slots: '' },
  wal_sender_timeout_ms: 60_000,
  keep_size_mb: 4_096,
  idle_slot_timeout: 0,
  max_connections: 97,
  connections: 10,
  slot_is_ours: true,
  lag_seconds: 0,
  open: [],
  standby_slots: [],
};

const SLOT: SlotFacts = {
  walStatus: 'reserved',
  isMade: true,
  activePid: 17,
  retainedBytes: 1_000,
  lagBytes: 100,
  safeWalBytes: null,
  invalidation: null,
  failover: true,
};

const of = (changed: Partial<RunningFacts>, slot: Partial<SlotFacts> | null = {}, others: Partial<Examined> = {}) =>
  runningFaults({
    ...{ facts: { ...FACTS, ...changed }, slot: slot === null ? undefined : { ...SLOT, ...slot } },
    ...{ slotName: 'portcullis', drift: [], poolSize: 10, mode: 'stream', ...others },
  });

const OPEN = { pid: 7, gid: undefined, database: 'app', user: 'ann', forSeconds: 61.4 };

describe('what is wrong with a running server', () => {
  it('differs where commits are polled: no sender can be given up, and only a new slot can follow failovers', () => {
    expect(of({ wal_sender_timeout_ms: 0 }, {}, { mode: 'poll' })).toEqual([]);
    const [fault] = of({ version: 170_000 }, { failover: false }, { mode: 'poll' });
    expect(fault).toMatchObject({ code: 'slot-failover' });
    expect(fault?.fix).toContain(`SELECT pg_drop_replication_slot('portcullis');`);
  });

  it('is nothing when all is well, with a slot and before there is one', () => {
    expect([...of({}), ...of({ slot_is_ours: null, lag_seconds: null }, null)]).toEqual([]);
  });

  it.each<[string, string, Partial<RunningFacts>, Partial<SlotFacts>]>([
    ['fault slot-foreign', `pg_drop_replication_slot('portcullis')`, { slot_is_ours: false }, {}],
    ['fault slot-lost', `pg_drop_replication_slot('portcullis')`, {}, { walStatus: 'lost' }],
    ['fault slot-lost', `pg_drop_replication_slot('portcullis')`, {}, { invalidation: 'idle_timeout' }],
    ['fault slot-unreserved', `max_slot_wal_keep_size = '8192MB'`, {}, { walStatus: 'unreserved' }],
    ['warning slot-lag', `max_slot_wal_keep_size = '8192MB'`, {}, { retainedBytes: 3 * 2 ** 30 }],
    ['warning slot-lag', 'start the server', {}, { retainedBytes: 3 * 2 ** 30, activePid: null }],
    ['warning slot-failover', 'start the server again', {}, { failover: false }],
    ['warning standby-slots', `synchronized_standby_slots = 'b'`, { standby_slots: ['b'] }, {}],
    [
      'warning standby-slots',
      `synchronized_standby_slots = 'a, b'`,
      { standby_slots: ['a', 'b'], settings: { synchronized_standby_slots: 'a' } },
      {},
    ],
    ['warning wal-sender-timeout', `wal_sender_timeout = '60s'`, { wal_sender_timeout_ms: 0 }, {}],
    ['warning wal-sender-timeout', `wal_sender_timeout = '60s'`, { wal_sender_timeout_ms: 10_000 }, {}],
    ['warning idle-slot-timeout', 'idle_replication_slot_timeout = 0', { idle_slot_timeout: 3_600 }, {}],
    ['warning connections', 'max_connections = 110', { connections: 85 }, {}],
    ['warning open-transaction', 'pg_terminate_backend(7)', { open: [OPEN] }, {}],
    [
      'warning prepared-transaction',
      `ROLLBACK PREPARED 'it''s'`,
      { open: [{ ...OPEN, pid: undefined, gid: "it's" }] },
      {},
    ],
  ])('%s is put right by %s', (code, fix, facts, slot) => {
    const [fault, ...others] = of(facts, slot);
    expect([`${fault?.severity} ${fault?.code}`, others]).toEqual([code, []]);
    expect(fault?.fix).toContain(fix);
  });

  it('is not what older servers do not have: failover, and a limit that is not set', () => {
    expect(of({ version: 160_000 }, { failover: false })).toEqual([]);
    expect(of({ keep_size_mb: -1 }, { retainedBytes: 2 ** 40 })).toEqual([]);
  });

  it('says faults before warnings', () => {
    const drift = [{ publication: 'p', what: 'table-added' as const, table: 'groups' }];
    const codes = of({ open: [OPEN], connections: 90 }, {}, { drift }).map(({ code }) => code);
    expect(codes).toEqual(['publication-drift', 'connections', 'open-transaction']);
  });
});
