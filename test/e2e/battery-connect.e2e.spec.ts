/** Bad connects: keys, addresses, tokens, a database that is away, and two at once (reliability.md 4, B7 to B11, B24). */
import { randomBytes, randomUUID } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, describe, expect, it, jest } from '@jest/globals';
import { Client } from 'pg';
import type { TokenId } from '../../src/core/model/ids.js';
import type { TokenKind } from '../../src/core/model/rows.js';
import { digestToken, mintToken } from '../../src/core/tokens/token.js';
import { aTestAccount, aToken, type TestAccount } from '../support/demo-account.js';
import { eventually } from '../support/eventually.js';
import { exchange } from '../support/raw-http.js';
import { type Json, keyOf, RawPeer } from '../support/raw-peer.js';
import { Scene } from '../support/scene.js';
import type { PeerRole } from '../support/strict-peer.js';
import { startTestServer, type TestServer } from '../support/test-server.js';
import { askUpgrade, deviceQuery, type Headers, type Query, type UpgradeAnswer } from '../support/upgrade.js';

jest.setTimeout(60_000);

let server: TestServer;
let account: TestAccount;

beforeAll(async () => {
  server = await startTestServer({ TRUSTED_PROXIES: '127.0.0.1, 10.0.0.0/8, 2001:db8:aaaa::/48' });
});

beforeEach(async () => {
  account = await aTestAccount(server.db);
});

afterAll(() => server.close());

const ROLES = ['client', 'gateway', 'relay'] as const;

function ask(role: PeerRole, query: Query | string, headers: Headers = {}): Promise<UpgradeAnswer> {
  return askUpgrade(server.api, `/${role}/websocket`, query, headers);
}

function tokenOf(role: 'client' | 'gateway'): string {
  return role === 'client' ? account.clientToken : account.gatewayToken;
}

// ---- B7 ------------------------------------------------------------------------------------------------------------

describe('B7: a public key', () => {
  const bytes = (hex: string, highBit = 0): string => {
    const key = Buffer.from(hex, 'hex');
    key[31] = (key[31] ?? 0) | highBit;
    return key.toString('base64');
  };
  const LOW_ORDER = [
    ...['00'.repeat(32), `01${'00'.repeat(31)}`, `ec${'ff'.repeat(30)}7f`, `ed${'ff'.repeat(30)}7f`],
    `ee${'ff'.repeat(30)}7f`,
    'e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800',
    '5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157',
  ];
  const GOOD = Buffer.alloc(32, 9).toString('base64');

  it.each([
    ...LOW_ORDER.flatMap((hex) => [
      [`of low order ${hex.slice(0, 8)}…`, bytes(hex)] as const,
      [`of low order ${hex.slice(0, 8)}… with bit 255`, bytes(hex, 0x80)] as const,
    ]),
    ['missing', ''],
    ['of 31 bytes', Buffer.alloc(31, 9).toString('base64')],
    ['of 33 bytes', Buffer.alloc(33, 9).toString('base64')],
    ['of 64 bytes', Buffer.alloc(64, 9).toString('base64')],
    ['in base64url', Buffer.alloc(32, 0xfb).toString('base64url').padEnd(44, '=')],
    ['without padding', GOOD.slice(0, 43)],
    ['with two paddings', `${GOOD.slice(0, 42)}==`],
    ['with a bit set that no byte uses', `${GOOD.slice(0, 42)}l=`],
    ['in hex', '09'.repeat(32)],
    ['in hex of the right length', '0'.repeat(44)],
    ['with a space where a plus was', Buffer.alloc(32, 0xfb).toString('base64').replaceAll('+', ' ')],
    ['with a space before', ` ${GOOD.slice(0, 43)}`],
    ['with a line end', `${GOOD.slice(0, 43)}\n`],
    ['with a NUL', `${GOOD.slice(0, 43)}\0`],
    ['of letters from elsewhere', '\u0430'.repeat(43) + '='],
    ['of PEM', `-----BEGIN PUBLIC KEY-----${GOOD.slice(0, 18)}`],
    ['of 10,000 characters', 'A'.repeat(10_000)],
    ['named like a member of every object', '__proto__'.padEnd(44, '_')],
  ])('B7: %s is refused with 422, and no device is made', async (_what, publicKey) => {
    for (const role of ['client', 'gateway'] as const) {
      const { status, problem } = await ask(role, deviceQuery(tokenOf(role), 'b7', { public_key: publicKey }));
      expect([role, status, problem['errors']]).toEqual([role, 422, { public_key: [expect.any(String)] }]);
      const { rows } = await server.db.query(`SELECT FROM ${role}s WHERE account_id = $1`, [account.accountId]);
      expect(rows).toEqual([]);
    }
  });

  it('B7: is one key with bit 255 and without: its own device may say either, another of the account neither', async () => {
    const plain = Buffer.from(keyOf('owner'), 'base64').toString('hex');
    const say = async (role: 'client' | 'gateway', device: string, key: string, token = tokenOf(role)) =>
      (await ask(role, deviceQuery(token, device, { public_key: key }))).status;
    for (const role of ['client', 'gateway'] as const) {
      expect(await say(role, 'owner', bytes(plain))).toBe(101);
      expect(await say(role, 'other', bytes(plain))).toBe(422);
      expect(await say(role, 'other', bytes(plain, 0x80))).toBe(422);
      expect(await say(role, 'owner', bytes(plain, 0x80))).toBe(101);
      expect(await say(role, 'other', bytes(plain))).toBe(422);
      expect(await say(role, 'other', keyOf('other'))).toBe(101);
    }
    const elsewhere = await aTestAccount(server.db);
    expect(await say('client', 'owner', bytes(plain), elsewhere.clientToken)).toBe(101);
    expect(await say('gateway', 'owner', bytes(plain), elsewhere.gatewayToken)).toBe(101);
  });
});

