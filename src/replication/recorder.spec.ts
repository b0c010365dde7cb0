import { describe, expect, it, jest } from '@jest/globals';
import { ManualClock } from '../../test/support/manual-clock.js';
import type { AccountId } from '../core/model/ids.js';
import type { ChangeLogEntry } from '../core/ports/change-log.js';
import type { CommitReader, Take } from './commit-reader.js';
import type { AssembledCommit } from './open-transaction.js';
import { Recorder } from './recorder.js';

const ACCOUNT = 'account' as AccountId;

/** A change log whose appends the test lets through or fails, one at a time. */
class HeldLog {
  readonly written: ChangeLogEntry[] = [];
  readonly #waiting: { entries: readonly ChangeLogEntry[]; resolve: () => void; reject: (error: Error) => void }[] = [];

  get appendsUnderWay(): number {
    return this.#waiting.length;
  }

  append(entries: readonly ChangeLogEntry[]): Promise<void> {
    return new Promise((resolve, reject) => this.#waiting.push({ entries, resolve, reject }));
  }

  enterTimeline(): Promise<boolean> {
    return Promise.resolve(false);
  }

  async letThrough(): Promise<void> {
    const append = this.#waiting.shift();
    this.written.push(...(append?.entries ?? []));
    append?.resolve();
    await settled();
  }

  async fail(): Promise<void> {
    this.#waiting.shift()?.reject(new Error('the database is away'));
    await settled();
  }
}

/** The log, from which a test has a commit read, one reading at a time. */
class HeldReader implements CommitReader {
  readonly readings: { position: bigint; take: Take; aborted: AbortSignal; end(isThere: boolean | Error): void }[] = [];

