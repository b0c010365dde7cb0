import { describe, expect, it, jest } from '@jest/globals';
import { ManualClock } from '../../test/support/manual-clock.js';
import type { Metrics } from '../core/ports/metrics.js';
import { Heartbeat } from './heartbeat.js';

function aHeartbeat() {
  const clock = new ManualClock();
  const sent: string[] = [];
  const onBeat = jest.fn();
  const stream = { generation: 3 };
  const askStream = jest.fn();
  const replicationLag = jest.fn<Metrics['replicationLag']>();
  const answer = { error: undefined as Error | undefined, isReadOnly: false, isHanging: false, endOfLog: '0/200' };
  const hanging: (() => void)[] = [];
  const heartbeat = new Heartbeat(
    { prefix: 'p.hb', nodeId: 'node', publications: ['p_changes'], intervalMs: 5_000, staleAfterMs: 30_000 },
    {
      run: async (sql, values) => {
        if (answer.error) throw answer.error;
        if (answer.isHanging) await new Promise<void>((end) => hanging.push(end));
        if (answer.isReadOnly && sql.includes('emit_message')) throw new Error('permission denied');
        const seen = { xmax: '77', publications: '1,2' };
        if (answer.isReadOnly) return [{ position: answer.endOfLog, ...seen }];
        sent.push(String(values[1]));
        return [{ position: '0/100', ...seen }];
      },
      onBeat,
      askStream,
      generation: () => stream.generation,
      onTick: jest.fn(),
      clock,
      metrics: { replicationLag } as never,
      log: { error: jest.fn(), warn: jest.fn(), info: jest.fn(), debug: jest.fn() },
    },
  );
  const settled = async (): Promise<void> => {
    for (let i = 0; i < 50; i += 1) await Promise.resolve();
  };
  /** In steps, so that what is answered at once is not too late. */
  const advance = async (ms: number): Promise<void> => {
    for (let left = ms; left > 0; left -= 1_000) {
      clock.advance(Math.min(left, 1_000));
      await settled();
    }
  };
  return { clock, heartbeat, stream, sent, onBeat, askStream, replicationLag, answer, hanging, settled, advance };
}

