/**
 * The floor of a revocation: reads a temporary slot through `pg` and, at each transaction's Commit message, sends one
 * frame to the one peer, and a ping where the floor is of a receipt. No decoding, no state, no decision: what is left is PostgreSQL, two sockets and Node.
 */
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { Client } from 'pg';
import { WebSocketServer, type WebSocket } from 'ws';

export interface SlotReaderInput {
  readonly databaseUrl: string;
  readonly publication: string;
  /** Sent for every transaction. */
  readonly frame: string;
  /** Every frame is followed by a ping. */
  readonly isPinging: boolean;
}

interface CopyBoth {
  on(event: 'copyData', listener: (message: { readonly chunk: Buffer }) => void): void;
  once(event: 'replicationStart', listener: () => void): void;
  sendCopyFromChunk(chunk: Buffer): void;
}

/** Source: PostgreSQL documentation, "Streaming Replication Protocol" and "Logical Replication Message Formats". */
const XLOG_DATA = 0x77; // w
const XLOG_DATA_HEADER_BYTES = 25;
const COMMIT = 0x43; // C
const STATUS_UPDATE_BYTES = 34;
const STATUS_EVERY_MS = 10_000;

const [input] = (await once(process, 'message')) as [SlotReaderInput];
const peers = new Set<WebSocket>();
const server = new WebSocketServer({ host: '127.0.0.1', port: 0, perMessageDeflate: false });
server.on('connection', (peer) => peers.add(peer));

const config = { connectionString: input.databaseUrl, replication: 'database' };
const client = new Client(config);
client.on('error', () => process.exit(1));
await client.connect();
await client.query('CREATE_REPLICATION_SLOT bench_floor TEMPORARY LOGICAL pgoutput NOEXPORT_SNAPSHOT');

const wire = client.connection as unknown as CopyBoth;
let received = 0n;
wire.on('copyData', ({ chunk }) => {
  if (chunk[0] !== XLOG_DATA) return;
  if (chunk[XLOG_DATA_HEADER_BYTES] !== COMMIT) return;
  for (const peer of peers) {
    peer.send(input.frame);
    if (input.isPinging) peer.ping();
  }
  received = chunk.readBigUInt64BE(1);
});
wire.once('replicationStart', () => {
  setInterval(sendStatus, STATUS_EVERY_MS);
  process.send?.((server.address() as AddressInfo).port);
});
void client
  .query(
    `START_REPLICATION SLOT bench_floor LOGICAL 0/0 (proto_version '1', publication_names '"${input.publication}"')`,
  )
  .finally(() => process.exit(1));

function sendStatus(): void {
  const status = Buffer.alloc(STATUS_UPDATE_BYTES);
  status.write('r', 0);
  for (const at of [1, 9, 17]) status.writeBigUInt64BE(received, at);
  wire.sendCopyFromChunk(status);
}
