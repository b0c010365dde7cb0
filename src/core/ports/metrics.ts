import type { AccountTable } from '../model/rows.js';
import type { SlotStatus } from './slot-status.js';

/** Counting without knowing who collects. Label values come from closed sets; ids and free text go to logs only. */
export interface Metrics {
  commitApplied(changes: number, decodeMs: number, applyMs: number): void;
  replicationLag(bytes: number, ms: number): void;
  replicationState(state: 'connecting' | 'streaming' | 'stopped'): void;
  slot(status: SlotStatus): void;
  changeLogBacklog(entries: number): void;
  rowUnreadable(table: string): void;
  /** A store differed from the database in so many rows of a table: a defect. */
  storeDrifted(table: AccountTable, rows: number): void;
  storeAudited(outcome: 'equal' | 'drifted' | 'abandoned'): void;
  channelOpened(role: PeerRole): void;
  channelClosed(role: PeerRole, why: string): void;
  pushed(role: PeerRole, event: string): void;
  decided(outcome: DecisionOutcome): void;
  /** A gateway has read a rejection. @param sinceCommitMs null where no commit caused it */
  receipted(sincePushMs: number, sinceCommitMs: number | null): void;
  upgradeAnswered(status: number): void;
  frameRefused(role: PeerRole, why: string): void;
  /** A peer said more than it may: its frames are read later. */
  throttled(role: PeerRole): void;
  /** One SQL statement, by the name of the question it answers. */
  queried(question: string, ms: number): void;
}

export type PeerRole = 'client' | 'gateway' | 'relay';
export type DecisionOutcome =
  'allowed' | 'not_found' | 'forbidden' | 'offline' | 'stale' | 'kept' | 'moved' | 'rejected';
export const METRICS = Symbol('Metrics');