  read({ position }: { readonly position: bigint }, take: Take, aborted: AbortSignal): Promise<boolean> {
    return new Promise((resolve, reject) => {
      const end = (isThere: boolean | Error): void => {
        if (isThere instanceof Error) reject(isThere);
        else resolve(isThere);
      };
      aborted.addEventListener('abort', () => end(new Error('aborted')));
      this.readings.push({ position, take, aborted, end });
    });
  }
}

async function settled(): Promise<void> {
  for (let i = 0; i < 10; i += 1) await Promise.resolve();
}

function commitOf(position: bigint, rows: number): AssembledCommit {
  const recordable = Array.from({ length: rows }, (_, seq) => ({
    accountId: ACCOUNT,
    change: { kind: 'insert', table: 'groups', seq, old: null, new: { id: String(seq) } } as const,
  }));
  const commit = { position, xid: 1n, committedAt: 0, byAccount: new Map(), global: [], truncates: [] };
  return {
    commit: { ...commit, messages: [], resync: new Set(), hiddenCuts: new Set(), changeCount: rows },
    recordable,
    isLeftOut: false,
    heldBytes: rows * 10,
  };
}

function aRecorder() {
  const log = { error: jest.fn(), warn: jest.fn(), info: jest.fn(), debug: jest.fn() };
  const metrics = { changeLogBacklog: jest.fn() } as never;
  const clock = new ManualClock();
  const random = { uuid: () => '', bytes: () => new Uint8Array(), fraction: () => 1 };
  const changeLog = new HeldLog();
  const commitReader = new HeldReader();
  const recorder = new Recorder({ changeLog, commitReader, clock, random, metrics, log });
  const lingered = async (): Promise<void> => {
    clock.advance(LONGEST_LINGER_MS);
    await settled();
  };
  return { log, clock, changeLog, commitReader, recorder, lingered };
}

/** Far below the 100 ms in which the server hears of what is done. */
const LONGEST_LINGER_MS = 10;

describe('ACK-1: Recorder', () => {
  it('counts a commit as recorded only when its rows are written', async () => {
    const { recorder, changeLog, lingered } = aRecorder();
    recorder.record(commitOf(10n, 2));
    await lingered();
    expect([recorder.recordedPosition(), recorder.backlogEntries(), recorder.backlogBytes()]).toEqual([0n, 2, 20]);
    await changeLog.letThrough();
    expect([recorder.recordedPosition(), recorder.backlogEntries(), recorder.backlogBytes()]).toEqual([10n, 0, 0]);
    expect(changeLog.written.map(({ position, seq }) => [position, seq])).toEqual([
      [10n, 0],
      [10n, 1],
    ]);
  });

  it('writes what came meanwhile as one batch, in order, one append at a time', async () => {
    const { recorder, changeLog, lingered } = aRecorder();
    for (const position of [10n, 20n]) recorder.record(commitOf(position, 1));
    expect(changeLog.appendsUnderWay).toBe(0);
    await lingered();
    expect(changeLog.appendsUnderWay).toBe(1);
    for (const position of [30n, 40n]) recorder.record(commitOf(position, 1));
    await lingered();
    expect(changeLog.appendsUnderWay).toBe(1);
    await changeLog.letThrough();
    expect(recorder.recordedPosition()).toBe(20n);
    expect(changeLog.appendsUnderWay).toBe(1);
    await changeLog.letThrough();
    expect(recorder.recordedPosition()).toBe(40n);
    expect(changeLog.written.map(({ position }) => position)).toEqual([10n, 20n, 30n, 40n]);
  });

  it('keeps a commit without rows behind the one before it', async () => {
    const { recorder, changeLog, lingered } = aRecorder();
    recorder.record(commitOf(5n, 0));
    expect(recorder.recordedPosition()).toBe(5n);
    recorder.record(commitOf(10n, 1));
    recorder.record(commitOf(20n, 0));
    await lingered();
    expect(recorder.recordedPosition()).toBe(5n);
    await changeLog.letThrough();
    expect(recorder.recordedPosition()).toBe(20n);
  });

  it('writes a long commit in parts and counts it when the last part is in', async () => {
    const { recorder, changeLog, lingered } = aRecorder();
    recorder.record(commitOf(10n, 2_500));
    await lingered();
    await changeLog.letThrough();
    await changeLog.letThrough();
    expect(recorder.recordedPosition()).toBe(0n);
    await changeLog.letThrough();
    expect(recorder.recordedPosition()).toBe(10n);
    expect(changeLog.written.map(({ seq }) => seq)).toEqual(Array.from({ length: 2_500 }, (_, seq) => seq));
  });

  it('tries a failed batch again, for as long as it takes, and says so', async () => {
    const { recorder, changeLog, clock, log, lingered } = aRecorder();
    recorder.record(commitOf(10n, 1));
    await lingered();
    for (let attempt = 0; attempt < 8; attempt += 1) {
      await changeLog.fail();
      expect(changeLog.appendsUnderWay).toBe(0);
      clock.advance(5_000);
      await settled();
    }
    expect(recorder.recordedPosition()).toBe(0n);
    expect(log.warn).toHaveBeenCalled();
    expect(log.error).toHaveBeenCalled();
    await changeLog.letThrough();
    expect(recorder.recordedPosition()).toBe(10n);
  });

  it('forgets its backlog and its position when another branch of history begins, and goes on there', async () => {
    const { recorder, changeLog, clock, lingered } = aRecorder();
    recorder.record(commitOf(100n, 1));
    recorder.record(commitOf(200n, 1));
    await lingered();
    await changeLog.fail();
    await recorder.abandon();
    expect([recorder.recordedPosition(), recorder.backlogEntries(), recorder.backlogBytes()]).toEqual([0n, 0, 0]);
    recorder.record(commitOf(10n, 1));
    await lingered();
    await changeLog.letThrough();
    clock.advance(10_000);
    expect(recorder.recordedPosition()).toBe(10n);
    expect(changeLog.written).toHaveLength(1);
  });

  it('drains until nothing waits, or until the limit', async () => {
    const { recorder, changeLog, clock } = aRecorder();
    recorder.record(commitOf(10n, 1));
    const ended: string[] = [];
    void recorder.drain(1_000).then(() => ended.push('limit'));
    await settled();
    expect(ended).toEqual([]);
    clock.advance(1_000);
    await settled();
    expect(ended).toEqual(['limit']);
    const drained = recorder.drain(1_000);
    await changeLog.letThrough();
    await drained;
    expect(recorder.recordedPosition()).toBe(10n);
  });

  it('lingers no more when it is drained, and begins nothing when it is stopped meanwhile', async () => {
    const drained = aRecorder();
    drained.recorder.record(commitOf(10n, 1));
    const done = drained.recorder.drain(1_000);
    await settled();
    await drained.changeLog.letThrough();
    await done;
    expect(drained.recorder.recordedPosition()).toBe(10n);

    const stopped = aRecorder();
    stopped.recorder.record(commitOf(10n, 1));
    stopped.recorder.stop();
    await stopped.lingered();
    expect([stopped.changeLog.appendsUnderWay, stopped.clock.pending]).toEqual([0, 0]);
  });

  const leftOut = (position: bigint, changeCount: number): AssembledCommit => {
    const { commit } = commitOf(position, 0);
    return { commit: { ...commit, changeCount }, recordable: [], isLeftOut: true, heldBytes: 0 };
  };

  it('D10: has a commit that is not held read again in its turn, and counts it as recorded once all of it is written', async () => {
    const { recorder, changeLog, commitReader, lingered } = aRecorder();
    recorder.record(commitOf(10n, 1));
    recorder.record(leftOut(20n, 6));
    recorder.record(commitOf(30n, 1));
    expect([recorder.backlogEntries(), recorder.backlogBytes()]).toEqual([8, 20]);
    await lingered();
    expect(commitReader.readings).toEqual([]);
    await changeLog.letThrough();
    const [reading] = commitReader.readings;
    expect([recorder.recordedPosition(), reading?.position]).toEqual([10n, 20n]);

    const { recordable } = commitOf(0n, 5); // the sixth is an echo of ours
    const taken = reading?.take(recordable);
    await changeLog.letThrough();
    await taken;
    expect([recorder.recordedPosition(), recorder.backlogEntries()]).toEqual([10n, 2]);
    reading?.end(true);
    await settled();
    expect([recorder.recordedPosition(), recorder.backlogEntries()]).toEqual([20n, 1]);
    await changeLog.letThrough();
    expect([recorder.recordedPosition(), recorder.backlogEntries(), recorder.backlogBytes()]).toEqual([30n, 0, 0]);
    expect(changeLog.written.map(({ position, seq }) => [position, seq])).toEqual([
      [10n, 0],
      ...Array.from({ length: 5 }, (_, seq) => [20n, seq]),
      [30n, 0],
    ]);
  });

  it('D10: reads again what broke off, and writes nothing of it twice', async () => {
    const { recorder, changeLog, commitReader, clock, log, lingered } = aRecorder();
    recorder.record(leftOut(20n, 4));
    await lingered();
    const { recordable } = commitOf(0n, 4);
    const first = commitReader.readings[0]?.take(recordable.slice(0, 2));
    await changeLog.letThrough();
    await first;
    commitReader.readings[0]?.end(new Error('the database is away'));
    await settled();
    clock.advance(100);
    await settled();
    const again = commitReader.readings[1];
    await again?.take(recordable.slice(0, 1));
    const rest = again?.take(recordable.slice(1));
    await changeLog.letThrough();
    await rest;
    again?.end(true);
    await settled();
    expect(changeLog.written.map(({ seq }) => seq)).toEqual([0, 1, 2, 3]);
    expect([recorder.recordedPosition(), recorder.backlogEntries()]).toEqual([20n, 0]);
    expect(log.warn.mock.calls.map(([event]) => event)).toEqual(['recorder.read-again-failed']);
  });

  it('ACK-1: counts no row twice when a statement of an earlier reading hung until the next one wrote the same', async () => {
    const { recorder, changeLog, commitReader, clock, lingered } = aRecorder();
    recorder.record(leftOut(20n, 4));
    await lingered();
    const { recordable } = commitOf(0n, 4);
    const hung = commitReader.readings[0]?.take(recordable.slice(0, 2));
    commitReader.readings[0]?.end(new Error('the connection was lost'));
    await settled();
    clock.advance(100);
    await settled();
    const again = commitReader.readings[1]?.take(recordable.slice(0, 2));
    await changeLog.letThrough();
    await changeLog.letThrough();
    await Promise.all([hung, again]);
    const rest = commitReader.readings[1]?.take(recordable.slice(2));
    await changeLog.letThrough();
    await rest;
    expect(changeLog.written.map(({ seq }) => seq)).toEqual([0, 1, 0, 1, 2, 3]);
    await expect(commitReader.readings[0]?.take(recordable)).rejects.toThrow('over');
  });

  it('goes on behind a commit that the log has no more, and says so', async () => {
    const { recorder, commitReader, log, lingered } = aRecorder();
    recorder.record(leftOut(20n, 4));
    await lingered();
    commitReader.readings[0]?.end(false);
    await settled();
    expect([recorder.recordedPosition(), recorder.backlogEntries()]).toEqual([20n, 0]);
    expect(log.error).toHaveBeenCalledWith('recorder.commit-gone', { lsn: '0/14' });
  });

  it('ends a reading that nobody waits for any more: stopped, or given up with the backlog', async () => {
    const stopped = aRecorder();
    stopped.recorder.record(leftOut(20n, 4));
    await stopped.lingered();
    stopped.recorder.stop();
    await settled();
    expect([stopped.commitReader.readings[0]?.aborted.aborted, stopped.log.warn.mock.calls]).toEqual([true, []]);

    const givenUp = aRecorder();
    givenUp.recorder.record(leftOut(20n, 4));
    await givenUp.lingered();
    givenUp.recorder.dropBacklog();
    givenUp.recorder.record(commitOf(30n, 1));
    await givenUp.lingered();
    await givenUp.changeLog.letThrough();
    expect(givenUp.recorder.recordedPosition()).toBe(30n);
    expect(givenUp.log.warn.mock.calls.map(([event]) => event)).toEqual(['recorder.backlog-abandoned']);
  });
});
