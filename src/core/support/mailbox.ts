/**
 * Runs one channel's work one task at a time, in arrival order (ORD-3). Nothing else touches channel state, but commits:
 * they are applied beside the mailbox, in one synchronous step, and a task is synchronous too, so neither ever sees the
 * other half done. What must be awaited is awaited before, or posts its result back.
 */
export type Task = () => void;

export class Mailbox {
  readonly #queue: Task[] = [];
  #running = false;
  #closed = false;

  /** @param onError is called once with what a task threw; the mailbox is then closed. */
  constructor(
    private readonly limit: number,
    private readonly onError: (error: unknown) => void,
  ) {}

  /** Returns false when full or closed: the caller disconnects the peer instead of waiting. */
  post(task: Task): boolean {
    if (this.#closed || this.#queue.length >= this.limit) return false;
    this.#queue.push(task);
    if (!this.#running) this.#runAll();
    return true;
  }

  close(): void {
    this.#closed = true;
    this.#queue.length = 0;
  }

  #runAll(): void {
    this.#running = true;
    try {
      for (let task = this.#queue.shift(); task; task = this.#queue.shift()) task();
    } catch (error) {
      this.close();
      this.onError(error);
    } finally {
      this.#running = false;
    }
  }
}
