/** What one peer may cost: sizes, times, floods and connects (D34, wire-protocol.md 1.1 and 1.5, B2, B19, B20). */
import { connect } from 'node:net';
import { afterAll, beforeAll, beforeEach, describe, expect, it, jest } from '@jest/globals';
import { Client } from 'pg';
import { aTestAccount, type TestAccount } from '../support/demo-account.js';
import { eventually } from '../support/eventually.js';
import { PlainSocket } from '../support/plain-socket.js';
import { RawPeer } from '../support/raw-peer.js';
import { Scene } from '../support/scene.js';
import { startTestServer, type TestServer } from '../support/test-server.js';
import { askUpgrade, deviceQuery, upgradedConnection } from '../support/upgrade.js';

jest.setTimeout(30_000);

/** Short enough for a test, long enough for a busy machine to keep up with. */
const IDLE_MS = 1500;
const JOIN_TIMEOUT_MS = 500;

let server: TestServer;
let account: TestAccount;

beforeAll(async () => {
  server = await startTestServer({
    ...{ CLIENT_IDLE_MS: `${IDLE_MS}`, GATEWAY_IDLE_MS: `${IDLE_MS}`, JOIN_TIMEOUT_MS: `${JOIN_TIMEOUT_MS}` },
    ...{ MAX_OUTBOUND_BYTES: '100000', MAX_CONCURRENT_UPGRADES: '3' },
  });
});

beforeEach(async () => {
  account = await aTestAccount(server.db);
});

afterAll(() => server.close());

type Role = 'client' | 'gateway';

function tokenOf(role: Role): string {
  return role === 'client' ? account.clientToken : account.gatewayToken;
}

async function joined(role: Role = 'client', externalId = `plain-${role}`): Promise<PlainSocket> {
  const socket = await PlainSocket.open(role, server.wsUrl, { token: tokenOf(role), externalId });
  socket.send({ topic: role, event: 'phx_join', payload: null, ref: 0 });
  await socket.untilText('"init"');
  return socket;
}

function heartbeat(ref: number | string): string {
  return JSON.stringify({ topic: 'phoenix', event: 'heartbeat', payload: {}, ref });
}

describe('the size of a frame', () => {
  it('may be 64 KiB and not one byte more: 1009 (B2)', async () => {
    const socket = await joined();
    const padding = 65_536 - heartbeat('').length;
    socket.sendText(heartbeat('x'.repeat(padding)));
    await socket.untilText('xxx');
    socket.sendText(heartbeat('x'.repeat(padding + 1)));
    expect(await socket.closed()).toEqual({ code: 1009, reason: '' });
  });

  it('is known from its header: nobody waits for a gigabyte that is announced (B2)', async () => {
    const header = Buffer.from([0x81, 0xff, 0, 0, 0, 0, 0x40, 0, 0, 0, 1, 2, 3, 4]);
    expect(await closeAfter(header)).toBe(1009);
  });

  it('counts over all its fragments (B2)', async () => {
    const piece = (first: boolean) => masked(first ? 0x01 : 0x00, 'x'.repeat(20_000));
    expect(await closeAfter(Buffer.concat([piece(true), piece(false), piece(false), piece(false)]))).toBe(1009);
  });
});

describe('what is no WebSocket message ends its socket (B2, B4)', () => {
  it('a message in a hundred fragments', async () => {
    const pieces = Array.from({ length: 100 }, (_, i) => masked(i === 0 ? 0x01 : 0x00, 'x'));
    expect(await closeAfter(Buffer.concat(pieces))).toBe(1008);
  });

  it.each([
    ['text that is no UTF-8', masked(0x81, Buffer.from([0xc3, 0x28])), 1007],
    ['half a surrogate pair', masked(0x81, Buffer.from([0xed, 0xa0, 0x80])), 1007],
    ['a frame that is not masked', Buffer.from([0x81, 0x02, 0x7b, 0x7d]), 1002],
    ['reserved bits', masked(0xf1, '{}'), 1002],
    ['compression that was not agreed', masked(0xc1, '{}'), 1002],
    ['an opcode that nobody defined', masked(0x83, '{}'), 1002],
    ['a ping of more than 125 bytes', masked(0x89, 'x'.repeat(126)), 1002],
    ['a ping in fragments', masked(0x09, 'x'), 1002],
    ['a fragment of nothing', masked(0x80, 'x'), 1002],
    ['a close with a code that nobody may send', masked(0x88, Buffer.from([0x03, 0xed])), 1002],
  ] as const)('%s', async (_what, bytes, code) => {
    expect(await closeAfter(bytes)).toBe(code);
  });

  it('while pings, which peers may send, are answered with the same bytes', async () => {
    const socket = await joined();
    const pong = new Promise<string>((resolve) => socket.ws.once('pong', (data: Buffer) => resolve(data.toString())));
    socket.ws.ping('alive?');
    expect(await pong).toBe('alive?');
    await socket.close();
  });
});

