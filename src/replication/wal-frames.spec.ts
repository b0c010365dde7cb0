import { describe, expect, it } from '@jest/globals';
import { MalformedWalError } from './malformed-wal-error.js';
import { epochMsOf, readWalFrame, writeStatusUpdate } from './wal-frames.js';

// Documentation, "Streaming Replication Protocol": 'k', end of WAL, clock, reply wanted.
const KEEPALIVE = Buffer.from('6b' + '00000016b374d848' + '0002dd279368c000' + '01', 'hex');

describe('the frames of the replication stream', () => {
  it('reads a keepalive', () => {
    expect(readWalFrame(KEEPALIVE)).toEqual({ kind: 'keepalive', position: 0x16b374d848n, replyWanted: true });
  });

  it('reads data as what follows the header', () => {
    const frame = readWalFrame(Buffer.concat([Buffer.from('w'), Buffer.alloc(24), Buffer.from('body')]));
    expect(frame.kind === 'data' && frame.body.toString()).toBe('body');
  });

  it('refuses other kinds and short frames', () => {
    const short = KEEPALIVE.subarray(0, 12);
    const headless = Buffer.concat([Buffer.from('w'), Buffer.alloc(23)]);
    for (const bytes of [Buffer.from('x'), Buffer.alloc(0), short, headless]) {
      expect(() => readWalFrame(bytes)).toThrow(MalformedWalError);
    }
  });

  it('writes a status update: received, acknowledged twice, our clock, reply wanted', () => {
    const update = { received: 0x20n, acknowledged: 0x10n, replyWanted: true };
    expect(writeStatusUpdate(update, Date.UTC(2000, 0, 1, 0, 0, 1)).toString('hex')).toBe(
      '72' + '0000000000000020' + '0000000000000010' + '0000000000000010' + '00000000000f4240' + '01',
    );
  });

  it('tells the time of PostgreSQL in milliseconds since 1970', () => {
    expect(epochMsOf(0n)).toBe(Date.UTC(2000, 0, 1));
    expect(epochMsOf(0x2dd279368c000n)).toBe(Date.UTC(2025, 6, 18));
  });
});
