/** Bad frames: fuzzed, oversize, deep, ill-encoded and named to trick; nobody but their sender notices (reliability.md 4, B1 to B5). */
import { once } from 'node:events';
import type { Duplex } from 'node:stream';
import { afterAll, beforeAll, describe, expect, it, jest } from '@jest/globals';
import fc from 'fast-check';
import { BluntSocket, type BluntDevice } from '../support/blunt-socket.js';
import { aTestAccount, aToken, type TestAccount } from '../support/demo-account.js';
import { aMutation, fateOf, FrameCorpus, frozenFrames, keepCrash, type Names } from '../support/frame-corpus.js';
import { PlainSocket } from '../support/plain-socket.js';
import { ProbedServer } from '../support/probed-server.js';
import { type Json, keyOf, RawPeer } from '../support/raw-peer.js';
import { Scene } from '../support/scene.js';
import type { PeerRole } from '../support/strict-peer.js';
import { createMigratedDatabase, type TestDatabase } from '../support/test-database.js';
import { startTestServer, type TestServer } from '../support/test-server.js';
import { askUpgrade, deviceQuery, upgradedConnection } from '../support/upgrade.js';

/** Sent in all by B1; a night's run sets more. */
const FRAMES = Number(process.env['FRAMES'] ?? 100_000);

jest.setTimeout(60_000 + 2 * FRAMES);

/** Nobody is told to wait, neither for a frame nor for a connect: what is tested is what each of them costs. */
const UNTHROTTLED = {
  ...{ CLIENT_FRAMES_PER_SECOND: '1000000', GATEWAY_FRAMES_PER_SECOND: '1000000', RELAY_FRAMES_PER_SECOND: '1000000' },
  CONNECT_BURST: '1000000',
};
const MIB = 1024 * 1024;

let db: TestDatabase;
let probed: ProbedServer;
let account: TestAccount;
let tokens: Readonly<Record<PeerRole, string>>;

beforeAll(async () => {
  db = await createMigratedDatabase();
  probed = await ProbedServer.launch(db, UNTHROTTLED);
  account = await aTestAccount(db);
  const { text: relay } = await aToken(db, 'relay', { accountId: account.accountId });
  tokens = { client: account.clientToken, gateway: account.gatewayToken, relay };
});

afterAll(async () => {
  await probed.server.process.kill();
  await db.drop();
});

function device(role: PeerRole, name: string, vsn: BluntDevice['vsn'] = '1.0.0'): BluntDevice {
  return { role, token: tokens[role], name, vsn };
}

// ---- B1 ------------------------------------------------------------------------------------------------------------

