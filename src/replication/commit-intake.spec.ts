import { beforeEach, describe, expect, it, jest } from '@jest/globals';
import { ManualClock } from '../../test/support/manual-clock.js';
import { RECORDED } from '../../test/support/recorded-wal/pgoutput-v1.js';
import type { Commit } from '../core/changes/commit.js';
import { Acknowledger } from './acknowledger.js';
import { CommitIntake } from './commit-intake.js';
import type { AssembledCommit } from './open-transaction.js';
import { XidEpoch } from './xid-epoch.js';

/** Positions of the recorded commits used here, in order. */
const [FIRST, SECOND, THIRD] = [RECORDED.insert, RECORDED.updateFull, RECORDED.deleteFull];
const positionOf = (messages: readonly string[]): bigint => BigInt(`0x${messages.at(-1)?.slice(20, 36)}`);

let clock: ManualClock;
let turns: (() => void)[];
/** What was handed on, in order, to whom. */
let handed: string[];
/** How long the sink takes for a commit. */
let sinkMs: number;
let sinkError: Error | undefined;
let acknowledger: Acknowledger;
let intake: CommitIntake;
let log: { error: jest.Mock; warn: jest.Mock; info: jest.Mock; debug: jest.Mock };

beforeEach(() => {
  clock = new ManualClock();
  turns = [];
  handed = [];
  sinkMs = 0;
  sinkError = undefined;
  log = { error: jest.fn(), warn: jest.fn(), info: jest.fn(), debug: jest.fn() };
  acknowledger = new Acknowledger([() => 0n]);
  const sink = {
    accept: (commit: Commit) => {
      handed.push(`sink ${commit.position}`);
      clock.advance(sinkMs);
      if (sinkError) throw sinkError;
    },
    passed: (position: bigint) => handed.push(`passed ${position}`),
    resyncAll: () => handed.push('resync'),
    settledPosition: () => 0n,
    pendingBytes: () => 0,
  };
  const recorder = {
    record: ({ commit }: AssembledCommit) => handed.push(`recorder ${commit.position}`),
    backlogBytes: () => 0,
  };
  intake = new CommitIntake(
    {
      sink,
      recorder: recorder as never,
      acknowledger,
      heartbeat: {
        passed: () => undefined,
        handed: () => undefined,
        keepalive: () => undefined,
        seen: () => handed.push('heartbeat'),
      } as never,
      xids: new XidEpoch(),
      limits: { maxChanges: 1_000, maxBytes: 1_000_000 },
      clock,
      scheduler: { nextTurn: (task) => turns.push(task), elapsedMs: () => clock.now() },
      metrics: { commitApplied: () => undefined } as never,
      log,
    },
    () => undefined,
  );
  intake.startConnection();
});

function feed(...recordings: (readonly string[])[]): void {
  for (const hex of recordings.flat()) intake.data(Buffer.from(hex, 'hex'));
}

function nextTurn(): void {
  for (const task of turns.splice(0)) task();
}

describe('CommitIntake', () => {
  it('hands each commit to the sink first and to the recorder second, in one step', () => {
    feed(FIRST, SECOND);
    const [a, b] = [positionOf(FIRST), positionOf(SECOND)];
    expect(handed).toEqual([`sink ${a}`, `recorder ${a}`, `sink ${b}`, `recorder ${b}`]);
    expect(acknowledger.receivedPosition()).toBe(b);
  });

  it('leaves out, after a reconnect, what was received before, and takes what was cut off', () => {
    feed(FIRST, SECOND.slice(0, 3)); // the commit of the second never came
    intake.startConnection();
    feed(FIRST, SECOND);
    expect(handed.filter((what) => what.startsWith('sink'))).toEqual([
      `sink ${positionOf(FIRST)}`,
      `sink ${positionOf(SECOND)}`,
    ]);
  });

  it('leaves out what was received and still waits to be handed on', () => {
    sinkMs = 20;
    feed(FIRST, SECOND);
    expect(intake.isBehind).toBe(true);
    intake.startConnection();
    feed(FIRST, SECOND, THIRD);
    for (let i = 0; i < 5; i += 1) nextTurn();
    expect(handed.filter((what) => what.startsWith('sink'))).toEqual(
      [FIRST, SECOND, THIRD].map((messages) => `sink ${positionOf(messages)}`),
    );
  });

  it('says that a position is passed only behind the commits that wait', () => {
    sinkMs = 20;
    feed(FIRST, SECOND, RECORDED.messageOutside);
    intake.keepalive(positionOf(THIRD));
    expect(handed).toHaveLength(2);
    for (let i = 0; i < 5; i += 1) nextTurn();
    expect(handed.slice(-3)).toEqual([expect.stringMatching('passed'), 'heartbeat', `passed ${positionOf(THIRD)}`]);
    expect(handed.indexOf(`sink ${positionOf(SECOND)}`)).toBe(2);
  });

  it('does not believe a keepalive inside a transaction', () => {
    feed(FIRST.slice(0, 3));
    intake.keepalive(positionOf(THIRD));
    expect(handed).toEqual([]);
    expect(acknowledger.receivedPosition()).toBe(0n);
  });

  it('D14: records a commit the sink failed at, has every store read again, and goes on', () => {
    sinkError = new Error('a defect');
    feed(FIRST);
    sinkError = undefined;
    feed(SECOND);
    const [a, b] = [positionOf(FIRST), positionOf(SECOND)];
    expect(handed).toEqual([`sink ${a}`, 'resync', `recorder ${a}`, `sink ${b}`, `recorder ${b}`]);
    expect(log.error).toHaveBeenCalledTimes(1);
  });

  it('takes lower positions again on another branch of history, and drops what waited of the old one', () => {
    sinkMs = 20;
    feed(SECOND, THIRD);
    intake.forget();
    intake.startConnection();
    feed(FIRST);
    for (let i = 0; i < 5; i += 1) nextTurn();
    const sunk = handed.filter((what) => what.startsWith('sink'));
    expect(sunk).toEqual([`sink ${positionOf(SECOND)}`, `sink ${positionOf(FIRST)}`]);
  });
});
