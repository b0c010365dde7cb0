/** Reads one commit from the log once more, beside the stream: what was too large to be held is recorded from here (D10). */
import type { Position } from '../core/model/position.js';
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
/** Longest name of a slot, less what is added to it. */
const MAX_NAME = 63 - '_again'.length;

/**
 * With a temporary copy of our slot, which stands where the slot stands and ends with its connection. The stream goes on
 * meanwhile: a huge commit is decoded twice, and nobody waits for its rows to be written.
 */
export class SlotCommitReader implements CommitReader {
  constructor(
    private readonly options: CommitReaderOptions,
    private readonly xids: XidEpoch,
  ) {}

  async read(commit: CommitPlace, take: Take, aborted: AbortSignal): Promise<boolean> {
    const { databaseUrl, applicationName, slot, publications } = this.options;
    const connection = new PollingConnection(databaseUrl, applicationName);
    const abort = (): void => {
      connection.destroy(new Error('nobody wants the commit any more'));
    };
    aborted.addEventListener('abort', abort);
    try {
      await connection.connect();
      const copy = `${slot.slice(0, MAX_NAME)}_again`;
      await connection.copySlot(slot, copy);
      const parts = new Parts(connection, commit.xid, take);
      const decoder = new PgoutputDecoder();
      const assembler = new TransactionAssembler(NOTHING_IS_HELD, this.xids, IGNORED, (part) => {
        parts.add(part);
      });
      await connection.peek({ slot: copy, publications, maxRows: null, upTo: commit.position }, (message) => {
        assembler.take(decoder.decode(message), message.length);
      });
      return await parts.allTaken();
    } finally {
      aborted.removeEventListener('abort', abort);
      connection.destroy();
    }
  }
}

/** One part at a time; while any waits, nothing more is read. */
class Parts {
  #waiting = 0;
  #taken: Promise<void> = Promise.resolve();
  #isFound = false;

  constructor(
    private readonly connection: PollingConnection,
    private readonly xid: bigint,
    private readonly take: Take,
  ) {}

  add({ xid, changes }: TransactionPart): void {
    if (xid !== this.xid) return;
    this.#isFound = true;
    this.#waiting += 1;
    this.connection.pause();
    this.#taken = this.#taken
      .then(() => this.take(changes))
      .then(() => {
        this.#waiting -= 1;
        if (this.#waiting === 0) this.connection.resume();
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
