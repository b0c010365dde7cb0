import { EventEmitter } from 'node:events';
import { beforeEach, describe, expect, it, jest } from '@jest/globals';
import type { WebSocket } from 'ws';
import { ManualClock } from '../../../test/support/manual-clock.js';
import type { Metrics } from '../../core/ports/metrics.js';
import type { Logger } from '../../core/support/logger.js';
import { selectSerializer, type Frame, type Serializer } from '../../protocol/frame.js';
import type { Channel, ChannelSocket } from '../channel.js';
import type { SocketEnd } from '../upgrade/connect-guard.js';
import { PhoenixSocket, type SocketLimits } from './phoenix-socket.js';

interface Pushes {
  readonly hello: { readonly n: number };
}

const LIMITS: SocketLimits = {
  ...{ idleMs: 60_000, joinTimeoutMs: 10_000, maxOutboundBytes: 1000 },
  frames: { burst: 20, perSecond: 10 },
};

/** A WebSocket that keeps what it is given. Like `ws`, it tells of its end once, and sends nothing after that. */
class FakeWebSocket extends EventEmitter {
  readonly sent: string[] = [];
  readonly pings: string[] = [];
  readonly closes: number[] = [];
  terminated = 0;
  isPaused = false;
  bufferedAmount = 0;

  send(text: string): void {
    this.sent.push(text);
  }

  ping(payload: string): void {
    this.pings.push(payload);
  }

  close(code: number): void {
    this.closes.push(code);
  }

  pause(): void {
    this.isPaused = true;
  }

  resume(): void {
    this.isPaused = false;
  }

  terminate(): void {
    this.terminated += 1;
  }

  /** The peer says something. */
  says(topic: string, event: string, payload: unknown = {}, ref: unknown = 1): void {
    this.emit('message', Buffer.from(JSON.stringify({ topic, event, ref, payload })), false);
  }
}

class FakeChannel implements Channel {
  readonly received: string[] = [];
  closedTimes = 0;
  onReceive: (frame: Frame) => void = () => undefined;

  receive(frame: Frame): void {
    this.received.push(frame.event);
    this.onReceive(frame);
  }

  closed(): void {
    this.closedTimes += 1;
  }
}

function serializer(vsn: string | undefined): Serializer {
  const found = selectSerializer(vsn);
  if (!found) throw new Error('no such version');
  return found;
}