// ---- B8 ------------------------------------------------------------------------------------------------------------

describe('B8: what a request says of where its peer is', () => {
  const PEER = '198.51.100.4';
  const US = '127.0.0.1';
  const forwarded = (value: string) => ({ 'x-forwarded-for': value });
  const region = (value: string) => ({ 'x-geo-location-region': value });
  const at = (value: string) => ({ ...region('UA'), 'x-geo-location-coordinates': value });
  const CENTRE = [49, 32];

  /** Headers as a trusted proxy passes them on; the address, region and coordinates that then stand in the session. */
  const VECTORS: readonly (readonly [Headers, string, string | null, (number | null)[]])[] = [
    [forwarded(PEER), PEER, null, [null, null]],
    [forwarded(`${PEER}, 10.1.1.1`), PEER, null, [null, null]],
    [forwarded(`${PEER},10.1.1.1,10.2.2.2`), PEER, null, [null, null]],
    [forwarded(`203.0.113.7, ${PEER}`), PEER, null, [null, null]],
    [forwarded(`10.3.3.3, ${PEER}, 10.1.1.1`), PEER, null, [null, null]],
    [forwarded(`127.0.0.1, ${PEER}`), PEER, null, [null, null]],
    [forwarded('10.1.1.1'), US, null, [null, null]],
    [forwarded(''), US, null, [null, null]],
    [forwarded('unknown'), US, null, [null, null]],
    [forwarded(`${PEER}, unknown`), US, null, [null, null]],
    [forwarded(`unknown, ${PEER}`), PEER, null, [null, null]],
    [forwarded(`${PEER}, `), US, null, [null, null]],
    [forwarded('_hidden'), US, null, [null, null]],
    [forwarded(`for=${PEER}`), US, null, [null, null]],
    [forwarded(`"${PEER}"`), US, null, [null, null]],
    [forwarded(`${PEER}:4711`), PEER, null, [null, null]],
    [forwarded(`${PEER}:0`), US, null, [null, null]],
    [forwarded(`${PEER}:65536`), US, null, [null, null]],
    [forwarded('[2001:db8::7]:443'), '2001:db8::7', null, [null, null]],
    [forwarded('2001:DB8:0::7'), '2001:db8::7', null, [null, null]],
    [forwarded('2001:db8:aaaa::1'), US, null, [null, null]],
    [forwarded('fe80::1%eth0'), US, null, [null, null]],
    [forwarded(`::ffff:${PEER}`), PEER, null, [null, null]],
    [forwarded('::ffff:10.1.1.1'), US, null, [null, null]],
    [forwarded('0x7f000001'), US, null, [null, null]],
    [forwarded('2130706433'), US, null, [null, null]],
    [forwarded('127.1'), US, null, [null, null]],
    [forwarded('0127.0.0.1'), US, null, [null, null]],
    [forwarded(`${PEER}/32`), US, null, [null, null]],
    [forwarded(`${PEER} ${PEER}`), US, null, [null, null]],
    [forwarded(`${PEER}'; DROP TABLE clients; --`), US, null, [null, null]],
    [forwarded('x'.repeat(10_000)), US, null, [null, null]],
    [forwarded(`${PEER},`.repeat(700)), US, null, [null, null]],
    [forwarded('10.1.1.1,'.repeat(1000) + PEER), PEER, null, [null, null]],
    [{ ...forwarded(PEER), 'x-real-ip': '203.0.113.7', forwarded: 'for=203.0.113.7' }, PEER, null, [null, null]],
    [{ 'x-client-ip': '203.0.113.7', 'cf-connecting-ip': '203.0.113.7' }, US, null, [null, null]],
    [region('UA'), US, 'UA', CENTRE],
    [region('ua'), US, 'UA', CENTRE],
    [region('UA, US'), US, null, [null, null]],
    [region('UKR'), US, null, [null, null]],
    [region('U1'), US, null, [null, null]],
    [region('\u00fc\u00fc'), US, null, [null, null]],
    [region('__proto__'), US, null, [null, null]],
    [region(''), US, null, [null, null]],
    [region('x'.repeat(10_000)), US, null, [null, null]],
    [at('50.45,30.52'), US, 'UA', [50.45, 30.52]],
    [at('-90, +180'), US, 'UA', [-90, 180]],
    [at('abc,def'), US, 'UA', CENTRE],
    [at(','), US, 'UA', CENTRE],
    [at('91,0'), US, 'UA', CENTRE],
    [at('NaN,NaN'), US, 'UA', CENTRE],
    [at('1e1,1e1'), US, 'UA', CENTRE],
    [at('Infinity,0'), US, 'UA', CENTRE],
    [at('50.45;30.52'), US, 'UA', CENTRE],
    [at('50.45,30.52,100'), US, 'UA', CENTRE],
    [at(`0.${'1'.repeat(10_000)},0`), US, 'UA', CENTRE],
  ];

  async function sessionAfter(headers: Headers): Promise<unknown[]> {
    const externalId = randomUUID();
    const answer = await ask('client', deviceQuery(account.clientToken, externalId), headers);
    const text = `SELECT host(remote_ip) AS ip, region, latitude, longitude FROM client_sessions
      JOIN clients ON client_id = id WHERE external_id = $1`;
    const { rows } = await server.db.query(text, [externalId]);
    return [answer.status, rows[0]?.['ip'], rows[0]?.['region'], [rows[0]?.['latitude'], rows[0]?.['longitude']]];
  }

  it('B8: is taken from the right-most hop that is none of ours, and what cannot be read is unknown (56 vectors)', async () => {
    expect(VECTORS).toHaveLength(56);
    for (const [headers, ...expected] of VECTORS) {
      const what = JSON.stringify(headers).slice(0, 200);
      expect([what, ...(await sessionAfter(headers))]).toEqual([what, 101, ...expected]);
    }
  });

  it('B8: is what nobody but a proxy of ours may say', async () => {
    const alone = await startTestServer();
    try {
      const { clientToken } = await aTestAccount(alone.db);
      for (const [i, [headers]] of VECTORS.entries()) {
        const query = deviceQuery(clientToken, `${i} ${randomUUID()}`);
        expect((await askUpgrade(alone.api, '/client/websocket', query, headers)).status).toBe(101);
      }
      const text = 'SELECT DISTINCT host(remote_ip) AS ip, region, city, latitude FROM client_sessions';
      const { rows } = await alone.db.query(text);
      expect(rows).toEqual([{ ip: US, region: null, city: null, latitude: null }]);
    } finally {
      await alone.close();
    }
  });
});

