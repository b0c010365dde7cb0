/**
 * A client or gateway on the npm `phoenix` client, which speaks V2 and takes only frames that carry its own refs. Every
 * frame is judged by the strict checker as well.
 */
import { Socket, type Channel, type Push } from 'phoenix';
import { WebSocket } from 'ws';
import type { Json } from './raw-peer.js';
import { checkServerFrame } from './strict-peer.js';
import { deviceQuery } from './upgrade.js';

export interface PhoenixPeerOptions {
  readonly token: string;
  readonly externalId: string;
  readonly heartbeatIntervalMs?: number;
}

/** A test that waits longer than this waits for something that does not come. */
const WAIT_MS = 5000;
/** How long the library keeps a timer for an answer that these events never get. */
const NO_ANSWER_MS = 50;
/** What the library calls an event that it made up itself: answers, and the end of a channel. */
const INTERNAL = /^(phx_|chan_reply_)/;

export class PhoenixPeer {
  readonly socket: Socket;
  channel: Channel;
  /** Answers to heartbeats so far. */
  heartbeats = 0;
  /** How often the WebSocket was opened. */
  opened = 0;
  readonly #pushes: [string, Json][] = [];
  #fault: Error | undefined;
  #transport: WebSocket | undefined;
  readonly #wake = new Set<() => void>();

  constructor(
    readonly role: 'client' | 'gateway',
    wsUrl: string,
    { token, externalId, heartbeatIntervalMs }: PhoenixPeerOptions,
  ) {
    this.socket = new Socket(`${wsUrl}/${role}`, {
      vsn: '2.0.0',
      params: deviceQuery(token, externalId),
      transport: this.#transportClass(),
      reconnectAfterMs: () => 20,
      rejoinAfterMs: () => 20,
      ...(heartbeatIntervalMs === undefined ? {} : { heartbeatIntervalMs }),
    });
    this.socket.onOpen(() => {
      this.opened += 1;
      this.#wakeAll();
    });
    this.socket.connect();
    this.channel = this.newChannel();
  }

  /** Connects, joins, and reads `init`. */
  static async joined(role: 'client' | 'gateway', wsUrl: string, options: PhoenixPeerOptions): Promise<PhoenixPeer> {
    const peer = new PhoenixPeer(role, wsUrl, options);
    await peer.join();
    return peer;
  }

  /** The library's channels join once; after `leave` a new one is needed. */
  newChannel(): Channel {
    this.channel = this.socket.channel(this.role);
    this.channel.onMessage = (event: string, payload: Json) => {
      if (!INTERNAL.test(event)) this.#pushes.push([event, payload]);
      this.#wakeAll();
      return payload;
    };
    return this.channel;
  }

  /** Resolves with `init`. */
  async join(): Promise<Json> {
    expectEmpty(await answered(this.channel.join()));
    return this.next('init');
  }

  /** Resolves when the server has answered and the channel is closed. */
  async leave(): Promise<void> {
    const isClosed = new Promise<void>((resolve) => this.channel.onClose(() => void resolve()));
    expectEmpty(await answered(this.channel.leave()));
    await isClosed;
  }

  /** Sends and forgets, as these events have no answer. */
  send(event: string, payload: object): void {
    this.channel.push(event, payload, NO_ANSWER_MS);
  }

  /** Sends and resolves with the ok response; rejects with the error's. */
  request(event: string, payload: object): Promise<unknown> {
    return answered(this.channel.push(event, payload));
  }

  /** The next push not read yet; fails when it is another event, or none comes. */
  async next(event: string): Promise<Json> {
    await this.until(() => this.#pushes.length > 0, `a ${event}`);
    const [name, payload] = this.#pushes.shift() ?? ['', {}];
    if (name !== event) throw new Error(`expected ${event}, got ${name} ${JSON.stringify(payload)}`);
    return payload;
  }

  /** Pushes not read yet, as `[event, payload]`, and reads them. */
  drain(): [string, Json][] {
    return this.#pushes.splice(0);
  }

  /** The connection breaks, as far as the library can tell. */
  cut(): void {
    this.#transport?.terminate();
  }

  async close(): Promise<void> {
    await new Promise<void>((resolve) => {
      this.socket.disconnect(() => void resolve());
    });
    if (this.#fault) throw this.#fault;
  }

  until(isTrue: () => boolean, what: string): Promise<void> {
    return new Promise((resolve, reject) => {
      const look = (): void => {
        if (this.#fault) done(this.#fault);
        else if (isTrue()) done();
      };
      const done = (error?: Error): void => {
        clearTimeout(timer);
        this.#wake.delete(look);
        if (error) reject(error);
        else resolve();
      };
      const timer = setTimeout(() => {
        done(new Error(`${this.role} waited ${WAIT_MS} ms for ${what}; unread: ${JSON.stringify(this.#pushes)}`));
      }, WAIT_MS);
      this.#wake.add(look);
      look();
    });
  }

  #wakeAll(): void {
    for (const wake of [...this.#wake]) wake();
  }

  #hear(text: string): void {
    try {
      checkServerFrame(this.role, text);
    } catch (error) {
      this.#fault ??= error as Error;
    }
    const [, , topic, event] = JSON.parse(text) as [unknown, unknown, string, string];
    if (topic === 'phoenix' && event === 'phx_reply') this.heartbeats += 1;
    this.#wakeAll();
  }

  /** The library makes its own connections; only a class can say how. */
  #transportClass(): new (endpoint: string) => object {
    const userAgent = `test connlib/${this.role === 'client' ? '1.5.3' : '1.4.16'}`;
    const made = (transport: WebSocket): void => {
      this.#transport = transport;
      transport.on('message', (data: Buffer) => {
        this.#hear(data.toString());
      });
    };
    return class extends WebSocket {
      constructor(endpoint: string) {
        super(endpoint, { perMessageDeflate: false, headers: { 'user-agent': userAgent } });
        made(this);
      }
    };
  }
}

function answered(push: Push): Promise<unknown> {
  return new Promise((resolve, reject) => {
    push
      .receive('ok', resolve)
      .receive('error', (response: unknown) => {
        reject(new Error(`answered with an error: ${JSON.stringify(response)}`));
      })
      .receive('timeout', () => {
        reject(new Error('no answer'));
      });
  });
}

function expectEmpty(response: unknown): void {
  if (JSON.stringify(response) !== '{}') throw new Error(`an ok response with members: ${JSON.stringify(response)}`);
}
