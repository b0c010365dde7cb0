/** The decoder on what a real server writes: the rows of the stream add up to the rows of the table. */
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import type { RawRow } from '../../src/core/changes/commit.js';
import { MalformedWalError } from '../../src/replication/malformed-wal-error.js';
import { PgoutputDecoder } from '../../src/replication/pgoutput-decoder.js';
import type { WalMessage } from '../../src/replication/wal-message.js';
import { createTestDatabase, type TestDatabase } from '../support/test-database.js';

let database: TestDatabase;
let slot: string;

beforeAll(async () => {
  database = await createTestDatabase();
  slot = `decoder_${database.name.slice(-12)}`;
  await database.sql(`
    CREATE TABLE things (id int PRIMARY KEY, "Odd name" text, note text, list jsonb, at timestamptz, flag boolean,
      address inet, place pg_lsn, words text[], empty text);
    ALTER TABLE things REPLICA IDENTITY FULL;
    ALTER TABLE things ALTER note SET STORAGE EXTERNAL;
    CREATE TABLE unpublished (n int);
    CREATE PUBLICATION decoder FOR TABLE things`);
  await database.query(`SELECT pg_create_logical_replication_slot($1, 'pgoutput')`, [slot]);
});

afterAll(() => database.drop());

/** Everything committed so far; only what is flushed can be read, so a commit that waits for its flush comes first. */
async function readBytes(): Promise<Buffer[]> {
  await database.sql('SET LOCAL synchronous_commit = on; INSERT INTO unpublished VALUES (1)');
  const { rows } = await database.query<{ data: Buffer }>(
    `SELECT data FROM pg_logical_slot_get_binary_changes($1, NULL, NULL, 'proto_version', '1',
      'publication_names', 'decoder', 'messages', 'true')`,
    [slot],
  );
  return rows.map(({ data }) => data);
}

/** The table as the messages leave it, by id. */
function replay(table: Map<string, RawRow>, messages: readonly WalMessage[]): void {
  for (const message of messages) {
    if (message.kind === 'truncate') table.clear();
    if (message.kind === 'update' || message.kind === 'delete') {
      expect(message.old).toEqual(table.get(message.old?.['id'] ?? ''));
      table.delete(message.old?.['id'] ?? '');
    }
    if (message.kind === 'update' || message.kind === 'insert') {
      expect(message.unfilled).toEqual([]);
      table.set(message.new['id'] ?? '', message.new);
    }
  }
}

/** As text, by the server's own output functions. */
async function selectAll(): Promise<Map<string, RawRow>> {
  const { rows } = await database.query<{ id: string; row: Record<string, string | null> }>(
    `SELECT id::text, (SELECT jsonb_object_agg(c.name, c.value) FROM (VALUES ('id', id::text), ('Odd name', "Odd name"),
      ('note', note), ('list', list::text), ('at', at::text), ('flag', left(flag::text, 1)), ('address', host(address)),
      ('place', place::text), ('words', words::text), ('empty', empty)) c (name, value)) AS row FROM things`,
  );
  return new Map(rows.map(({ id, row }) => [id, row]));
}

describe('PgoutputDecoder, on a real server', () => {
  it('G1: replaying the stream of random writes gives what SELECT gives, old rows included', async () => {
    const text = fc.oneof(
      fc.constantFrom('', 'NULL', "it's", '\\N', 'a\nb\t', 'Zürich ☂ 🦊'),
      fc.string({ maxLength: 40 }),
    );
    const cleanText = text.map((value) => value.replaceAll('\0', ''));
    const write = fc.record({
      id: fc.integer({ min: 1, max: 6 }),
      what: fc.constantFrom('put', 'put', 'rename', 'move', 'delete'),
      value: cleanText,
      note: fc.option(fc.integer({ min: 0, max: 6_000 }).map((length) => 'x'.repeat(length))),
    });
    const truth = new Map<string, RawRow>();
    const decoder = new PgoutputDecoder(); // one "connection" for all runs: the relation is described once or more
    await fc.assert(
      fc.asyncProperty(fc.array(write, { minLength: 1, maxLength: 12 }), async (writes) => {
        for (const { id, what, value, note } of writes) {
          if (what === 'put') {
            await database.query(
              `INSERT INTO things VALUES ($1, $2::text, $3, jsonb_build_array($2::text), '2026-01-05 09:00:00.25+00', true,
                '10.1.2.3', '16/B374D848', ARRAY[$2::text, NULL], NULL)
               ON CONFLICT (id) DO UPDATE SET "Odd name" = excluded."Odd name", note = excluded.note`,
              [id, value, note],
            );
          } else if (what === 'rename') {
            await database.query('UPDATE things SET "Odd name" = $2 WHERE id = $1', [id, value]);
          } else if (what === 'move') {
            await database.query(
              'UPDATE things SET id = id + 10 WHERE id = $1 AND NOT EXISTS (SELECT FROM things WHERE id = $1 + 10)',
              [id],
            );
          } else {
            await database.query('DELETE FROM things WHERE id = $1', [id]);
          }
        }
        replay(
          truth,
          (await readBytes()).map((bytes) => decoder.decode(bytes)),
        );
        expect(withoutTime(truth)).toEqual(withoutTime(await selectAll()));
      }),
      { numRuns: 25 },
    );
  });

  it('E8: a truncate empties the table', async () => {
    await database.sql(`INSERT INTO things (id) VALUES (100); TRUNCATE things`);
    const kinds = decodeFresh(await readBytes()).map(({ kind }) => kind);
    expect(kinds.filter((kind) => kind !== 'relation')).toEqual(['begin', 'insert', 'truncate', 'commit']);
  });

  it('E11: an added column makes no row events; the next row is described anew', async () => {
    await database.sql('INSERT INTO things (id) VALUES (200)');
    await readBytes();
    await database.sql(`ALTER TABLE things ADD added text DEFAULT 'yes'`);
    expect(decodeFresh(await readBytes()).filter(({ kind }) => kind !== 'begin' && kind !== 'commit')).toEqual([]);
    await database.sql('UPDATE things SET empty = $$full$$ WHERE id = 200');
    const messages = decodeFresh(await readBytes());
    expect(messages.map(({ kind }) => kind)).toEqual(['begin', 'relation', 'update', 'commit']);
    expect(messages[2]).toMatchObject({ old: { added: 'yes', empty: null }, new: { added: 'yes', empty: 'full' } });
  });

  it('refuses real messages cut short at any byte', async () => {
    await database.sql(`INSERT INTO things (id, "Odd name") VALUES (300, 'cut'); DELETE FROM things WHERE id = 300`);
    const messages = await readBytes();
    messages.forEach((bytes, index) => {
      for (let length = 0; length < bytes.length; length += 1) {
        const decoder = new PgoutputDecoder();
        for (const earlier of messages.slice(0, index)) decoder.decode(earlier);
        expect(() => decoder.decode(bytes.subarray(0, length))).toThrow(MalformedWalError);
      }
    });
  });
});

function decodeFresh(bytes: readonly Buffer[]): WalMessage[] {
  const decoder = new PgoutputDecoder();
  return bytes.map((message) => decoder.decode(message));
}

/** A timestamp's text depends on the session's time zone, which this reading of the slot does not set. */
function withoutTime(rows: ReadonlyMap<string, RawRow>): Map<string, RawRow> {
  return new Map([...rows].map(([id, row]) => [id, { ...row, at: null }]));
}