describe('Heartbeat', () => {
  it('D14: is not fresh before the first proof, and no longer once the last proof is too old', async () => {
    const { heartbeat, advance, settled } = aHeartbeat();
    expect(heartbeat.staleBecause()).toMatch(/no heartbeat/);
    heartbeat.start();
    await settled();
    expect(heartbeat.isFresh()).toBe(false);
    heartbeat.seen('p.hb', 'node 1');
    expect(heartbeat.isFresh()).toBe(true);
    await advance(30_000);
    expect(heartbeat.isFresh()).toBe(true);
    await advance(1);
    expect(heartbeat.staleBecause()).toMatch(/30 s ago/);
  });

  it('S9, F25: is not fresh by a proof from a time that has not come, when the clock was ahead and is set right', async () => {
    const { clock, heartbeat, advance, settled, sent } = aHeartbeat();
    let aheadMs = 0;
    const right = clock.now.bind(clock);
    jest.spyOn(clock, 'now').mockImplementation(() => right() + aheadMs);
    heartbeat.start();
    await settled();
    heartbeat.seen('p.hb', 'node 1');
    aheadMs = 7_200_000;
    await advance(5_000);
    heartbeat.seen('p.hb', sent.at(-1) ?? '');
    expect(heartbeat.isFresh()).toBe(true);
    await advance(5_000);
    aheadMs = 0;
    expect([heartbeat.isFresh(), heartbeat.proofAgeMs()]).toEqual([false, undefined]);
    heartbeat.seen('p.hb', sent.at(-1) ?? ''); // written while it was ahead
    expect(heartbeat.isFresh()).toBe(false);
    await advance(5_000);
    heartbeat.seen('p.hb', sent.at(-1) ?? '');
    expect(heartbeat.isFresh()).toBe(true);
    await advance(30_001);
    expect(heartbeat.isFresh()).toBe(false);
  });

  it('counts the age of the proof from the writing of the message, not from its arrival', async () => {
    const { heartbeat, advance, settled } = aHeartbeat();
    heartbeat.start();
    await settled();
    await advance(29_000);
    heartbeat.seen('p.hb', 'node 1');
    expect(heartbeat.isFresh()).toBe(true);
    await advance(1_001);
    expect(heartbeat.isFresh()).toBe(false);
  });

  it('believes only its own messages, each once, and none it did not write', () => {
    const { heartbeat } = aHeartbeat();
    heartbeat.start();
    heartbeat.seen('p.hb', 'other 1');
    heartbeat.seen('q.hb', 'node 1');
    heartbeat.seen('p.hb', 'node 2');
    heartbeat.seen('p.hb', 'node');
    expect(heartbeat.isFresh()).toBe(false);
  });

  it('writes quickly until one has come through, then one per interval, and says what the statement saw', async () => {
    const { heartbeat, sent, onBeat, advance, settled } = aHeartbeat();
    heartbeat.start();
    await settled();
    await advance(50);
    await advance(50);
    expect(sent).toEqual(['node 1', 'node 2', 'node 3']);

    heartbeat.seen('p.hb', 'node 2');
    await advance(50); // armed before the proof
    await advance(4_999);
    expect(sent).toHaveLength(4);
    await advance(1);
    expect(sent).toHaveLength(5);
    expect(onBeat).toHaveBeenLastCalledWith(
      expect.objectContaining({ xmax: 77n, walPosition: 0x100n, publications: '1,2', begunIn: 3 }),
    );
    heartbeat.stop();
    await advance(60_000);
    expect(sent).toHaveLength(5);
  });

  it('reports lag by one clock, and lets it rise while nothing comes', async () => {
    const { heartbeat, replicationLag, advance, settled } = aHeartbeat();
    heartbeat.start();
    await settled();
    await advance(40);
    heartbeat.passed(0xf0n);
    heartbeat.seen('p.hb', 'node 1');
    expect(replicationLag).toHaveBeenLastCalledWith(0x10, 40);
    await advance(20_000); // beats 2 to 5 are written, none is seen
    expect(replicationLag).toHaveBeenLastCalledWith(0x10, 15_000);
  });

  it('goes on after a message that could not be written', async () => {
    const { heartbeat, sent, answer, advance, settled } = aHeartbeat();
    answer.error = new Error('no connection');
    heartbeat.start();
    await settled();
    answer.error = undefined;
    await advance(50);
    expect(sent).toEqual(['node 2']);
    heartbeat.seen('p.hb', 'node 1');
    expect(heartbeat.isFresh()).toBe(false);
    heartbeat.seen('p.hb', 'node 2');
    expect(heartbeat.isFresh()).toBe(true);
  });

  it('D14: without the right to write messages, is fresh while the stream passes the end of the log as it was', async () => {
    const { heartbeat, answer, onBeat, advance, settled } = aHeartbeat();
    answer.isReadOnly = true;
    heartbeat.start();
    await settled();
    heartbeat.passed(0x1ffn);
    expect(heartbeat.isFresh()).toBe(false);
    heartbeat.passed(0x200n);
    expect(heartbeat.isFresh()).toBe(true);
    expect(onBeat).toHaveBeenLastCalledWith(expect.objectContaining({ walPosition: 0x200n }));
    answer.endOfLog = '0/300';
    await advance(30_001);
    expect(heartbeat.staleBecause()).toMatch(/30 s ago/);
    heartbeat.handed(0x300n, 0);
    expect(heartbeat.isFresh()).toBe(true);
  });

  it('ORD-6: in doubt, only what is begun from then on and comes out of the next stream proves anything', async () => {
    const { heartbeat, answer, stream, sent, advance, settled } = aHeartbeat();
    heartbeat.start();
    await settled();
    heartbeat.seen('p.hb', 'node 1');
    await advance(4_000);
    heartbeat.doubt();
    expect(heartbeat.isFresh()).toBe(false);
    await advance(50);
    heartbeat.seen('p.hb', String(sent.at(-1))); // by what the old stream has brought and is handed on late
    expect(heartbeat.isFresh()).toBe(false);
    stream.generation += 1;
    heartbeat.seen('p.hb', 'node 2');
    expect(heartbeat.isFresh()).toBe(false);
    await advance(50); // not a whole interval later
    heartbeat.seen('p.hb', String(sent.at(-1)));
    expect(heartbeat.isFresh()).toBe(true);

    answer.isReadOnly = true;
    heartbeat.passed(0x200n);
    heartbeat.doubt();
    stream.generation += 1;
    await advance(50); // the log was asked for its end, which the former stream had passed
    expect(heartbeat.isFresh()).toBe(false);
    heartbeat.passed(0x200n);
    expect(heartbeat.isFresh()).toBe(true);
  });

  it('ORD-6: the end of the log that was asked for before a doubt proves nothing', async () => {
    const { heartbeat, answer, onBeat, stream, advance, settled } = aHeartbeat();
    answer.isReadOnly = true;
    onBeat.mockImplementationOnce(() => {
      heartbeat.doubt();
    });
    heartbeat.start();
    await settled();
    stream.generation += 1;
    heartbeat.passed(0x200n);
    expect(heartbeat.isFresh()).toBe(false);
    await advance(50);
    expect(heartbeat.isFresh()).toBe(true);
  });

  it('D14: on a server where nothing happens the end of the log was passed before it was asked', async () => {
    const { heartbeat, answer, settled } = aHeartbeat();
    answer.isReadOnly = true;
    heartbeat.passed(0x200n);
    heartbeat.start();
    await settled();
    expect(heartbeat.isFresh()).toBe(true);
  });

  describe('D14: when nothing can be asked', () => {
    async function silenced() {
      const beating = aHeartbeat();
      beating.heartbeat.start();
      await beating.settled();
      beating.heartbeat.seen('p.hb', 'node 1');
      beating.answer.error = new Error('no connection');
      await beating.advance(29_000);
      return beating;
    }

    it('a keepalive that was asked for proves freshness, as of the asking', async () => {
      const { heartbeat, askStream, advance } = await silenced();
      expect(askStream).toHaveBeenCalled();
      heartbeat.keepalive(0x100n);
      await advance(1_001);
      expect(heartbeat.isFresh()).toBe(true);
      await advance(30_000);
      expect(heartbeat.isFresh()).toBe(false);
    });

    it('a statement that hangs is not waited for, and has one beside it when it has hung for long, and no third; the stream is asked instead', async () => {
      const { heartbeat, answer, hanging, askStream, sent, advance, settled } = aHeartbeat();
      answer.isHanging = true;
      heartbeat.start();
      for (let waitedMs = 0; waitedMs < 120_000; waitedMs += 5_000) {
        expect(hanging).toHaveLength(waitedMs <= 30_000 ? 1 : 2);
        await advance(5_000);
        heartbeat.keepalive(0x100n);
      }
      expect(askStream).toHaveBeenCalled();
      expect(heartbeat.isFresh()).toBe(true);
      answer.isHanging = false;
      for (const end of hanging) end();
      await settled();
      sent.splice(0);
      await advance(5_000);
      expect(sent).toHaveLength(1);
    });

    it('one that is behind what is known of the log proves nothing', async () => {
      const { heartbeat, advance } = await silenced();
      heartbeat.keepalive(0xffn);
      await advance(1_001);
      expect(heartbeat.isFresh()).toBe(false);
    });

    it('one that follows old commits proves nothing: the server is working off a backlog', async () => {
      const { heartbeat, clock, advance } = await silenced();
      heartbeat.handed(0x180n, clock.now() - 30_001);
      heartbeat.keepalive(0x180n);
      await advance(1_001);
      expect(heartbeat.isFresh()).toBe(false);
      heartbeat.handed(0x190n, clock.now() - 10);
      heartbeat.keepalive(0x190n);
      expect(heartbeat.isFresh()).toBe(true);
    });

    it('once messages can be written again, only they count', async () => {
      const { heartbeat, answer, askStream, advance } = await silenced();
      answer.error = undefined;
      askStream.mockClear();
      await advance(5_000);
      heartbeat.keepalive(0x100n);
      expect([heartbeat.isFresh(), askStream.mock.calls.length]).toEqual([false, 0]);
    });
  });
});