// ---- B9, B10 -------------------------------------------------------------------------------------------------------

describe('B9: a token', () => {
  async function ofKind(kind: TokenKind): Promise<string> {
    const [id, secret, salt] = [randomUUID() as TokenId, randomBytes(32), randomBytes(16)];
    const { accountId, actorId, siteId } = account;
    const owner = { client: [actorId, null], gateway: [null, siteId], relay: [null, null], api: [actorId, null] }[kind];
    await server.db.query('INSERT INTO tokens (id, account_id, kind, actor_id, site_id) VALUES ($1, $2, $3, $4, $5)', [
      id,
      accountId,
      kind,
      ...owner,
    ]);
    await server.db.query('INSERT INTO token_secrets (token_id, salt, digest) VALUES ($1, $2, $3)', [
      ...[id, salt, Buffer.from(digestToken('', secret, salt))],
    ]);
    return mintToken(kind, id, secret);
  }

  const queryOf = (role: PeerRole, token: string): Query =>
    role === 'relay' ? { token, ipv4: '192.0.2.9' } : deviceQuery(token, 'b9');

  it('B9: of each kind opens the socket of its own kind and no other', async () => {
    for (const kind of ['client', 'gateway', 'relay', 'api'] as const) {
      const token = await ofKind(kind);
      for (const role of ROLES) {
        const { status } = await ask(role, queryOf(role, token));
        expect([kind, role, status]).toEqual([kind, role, kind === role ? 101 : 401]);
        // The kind written over does not make it another: its check is of the whole.
        const renamed = `pc${{ client: 'c', gateway: 'g', relay: 'r' }[role]}${token.slice(3)}`;
        expect((await ask(role, queryOf(role, renamed))).status).toBe(kind === role ? 101 : 401);
      }
    }
  });

  it.each([
    ['gateway', `actor_id = NULL, site_id = $2`],
    ['api', `site_id = NULLIF($2::uuid, $2::uuid)`],
  ])(
    'B9: that the database calls a %s token is none of a client any more, whatever its text says',
    async (kind, owner) => {
      const { siteId, clientTokenId, clientToken } = account;
      await server.db.query(`UPDATE tokens SET kind = '${kind}', ${owner} WHERE id = $1`, [clientTokenId, siteId]);
      for (const role of ROLES) expect((await ask(role, queryOf(role, clientToken))).status).toBe(401);
    },
  );

  it('B9: made of the parts of two valid ones is none, with a check that fits and without', async () => {
    const [one, two] = [await ofKind('client'), await ofKind('client')];
    const part = (text: string) => [text.slice(0, 4), text.slice(4, 26), text.slice(26, 69), text.slice(69)];
    const [a, b] = [part(one), part(two)];
    for (let mask = 1; mask < 15; mask += 1) {
      const mixed = a.map((piece, i) => (mask & (1 << i) ? b[i] : piece)).join('');
      const isWhole = mixed === one || mixed === two;
      expect([mask, (await ask('client', queryOf('client', mixed))).status]).toEqual([mask, isWhole ? 101 : 401]);
    }
    const { clientTokenId } = account;
    const other = await aTestAccount(server.db);
    for (const id of [clientTokenId, other.clientTokenId]) {
      expect((await ask('client', queryOf('client', mintToken('client', id, randomBytes(32))))).status).toBe(401);
    }
  });

  it('B9: with any one bit of any character flipped is refused, and tells nobody which', async () => {
    const { clientToken } = account;
    const bodies = new Set<string>();
    for (let at = 0; at < clientToken.length; at += 1) {
      const flipped = String.fromCharCode(clientToken.charCodeAt(at) ^ (1 << (at % 7)));
      const token = clientToken.slice(0, at) + flipped + clientToken.slice(at + 1);
      const answer = await ask('client', queryOf('client', token));
      expect([at, answer.status]).toEqual([at, 401]);
      const { date: _date, ...headers } = answer.headers;
      bodies.add(JSON.stringify([headers, answer.body]));
    }
    expect(bodies.size).toBe(1);
  });

  it.each([
    ['a moment ago', `now() - interval '1 ms'`, 401],
    ['now', 'now()', 401],
    ['before all time', `'-infinity'`, 401],
    ['4,000 years ago', `'2000-01-01 BC'`, 401],
    ['in 1969', `'1969-12-31 23:59:59.999Z'`, 401],
    ['in a minute', `now() + interval '1 minute'`, 101],
    ['in 200,000 years', `'200000-01-01'`, 101],
    ['never', `'infinity'`, 101],
    ['at no time', 'NULL', 101],
  ])('B9: that ends %s is judged by that', async (_when, end, status) => {
    await server.db.query(`UPDATE tokens SET expires_at = ${end} WHERE account_id = $1`, [account.accountId]);
    expect((await ask('client', queryOf('client', account.clientToken))).status).toBe(status);
    expect((await ask('gateway', queryOf('gateway', account.gatewayToken))).status).toBe(status);
  });

  it.each([
    ['twice, the bad one first', (good: string) => `token=rubbish&token=${good}`, 401],
    ['twice, the good one first', (good: string) => `token=${good}&token=rubbish`, 101],
    ['as a list', (good: string) => `token[]=${good}`, 401],
    ['as a member', (good: string) => `token[token]=${good}`, 401],
    ['in capitals', (good: string) => `TOKEN=${good}`, 401],
    ['after a semicolon', (good: string) => `x=1;token=${good}`, 401],
    ['with a line end', (good: string) => `token=${good}%0A`, 401],
    ['with a space', (good: string) => `token=%20${good}`, 401],
    [
      'encoded',
      (good: string) => `token=${[...Buffer.from(good)].map((byte) => `%${byte.toString(16)}`).join('')}`,
      101,
    ],
    ['encoded twice', (good: string) => `token=%25${good.charCodeAt(0).toString(16)}${good.slice(1)}`, 401],
    ['as JSON', (good: string) => `token=%7B%22token%22%3A%22${good}%22%7D`, 401],
    ['with a nonce of two dots', (good: string) => `token=a.b.${good}`, 401],
    ['with a nonce of 129 characters', (good: string) => `token=${'n'.repeat(129)}.${good}`, 401],
  ])('B9: said %s is read in one way', async (_how, query, status) => {
    const { token: _token, ...others } = deviceQuery('', 'b9');
    const answer = await ask('client', `${query(account.clientToken)}&${new URLSearchParams(others).toString()}`);
    expect(answer.status).toBe(status);
  });

  it.each([16_000, 100_000, 10_000_000])(
    'B9: of %i characters is refused before anybody looks at it',
    async (length) => {
      const huge = 'a'.repeat(length);
      const handshake = [
        ...['Host: x', 'Connection: Upgrade', 'Upgrade: websocket', 'Sec-WebSocket-Version: 13'],
        'Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==',
      ].join('\r\n');
      for (const bytes of [
        `GET /client/websocket?token=${huge} HTTP/1.1\r\n${handshake}\r\n\r\n`,
        `GET /client/websocket HTTP/1.1\r\n${handshake}\r\nX-Authorization: Bearer ${huge}\r\n\r\n`,
      ]) {
        expect([401, 431, undefined]).toContain((await exchange(server.api, bytes)).status);
      }
      expect((await ask('client', queryOf('client', account.clientToken))).status).toBe(101);
    },
  );

  it('B10: that is deleted while its sockets are open ends each of them, and those of no other', async () => {
    const scene = new Scene(server, account);
    const { accountId, actorId } = account;
    const { text: other } = await aToken(server.db, 'client', { accountId, actorId });
    for (let i = 0; i < 5; i += 1) await scene.join('client', `severed-${i}`);
    await scene.join('client', 'stays', { token: other });
    await scene.join('gateway', 'gateway');
    const heard = await scene.hears(`DELETE FROM tokens WHERE id = '${account.clientTokenId}'`);
    for (let i = 0; i < 5; i += 1) {
      expect(heard[`severed-${i}`]).toEqual([
        ['disconnect', { reason: 'token_expired' }],
        ['closed', 1000],
      ]);
    }
    expect([heard['stays'], heard['gateway']]).toEqual([[], []]);
    expect((await ask('client', deviceQuery(account.clientToken, 'severed-0'))).status).toBe(401);
    await scene.leaveAll();
  });
});