describe('B1: frames that were mutated at random', () => {
  const FRAMES_PER_RUN = 100;
  const REASONS = new Set([
    ...['unknown_message', 'unmatched topic', 'invalid_ref', 'not_found', 'offline', 'forbidden', 'join crashed'],
  ]);
  const LANES = (['client', 'gateway', 'relay'] as const).flatMap((role, i) =>
    (['1.0.0', '2.0.0'] as const).map((vsn, v) => ({ role, vsn, name: `${4000 + 2 * i + v}` })),
  );
  const sent = { read: 0, fatal: 0 };
  const odd = new Set<string>();
  let isOver = false;

  /** One device that says everything that its role and serializer make of the corpus. */
  class Lane {
    #socket: BluntSocket | undefined;
    readonly isV2: boolean;

    constructor(
      readonly device: BluntDevice,
      readonly corpus: FrameCorpus,
    ) {
      this.isV2 = device.vsn === '2.0.0';
    }

    /** What does not end the socket goes through one, all at once; of the rest each gets one of its own. */
    async say(frames: readonly Buffer[]): Promise<void> {
      const fates = frames.map((frame) => [frame, fateOf(frame, this.isV2)] as const);
      const harmless = fates.filter(([, fate]) => fate === undefined).map(([frame]) => frame);
      const socket = await this.#joined();
      for (const frame of harmless) socket.ws.send(frame, { binary: false });
      if (!(await socket.beat())) this.#fail(harmless, `closed with ${socket.code}, and each of them is a frame`);
      sent.read += harmless.length;
      for (const [frame, fate] of fates) {
        if (fate === undefined) continue;
        const ended = this.#socket ?? (await BluntSocket.open(probed.server.wsUrl, this.device));
        this.#socket = undefined;
        ended.ws.send(frame, { binary: false });
        const code = await ended.mustEnd();
        if (code !== fate) this.#fail([frame], `closed with ${code} instead of ${fate}`);
        sent.fatal += 1;
      }
    }

    /** Goes away: one that has left its channel and says nothing would be closed after a while, as documented. */
    async stop(): Promise<void> {
      await this.#socket?.drop();
      this.#socket = undefined;
    }

    async #joined(): Promise<BluntSocket> {
      if (this.#socket) return this.#socket;
      this.#socket = await BluntSocket.joined(probed.server.wsUrl, this.device);
      this.#socket.onText = judge;
      return this.#socket;
    }

    #fail(frames: readonly Buffer[], why: string): never {
      // What ended the server, or ended this test, ends the other lanes too.
      const kept = isOver ? 'not kept' : `kept as ${keepCrash(frames)}`;
      isOver = true;
      throw new Error(`${this.device.role} ${this.device.vsn}: ${why}; ${kept}`);
    }
  }

  function judge(text: string): void {
    const reason = /"reason":"([^"]*)"/.exec(text)?.[1];
    if (reason !== undefined && !REASONS.has(reason)) odd.add(reason);
  }

  async function idOf(table: string, externalId: string): Promise<string> {
    const text = `SELECT id FROM ${table} WHERE account_id = $1 AND external_id = $2`;
    const { rows } = await db.query<{ id: string }>(text, [account.accountId, externalId]);
    return rows[0]?.id ?? '';
  }

  async function lanes(): Promise<Lane[]> {
    for (const { role, name } of LANES)
      await (await BluntSocket.joined(probed.server.wsUrl, device(role, name))).drop();
    const names: Names = {
      resource: account.resourceId,
      gateway: await idOf('gateways', '4002'),
      client: await idOf('clients', '4000'),
      key: keyOf('a preshared key'),
    };
    // Two relays of one account that say the same secret are one relay, and the newer one goes on.
    const { accountId } = await aTestAccount(db);
    const { text: token } = await aToken(db, 'relay', { accountId });
    return LANES.map(({ role, vsn, name }) => {
      const isV2 = vsn === '2.0.0';
      const as = { ...device(role, name, vsn), ...(role === 'relay' && isV2 && { token }) };
      return new Lane(as, new FrameCorpus(role, isV2, names));
    });
  }

  async function fuzz(lane: Lane, frames: number): Promise<void> {
    const aRun = fc.array(aMutation, { minLength: FRAMES_PER_RUN, maxLength: FRAMES_PER_RUN });
    await fc.assert(
      fc.asyncProperty(aRun, (mutations) => lane.say(mutations.map((mutation) => lane.corpus.mutated(mutation)))),
      { numRuns: Math.ceil(frames / FRAMES_PER_RUN), endOnFailure: true },
    );
    await lane.stop();
  }

  it('B1: are answered or end their own socket; neighbours go on, memory stays, nothing is polluted', async () => {
    const neighbours = new Scene(probed.server, await aTestAccount(db));
    const { peer: gateway } = await neighbours.join('gateway', 'gateway');
    const { peer: client } = await neighbours.join('client', 'client');
    await neighbours.openFlow();

    const fuzzers = await lanes();
    let beats = 0;
    const watch = async (): Promise<void> => {
      while (!isOver) {
        await Promise.all([client.settled(), gateway.settled()]); // each waits 5 s at most
        beats += 1;
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
    };
    const watching = watch();
    try {
      const share = FRAMES / fuzzers.length;
      for (const lane of fuzzers) await lane.say(frozenFrames().map((text) => Buffer.from(text)));
      await Promise.all(fuzzers.map((lane) => fuzz(lane, share * 0.4)));
      const before = await probed.memory();
      await Promise.all(fuzzers.map((lane) => fuzz(lane, share * 0.6)));
      const after = await probed.memory();
      // What is used is exact, what the system lends for it is not. Seen over 100,000 frames: within 2 %.
      expect(after.heapUsed / before.heapUsed).toBeLessThan(1.05);
      expect(after.rss / before.rss).toBeLessThan(1.1);
    } finally {
      isOver = true;
      await watching;
      await Promise.all(fuzzers.map((lane) => lane.stop()));
    }
    expect(sent.read + sent.fatal).toBeGreaterThanOrEqual(FRAMES);
    expect(sent.fatal).toBeGreaterThan(FRAMES / 100); // else nothing but good frames was said
    expect(beats).toBeGreaterThan(5);
    expect([...odd]).toEqual([]);
    expect(client.drain()).toEqual([]);
    expect(gateway.drain()).toEqual([]);
    await neighbours.openFlow();
    await neighbours.leaveAll();
    expect(probed.server.process.stderr).not.toMatch(/crashed|"level":"error"/);
  });
});

