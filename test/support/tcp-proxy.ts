/**
 * A TCP proxy on loopback whose line can be made bad: slow, silent in one or both directions, cut, or refusing. For
 * partitions where no network namespace can be made. A silent line keeps what is sent until it is healed, as a network
 * that loses packets does for a TCP connection; a connection made over it is accepted and hears nothing.
 */
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';

export type Direction = 'toTarget' | 'fromTarget';

/** What the line does to bytes of one direction. */
type Line =
  { readonly kind: 'open' } | { readonly kind: 'silent' } | { readonly kind: 'slow'; readonly delayMs: number };

const OPEN: Line = { kind: 'open' };
const BOTH: readonly Direction[] = ['toTarget', 'fromTarget'];

export class TcpProxy {
  readonly #lines: Record<Direction, Line> = { toTarget: OPEN, fromTarget: OPEN };
  readonly #pipes = new Set<Pipe>();
  #isRefusing = false;

  private constructor(
    private readonly server: Server,
    private readonly target: () => number,
  ) {
    server.on('connection', (socket) => {
      this.#accept(socket);
    });
  }

  /** @param target port on loopback, asked for each connection: who listens there may have been restarted */
  static async listen(target: () => number): Promise<TcpProxy> {
    const server = createServer({ noDelay: true });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    return new TcpProxy(server, target);
  }

  get port(): number {
    return (this.server.address() as AddressInfo).port;
  }

  /** Connections that are open now. */
  get connections(): number {
    return this.#pipes.size / 2;
  }

  /** From now on nothing arrives in these directions, and nobody is told. */
  silence(directions: readonly Direction[] = BOTH): void {
    this.#set(directions, { kind: 'silent' });
  }

  slow(delayMs: number, directions: readonly Direction[] = BOTH): void {
    this.#set(directions, { kind: 'slow', delayMs });
  }

  /** Ends every connection with a reset. */
  cut(): void {
    for (const pipe of [...this.#pipes]) pipe.reset();
  }

  /** Cuts, and resets whoever tries again. */
  refuse(): void {
    this.#isRefusing = true;
    this.cut();
  }

  /** What was kept back arrives now, in order. */
  heal(): void {
    this.#isRefusing = false;
    this.#set(BOTH, OPEN);
  }

  async close(): Promise<void> {
    this.server.close();
    this.cut();
    await once(this.server, 'close');
  }

  #set(directions: readonly Direction[], line: Line): void {
    for (const direction of directions) this.#lines[direction] = line;
    for (const pipe of this.#pipes) pipe.lineChanged();
  }

  #accept(near: Socket): void {
    near.on('error', () => undefined); // a close follows
    if (this.#isRefusing) {
      near.resetAndDestroy();
      return;
    }
    const far = connect({ port: this.target(), host: '127.0.0.1', noDelay: true });
    far.on('error', () => undefined);
    for (const [direction, from, to] of [
      ['toTarget', near, far],
      ['fromTarget', far, near],
    ] as const) {
      const pipe: Pipe = new Pipe(
        from,
        to,
        () => this.#lines[direction],
        () => this.#pipes.delete(pipe),
      );
      this.#pipes.add(pipe);
    }
  }
}

/** One direction of one connection. Chunks keep their order whatever the line does meanwhile. */
class Pipe {
  readonly #kept: { readonly chunk: Buffer | 'end' | 'close'; readonly notBefore: number }[] = [];
  #timer: NodeJS.Timeout | undefined;

  constructor(
    private readonly from: Socket,
    private readonly to: Socket,
    private readonly line: () => Line,
    /** Its end has arrived on the other side, which may be long after it came. */
    private readonly done: () => void,
  ) {
    from.on('data', (chunk) => {
      this.#take(chunk);
    });
    from.on('end', () => {
      this.#take('end');
    });
    from.on('close', () => {
      this.#take('close');
    });
  }

  lineChanged(): void {
    this.#release();
  }

  reset(): void {
    clearTimeout(this.#timer);
    this.#kept.length = 0;
    this.from.resetAndDestroy();
    this.to.resetAndDestroy();
    this.done();
  }

  #take(chunk: Buffer | 'end' | 'close'): void {
    const line = this.line();
    this.#kept.push({ chunk, notBefore: performance.now() + (line.kind === 'slow' ? line.delayMs : 0) });
    this.#release();
  }

  #release(): void {
    clearTimeout(this.#timer);
    const line = this.line();
    if (line.kind === 'silent') {
      if (this.#kept.length > MOST_KEPT) this.from.pause();
      return;
    }
    this.from.resume();
    while (this.#kept[0]) {
      const waitMs = line.kind === 'slow' ? this.#kept[0].notBefore - performance.now() : 0;
      if (waitMs > 0) {
        this.#timer = setTimeout(() => {
          this.#release();
        }, waitMs);
        return;
      }
      this.#pass(this.#kept[0].chunk);
      this.#kept.shift();
    }
  }

  #pass(chunk: Buffer | 'end' | 'close'): void {
    if (chunk === 'close') {
      this.to.destroy();
      this.done();
    } else if (chunk === 'end') this.to.end();
    else if (this.to.writable) this.to.write(chunk);
  }
}

/** Chunks a silent direction holds before its sender feels it, as a full send buffer is felt. */
const MOST_KEPT = 64;
