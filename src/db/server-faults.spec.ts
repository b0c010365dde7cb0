import { describe, expect, it } from '@jest/globals';
import { faultsOf } from './server-faults.js';
import type { ServerFacts } from './server-faults.js';

const FIT: ServerFacts = {
  version: 150_018,
  in_recovery: false,
  wal_level: 'logical',
  has_slot: false,
  slot_active: false,
  slots: 9,
  max_slots: 10,
  senders: 9,
  max_senders: 10,
  keep_size_mb: 4096,
  temp_file_limit_kb: -1,
  role: 'app',
  may_replicate: true,
  may_create: true,
  database: 'app',
  publications: 2,
  not_full: [],
};

const of = (facts: Partial<ServerFacts>, mode: 'stream' | 'poll' = 'stream') =>
  faultsOf({ ...FIT, ...facts }, { prefix: 'portcullis', slot: 'portcullis', mode });

describe('what is wrong with a server', () => {
  it('is nothing when it can serve us', () => {
    expect(of({})).toEqual([]);
  });

  it('is not a want of WAL senders where commits are polled', () => {
    expect(of({ senders: 0, max_senders: 0 }, 'poll')).toEqual([]);
    expect(of({ senders: 0, max_senders: 0 }, 'stream')).toHaveLength(1);
  });

  it.each<[Partial<ServerFacts>, string, string]>([
    [{ version: 140_012 }, 'version', 'PostgreSQL 15'],
    [{ in_recovery: true }, 'in-recovery', 'pg_promote'],
    [{ wal_level: 'replica' }, 'wal-level', 'ALTER SYSTEM SET wal_level = logical'],
    [{ slots: 10 }, 'replication-slots', 'ALTER SYSTEM SET max_replication_slots = 15'],
    [{ senders: 10 }, 'wal-senders', 'ALTER SYSTEM SET max_wal_senders = 15'],
    [{ role: 'odd "role"', may_replicate: false }, 'role-replication', 'ALTER ROLE "odd ""role""" REPLICATION;'],
    [{ may_create: false }, 'role-create', 'GRANT CREATE ON DATABASE "app" TO "app";'],
    [{ keep_size_mb: -1 }, 'wal-keep-size', `ALTER SYSTEM SET max_slot_wal_keep_size = '4GB'`],
    [{ temp_file_limit_kb: 1_048_576 }, 'temp-file-limit', 'ALTER ROLE "app" SET temp_file_limit = -1;'],
    [{ publications: 1 }, 'publication', 'portcullis migrate'],
    [{ not_full: ['flows'] }, 'replica-identity', 'ALTER TABLE "flows" REPLICA IDENTITY FULL;'],
  ])('%j is a fault with the statement that puts it right', (facts, code, fix) => {
    const [fault, ...others] = of(facts);
    expect([fault?.code, others]).toEqual([code, []]);
    expect(fault?.fix).toContain(fix);
  });

  it('is not the room for slots and senders that we hold already', () => {
    expect(of({ has_slot: true, slot_active: true, slots: 9, senders: 10 })).toEqual([]);
  });

  it('D10: is a warning when no slot is free to read a huge transaction again with', () => {
    const faults = of({ has_slot: true, slot_active: true, slots: 10 });
    expect(faults).toMatchObject([{ code: 'spare-slot', severity: 'warning' }]);
    expect(faults[0]?.fix).toContain('ALTER SYSTEM SET max_replication_slots = 15');
  });

  it('D10: WAL without a limit does not keep us from starting', () => {
    expect(of({ keep_size_mb: -1 })[0]?.severity).toBe('warning');
  });

  it('is told all at once', () => {
    expect(of({ wal_level: 'replica', may_replicate: false, not_full: ['policies'] })).toHaveLength(3);
  });
});
