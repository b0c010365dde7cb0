/** What brings commits: one connection to the database, in replication mode or an ordinary one that is polled (B.12). */
import type { RawRow } from '../core/changes/commit.js';
import type { Position } from '../core/model/position.js';
import type { XidSnapshot } from '../core/ports/hydration-reader.js';

/** One server process, told from a later one of the same pid by its start. */
export interface Backend {
  readonly pid: string;
  readonly startedAt: string;
}

export interface NewSlot {
  readonly confirmed: Position;
  /** See `Slot.startSnapshot`. */
  readonly snapshot: XidSnapshot | undefined;
}

/**
 * States: open (SQL may be asked, one statement at a time) → bringing → ended. Ended holds from the first error on, ours
 * or the server's; nothing is handed on afterwards.
 */
export interface ChangeSource {
  /** Rejects when the server cannot be reached or refuses us, or `destroy` is called meanwhile. */
  connect(): Promise<void>;
  ask(statement: string): Promise<readonly RawRow[]>;
  /** Only before `run`, as all that concerns the slot. */
  readSystem(): Promise<{ readonly systemId: string; readonly timeline: number }>;
  makeSlot(slot: string, isFailover: boolean): Promise<NewSlot>;
  dropSlot(slot: string): Promise<void>;
  /** False where it cannot be done over such a connection. */
  letSlotFollowFailovers(slot: string): Promise<boolean>;
  /** Ends `former` if it still keeps the slot from us. The server may take hours to notice that we left it. */
  endFormer(slot: string, former: Backend): Promise<boolean>;

  /** Hands on commits until the connection ends; then rejects with the reason, or resolves when it ended in good order. */
  run(slot: string, onStarted: () => void): Promise<void>;
  /** Pauses or resumes by what is pending; also called when the intake has caught up. */
  regulate(): void;
  /** Has the intake hear soon how far the server has read its log. */
  askForKeepalive(): void;
  /** Nothing more is handed on; what is done can still be acknowledged. */
  deafen(): void;
  /** Tells the server what is done by now, and leaves; the slot is free when this resolves, or `limitMs` has passed. */
  finish(limitMs: number): Promise<void>;
  destroy(reason?: Error): void;
}

/** The server's for a slot that another connection reads; ours when another process polls it. */
export const SLOT_HELD = '55006';

export class SlotHeldError extends Error {
  readonly code = SLOT_HELD;
}
