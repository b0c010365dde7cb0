/** One connection while it streams: status updates, back-pressure, the watchdog. */
import type { Position } from '../core/model/position.js';
import type { EpochMs } from '../core/model/time.js';
import type { Clock } from '../core/support/clock.js';
import type { Acknowledger } from './acknowledger.js';
import { BackPressure } from './back-pressure.js';
import type { CommitIntake } from './commit-intake.js';
import type { FrameListener, ReplicationConnection } from './replication-connection.js';

export interface SessionDependencies {
  readonly connection: ReplicationConnection;
  readonly intake: CommitIntake;
  readonly acknowledger: Acknowledger;
  readonly clock: Clock;
  /** Above it the socket is paused, until less than half is left. */
  readonly maxPendingBytes: number;
}

/** Far below the server's `wal_sender_timeout` (60 s), which counts from our last update. */
const STATUS_EVERY_MS = 10_000;
/** A shorter wait sends an update for nearly every commit; a longer one keeps log files a little longer. */
const COALESCE_STATUS_MS = 100;
/** Each status asks for an answer, so a living server is heard of every 10 s. */
const SILENCE_LIMIT_MS = 30_000;

/**
 * States: reading → paused ↔ reading → ended. Status updates go out in both of the first two, on our own timer: the
 * server asks for one only when it has not heard from us for long, and some are configured never to ask.
 */
export class StreamSession implements FrameListener {
  readonly #pressure: BackPressure;
  #lastHeardAt: EpochMs;
  #lastSent: Position = 0n;
  #cancelStatus: (() => void) | undefined;
  #cancelProgress: (() => void) | undefined;

  constructor(private readonly with_: SessionDependencies) {
    this.#lastHeardAt = with_.clock.now();
    this.#pressure = new BackPressure(with_, () => {
      this.#lastHeardAt = with_.clock.now();
    });
  }

  /** Settles when the connection has ended, as `ReplicationConnection.stream` does. */
  async run(startCommand: string, onStarted: () => void): Promise<void> {
    this.with_.intake.startConnection();
    try {
      await this.with_.connection.stream(startCommand, this, () => {
        this.#lastHeardAt = this.with_.clock.now();
        this.#sendStatusRegularly();
        onStarted();
      });
    } finally {
      this.#cancelTimers();
    }
  }

  data(body: Buffer): void {
    this.#lastHeardAt = this.with_.clock.now();
    this.with_.intake.data(body);
    this.#watchProgress();
    this.regulate();
  }

  keepalive(position: Position, replyWanted: boolean): void {
    this.#lastHeardAt = this.with_.clock.now();
    this.with_.intake.keepalive(position);
    if (replyWanted) this.#sendStatus(false);
    else this.#watchProgress();
  }

  regulate(): void {
    this.#pressure.regulate();
  }

  /** Has the server say how far it has read its log. */
  askForKeepalive(): void {
    if (this.#cancelStatus) this.#sendStatus(true);
  }

  /** Tells the server what is done by now, and leaves; the slot is free when this resolves, or `limit` has passed. */
  async finish(limitMs: number): Promise<void> {
    this.#cancelTimers();
    this.#sendStatus(false);
    let cancel = (): void => undefined;
    const limit = new Promise<void>((resolve) => (cancel = this.with_.clock.after(limitMs, resolve)));
    await this.with_.connection.close(limit);
    cancel();
  }

  #sendStatusRegularly(): void {
    this.#cancelStatus = this.with_.clock.after(STATUS_EVERY_MS, () => {
      const silentMs = this.with_.clock.now() - this.#lastHeardAt;
      if (silentMs > SILENCE_LIMIT_MS && !this.#pressure.isPaused) {
        this.with_.connection.destroy(new Error(`the server has been silent for ${silentMs} ms`));
        return;
      }
      this.#sendStatus(true);
      this.#sendStatusRegularly();
    });
  }

  /** Looks again while anything is outstanding: the sink settles without telling us. */
  #watchProgress(): void {
    this.#cancelProgress ??= this.with_.clock.after(COALESCE_STATUS_MS, () => {
      this.#cancelProgress = undefined;
      if (this.with_.acknowledger.acknowledgedPosition() > this.#lastSent) this.#sendStatus(false);
      if (this.with_.acknowledger.isOutstanding()) this.#watchProgress();
    });
  }

  #sendStatus(replyWanted: boolean): void {
    const { acknowledger, connection, clock } = this.with_;
    const acknowledged = acknowledger.acknowledgedPosition();
    this.#lastSent = acknowledged;
    connection.sendStatus({ received: acknowledger.receivedPosition(), acknowledged, replyWanted }, clock.now());
  }

  #cancelTimers(): void {
    for (const cancel of [this.#cancelStatus, this.#cancelProgress]) cancel?.();
    this.#pressure.stop();
  }
}
