import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { RECORDED } from '../../test/support/recorded-wal/pgoutput-v1.js';
import { MalformedWalError } from './malformed-wal-error.js';
import { PgoutputDecoder } from './pgoutput-decoder.js';
import type { WalMessage } from './wal-message.js';

type Recording = keyof typeof RECORDED;

const ACCOUNT = '11111111-1111-4111-8111-111111111111';

function decodeAll(recording: Recording): WalMessage[] {
  const decoder = new PgoutputDecoder();
  return RECORDED[recording].map((hex) => decoder.decode(Buffer.from(hex, 'hex')));
}

function only<Kind extends WalMessage['kind']>(recording: Recording, kind: Kind): Extract<WalMessage, { kind: Kind }> {
  const found = decodeAll(recording).filter((message) => message.kind === kind);
  expect(found).toHaveLength(1);
  return found[0] as Extract<WalMessage, { kind: Kind }>;
}

describe('PgoutputDecoder, on recorded bytes', () => {
  it('reads Begin and Commit: the commit record, the end position, the time and the short transaction id', () => {
    const begin = only('messageInside', 'begin');
    const commit = only('messageInside', 'commit');
    expect(commit.commitLsn).toBe(begin.commitLsn);
    expect(commit.position).toBeGreaterThan(begin.commitLsn);
    expect(begin.xid32).toBeGreaterThan(700);
    expect(only('origin', 'begin').committedAt).toBe(Date.UTC(2025, 6, 18)); // set by hand in the recording
  });

  it('reads a Relation with its identity and columns', () => {
    const { relation } = only('insert', 'relation');
    expect(relation).toMatchObject({ namespace: 'public', name: 'groups', identity: 'f' });
    expect(relation.columns.map(({ name }) => name)).toEqual(['account_id', 'id', 'name', 'note']);
    expect(relation.columns.every(({ isKey }) => isKey)).toBe(true);
    const keyed = only('insertKeyed', 'relation').relation;
    expect(keyed.identity).toBe('d');
    expect(keyed.columns.filter(({ isKey }) => isKey).map(({ name }) => name)).toEqual(['account_id', 'id']);
  });

  it('reads an Insert by column name, with text outside ASCII and a null', () => {
    expect(only('insert', 'insert')).toMatchObject({
      new: { account_id: ACCOUNT, id: '1', name: 'Zürich ☂', note: null },
      unfilled: [],
    });
  });

  it('reads an Update with the whole old row', () => {
    expect(only('updateFull', 'update')).toMatchObject({
      old: { account_id: ACCOUNT, id: '1', name: 'Zürich ☂', note: null },
      oldIsWhole: true,
      new: { account_id: ACCOUNT, id: '1', name: 'Bern', note: null },
    });
  });

  it('E7: fills an unchanged TOASTed value from the old row', () => {
    const update = only('unchangedToastFull', 'update');
    expect(update.new).toEqual({ account_id: ACCOUNT, id: '2', name: 'longer', note: 'x'.repeat(2100) });
    expect(update.unfilled).toEqual([]);
  });

  it('E7: reports an unchanged TOASTed value that no old row can fill', () => {
    const update = only('updateKeyedSameKey', 'update');
    expect(update.old).toBeNull();
    expect(update.unfilled).toEqual(['managed_by']);
    expect(update.new).toEqual({ account_id: ACCOUNT, id: '1', name: 'Genf', mood: 'calm' });
  });

  it('reads a key as the old row, without the nulls that stand for the other columns', () => {
    const update = only('updateKeyedNewKey', 'update');
    expect(update).toMatchObject({
      old: { account_id: ACCOUNT, id: '1' },
      oldIsWhole: false,
      unfilled: ['managed_by'],
    });
    expect(Object.keys(update.old ?? {})).toEqual(['account_id', 'id']);
    expect(only('deleteKeyed', 'delete')).toMatchObject({ old: { account_id: ACCOUNT, id: '3' }, oldIsWhole: false });
  });

  it('reads a Delete with the whole old row', () => {
    const old = { account_id: ACCOUNT, id: '1', name: 'Bern', note: null };
    expect(only('deleteFull', 'delete')).toMatchObject({ old, oldIsWhole: true });
  });

  it('E8: reads one Truncate of two tables', () => {
    expect(only('truncate', 'truncate').relations.map(({ name }) => name)).toEqual(['groups', 'sites']);
  });

  it('E9: reads logical messages, in and outside a transaction', () => {
    const inside = { transactional: true, prefix: 'portcullis.connect', content: 'grüezi' };
    expect(only('messageInside', 'message')).toMatchObject(inside);
    const outside = { transactional: false, prefix: 'portcullis.hb', content: 'node 7' };
    expect(only('messageOutside', 'message')).toMatchObject(outside);
    expect(RECORDED.messageOutside).toHaveLength(1);
  });

  it('reads Type and Origin', () => {
    expect(only('insertKeyed', 'type')).toMatchObject({ namespace: 'public', name: 'mood' });
    expect(only('origin', 'origin')).toMatchObject({ name: 'elsewhere', commitLsn: 0xabn });
  });

  it('forgets nothing within a connection and knows nothing at its start: a row before its Relation is refused', () => {
    const row = Buffer.from(RECORDED.insert[2], 'hex');
    expect(() => new PgoutputDecoder().decode(row)).toThrow(MalformedWalError);
  });
});

describe('PgoutputDecoder, on bytes that are not a message', () => {
  const recordings = Object.keys(RECORDED) as Recording[];

  /** Decodes all messages of a recording but the last, then `spoil(last)`. */
  function decodeSpoilt(hexes: readonly string[], index: number, spoil: (bytes: Buffer) => Buffer): void {
    const decoder = new PgoutputDecoder();
    for (const hex of hexes.slice(0, index)) decoder.decode(Buffer.from(hex, 'hex'));
    decoder.decode(spoil(Buffer.from(hexes[index] ?? '', 'hex')));
  }

  it('refuses every message cut short at any byte, with the typed error', () => {
    for (const recording of recordings) {
      const hexes: readonly string[] = RECORDED[recording];
      hexes.forEach((hex, index) => {
        for (let length = 0; length < hex.length / 2; length += 1) {
          expect(() => {
            decodeSpoilt(hexes, index, (bytes) => bytes.subarray(0, length));
          }).toThrow(MalformedWalError);
        }
      });
    }
  });

  it('refuses a message with a byte too many', () => {
    for (const recording of recordings) {
      const hexes: readonly string[] = RECORDED[recording];
      hexes.forEach((_, index) => {
        expect(() => {
          decodeSpoilt(hexes, index, (bytes) => Buffer.concat([bytes, Buffer.from([0])]));
        }).toThrow(MalformedWalError);
      });
    }
  });

  it('answers changed bytes with a message or the typed error, never another error', () => {
    const spoilt = fc.tuple(
      fc.constantFrom(...recordings),
      fc.nat(),
      fc.array(fc.tuple(fc.nat(), fc.integer({ min: 0, max: 255 })), { minLength: 1, maxLength: 4 }),
    );
    fc.assert(
      fc.property(spoilt, ([recording, which, edits]) => {
        const hexes: readonly string[] = RECORDED[recording];
        try {
          decodeSpoilt(hexes, which % hexes.length, (bytes) => {
            for (const [at, value] of edits) bytes[at % bytes.length] = value;
            return bytes;
          });
        } catch (error) {
          expect(error).toBeInstanceOf(MalformedWalError);
        }
      }),
      { numRuns: 2_000 },
    );
  });
});