// ---- B11 -----------------------------------------------------------------------------------------------------------

describe('B11: while the database is away', () => {
  let fragile: TestServer;
  let ids: TestAccount;
  let admin: Client;

  beforeAll(async () => {
    fragile = await startTestServer({ STORE_IDLE_TTL_MS: '1' });
    ids = await aTestAccount(fragile.db);
    admin = new Client({ connectionString: process.env['PORTCULLIS_TEST_POSTGRES_URL'] });
    await admin.connect();
  });

  afterAll(async () => {
    await admin.end();
    await fragile.close();
  });

  /** What is wanted by the join and by nothing before it. */
  const NEEDED = { client: 'policies', gateway: 'flows', relay: 'token_secrets' } as const;

  it.each(ROLES)(
    'B11: a %s that joins is told ok, and later closed to come again: no error, no disconnect',
    async (role) => {
      const { text: relay } = await aToken(fragile.db, 'relay', { accountId: ids.accountId });
      const token = { client: ids.clientToken, gateway: ids.gatewayToken, relay }[role];
      const options = role === 'relay' ? { token, query: { ipv4: '192.0.2.5' } } : { token, externalId: 'b11' };
      const peer = await RawPeer.connect(role, fragile.wsUrl, options);
      const holder = new Client({ connectionString: fragile.db.url });
      holder.on('error', () => undefined);
      await holder.connect();
      await holder.query('BEGIN');
      await holder.query(`LOCK TABLE ${NEEDED[role]} IN ACCESS EXCLUSIVE MODE`);
      const ref = peer.send('phx_join', role === 'relay' ? { stamp_secret: 'd4'.repeat(32) } : null);
      expect(await peer.next('phx_reply')).toEqual({ status: 'ok', response: {} });
      expect(peer.received.at(-1)?.ref).toBe(ref);
      await peer.settled();
      expect(peer.drain()).toEqual([]); // it waits

      const { name } = fragile.db;
      await admin.query(`ALTER DATABASE ${name} ALLOW_CONNECTIONS false`);
      // The holder last: with its lock gone, what waits would be answered before its own turn comes.
      const holding = await holder.query<{ pid: number }>('SELECT pg_backend_pid() AS pid');
      const others = 'SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = $1 AND pid <> $2';
      await admin.query(others, [name, holding.rows[0]?.pid]);
      try {
        expect(await peer.closed()).toBe(1012);
        expect([peer.closeReason, peer.drain()]).toEqual(['', []]);
        const path = `/${role}/websocket`;
        const again = await askUpgrade(
          fragile.api,
          path,
          role === 'relay' ? { token, ipv4: '192.0.2.5' } : deviceQuery(token, 'b11'),
        );
        expect([again.status, again.problem['code']]).toEqual([503, 'unavailable']);
        expect(Number(again.headers['retry-after'])).toBeGreaterThanOrEqual(1);
      } finally {
        await holder.end().catch(() => undefined);
        await admin.query(`ALTER DATABASE ${name} ALLOW_CONNECTIONS true`);
      }
      await eventually('the stream', async () => (await fetch(`${fragile.ops}/readyz`)).ok);
      const join = role === 'relay' ? { join: { stamp_secret: 'd4'.repeat(32) } } : {};
      const back = await RawPeer.joined(role, fragile.wsUrl, { ...options, ...join });
      await back.close();
    },
  );
});