// ---- B2 ------------------------------------------------------------------------------------------------------------

describe('B2: an attacker’s socket', () => {
  /** Bytes that the server holds for each of them once `attack` is over, while they are still there. */
  async function heldAfter(attack: (connection: Duplex) => Promise<void>, count?: number): Promise<number> {
    const before = await probed.memory();
    const connections = await attackers(count);
    await Promise.all(connections.map(attack));
    const after = await probed.memory();
    for (const connection of connections) connection.destroy();
    return (after.heapUsed + after.arrayBuffers - before.heapUsed - before.arrayBuffers) / connections.length;
  }

  it.each<[string, (connection: Duplex) => Promise<void>]>([
    ['announces 2 GiB', (c) => written(c, announced([0xff, 0, 0, 0, 0, 0x80, 0, 0, 0]))],
    ['announces 2^63 bytes', (c) => written(c, announced([0xff, 0x7f, 255, 255, 255, 255, 255, 255, 255]))],
    ['sends a message in 100,000 fragments', (c) => written(c, unfinished(100_000, 1))],
    ['never ends a message of 60 fragments', (c) => written(c, unfinished(60, 1000))],
    ['never ends a frame of 64 KiB', (c) => written(c, masked(0x81, 'x'.repeat(65_000)).subarray(0, -1))],
    ['pings and never reads an answer', (c) => written(c.pause(), repeated(PING, 40_000))],
    ['asks and never reads an answer', (c) => written(c.pause(), repeated(HEARTBEAT, 2000))],
  ])('B2: that %s costs less than 1 MiB', async (_what, attack) => {
    expect(await heldAfter(attack)).toBeLessThan(MIB);
  });

  it('B2: that sends its frame byte by byte costs less than 1 MiB', async () => {
    const byteByByte = async (connection: Duplex): Promise<void> => {
      connection.write(masked(0x81, 'x'.repeat(65_000)).subarray(0, 8));
      for (let sent = 0; sent < 60_000; sent += 1) {
        connection.write('x');
        await new Promise((resolve) => setImmediate(resolve)); // so that each is read by itself
      }
    };
    expect(await heldAfter(byteByByte, 2)).toBeLessThan(MIB);
  });
});

// ---- B3 ------------------------------------------------------------------------------------------------------------

