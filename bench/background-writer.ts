/**
 * Small commits at a steady rate, as administrators and directories make them, in accounts of which somebody is connected
 * and hears of each. Starts when it is told to, and says how much it has written when it is told to stop.
 */
import { once } from 'node:events';
import { Client } from 'pg';
import { BenchPeer, type PeerIdentity } from './bench-peer.js';
import { monotonicMs } from './bench.js';

export interface WriterInput {
  readonly databaseUrl: string;
  readonly serverUrl: string;
  readonly clients: readonly PeerIdentity[];
  /** Of one account each. */
  readonly resourceIds: readonly (readonly string[])[];
  readonly commitsPerSecond: number;
}

export type WriterOrder = 'write' | 'rest';

/** Said after each rest. */
export interface Written {
  readonly changes: number;
  readonly overMs: number;
}

/** So that a commit need not wait for the one before it. */
const CONNECTIONS = 4;

const [input] = (await once(process, 'message')) as [WriterInput];
const sessions = await Promise.all(
  Array.from({ length: CONNECTIONS }, async () => {
    const session = new Client({ connectionString: input.databaseUrl });
    await session.connect();
    return session;
  }),
);
for (const identity of input.clients) await BenchPeer.join(input.serverUrl, identity);

let changes = 0;
let startedAt = 0;
let due = 0;
let isWriting = false;
process.on('message', (order: WriterOrder) => {
  if (order === 'write') write();
  else process.send?.({ changes, overMs: rest() });
});
process.send?.('ready');

function write(): void {
  [changes, due, startedAt, isWriting] = [0, 0, monotonicMs(), true];
  for (const session of sessions) void writeOn(session);
}

function rest(): number {
  isWriting = false;
  return monotonicMs() - startedAt;
}

/** Whoever is free takes the next commit at its time: one that is slow makes the others take more. */
async function writeOn(session: Client): Promise<void> {
  while (isWriting) {
    const number = due++;
    const waitMs = startedAt + (number * 1000) / input.commitsPerSecond - monotonicMs();
    if (waitMs > 0) await new Promise((resolve) => setTimeout(resolve, waitMs));
    const ids = input.resourceIds[number % input.resourceIds.length] ?? [];
    const { rowCount } = await session.query('UPDATE resources SET name = $1 WHERE id = ANY($2)', [`${number}`, ids]);
    changes += rowCount ?? 0;
  }
}