// ---- B24 -----------------------------------------------------------------------------------------------------------

describe('B24: two at once', () => {
  const PAIRS = 100;
  /** A quarter at a time: what is slow on a busy machine is not to be told to come back. */
  async function each<Result>(run: (i: number) => Promise<Result>): Promise<Result[]> {
    const results: Result[] = [];
    for (let from = 0; from < PAIRS; from += PAIRS / 4) {
      results.push(...(await Promise.all(Array.from({ length: PAIRS / 4 }, (_, i) => run(from + i)))));
    }
    return results;
  }

  it('B24: first connects of one device make one device with one pair of addresses (100 pairs)', async () => {
    for (const role of ['client', 'gateway'] as const) {
      const query = (i: number) => deviceQuery(tokenOf(role), `pair-${i}`);
      const answers = await each((i) => Promise.all([ask(role, query(i)), ask(role, query(i))]));
      expect(answers.flat().filter(({ status }) => status !== 101)).toEqual([]);
      const { rows } = await server.db.query(
        `SELECT count(*)::int AS devices, count(DISTINCT ipv4)::int AS v4, count(DISTINCT ipv6)::int AS v6 FROM ${role}s WHERE account_id = $1`,
        [account.accountId],
      );
      expect(rows).toEqual([{ devices: PAIRS, v4: PAIRS, v6: PAIRS }]);
    }
    const { rows } = await server.db.query('SELECT count(*)::int AS n FROM addresses WHERE account_id = $1', [
      account.accountId,
    ]);
    expect(rows).toEqual([{ n: 2 * 2 * PAIRS }]);
  });

  it('B24: two devices with one key: exactly one of them gets it (100 pairs)', async () => {
    const answers = await each((i) => {
      const as = (name: string) =>
        ask('client', deviceQuery(account.clientToken, `${name}-${i}`, { public_key: keyOf(`shared-${i}`) }));
      return Promise.all([as('left'), as('right')]);
    });
    const outcomes = answers.map((pair) =>
      pair
        .map(({ status }) => status)
        .sort()
        .join(),
    );
    expect([...new Set(outcomes)]).toEqual(['101,422']);
  });

  it('B24: sockets of one device that join at once: one lives, whichever it is (20 pairs)', async () => {
    for (let i = 0; i < 20; i += 1) {
      const options = { token: account.clientToken, externalId: `twin-${i}` };
      const twins = await Promise.all([
        RawPeer.connect('client', server.wsUrl, options),
        RawPeer.connect('client', server.wsUrl, options),
      ]);
      for (const twin of twins) twin.send('phx_join', null);
      await eventually('one to be closed', async () => {
        await Promise.all(
          twins.map((twin) => (twin.isClosed ? Promise.resolve() : twin.settled().catch(() => undefined))),
        );
        return twins.some((twin) => twin.isClosed);
      });
      const living = twins.filter((twin) => !twin.isClosed);
      expect(living).toHaveLength(1);
      await living[0]?.settled();
      expect(living[0]?.received.filter(({ event }) => event === 'init')).toHaveLength(1);
      await living[0]?.close();
    }
  });

  it('B24: answers with one ref: it opens the flow once (200 pairs)', async () => {
    const scene = new Scene(server, account);
    const { peer: gateway } = await scene.join('gateway', 'gateway');
    const { peer: client } = await scene.join('client', 'client');
    for (let pair = 0; pair < 2 * PAIRS; pair += 1) {
      client.send('create_flow', { resource_id: account.resourceId, connected_gateway_ids: [] });
      const { ref } = await gateway.next('authorize_flow');
      gateway.send('flow_authorized', { ref });
      gateway.send('flow_authorized', { ref });
      const replies = [await gateway.next('phx_reply'), await gateway.next('phx_reply')];
      expect(replies).toEqual([
        { status: 'ok', response: {} },
        { status: 'error', response: { reason: 'invalid_ref' } },
      ]);
      await client.next('flow_created');
    }
    await client.settled();
    expect(client.drain()).toEqual([]);
    await scene.leaveAll();
  });

  it('B24: a connect and the end of its token: no socket outlives it, however they meet (50 pairs)', async () => {
    const ends = await Promise.all(
      Array.from({ length: 50 }, async (_, i) => {
        const { accountId, actorId } = account;
        const { id, text } = await aToken(server.db, 'client', { accountId, actorId });
        const cut = () => server.db.query('DELETE FROM tokens WHERE id = $1', [id]);
        // Half of them end while the upgrade is on its way, the others while the join is.
        const early = i % 2 === 0 ? cut() : undefined;
        const options = { token: text, externalId: `doomed-${i}` };
        const outcome = await RawPeer.connect('client', server.wsUrl, options).catch((error: Error) => error.message);
        if (typeof outcome !== 'string') outcome.send('phx_join', null);
        await (early ?? cut());
        if (typeof outcome === 'string') return /refused with 401/.test(outcome) ? 'refused' : outcome;
        await outcome.closed();
        const said = outcome.drain().map(([event]) => event);
        return said.includes('disconnect') || said.length === 0 ? 'closed' : said.join();
      }),
    );
    expect([...new Set(ends)].sort()).toEqual(['closed', 'refused']);
  });

  it('B24: a request for a flow and the end of its policy: the gateway holds nothing at last (50 pairs)', async () => {
    const scene = new Scene(server, account);
    const { peer: gateway } = await scene.join('gateway', 'gateway');
    const { peer: client } = await scene.join('client', 'client');
    const { policyId, resourceId } = account;
    const set = (value: string) => `UPDATE policies SET disabled_at = ${value} WHERE id = '${policyId}'`;
    for (let pair = 0; pair < 50; pair += 1) {
      client.send('create_flow', { resource_id: resourceId, connected_gateway_ids: [] });
      await server.db.sql(set('now()'));
      await scene.applied();
      await Promise.all([client.settled(), gateway.settled()]);
      const held = new Set<string>();
      for (const [event, payload] of gateway.drain()) {
        if (event === 'authorize_flow') held.add((payload['resource'] as Json)['id'] as string);
        if (event === 'reject_access') held.delete(payload['resource_id'] as string);
      }
      expect([pair, [...held]]).toEqual([pair, []]);
      await server.db.sql(set('NULL'));
      await scene.applied();
      client.drain();
    }
    await scene.leaveAll();
  });
});