describe('B3: a frame that is work to read', () => {
  const TIMES = 40;
  /** What reading one may cost, the reply and the socket included. Unit ms of CPU time. */
  const CPU_MS = 5;
  const ids = (n: number, value: string) => `{"candidates":[],"gateway_ids":[${Array(n).fill(value).join()}]}`;
  const candidates = (n: number, value: string) => `{"gateway_ids":[],"candidates":[${Array(n).fill(value).join()}]}`;
  const object = (n: number, member: (i: number) => string) =>
    `{${Array.from({ length: n }, (_, i) => member(i)).join()}}`;

  function aFrame(payload: string, event = 'broadcast_ice_candidates'): string {
    return `{"topic":"client","event":"${event}","ref":1,"payload":${payload}}`;
  }

  /** As large as a frame may be: none has more to read. */
  const PAYLOADS: readonly (readonly [string, string])[] = [
    ['7,000 keys', object(7000, (i) => `"${i}":1`)],
    ['4,400 keys that look like far indexes', object(4400, (i) => `"${(i * 715_827) % 4_294_967_295}":1`)],
    ['one key 10,000 times', object(10_000, () => '"a":1')],
    ['a required key 1,900 times', object(1900, () => '"gateway_ids":[],"candidates":1')],
    ['10,000 numbers beyond all', candidates(10_000, '1e400')],
    ['a number of 65,000 digits', candidates(1, '1'.repeat(65_000))],
    ['a fraction of 65,000 digits', candidates(1, `0.${'1'.repeat(65_000)}`)],
    ['an exponent of 65,000 digits', candidates(1, `1e${'1'.repeat(65_000)}`)],
    ['20,000 empty candidates', candidates(20_000, '""')],
    ['20,000 candidates that are lists', candidates(20_000, '[]')],
    ['20,000 ids that are none', ids(20_000, '""')],
    ['20,000 ids that are objects', ids(20_000, '{}')],
    ['1,600 ids', ids(1600, `"${'5b1d3f77-2c84-4c0e-8a3e-7d2f90c4e102'}"`)],
    ['a text of escapes', candidates(1, `"${'\\u0000'.repeat(10_000)}"`)],
  ];

  it.each(PAYLOADS)('B3: with %s costs no more than 5 ms of CPU, and is an unknown message', async (_what, payload) => {
    const socket = await BluntSocket.joined(probed.server.wsUrl, device('client', 'deep'));
    const said: string[] = [];
    socket.onText = (text) => said.push(text);
    const frame = aFrame(payload);
    expect(frame.length).toBeLessThanOrEqual(65_536);
    socket.ws.send(frame);
    expect([await socket.beat(), socket.code]).toEqual([true, undefined]);
    expect(said[0]).toBe(
      '{"topic":"client","event":"phx_reply","ref":1,"payload":{"status":"error","response":{"reason":"unknown_message"}}}',
    );
    const costs: number[] = [];
    for (let rounds = 0; rounds < 3; rounds += 1) {
      const before = await probed.cpuMs();
      for (let times = 0; times < TIMES; times += 1) socket.ws.send(frame);
      expect(await socket.beat()).toBe(true);
      costs.push(((await probed.cpuMs()) - before) / TIMES);
    }
    await socket.drop();
    expect(Math.min(...costs)).toBeLessThan(CPU_MS); // others at work on the machine make all dearer, never cheaper
  });

  it.each([
    ['lists 32,000 deep', `${'['.repeat(32_000)}${']'.repeat(32_000)}`],
    ['objects 10,000 deep', `${'{"a":'.repeat(10_000)}1${'}'.repeat(10_000)}`],
    ['lists that never end', '['.repeat(65_000)],
  ])('B3: with %s is refused by its depth, before it is read', async (_what, payload) => {
    const frame = masked(0x81, aFrame(payload));
    const costs: number[] = [];
    for (let rounds = 0; rounds < 3; rounds += 1) {
      const connections = await attackers();
      const before = await probed.cpuMs();
      for (const connection of connections) {
        connection.write(frame);
        expect(await closeCodeOn(connection)).toBe(1002);
      }
      costs.push(((await probed.cpuMs()) - before) / connections.length);
      for (const connection of connections) connection.destroy();
    }
    expect(Math.min(...costs)).toBeLessThan(CPU_MS); // as above
  });

  it.each([
    ['100,000 nested lists', `${'['.repeat(100_000)}${']'.repeat(100_000)}`],
    ['a million keys', object(1_000_000, (i) => `"${i}":1`)],
    ['a million digits', '1'.repeat(1_000_000)],
  ])('B3: with %s is refused by its size, before it is read', async (_what, payload) => {
    // The beginning of the frame is enough to be refused; the rest would only be bytes that nobody reads.
    const frame = Buffer.from(aFrame(payload));
    const header = Buffer.from([0x81, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    header.writeUInt32BE(frame.length, 6);
    const beginning = Buffer.concat([header, frame.subarray(0, 128 * 1024)]);
    const connections = await attackers();
    const before = await probed.cpuMs();
    for (const connection of connections) {
      connection.write(beginning);
      expect(await closeCodeOn(connection)).toBe(1009);
    }
    const each = ((await probed.cpuMs()) - before) / connections.length;
    for (const connection of connections) connection.destroy();
    expect(each).toBeLessThan(CPU_MS);
  });
});

// ---- B4 ------------------------------------------------------------------------------------------------------------

describe('B4: text', () => {
  const EMOJI = '\u{1F600}';
  const TEXTS: readonly (readonly [string, string])[] = [
    ['right to left', 'abc\u202Edef\u202C \u05E9\u05DC\u05D5\u05DD'],
    ['of four bytes each', EMOJI.repeat(255)],
    ['of emoji in families', '\u{1F469}\u200D\u{1F469}\u200D\u{1F467}\u200D\u{1F466}'],
    ['of marks upon marks', `Z${'\u0301\u0327'.repeat(100)}`],
    ['that is not normalized', 'e\u0301 \u00E9 \uFB01'],
    ['with a byte order mark within', 'a\uFEFFb'],
    ['with what is no character', 'a\uFFFFb\u{10FFFF}'],
    ['of control characters', 'a\u0001\u0007\u001B[31m\u007F\u0085b'],
    ['with ends of lines', 'a\r\nb\u2028c'],
    ['with quotes and slashes', `"'\\/\`$\{x}%00&amp;<script>`],
    ['that looks like SQL', `'); DROP TABLE clients; --`],
    ['that looks like nothing', 'null'],
  ];
  const paths = [
    ['client', 'clients'],
    ['gateway', 'gateways'],
  ] as const;

  async function stored(table: string, externalId: string): Promise<unknown> {
    const text = `SELECT name, external_id FROM ${table} WHERE account_id = $1 AND external_id = $2`;
    return (await db.query(text, [account.accountId, externalId])).rows;
  }

  it.each(TEXTS)('B4: %s in a name and an external id is stored as it came', async (_what, text) => {
    for (const [role, table] of paths) {
      const query = deviceQuery(tokens[role], 'b4', { external_id: text, name: text, public_key: keyOf(_what) });
      expect((await askUpgrade(probed.server.api, `/${role}/websocket`, query)).status).toBe(101);
      expect(await stored(table, text)).toEqual([{ name: text, external_id: text }]);
    }
  });

  it.each([
    ['a NUL', '%00'],
    ['half a surrogate pair', '%ED%A0%80'],
    ['two halves in UTF-8', '%ED%A0%BD%ED%B8%80'],
    ['a byte that begins nothing', '%80'],
    ['a beginning without its end', '%C3%28'],
    ['a slash in two bytes', '%C0%AF'],
    ['a NUL in two bytes', '%C0%80'],
    ['more than Unicode has', '%F4%90%80%80'],
    ['Latin-1', '%FF%FE'],
  ])('B4: %s in any text is refused with 422, and nothing of it is stored', async (_what, bytes) => {
    for (const [role, table] of paths) {
      for (const member of ['name', 'external_id']) {
        const given = new URLSearchParams(deviceQuery(tokens[role], `b4-${bytes}`, { name: 'x' }));
        given.delete(member);
        const query = `${given.toString()}&${member}=before${bytes}after`;
        const answer = await askUpgrade(probed.server.api, `/${role}/websocket`, query);
        expect([answer.status, Object.keys(answer.problem['errors'] as object)]).toEqual([422, [member]]);
      }
      const { rows } = await db.query(
        `SELECT FROM ${table} WHERE external_id LIKE 'b4-%' OR external_id LIKE 'before%'`,
      );
      expect(rows).toEqual([]);
    }
  });

  it('B4: of an administrator reaches the peers as it stands in the row', async () => {
    const scene = new Scene(probed.server, await aTestAccount(db));
    const { accountId, resourceId, siteId } = scene.ids;
    await scene.join('client', 'client');
    for (const [, text] of TEXTS.filter(([, text]) => [...text].length <= 64)) {
      await db.query('UPDATE sites SET name = $1 WHERE account_id = $2', [text, accountId]);
      await db.query('UPDATE resources SET name = $1 WHERE account_id = $2', [text, accountId]);
      await scene.applied();
      await scene.client.settled();
      const told = scene.client.drain().at(-1);
      expect(told).toMatchObject([
        'resource_created_or_updated',
        { id: resourceId, name: text, gateway_groups: [{ id: siteId, name: text }] },
      ]);
    }
    await scene.leaveAll();
  });

  it('B4: in ICE candidates passes as it came, escaped or not, also what no column could hold', async () => {
    const scene = new Scene(probed.server, await aTestAccount(db));
    await scene.join('gateway', 'gateway');
    await scene.join('client', 'client');
    await scene.openFlow();
    const candidates = [...TEXTS.map(([, text]) => text), 'a\0b', '\uD800', '\uDE00\uD83D'];
    for (const given of [candidates, candidates.map((text) => text.toUpperCase())]) {
      scene.client.send('broadcast_ice_candidates', { candidates: given, gateway_ids: [scene.device('gateway').id] });
      expect((await scene.gateway.next('ice_candidates'))['candidates']).toEqual(given);
      scene.gateway.send('broadcast_ice_candidates', { candidates: given, client_ids: [scene.device('client').id] });
      expect((await scene.client.next('ice_candidates'))['candidates']).toEqual(given);
    }
    await scene.leaveAll();
  });

  it.each([
    ['a byte that begins nothing', [0x80]],
    ['a beginning without its end', [0xc3, 0x28]],
    ['half a surrogate pair', [0xed, 0xa0, 0x80]],
    ['a NUL in two bytes', [0xc0, 0x80]],
    ['more than Unicode has', [0xf4, 0x90, 0x80, 0x80]],
    ['a character cut off by the end', [0xf0, 0x9f, 0x98]],
  ])('B4: %s in a frame ends its socket with 1007', async (_what, bytes) => {
    const frame = Buffer.from('{"topic":"phoenix","event":"heartbeat","payload":{},"ref":"?"}');
    const at = frame.indexOf('?');
    const broken = Buffer.concat([frame.subarray(0, at), Buffer.from(bytes), frame.subarray(at + 1)]);
    for (const text of [broken, broken.subarray(0, at + bytes.length)]) {
      const socket = await BluntSocket.open(probed.server.wsUrl, device('client', 'b4-bytes'));
      socket.ws.send(text, { binary: false });
      expect(await socket.mustEnd()).toBe(1007);
    }
  });
});

// ---- B5 ------------------------------------------------------------------------------------------------------------

describe('B5: a name that every object has', () => {
  const NAMES = [
    ...['__proto__', 'constructor', 'prototype', 'toString', 'toJSON', 'valueOf', 'hasOwnProperty', 'isPrototypeOf'],
    ...['propertyIsEnumerable', 'toLocaleString', '__defineGetter__', '__defineSetter__', '__lookupGetter__', 'then'],
    ...['length', 'name', 'caller', 'arguments'],
  ];
  const UNMATCHED = 'unmatched topic';
  const UNKNOWN = 'unknown_message';

  /** In this process, where its prototypes can be looked at. */
  let server: TestServer;
  let scene: Scene;

  beforeAll(async () => {
    server = await startTestServer(UNTHROTTLED);
  });

  afterAll(() => server.close());

  function membersOf(prototype: object): unknown {
    return Reflect.ownKeys(prototype).map((key) => [key, Object.getOwnPropertyDescriptor(prototype, key)]);
  }

  async function replyTo(socket: PlainSocket, text: string): Promise<unknown> {
    socket.sendText(text);
    const reply = JSON.parse(await socket.nextText()) as { payload: { response: Json } };
    return reply.payload.response['reason'];
  }

  it('B5: is nothing special as topic, event, ref, payload, id, key of a payload or parameter', async () => {
    const before = [Object.prototype, Array.prototype, Function.prototype].map(membersOf);
    scene = new Scene(server, await aTestAccount(server.db));
    const { resourceId, clientToken, gatewayToken } = scene.ids;
    const valid = { resource_id: resourceId, connected_gateway_ids: [] };
    for (const [role, token] of [
      ['client', clientToken],
      ['gateway', gatewayToken],
    ] as const) {
      const socket = await PlainSocket.open(role, server.wsUrl, { token, externalId: role });
      socket.send({ topic: role, event: 'phx_join', payload: null, ref: 0 });
      await socket.untilText('"init"');
      for (const name of NAMES) {
        const key = JSON.stringify(name);
        const inherited = JSON.stringify(valid);
        const frames: readonly (readonly [string, string])[] = [
          [`{"topic":${key},"event":"create_flow","payload":{},"ref":1}`, UNMATCHED],
          [`{"topic":${key},"event":"phx_join","payload":{},"ref":1}`, UNMATCHED],
          [`{"topic":"${role}","event":${key},"payload":{},"ref":1}`, UNKNOWN],
          [`{"topic":"phoenix","event":${key},"payload":{},"ref":1}`, UNMATCHED],
          [`{"topic":"${role}","event":"create_flow","payload":${key},"ref":${key}}`, UNKNOWN],
          [`{"topic":"${role}","event":"create_flow","payload":{${key}:${inherited}},"ref":1}`, UNKNOWN],
          [`{"topic":"${role}","event":"create_flow","payload":{"resource_id":{${key}:${key}}},"ref":1}`, UNKNOWN],
          [`{"topic":"${role}","event":"create_flow","payload":[{${key}:1}],"ref":1,${key}:{"topic":"x"}}`, UNKNOWN],
          [
            `{"topic":"${role}","event":"create_flow","payload":{"resource_id":${key},"connected_gateway_ids":[]},"ref":1}`,
            UNKNOWN,
          ],
          [
            `{"topic":"${role}","event":"broadcast_ice_candidates","payload":{"candidates":[],"gateway_ids":[${key}],"client_ids":[${key}]},"ref":1}`,
            UNKNOWN,
          ],
        ];
        for (const [text, reason] of frames) expect([text, await replyTo(socket, text)]).toEqual([text, reason]);
        socket.send({ topic: 'phoenix', event: 'heartbeat', payload: {}, ref: name });
        expect(JSON.parse(await socket.nextText())).toMatchObject({ ref: name, payload: { status: 'ok' } });
        const query = deviceQuery(token, role, { [name]: name, [`${name}[${name}]`]: '1', vsn: name });
        expect((await askUpgrade(server.api, `/${role}/websocket`, query)).problem['code']).toBe('unsupported_vsn');
        expect((await askUpgrade(server.api, `/${name}/websocket`, query)).status).toBe(404);
        const headers = { [name]: name, 'user-agent': `${name} connlib/${name}` };
        const devices = deviceQuery(token, `${role}-${name}`, { [name]: name });
        expect((await askUpgrade(server.api, `/${role}/websocket`, devices, headers)).status).toBe(101);
      }
      await socket.close();
    }
    expect([Object.prototype, Array.prototype, Function.prototype].map(membersOf)).toEqual(before);
    expect(({} as Json)['resource_id']).toBeUndefined();
  });

  it.each(NAMES)(
    'B5: %s names a gateway, a client, a relay and what they say, and flows open as ever',
    async (name) => {
      const named = new Scene(server, await aTestAccount(server.db));
      const { text: token } = await aToken(server.db, 'relay', { accountId: named.ids.accountId });
      const relay = await RawPeer.joined('relay', server.wsUrl, {
        ...{ token, join: { stamp_secret: name }, query: { ipv4: '203.0.113.77', name } },
      });
      await named.join('gateway', name, { name, publicKey: keyOf('a gateway') });
      await named.join('client', `${name} `.trim(), { name });
      const { rows } = await server.db.query('SELECT name FROM clients WHERE account_id = $1', [named.ids.accountId]);
      expect(rows).toEqual([{ name }]);
      await named.leaveAll();
      await named.join('gateway', `g${name}`);
      await named.join('client', name);
      await named.openFlow(undefined, name, `g${name}`);
      const { peer: client } = named.device(name);
      client.send('broadcast_ice_candidates', { candidates: NAMES, gateway_ids: [named.device(`g${name}`).id] });
      expect((await named.device(`g${name}`).peer.next('ice_candidates'))['candidates']).toEqual(NAMES);
      await named.leaveAll();
      await relay.close();
    },
  );
});

describe('B1, B5: after all of this', () => {
  it('B1, B5: the process has the prototypes it began with, and ends when it is asked to', async () => {
    await probed.mustEndWell();
  });
});

// ---- bytes ---------------------------------------------------------------------------------------------------------

const ATTACKERS = 10;

/** A frame as peers send it: masked, here with zeros. */
function masked(firstByte: number, content: string | Buffer): Buffer {
  const body = Buffer.from(content);
  const length = body.length < 126 ? [0x80 | body.length] : [0xfe, body.length >> 8, body.length & 0xff];
  return Buffer.concat([Buffer.from([firstByte, ...length, 0, 0, 0, 0]), body]);
}

const PING = masked(0x89, 'x'.repeat(125));
const HEARTBEAT = masked(0x81, JSON.stringify({ topic: 'phoenix', event: 'heartbeat', ref: 'x'.repeat(5000) }));
const repeated = (frame: Buffer, times: number) => Buffer.concat(Array.from({ length: times }, () => frame));
const unfinished = (pieces: number, size: number) =>
  Buffer.concat([masked(0x01, 'x'.repeat(size)), repeated(masked(0x00, 'x'.repeat(size)), pieces - 1)]);
const announced = (length: number[]) => Buffer.from([0x81, ...length, 0, 0, 0, 0]);

async function attackers(count = ATTACKERS): Promise<Duplex[]> {
  const asks = Array.from({ length: count }, (_, i) =>
    upgradedConnection(probed.server.api, '/client/websocket', deviceQuery(tokens.client, `attacker-${i}`)),
  );
  return Promise.all(asks);
}

/** Resolves when the server has read it, or has stopped reading for good. */
async function written(connection: Duplex, bytes: Buffer): Promise<void> {
  if (connection.destroyed || connection.write(bytes)) return;
  await new Promise<void>((resolve) => {
    const done = (): void => {
      clearTimeout(timer);
      connection.off('drain', done).off('close', done);
      resolve();
    };
    const timer = setTimeout(done, 500);
    connection.once('drain', done);
    connection.once('close', done);
  });
}

/** The code of the close frame that comes next. */
async function closeCodeOn(connection: Duplex): Promise<number> {
  let said = Buffer.alloc(0);
  while (said.length < 4) said = Buffer.concat([said, (await once(connection, 'data'))[0] as Buffer]);
  return said[0] === 0x88 ? said.readUInt16BE(2) : 0;
}