describe('PhoenixSocket', () => {
  let ws: FakeWebSocket;
  let clock: ManualClock;
  let channels: FakeChannel[];
  let ends: SocketEnd[];
  let log: jest.Mocked<Logger>;
  let metrics: Record<'channelOpened' | 'channelClosed' | 'pushed' | 'frameRefused' | 'throttled', jest.Mock>;
  let socket: PhoenixSocket<Pushes>;

  function open(vsn?: string, join?: (socket: ChannelSocket<Pushes>) => Channel | { refused: string }): void {
    socket = new PhoenixSocket<Pushes>(
      ws as unknown as WebSocket,
      'client',
      serializer(vsn),
      join ??
        (() => {
          const channel = new FakeChannel();
          channels.push(channel);
          return channel;
        }),
      LIMITS,
      { clock, log, metrics: metrics as unknown as Metrics },
      (end) => ends.push(end),
    );
  }

  beforeEach(() => {
    ws = new FakeWebSocket();
    clock = new ManualClock();
    channels = [];
    ends = [];
    log = { error: jest.fn(), warn: jest.fn(), info: jest.fn(), debug: jest.fn() };
    metrics = {
      channelOpened: jest.fn(),
      channelClosed: jest.fn(),
      pushed: jest.fn(),
      frameRefused: jest.fn(),
      throttled: jest.fn(),
    };
    open();
  });

  const channel = (): FakeChannel => {
    const last = channels.at(-1);
    if (!last) throw new Error('nobody joined');
    return last;
  };
  const joined = (): FakeChannel => {
    ws.says('client', 'phx_join');
    return channel();
  };
  const frames = (): { event: string; payload: unknown; ref: unknown }[] =>
    ws.sent.map((text) => JSON.parse(text) as { event: string; payload: unknown; ref: unknown });

  it('D24: answers a join at once, with an empty response and the ref as it came', () => {
    ws.says('client', 'phx_join', {}, 7);
    expect(frames()).toEqual([
      { topic: 'client', event: 'phx_reply', ref: 7, payload: { status: 'ok', response: {} } },
    ]);
  });

  it('answers heartbeats, also before the join', () => {
    ws.says('phoenix', 'heartbeat', {}, 'h');
    expect(frames()).toMatchObject([{ event: 'phx_reply', ref: 'h' }]);
  });

  it('refuses a topic that is not its own, and an event before the join', () => {
    ws.says('gateway', 'phx_join');
    ws.says('client', 'create_flow');
    expect(frames().map(({ payload }) => payload)).toEqual([
      { status: 'error', response: { reason: 'unmatched topic' } },
      { status: 'error', response: { reason: 'unmatched topic' } },
    ]);
    expect(channels).toEqual([]);
  });

  it('hands the channel its frames and no control event', () => {
    const first = joined();
    ws.says('client', 'create_flow');
    ws.says('phoenix', 'heartbeat');
    expect(first.received).toEqual(['create_flow']);
  });

  it('a refused join leaves the socket without a channel, waiting for another', () => {
    ws = new FakeWebSocket();
    open(undefined, () => ({ refused: 'invalid_version' }));
    ws.says('client', 'phx_join');
    expect(frames()).toMatchObject([{ payload: { status: 'error', response: { reason: 'invalid_version' } } }]);
    clock.advance(LIMITS.joinTimeoutMs);
    expect(ws.closes).toEqual([1000]);
  });

  it('D34: closes a peer that has not joined in time; heartbeats do not count', () => {
    clock.advance(LIMITS.joinTimeoutMs - 1);
    ws.says('phoenix', 'heartbeat');
    expect(ws.closes).toEqual([]);
    clock.advance(1);
    expect(ws.closes).toEqual([1000]);
  });

  it('a peer that has joined may stay, and has to join again in time after it left', () => {
    const first = joined();
    clock.advance(LIMITS.joinTimeoutMs);
    expect(ws.closes).toEqual([]);
    ws.says('client', 'phx_leave');
    expect(first.closedTimes).toBe(1);
    clock.advance(LIMITS.joinTimeoutMs);
    expect(ws.closes).toEqual([1000]);
  });

  it('L6: closes a peer that was silent for too long, counted from its last frame', () => {
    joined();
    clock.advance(LIMITS.idleMs - 1);
    ws.says('phoenix', 'heartbeat');
    clock.advance(LIMITS.idleMs - 1);
    expect(ws.closes).toEqual([]);
    clock.advance(1);
    expect(ws.closes).toEqual([1000]);
    expect(channel().closedTimes).toBe(1);
  });

  it('a second join replaces the first: its channel is closed before the new one is made', () => {
    const first = joined();
    const second = joined();
    expect([first.closedTimes, second.closedTimes, channels.length]).toEqual([1, 0, 2]);
    ws.says('client', 'create_flow');
    expect([first.received, second.received]).toEqual([[], ['create_flow']]);
  });

  it('V1 peers never see `phx_close` at a second join; V2 peers do, with the old join ref', () => {
    joined();
    joined();
    expect(frames().map(({ event }) => event)).toEqual(['phx_reply', 'phx_reply']);
    ws = new FakeWebSocket();
    open('2.0.0');
    for (const joinRef of ['1', '2']) {
      ws.emit('message', Buffer.from(JSON.stringify([joinRef, joinRef, 'client', 'phx_join', {}])), false);
    }
    socket.push('hello', { n: 1 });
    expect(ws.sent.map((text) => JSON.parse(text) as unknown)).toEqual([
      ['1', '1', 'client', 'phx_reply', { status: 'ok', response: {} }],
      ['1', '1', 'client', 'phx_close', {}],
      ['2', '2', 'client', 'phx_reply', { status: 'ok', response: {} }],
      ['2', null, 'client', 'hello', { n: 1 }],
    ]);
  });

  it.each<[string, Buffer, boolean, number]>([
    ['a binary frame', Buffer.from('{}'), true, 1003],
    ['text that is no JSON', Buffer.from('{'), false, 1002],
    ['JSON that is no frame', Buffer.from('[]'), false, 1002],
  ])('closes at %s', (_what, data, isBinary, code) => {
    joined();
    ws.emit('message', data, isBinary);
    expect(ws.closes).toEqual([code]);
    expect(channel().closedTimes).toBe(1);
    expect(metrics.frameRefused).toHaveBeenCalledTimes(1);
  });

  it('D24: a channel that throws takes the socket with it', () => {
    joined().onReceive = () => {
      throw new Error('no');
    };
    ws.says('client', 'create_flow');
    expect([ws.closes, channel().closedTimes]).toEqual([[1011], 1]);
    expect(log.error).toHaveBeenCalledWith('channel.crashed', expect.anything());
  });

  it('a channel that cannot be made closes the socket', () => {
    ws = new FakeWebSocket();
    open(undefined, () => {
      throw new Error('no');
    });
    ws.says('client', 'phx_join');
    expect(ws.closes).toEqual([1011]);
  });

  it('D34: a peer that lets too much pile up is cut off at once', () => {
    joined();
    ws.bufferedAmount = LIMITS.maxOutboundBytes;
    socket.push('hello', { n: 1 });
    expect(ws.terminated).toBe(0);
    ws.bufferedAmount += 1;
    socket.push('hello', { n: 2 });
    expect([ws.terminated, ws.closes, channel().closedTimes]).toEqual([1, [], 1]);
  });

  it('what was pushed before the close is sent before it, and nothing after', () => {
    joined();
    socket.push('hello', { n: 1 });
    socket.close(1000, 'done');
    const said = ws.sent.length;
    socket.push('hello', { n: 2 });
    socket.replyOk({ joinRef: null, ref: 1, topic: 'client' });
    socket.replyError({ joinRef: null, ref: 1, topic: 'client' }, 'no');
    expect(ws.sent).toHaveLength(said);
    expect(metrics.pushed).toHaveBeenCalledTimes(1);
  });

  it('nothing is read after our close', () => {
    const first = joined();
    socket.close(1000, 'done');
    ws.says('client', 'create_flow');
    ws.says('client', 'phx_join');
    expect([first.received, channels.length]).toEqual([[], 1]);
  });

  it('the channel is closed once, however often the socket ends', () => {
    joined();
    socket.close(1000, 'done');
    socket.close(1011, 'again');
    socket.crashed(new Error('late'));
    ws.emit('close', 1000);
    expect([channel().closedTimes, ws.closes]).toEqual([1, [1000]]);
    expect(metrics.channelClosed.mock.calls).toEqual([['client', 'done']]);
  });

  it('a channel closed by its peer leaves no timer', () => {
    joined();
    ws.emit('close', 1006);
    expect([channel().closedTimes, clock.pending]).toEqual([1, 0]);
  });

  it('a peer that does not answer the close frame is cut off after two seconds', () => {
    joined();
    socket.close(1000, 'done');
    clock.advance(1999);
    expect(ws.terminated).toBe(0);
    clock.advance(1);
    expect(ws.terminated).toBe(1);
    expect(clock.pending).toBe(0);
  });

  it('a peer that answers it leaves nothing to wait for', () => {
    joined();
    socket.close(1000, 'done');
    ws.emit('close', 1000);
    clock.advance(2000);
    expect(ws.terminated).toBe(0);
  });

  it('an error of the socket is logged and closes nothing by itself', () => {
    joined();
    ws.emit('error', new Error('reset'));
    expect(channel().closedTimes).toBe(0);
  });

  it('a channel that fails to close is reported, and the socket is gone all the same', () => {
    jest.spyOn(joined(), 'closed').mockImplementation(() => {
      throw new Error('no');
    });
    ws.emit('close', 1006);
    expect(log.error).toHaveBeenCalledWith('channel.crashed', expect.anything());
    socket.push('hello', { n: 1 });
    expect(ws.sent).toHaveLength(1); // the reply to the join
  });

  describe('a peer that says too much', () => {
    const heartbeats = (count: number): void => {
      for (let i = 0; i < count; i += 1) ws.says('phoenix', 'heartbeat');
    };

    it('is read more slowly, and every frame it sent is answered', () => {
      heartbeats(20);
      expect(ws.isPaused).toBe(false);
      heartbeats(5); // read already
      expect([ws.isPaused, ws.sent.length]).toEqual([true, 25]);
      expect(metrics.throttled.mock.calls).toEqual([['client']]);
      clock.advance(100);
      expect(ws.isPaused).toBe(false);
      heartbeats(1);
      expect([ws.isPaused, ws.sent.length]).toEqual([true, 26]);
    });

    it('is not taken for idle while it is not read', () => {
      joined();
      clock.advance(59_950);
      heartbeats(21);
      clock.advance(60_000 + 99);
      expect(ws.closes).toEqual([]);
      clock.advance(1);
      expect(ws.closes).toEqual([1000]);
    });

    it('is read again when we close, so that its answer is seen; no timer is left', () => {
      heartbeats(25);
      socket.close(1011, 'crashed');
      expect(ws.isPaused).toBe(false);
      ws.emit('close', 1011);
      expect(clock.pending).toBe(0);
    });
  });

  describe('a barrier', () => {
    const pong = (payload: string | undefined): boolean => ws.emit('pong', Buffer.from(payload ?? 'no ping'));

    it('is a ping that every peer ignores, numbered by socket, and passed by the answer with its bytes', () => {
      joined();
      const passed = jest.fn();
      socket.barrier(passed);
      expect(ws.pings).toEqual(['{"topic":"phoenix","event":"phx_error","payload":{},"ref":1}']);
      expect(passed).not.toHaveBeenCalled();
      pong(ws.pings[0]);
      pong(ws.pings[0]);
      expect(passed).toHaveBeenCalledTimes(1);
      socket.barrier(passed);
      expect(ws.pings[1]).toBe('{"topic":"phoenix","event":"phx_error","payload":{},"ref":2}');
    });

    it.each([
      ['of nothing', ''],
      ['of an earlier one', '{"topic":"phoenix","event":"phx_error","payload":{},"ref":1}'],
      ['of a later one', '{"topic":"phoenix","event":"phx_error","payload":{},"ref":3}'],
      ['with the same value in other bytes', '{"topic":"phoenix","event":"phx_error","ref":2,"payload":{}}'],
    ])('is not passed by a pong %s', (_what, payload) => {
      joined();
      const passed = jest.fn();
      socket.barrier(passed);
      pong(ws.pings[0]);
      passed.mockClear();
      socket.barrier(passed);
      pong(payload);
      expect(passed).not.toHaveBeenCalled();
      pong(ws.pings[1]);
      expect(passed).toHaveBeenCalledTimes(1);
    });

    it('counts nothing of what the peer may say: other pongs do', () => {
      joined();
      for (let i = 0; i < 50; i += 1) {
        socket.barrier(() => undefined);
        pong(ws.pings.at(-1));
      }
      expect(ws.isPaused).toBe(false);
      for (let i = 0; i < 20; i += 1) pong('foreign');
      expect(ws.isPaused).toBe(true);
    });

    it('of a channel that is gone passes nothing, and of a socket that is closed is not sent', () => {
      joined();
      const passed = jest.fn();
      socket.barrier(passed);
      ws.says('client', 'phx_leave');
      pong(ws.pings[0]);
      socket.close(1000, 'done');
      socket.barrier(passed);
      expect([passed.mock.calls, ws.pings.length]).toEqual([[], 1]);
    });

    it('whose answer makes the channel fail closes the socket', () => {
      joined();
      socket.barrier(() => {
        throw new Error('no');
      });
      pong(ws.pings[0]);
      expect(ws.closes).toEqual([1011]);
    });
  });

  it('cuts a peer off at once when its channel says so, and says why', () => {
    joined();
    socket.terminate('no-receipt');
    socket.terminate('again');
    expect([ws.terminated, ws.closes, channel().closedTimes]).toEqual([1, [], 1]);
    expect(ends).toEqual([{ why: 'no-receipt', byUs: true }]);
  });

  it.each([
    ['the peer', () => ws.emit('close', 1000), { why: 'peer-closed-1000', byUs: false }],
    ['us', () => socket.close(1011, 'crashed'), { why: 'crashed', byUs: true }],
  ])('says once that it was ended by %s', (_, end, expected) => {
    joined();
    end();
    ws.emit('close', 1006);
    expect(ends).toEqual([expected]);
  });

  it('says that a peer that reads too slowly was cut off by us', () => {
    joined();
    ws.bufferedAmount = 1001;
    socket.push('hello', { n: 1 });
    expect(ends).toEqual([{ why: 'too-slow', byUs: true }]);
  });
});