describe('time', () => {
  it.each(['client', 'gateway'] as const)('a %s that never joins is closed', async (role) => {
    const socket = await PlainSocket.open(role, server.wsUrl, { token: tokenOf(role), externalId: 'lurker' });
    const openedAt = performance.now();
    while (socket.isOpen) {
      socket.sendText(heartbeat(1)); // heartbeats are no join
      await socket.nextText().catch(() => '');
    }
    expect(await socket.closed()).toEqual({ code: 1000, reason: '' });
    expect(performance.now() - openedAt).toBeGreaterThan(JOIN_TIMEOUT_MS - 50);
  });

  it('a peer that left and does not join again is closed', async () => {
    const socket = await joined();
    socket.send({ topic: 'client', event: 'phx_leave', payload: {}, ref: 1 });
    expect(JSON.parse(await socket.nextText())).toMatchObject({ ref: 1, payload: { status: 'ok', response: {} } });
    expect(JSON.parse(await socket.nextText())).toEqual({
      topic: 'client',
      event: 'phx_close',
      payload: {},
      ref: null,
    });
    expect(await socket.closed()).toEqual({ code: 1000, reason: '' });
  });

  it.each(['client', 'gateway'] as const)('a silent %s is closed, a pong is no sign of life', async (role) => {
    const before = performance.now(); // its join is the last that is heard of it
    const socket = await joined(role);
    socket.ws.pong();
    expect(await socket.closed()).toEqual({ code: 1000, reason: '' });
    expect(performance.now() - before).toBeGreaterThan(IDLE_MS - 5);
  });

  it('heartbeats keep a socket open, and the server says nothing of its own', async () => {
    const peers = [
      await RawPeer.joined('client', server.wsUrl, { token: account.clientToken, externalId: 'c' }),
      await RawPeer.joined('gateway', server.wsUrl, { token: account.gatewayToken, externalId: 'g' }),
    ];
    const openedAt = performance.now();
    while (performance.now() - openedAt < 2 * IDLE_MS) await Promise.all(peers.map((peer) => peer.settled()));
    for (const peer of peers) {
      expect(peer.drain()).toEqual([]);
      await peer.close();
    }
  });

  it('a peer that does not answer our close frame is cut off', async () => {
    const connection = await upgradedConnection(
      server.api,
      '/client/websocket',
      deviceQuery(account.clientToken, 'mute'),
    );
    const ended = new Promise((resolve) => connection.once('close', resolve));
    connection.resume();
    await ended; // never joined, never answered
  });
});

