/** Decides which position the server may forget (ACK-1, ACK-2). Nothing else computes one. */
import type { Position } from '../core/model/position.js';

/** Each answers: every commit up to this position is done, as far as I am concerned. */
export type Gate = () => Position;

/**
 * The acknowledged position is the lowest of all gates (recorded; applied and settled; receipted), so the slowest one decides, and
 * it never goes back. A keepalive's position counts only when no received commit is outstanding.
 *
 * Acknowledging what was received, the simple way, loses commits: the server forgets commit 7 once we say 7, the process
 * dies before 7 is recorded, and the slot starts again at 8. Acknowledging a keepalive at once is the same mistake: it
 * says 9 while 7 is still being recorded.
 */
export class Acknowledger {
  #received: Position = 0n;
  #passed: Position = 0n;
  #acknowledged: Position = 0n;

  constructor(private readonly gates: readonly Gate[]) {}

  /** Where the slot stands already. Server versions before 17 would move a slot back when told a lower position. */
  startAt(position: Position): void {
    if (position > this.#acknowledged) this.#acknowledged = position;
  }

  /** A commit has arrived; from now on it is outstanding. */
  received(position: Position): void {
    if (position > this.#received) this.#received = position;
  }

  /** Every commit up to `position` has been handed on; the server has said that there is no other. */
  passed(position: Position): void {
    if (position > this.#passed) this.#passed = position;
  }

  receivedPosition(): Position {
    return highest(this.#received, this.#passed, this.#acknowledged);
  }

  isOutstanding(): boolean {
    return this.gates.some((gate) => gate() < this.#received);
  }

  acknowledgedPosition(): Position {
    const gated = this.gates.map((gate) => gate());
    const done = gated.every((position) => position >= this.#received);
    const mark = done ? highest(this.#received, this.#passed) : lowest(this.#received, ...gated);
    this.#acknowledged = highest(this.#acknowledged, mark);
    return this.#acknowledged;
  }

  /** Another branch of history: positions start over and old ones mean nothing. */
  forget(): void {
    this.#received = 0n;
    this.#passed = 0n;
    this.#acknowledged = 0n;
  }
}

function highest(...positions: readonly [Position, ...Position[]]): Position {
  return positions.reduce((a, b) => (a > b ? a : b));
}

function lowest(...positions: readonly [Position, ...Position[]]): Position {
  return positions.reduce((a, b) => (a < b ? a : b));
}
