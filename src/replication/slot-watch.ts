/** Looks at our slot from time to time, for operators and for the stream. */
import type { SlotFacts, SlotState, SlotStatus } from '../core/ports/slot-status.js';
import type { Metrics } from '../core/ports/metrics.js';
import type { Clock } from '../core/support/clock.js';
import type { Logger } from '../core/support/logger.js';

export interface SlotWatchOptions {
  readonly slot: string;
  /** Longer: an operator hears later that the slot is in danger. Shorter: more queries for nothing. Unit ms. */
  readonly intervalMs: number;
}

export interface SlotWatchDependencies {
  /** The slot's row; undefined when there is none. On an ordinary connection; settles in finite time. */
  readonly readSlot: () => Promise<SlotFacts | undefined>;
  /** The server process that our connection has, streaming or not; undefined without one. */
  readonly ownPid: () => number | undefined;
  readonly isStreaming: () => boolean;
  /** Counts the connections that streamed. */
  readonly generation: () => number;
  /** @param begunIn the generation in which the asking began */
  readonly onStatus: (status: SlotStatus, begunIn: number) => void;
  readonly clock: Clock;
  readonly metrics: Metrics;
  readonly log: Logger;
}

/**
 * States of the slot, and what follows from each:
 * - reserved, extended: the server has all the log we need; extended is more than `max_wal_size`. Nothing to do.
 * - unreserved: more than `max_slot_wal_keep_size`; the next checkpoint may lose it. Logged as a warning: whoever makes
 *   it catch up in time saves the event store a gap.
 * - in-use: somebody else reads it, or a former connection of ours that the server has not given up.
 * - lost, missing: it brings nothing any more. The stream makes a new one and has every store read again (D14).
 *
 * Our own connection can be the last to notice: paused, or with a network that swallows the server's goodbye.
 */
export class SlotWatch {
  #status: SlotStatus | undefined;
  #isReading = false;
  #isFailing = false;
  #cancel: (() => void) | undefined;

  constructor(
    private readonly options: SlotWatchOptions,
    private readonly with_: SlotWatchDependencies,
  ) {}

  /** As last seen; undefined before the first answer. */
  get status(): SlotStatus | undefined {
    return this.#status;
  }

  /** In words for an operator; undefined while the stream reads the slot or nothing is known. */
  get problem(): string | undefined {
    if (this.#status === undefined || this.with_.isStreaming()) return undefined;
    const { state, activePid } = this.#status;
    if (state === 'missing') return 'there is no replication slot; making one waits for every transaction now open';
    if (state === 'lost') return 'the replication slot has lost its log and is being replaced';
    if (state === 'in-use')
      return `another connection reads the replication slot (server process ${String(activePid)})`;
    return undefined;
  }

  start(): void {
    this.#cancel = this.with_.clock.after(this.options.intervalMs, () => {
      this.start();
    });
    this.look();
  }

  stop(): void {
    this.#cancel?.();
    this.#cancel = undefined;
  }

  /** Asks now, unless an answer is waited for. */
  look(): void {
    if (!this.#isReading) void this.#read();
  }

  async #read(): Promise<void> {
    const begunIn = this.with_.generation();
    const before = this.with_.ownPid();
    this.#isReading = true;
    try {
      const facts = await this.with_.readSlot();
      if (!this.#cancel) return;
      this.#isFailing = false;
      // The connection may have come or gone while the server answered: either pid was ours.
      this.#saw({ ...facts, state: stateOf(facts, [before, this.with_.ownPid()]) }, begunIn);
    } catch (error) {
      if (!this.#isFailing) this.with_.log.warn('replication.slot-unseen', { error });
      this.#isFailing = true;
    } finally {
      this.#isReading = false;
    }
  }

  #saw(status: SlotStatus, begunIn: number): void {
    const former = this.#status?.state;
    this.#status = status;
    this.with_.metrics.slot(status);
    if (status.state !== former) this.#report(status, former);
    this.with_.onStatus(status, begunIn);
  }

  #report(status: SlotStatus, former: SlotState | undefined): void {
    const fields = { slot: this.options.slot, former, ...status };
    const isExpected = former === undefined && status.state === 'missing'; // the very first start
    if (status.state === 'reserved' || status.state === 'extended' || isExpected)
      this.with_.log.info('replication.slot-state', fields);
    else this.with_.log.warn('replication.slot-state', fields);
  }
}

function stateOf(facts: SlotFacts | undefined, ours: readonly (number | undefined)[]): SlotState {
  if (!facts?.isMade) return 'missing';
  if (facts.walStatus === 'lost' || facts.invalidation !== null) return 'lost';
  if (facts.activePid !== null && !ours.includes(facts.activePid)) return 'in-use';
  return facts.walStatus === 'extended' || facts.walStatus === 'unreserved' ? facts.walStatus : 'reserved';
}
