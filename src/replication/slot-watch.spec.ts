import { describe, expect, it, jest } from '@jest/globals';
import { ManualClock } from '../../test/support/manual-clock.js';
import type { Metrics } from '../core/ports/metrics.js';
import type { SlotFacts, SlotState } from '../core/ports/slot-status.js';
import { SlotWatch } from './slot-watch.js';

const READ_BY_US: SlotFacts = {
  walStatus: 'reserved',
  isMade: true,
  activePid: 17,
  retainedBytes: 4096,
  lagBytes: 128,
  safeWalBytes: null,
  invalidation: null,
  failover: false,
};

function aWatch() {
  const clock = new ManualClock();
  const slot = jest.fn<Metrics['slot']>();
  const log = { error: jest.fn(), warn: jest.fn(), info: jest.fn(), debug: jest.fn() };
  const answers: { facts: SlotFacts | undefined; error?: Error } = { facts: READ_BY_US };
  const server: { ownPid: number | undefined; isStreaming: boolean } = { ownPid: 17, isStreaming: true };
  const readSlot = jest.fn(async () => {
    if (answers.error) throw answers.error;
    return answers.facts;
  });
  const onStatus = jest.fn();
  const watch = new SlotWatch(
    { slot: 's', intervalMs: 5_000 },
    {
      readSlot,
      ownPid: () => server.ownPid,
      isStreaming: () => server.isStreaming,
      generation: () => 3,
      onStatus,
      clock,
      metrics: { slot } as never,
      log,
    },
  );
  const settled = async (): Promise<void> => {
    for (let i = 0; i < 10; i += 1) await Promise.resolve();
  };
  /** The state after the next look at these facts. */
  const sees = async (facts: SlotFacts | undefined): Promise<string | undefined> => {
    await settled();
    answers.facts = facts;
    clock.advance(5_000);
    await settled();
    return watch.status?.state;
  };
  return { watch, clock, slot, log, answers, server, readSlot, onStatus, settled, sees };
}

describe('SlotWatch', () => {
  it.each<[SlotState, SlotFacts | undefined]>([
    ['reserved', READ_BY_US],
    ['reserved', { ...READ_BY_US, activePid: null }],
    ['extended', { ...READ_BY_US, walStatus: 'extended' }],
    ['unreserved', { ...READ_BY_US, walStatus: 'unreserved' }],
    ['lost', { ...READ_BY_US, walStatus: 'lost', activePid: null }],
    ['lost', { ...READ_BY_US, invalidation: 'idle_timeout', activePid: null }],
    ['in-use', { ...READ_BY_US, activePid: 18 }],
    ['missing', undefined],
    ['missing', { ...READ_BY_US, isMade: false }],
  ])('calls it %s when the server says %j', async (state, facts) => {
    const { watch, slot, sees } = aWatch();
    watch.start();
    expect(await sees(facts)).toBe(state);
    expect(slot).toHaveBeenLastCalledWith({ ...facts, state });
  });

  it('asks at its own pace, never twice at once', async () => {
    const { watch, clock, readSlot, settled } = aWatch();
    watch.start();
    watch.look();
    expect(readSlot).toHaveBeenCalledTimes(1);
    await settled();
    clock.advance(4_999);
    expect(readSlot).toHaveBeenCalledTimes(1);
    clock.advance(1);
    expect(readSlot).toHaveBeenCalledTimes(2);
    await settled();
    watch.stop();
    clock.advance(60_000);
    expect(readSlot).toHaveBeenCalledTimes(2);
  });

  it('warns once when the log is in danger, and says when it is well again', async () => {
    const { watch, log, sees } = aWatch();
    watch.start();
    await sees(READ_BY_US);
    await sees({ ...READ_BY_US, walStatus: 'unreserved', safeWalBytes: -1 });
    await sees({ ...READ_BY_US, walStatus: 'unreserved', safeWalBytes: -2 });
    expect(log.warn.mock.calls).toEqual([
      ['replication.slot-state', expect.objectContaining({ state: 'unreserved', former: 'reserved' })],
    ]);
    await sees(READ_BY_US);
    expect(log.info).toHaveBeenLastCalledWith(
      'replication.slot-state',
      expect.objectContaining({ state: 'reserved', former: 'unreserved' }),
    );
  });

  it('takes a connection that came or went while the server answered for ours', async () => {
    const { watch, server, settled } = aWatch();
    server.ownPid = undefined;
    watch.start();
    server.ownPid = 17;
    await settled();
    expect(watch.status?.state).toBe('reserved');
    watch.look();
    server.ownPid = undefined;
    await settled();
    expect(watch.status?.state).toBe('reserved');
  });

  it('says in words what keeps the stream from reading, and nothing while it reads', async () => {
    const { watch, server, sees } = aWatch();
    watch.start();
    expect(watch.problem).toBeUndefined();
    await sees(undefined);
    expect(watch.problem).toBeUndefined();
    server.isStreaming = false;
    expect(watch.problem).toMatch(/no replication slot/);
    await sees({ ...READ_BY_US, activePid: 18 });
    expect(watch.problem).toMatch(/another connection .*18/);
    await sees({ ...READ_BY_US, activePid: null, walStatus: 'lost' });
    expect(watch.problem).toMatch(/lost its log/);
    await sees({ ...READ_BY_US, activePid: null });
    expect(watch.problem).toBeUndefined();
  });

  it('keeps the last answer, and warns once, while the server gives none', async () => {
    const { watch, answers, log, sees, onStatus } = aWatch();
    watch.start();
    await sees(READ_BY_US);
    onStatus.mockClear();
    answers.error = new Error('no connection');
    await sees(undefined);
    expect(await sees(undefined)).toBe('reserved');
    expect(onStatus).not.toHaveBeenCalled();
    expect(log.warn.mock.calls.map(([event]) => event)).toEqual(['replication.slot-unseen']);
  });
});