describe('a flood', () => {
  it('of rubbish on one socket does not keep a neighbour from its flows (B20)', async () => {
    const scene = new Scene(server, account);
    await scene.join('gateway', 'gateway');
    await scene.join('client', 'client');
    const flooder = await joined('client', 'flooder');
    let isFlooding = true;
    let answered = 0;
    flooder.ws.on('message', () => {
      answered += 1;
      flooder.unread.length = 0;
    });
    const rubbish = JSON.stringify({ topic: 'client', event: 'x'.repeat(1000), payload: [], ref: 1 });
    const flood = (): void => {
      for (let i = 0; i < 200 && flooder.ws.bufferedAmount < 1_000_000; i += 1) flooder.sendText(rubbish);
      if (isFlooding && flooder.isOpen) setImmediate(flood);
    };
    flood();
    for (let times = 0; times < 20; times += 1) await scene.openFlow();
    isFlooding = false;
    expect(answered).toBeGreaterThan(100);
    flooder.ws.terminate();
    await scene.leaveAll();
  });

  it('of frames that end their sockets does not either', async () => {
    const scene = new Scene(server, account);
    await scene.join('gateway', 'gateway');
    await scene.join('client', 'client');
    for (let times = 0; times < 10; times += 1) {
      const rubbish = await joined('gateway', 'flooder');
      for (let i = 0; i < 50; i += 1) rubbish.sendText('{');
      const [{ code }] = await Promise.all([rubbish.closed(), scene.openFlow()]);
      expect(code).toBe(1002);
    }
    await scene.leaveAll();
  });

  it('of answers to a peer that reads none ends its socket before it fills our memory', async () => {
    const isCutOff = async (): Promise<boolean> => {
      const text = await (await fetch(`${server.ops}/metrics`)).text();
      return text.includes('portcullis_sockets_closed_total{role="client",why="too-slow"} 1');
    };
    expect(await isCutOff()).toBe(false);
    const socket = await joined();
    socket.ws.pause();
    await eventually('the slow reader to be cut off', async () => {
      for (let i = 0; i < 20 && socket.ws.bufferedAmount < 1_000_000; i += 1)
        socket.sendText(heartbeat('x'.repeat(50_000)));
      return isCutOff();
    });
    socket.ws.resume();
    expect((await socket.closed()).code).toBe(1006);
  });
});

describe('connects', () => {
  it('beyond what may be in progress at once are told to come back, at once', async () => {
    const query = (name: string) => deviceQuery(account.clientToken, name);
    const ask = (name: string) => askUpgrade(server.api, '/client/websocket', query(name));
    const holder = new Client({ connectionString: server.db.url });
    await holder.connect();
    await holder.query('BEGIN');
    await holder.query('LOCK TABLE token_secrets IN ACCESS EXCLUSIVE MODE');
    const held = ['a', 'b', 'c'].map(ask);
    const waiting = `SELECT FROM pg_locks JOIN pg_class ON oid = relation WHERE relname = 'token_secrets' AND NOT granted`;
    await eventually('three connects to wait', async () => (await server.db.query(waiting)).rowCount === 3);

    const refused = await ask('d');
    expect([refused.status, refused.problem['code'], refused.headers['retry-after']]).toEqual([503, 'overloaded', '1']);
    await holder.query('ROLLBACK');
    await holder.end();
    expect((await Promise.all(held)).map(({ status }) => status)).toEqual([101, 101, 101]);
    expect((await ask('d')).status).toBe(101);
  });

  it('that send half a request and stop keep nobody else out (B19)', async () => {
    const { hostname, port } = new URL(server.api);
    const slow = Array.from({ length: 50 }, () => connect(Number(port), hostname));
    for (const connection of slow) {
      connection.on('error', () => undefined);
      connection.write('GET /client/websocket?token=x HTTP/1.1\r\nHost: x\r\nUpg');
    }
    const good = await joined();
    await good.close();
    for (const connection of slow) connection.destroy();
  });
});

// ---- bytes ---------------------------------------------------------------------------------------------------------

/** Sends the bytes on a joined connection and resolves with the code of the close frame that answers them. */
async function closeAfter(bytes: Buffer): Promise<number> {
  const query = deviceQuery(account.clientToken, 'bytes');
  const connection = await upgradedConnection(server.api, '/client/websocket', query);
  connection.write(bytes);
  const said: Buffer[] = [];
  for await (const chunk of connection) said.push(chunk as Buffer);
  const close = Buffer.concat(said);
  expect([close[0], close[1]]).toEqual([0x88, 2]); // a close frame with a code and no reason, and nothing before it
  return close.readUInt16BE(2);
}

/** A frame as peers send it: masked, here with zeros. */
function masked(firstByte: number, content: string | Buffer): Buffer {
  const body = Buffer.from(content);
  const length = body.length < 126 ? [0x80 | body.length] : [0xfe, body.length >> 8, body.length & 0xff];
  return Buffer.concat([Buffer.from([firstByte, ...length, 0, 0, 0, 0]), body]);
}
