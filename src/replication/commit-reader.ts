/** Reads one commit from the log once more, beside the stream: what was too large to be held is recorded from here (D10). */
import type { Position } from '../core/model/position.js';
import type { Clock } from '../core/support/clock.js';
import type { RecordableChange, TransactionPart } from './open-transaction.js';
import { PgoutputDecoder } from './pgoutput-decoder.js';
import { PollingConnection } from './polling-connection.js';
import { TransactionAssembler } from './transaction-assembler.js';
import type { XidEpoch } from './xid-epoch.js';

/** Which commit. It must not be acknowledged yet. */
export interface CommitPlace {
  readonly position: Position;
  readonly xid: bigint;
}

export interface CommitReader {
  /**
   * Gives out what is to be recorded of the commit, in stream order; the next part comes when `take` has resolved.
   * Rejects when the log cannot be read, `take` rejects, or it is aborted. Resolves false when the log has it no more.
   */
  read(commit: CommitPlace, take: Take, aborted: AbortSignal): Promise<boolean>;
}

export type Take = (changes: readonly RecordableChange[]) => Promise<void>;

export interface CommitReaderOptions {
  readonly databaseUrl: string;
  readonly applicationName: string;
  readonly slot: string;
  readonly publications: readonly string[];
}

/** Each transaction is past them with its first row: all of it is given out in parts. */
const NOTHING_IS_HELD = { maxChanges: 0, maxBytes: 0 };
/** The server sends nothing before it has decoded all of the commit, which may take long; a line that is dead the system finds. */
const SILENCE_LIMIT_MS = 3_600_000;

/**
 * With a temporary copy of our slot, which stands where the slot stands and ends with its connection. The stream goes on
 * meanwhile: a huge commit is decoded twice, and nobody waits for its rows to be written.
 */
export class SlotCommitReader implements CommitReader {
  constructor(
    private readonly options: CommitReaderOptions,
    private readonly xids: XidEpoch,
    private readonly clock: Clock,
  ) {}

  async read(commit: CommitPlace, take: Take, aborted: AbortSignal): Promise<boolean> {
    const { databaseUrl, applicationName, slot, publications } = this.options;
    const connection = new PollingConnection(databaseUrl, applicationName);
    const abort = (): void => {
      connection.destroy(new Error('nobody wants the commit any more'));
    };
    const parts = new Parts(connection, commit.xid, take, this.clock);
    aborted.addEventListener('abort', abort);
    try {
      await connection.connect();
      await connection.noticeWhenUnwanted();
      const copy = await connection.copySlot(slot);
      const decoder = new PgoutputDecoder();
      const assembler = new TransactionAssembler(NOTHING_IS_HELD, this.xids, IGNORED, (part) => {
        parts.add(part);
      });
      await connection.peek({ slot: copy, publications, maxRows: null, upTo: commit.position }, (message) => {
        parts.heard();
        assembler.take(decoder.decode(message), message.length);
      });
      return await parts.allTaken();
    } finally {
      aborted.removeEventListener('abort', abort);
      parts.end();
      connection.destroy();
    }
  }
}

/** One part at a time; while any waits, nothing more is read. A server that is silent meanwhile for too long is gone. */
class Parts {
  #waiting = 0;
  #taken: Promise<void> = Promise.resolve();
  #isFound = false;
  #isOver = false;
  #cancelSilence: () => void = () => undefined;

  constructor(
    private readonly connection: PollingConnection,
    private readonly xid: bigint,
    private readonly take: Take,
    private readonly clock: Clock,
  ) {
    this.heard();
  }

  heard(): void {
    if (this.#waiting > 0 || this.#isOver) return;
    this.#cancelSilence();
    this.#cancelSilence = this.clock.after(SILENCE_LIMIT_MS, () => {
      this.connection.destroy(new Error(`the server has been silent for ${SILENCE_LIMIT_MS} ms`));
    });
  }

  end(): void {
    this.#isOver = true;
    this.#cancelSilence();
  }

  add({ xid, changes }: TransactionPart): void {
    if (xid !== this.xid) return;
    this.#isFound = true;
    this.#waiting += 1;
    this.connection.pause();
    this.#cancelSilence();
    this.#taken = this.#taken
      .then(() => this.take(changes))
      .then(() => {
        this.#waiting -= 1;
        if (this.#waiting > 0) return;
        this.connection.resume();
        this.heard();
      });
    // It also ends the reading, which may be paused; the reason is thrown by `allTaken` or by what is read.
    this.#taken.catch((error: unknown) => {
      this.connection.destroy(error instanceof Error ? error : new Error(String(error)));
    });
  }

  /** False when there was none. */
  async allTaken(): Promise<boolean> {
    await this.#taken;
    return this.#isFound;
  }
}

/** A row that cannot be read was reported when the stream brought it. */
const IGNORED = (): void => undefined;
