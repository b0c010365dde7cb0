import { beforeEach, describe, expect, it } from '@jest/globals';
import { PeekedMessages } from './peeked-messages.js';

let handedOn: string[];
let messages: PeekedMessages;

beforeEach(() => {
  handedOn = [];
  messages = new PeekedMessages((message) => void handedOn.push(message.toString('latin1').charAt(0)));
});

/** A transaction of one row: its commit record lies between `start` and `end`. */
const transaction = (start: number, end: number): Buffer[] => {
  const begin = Buffer.alloc(21);
  begin.write('B');
  begin.writeBigUInt64BE(BigInt(start), 1);
  const commit = Buffer.alloc(26);
  commit.write('C');
  commit.writeBigUInt64BE(BigInt(start), 2);
  commit.writeBigUInt64BE(BigInt(end), 10);
  return [begin, Buffer.from('R'), Buffer.from('I'), commit];
};

const message = (position: number): Buffer => {
  const bytes = Buffer.alloc(12);
  bytes.write('M');
  bytes.writeBigUInt64BE(BigInt(position), 2);
  return bytes;
};

/** What it hands on of one peek. */
function peek(acknowledged: number, ...content: (Buffer | Buffer[])[]): { again: number; handedOn: string } {
  handedOn = [];
  const again = messages.startPeek(BigInt(acknowledged));
  for (const each of content.flat()) messages.take(each);
  return { again, handedOn: handedOn.join('') };
}

describe('the messages of peeks', () => {
  it('are handed on once; a transaction that comes again is left out whole, one that begins where it ends is not', () => {
    expect(peek(0, transaction(10, 20), message(20)).handedOn).toBe('BRICM');
    expect(messages.wasNew).toBe(true);
    expect(peek(0, transaction(10, 20), message(20)).handedOn).toBe('');
    expect(messages.wasNew).toBe(false);
    expect(messages.rows).toBe(5);
    expect(peek(0, transaction(10, 20), message(20), transaction(20, 30), message(31)).handedOn).toBe('BRICM');
  });

  it('that will come again are those behind the acknowledged position', () => {
    peek(0, transaction(10, 20), message(25), transaction(30, 40), transaction(50, 60));
    expect(peek(40, transaction(50, 60)).again).toBe(4);
    expect(peek(59, transaction(50, 60)).again).toBe(4);
    expect(peek(60).again).toBe(0);
  });
});
