/** Pauses a connection while too much of what it brought is pending. */
import type { Clock } from '../core/support/clock.js';
import type { CommitIntake } from './commit-intake.js';
import type { PinnedConnection } from './pinned-connection.js';

export interface BackPressureDependencies {
  readonly connection: Pick<PinnedConnection, 'pause' | 'resume'>;
  readonly intake: Pick<CommitIntake, 'pendingBytes' | 'isBehind'>;
  readonly clock: Clock;
  /** Above it the socket is paused, until less than half is left. */
  readonly maxPendingBytes: number;
}

/** How often a paused connection looks whether it may go on; nobody tells it that memory was freed. */
const RESUME_CHECK_MS = 50;

/** States: reading ↔ paused → stopped. */
export class BackPressure {
  #isPaused = false;
  #isOverLimit = false;
  #cancelCheck: (() => void) | undefined;

  constructor(
    private readonly with_: BackPressureDependencies,
    private readonly onResumed: () => void = () => undefined,
  ) {}

  get isPaused(): boolean {
    return this.#isPaused;
  }

  /** Pauses or resumes the socket by what is pending; also called when the intake has caught up. */
  regulate(): void {
    const { intake, connection, maxPendingBytes, clock } = this.with_;
    const pending = intake.pendingBytes();
    if (pending > maxPendingBytes) this.#isOverLimit = true;
    else if (pending <= maxPendingBytes / 2) this.#isOverLimit = false;

    const mustPause = this.#isOverLimit || intake.isBehind;
    if (mustPause && !this.#isPaused) {
      this.#isPaused = true;
      connection.pause();
    } else if (!mustPause && this.#isPaused) {
      this.#isPaused = false;
      this.onResumed();
      connection.resume();
    }
    if (!this.#isPaused) return;
    this.#cancelCheck ??= clock.after(RESUME_CHECK_MS, () => {
      this.#cancelCheck = undefined;
      this.regulate();
    });
  }

  stop(): void {
    this.#cancelCheck?.();
  }
}
