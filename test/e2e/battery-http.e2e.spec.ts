/** Bad HTTP: foreign pages, requests that no library sends, curious readers, and what all of it leaves in the log (reliability.md 4, B18, B21, B22, B25). */
import { afterAll, beforeAll, describe, expect, it, jest } from '@jest/globals';
import { aTestAccount, aToken, type TestAccount } from '../support/demo-account.js';
import { launchOn, type ServerOnDatabase } from '../support/launched-server.js';
import { exchange, type RawAnswer } from '../support/raw-http.js';
import { keyOf, RawPeer } from '../support/raw-peer.js';
import { createMigratedDatabase, type TestDatabase } from '../support/test-database.js';
import { askUpgrade, deviceQuery } from '../support/upgrade.js';

jest.setTimeout(60_000);

const ROLES = ['client', 'gateway', 'relay'] as const;
const PROXY = '127.0.0.1';

let db: TestDatabase;
/** Says everything it ever says; no proxy is trusted. */
let server: ServerOnDatabase;
let proxied: ServerOnDatabase;
let account: TestAccount;
let tokens: Readonly<Record<(typeof ROLES)[number], string>>;

beforeAll(async () => {
  db = await createMigratedDatabase();
  server = await launchOn(db, { LOG_LEVEL: 'debug', PORTCULLIS_DATA_DIR: 'unused' });
  account = await aTestAccount(db);
  const { text: relay } = await aToken(db, 'relay', {});
  tokens = { client: account.clientToken, gateway: account.gatewayToken, relay };
});

afterAll(async () => {
  await server.process.kill();
  await db.drop();
});

function queryOf(role: (typeof ROLES)[number], name: string): Readonly<Record<string, string>> {
  const token = tokens[role];
  return role === 'relay' ? { token, ipv4: '192.0.2.8' } : deviceQuery(token, name);
}

/** One good client, as a proof that the process is well. */
async function mustServe(): Promise<void> {
  const peer = await RawPeer.joined('client', server.wsUrl, { token: tokens.client, externalId: 'good' });
  await peer.close();
  expect(server.process.hasEnded).toBe(false);
}

// ---- B18 -----------------------------------------------------------------------------------------------------------

describe('B18: a web page of somebody else', () => {
  /** Where the listener is, as the browser sees it. */
  const HOST = 'api.example:8081';

  const ORIGINS: readonly (readonly [string | undefined, 101 | 403])[] = [
    [undefined, 101],
    ['http://api.example:8081', 101],
    ['HTTP://API.EXAMPLE:8081', 101],
    ['null', 403],
    ['', 403],
    ['undefined', 403],
    ['*', 403],
    ['https://evil.example', 403],
    ['http://evil.example:8081', 403],
    ['https://api.example:8081', 403],
    ['http://api.example', 403],
    ['http://api.example:80', 403],
    ['http://api.example:8082', 403],
    ['http://evil-api.example:8081', 403],
    ['http://api.example.evil:8081', 403],
    ['http://api.example:8081.evil.example', 403],
    ['http://sub.api.example:8081', 403],
    ['http://example:8081', 403],
    ['http://api-example:8081', 403],
    ['http://apiXexample:8081', 403],
    ['http://api.example:8081@evil.example', 403],
    ['http://evil.example#api.example:8081', 403],
    ['http://evil.example/api.example:8081', 403],
    ['http://evil.example?api.example:8081', 403],
    ['http://evil.example\\@api.example:8081', 403],
    ['http://api.example:8081/', 403],
    ['http://api.example:8081, http://evil.example', 403],
    ['http://api.example:8081 http://evil.example', 403],
    ['http://api.example.:8081', 403],
    ['ws://api.example:8081', 403],
    ['file://', 403],
    ['chrome-extension://api.example:8081', 403],
    ['javascript:api.example:8081', 403],
    ['//api.example:8081', 403],
    ['api.example:8081', 403],
    ['http://\u0430pi.example:8081', 403], // a Cyrillic letter, in bytes that are no ASCII
    [`http://${'a'.repeat(5000)}`, 403],
  ];

  it('B18: opens no socket on any path; native peers, who name no origin, do (111 vectors)', async () => {
    expect(ORIGINS.length * ROLES.length).toBe(111);
    for (const role of ROLES) {
      for (const [origin, status] of ORIGINS) {
        // The header field is Latin-1 on the wire.
        const given = origin === undefined ? undefined : Buffer.from(origin).toString('latin1');
        const answer = await askUpgrade(server.api, `/${role}/websocket`, queryOf(role, 'b18'), {
          host: HOST,
          origin: given,
        });
        expect([role, origin, answer.status]).toEqual([role, origin, status]);
        if (status === 403) expect(answer.problem['code']).toBe('forbidden_origin');
      }
    }
  });

  it('B18: is not let in by the beginning of a host that has no port', async () => {
    for (const [origin, status] of [
      ['http://api.example', 101],
      ['http://api.example:80', 101], // the same
      ['http://api.example.evil', 403],
      ['http://api.example.evil:80', 403],
      ['http://api.example:8081', 403],
      ['http://api.exampleevil', 403],
      ['http://api.example:80@evil.example', 403],
      ['https://api.example', 403],
      ['https://api.example:80', 403],
    ] as const) {
      for (const role of ROLES) {
        const headers = { host: 'api.example', origin };
        const answer = await askUpgrade(server.api, `/${role}/websocket`, queryOf(role, 'b18'), headers);
        expect([role, origin, answer.status]).toEqual([role, origin, status]);
      }
    }
  });

  it('B18: says no scheme through a header that only a proxy of ours may write', async () => {
    const headers = { host: HOST, origin: 'https://api.example:8081', 'x-forwarded-proto': 'https' };
    expect((await askUpgrade(server.api, '/client/websocket', queryOf('client', 'b18'), headers)).status).toBe(403);
    proxied = await launchOn(db, { TRUSTED_PROXIES: PROXY, REPLICATION_SLOT: `${db.name}_2` });
    try {
      const ask = (more: Readonly<Record<string, string>>) =>
        askUpgrade(proxied.api, '/client/websocket', queryOf('client', 'b18'), { ...headers, ...more });
      expect((await ask({})).status).toBe(101);
      for (const more of [
        { 'x-forwarded-proto': 'http' },
        { 'x-forwarded-proto': 'https,http' },
        { 'x-forwarded-host': 'evil.example', origin: 'https://evil.example' },
        { forwarded: 'host=evil.example;proto=https', origin: 'https://evil.example' },
        { origin: 'http://api.example:8081' },
      ]) {
        expect([more, (await ask(more)).status]).toEqual([more, 403]);
      }
    } finally {
      await proxied.close();
      await db.query('SELECT pg_drop_replication_slot($1)', [`${db.name}_2`]);
    }
  });

  it('B18: refused, learns neither whether the token is good nor who else is there', async () => {
    const answers = new Set<string>();
    for (const token of [tokens.client, tokens.gateway, 'rubbish', '']) {
      const query = deviceQuery(token, 'b18');
      answers.add((await askUpgrade(server.api, '/client/websocket', query, { origin: 'https://evil.example' })).body);
    }
    expect(answers.size).toBe(1);
  });
});

// ---- B21 -----------------------------------------------------------------------------------------------------------

describe('B21: HTTP that no peer speaks', () => {
  const AGENT = 'User-Agent: Ubuntu/24.4.0 connlib/1.5.3 (x86_64)';
  const HANDSHAKE = [
    ...['Connection: Upgrade', 'Upgrade: websocket', 'Sec-WebSocket-Version: 13'],
    'Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==',
  ];

  interface Parts {
    readonly method?: string;
    readonly target?: string;
    readonly version?: string;
    readonly headers?: readonly string[];
    readonly without?: string;
    readonly host?: readonly string[];
    readonly body?: string;
  }

  const target = () => `/client/websocket?${new URLSearchParams(queryOf('client', 'b21')).toString()}`;

  /** An upgrade that would be accepted, but for what is changed. */
  function upgrade(parts: Parts = {}): string {
    const { method = 'GET', version = 'HTTP/1.1', headers = [], without = '', host = ['Host: x'], body = '' } = parts;
    const handshake = HANDSHAKE.filter((line) => without === '' || !line.startsWith(without));
    const lines = [`${method} ${parts.target ?? target()} ${version}`, ...host, AGENT, ...handshake, ...headers];
    return `${lines.join('\r\n')}\r\n\r\n${body}`;
  }

  function plain(line: string, headers: readonly string[] = [], body = ''): string {
    return `${[line, 'Host: x', ...headers].join('\r\n')}\r\n\r\n${body}`;
  }

  const post = (headers: readonly string[], body = '') => plain('POST /healthz HTTP/1.1', headers, body);
  const CHUNKED = 'Transfer-Encoding: chunked';

  const VECTORS: Readonly<Record<string, () => string>> = {
    ...Object.fromEntries(
      ['POST', 'PUT', 'PATCH', 'DELETE', 'HEAD', 'OPTIONS', 'TRACE', 'PROPFIND', 'get', 'BREW', 'G\u00cbT'].map(
        (method) => [`an upgrade by ${method}`, () => upgrade({ method })],
      ),
    ),
    'a proxy’s CONNECT': () => plain('CONNECT evil.example:443 HTTP/1.1'),
    'CONNECT with an upgrade': () => upgrade({ method: 'CONNECT' }),
    'an upgrade in HTTP/1.0': () => upgrade({ version: 'HTTP/1.0' }),
    'an upgrade in HTTP/0.9': () => upgrade({ version: 'HTTP/0.9' }),
    'a request of HTTP/0.9': () => 'GET /client/websocket\r\n\r\n',
    'an upgrade in HTTP/9.9': () => upgrade({ version: 'HTTP/9.9' }),
    'the preface of HTTP/2': () => 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
    'an upgrade to HTTP/2': () =>
      upgrade({ without: 'Upgrade', headers: ['Upgrade: h2c', 'HTTP2-Settings: AAMAAABk'] }),
    'an upgrade to one of two': () => upgrade({ without: 'Upgrade', headers: ['Upgrade: h2c, websocket'] }),
    'an upgrade to nothing': () => upgrade({ without: 'Upgrade', headers: ['Upgrade: '] }),
    'an upgrade of version 12': () => upgrade({ without: 'Sec-WebSocket-V', headers: ['Sec-WebSocket-Version: 12'] }),
    'an upgrade without version': () => upgrade({ without: 'Sec-WebSocket-V' }),
    'an upgrade without key': () => upgrade({ without: 'Sec-WebSocket-K' }),
    'an upgrade with a short key': () => upgrade({ without: 'Sec-WebSocket-K', headers: ['Sec-WebSocket-Key: AAAA'] }),
    'an upgrade with two keys': () => upgrade({ headers: ['Sec-WebSocket-Key: BBBBBBBBBBBBBBBBBBBBBB=='] }),
    'an upgrade without Connection': () => upgrade({ without: 'Connection' }),
    'an upgrade with a bad subprotocol': () => upgrade({ headers: ['Sec-WebSocket-Protocol: ,,'] }),
    'an upgrade with a body': () => upgrade({ headers: ['Content-Length: 5'], body: 'hello' }),
    'an upgrade with a chunked body': () => upgrade({ headers: [CHUNKED], body: '5\r\nhello\r\n0\r\n\r\n' }),
    'an upgrade with both lengths': () => upgrade({ headers: ['Content-Length: 5', CHUNKED], body: '0\r\n\r\nGET /' }),
    'both lengths': () => post(['Content-Length: 6', CHUNKED], '0\r\n\r\nG'),
    'both lengths, the other way': () => post([CHUNKED, 'Content-Length: 6'], '0\r\n\r\nG'),
    'two lengths': () => post(['Content-Length: 5', 'Content-Length: 6'], 'hello!'),
    'a list of lengths': () => post(['Content-Length: 5, 5'], 'hello'),
    'a negative length': () => post(['Content-Length: -1']),
    'a signed length': () => post(['Content-Length: +5'], 'hello'),
    'a length in hex': () => post(['Content-Length: 0x5'], 'hello'),
    'a length beyond all': () => post(['Content-Length: 99999999999999999999999']),
    'chunked and something after it': () => post(['Transfer-Encoding: chunked, gzip']),
    'something that is nearly chunked': () => post(['Transfer-Encoding: xchunked']),
    'chunked twice': () => post([CHUNKED, CHUNKED], '0\r\n\r\n'),
    'a chunk of no size': () => post([CHUNKED], 'ZZ\r\n'),
    'a chunk beyond all': () => post([CHUNKED], 'FFFFFFFFFFFFFFFFF\r\n'),
    'a chunk with a long name': () => post([CHUNKED], `1;${'a'.repeat(20_000)}\r\nx\r\n0\r\n\r\n`),
    'a gzip bomb': () =>
      post(['Content-Encoding: gzip', 'Content-Type: application/json', 'Content-Length: 4'], '\x1f\x8b\x08\x00'),
    'an unknown content type': () =>
      post(['Content-Type: application/json; charset=utf-99', 'Content-Length: 2'], '{}'),
    'a space before a colon': () => upgrade({ headers: ['X : a'] }),
    'a folded header': () => upgrade({ headers: ['X: a\r\n b'] }),
    'a lone line feed': () => upgrade({ headers: ['X: a\nY: b'] }),
    'a lone carriage return': () => upgrade({ headers: ['X: a\rb'] }),
    'line feeds only': () => upgrade().replaceAll('\r\n', '\n'),
    'a control character in a header': () => upgrade({ headers: ['X: a\x01b'] }),
    'a NUL in a header': () => upgrade({ headers: ['X: a\0b'] }),
    'a NUL in the name of a header': () => upgrade({ headers: ['X\0: a'] }),
    'a header without a name': () => upgrade({ headers: [': a'] }),
    'a header of 17 KB': () => upgrade({ headers: [`X: ${'x'.repeat(17_000)}`] }),
    '20,000 headers': () => upgrade({ headers: Array<string>(20_000).fill('A: b') }),
    'a target of 20 KB': () => upgrade({ target: `/client/websocket?token=${'a'.repeat(20_000)}` }),
    'a target with a NUL': () => upgrade({ target: '/client/websocket\0' }),
    'a target with a space': () => upgrade({ target: '/client/websocket x' }),
    'a target with an escape sequence': () => upgrade({ target: '/client/websocket?\x1b[31m' }),
    'a target with an encoded NUL': () => upgrade({ target: '/client/websocket%00' }),
    'a target with an encoded slash': () => upgrade({ target: '/client%2fwebsocket' }),
    'a target with backslashes': () => upgrade({ target: '\\client\\websocket' }),
    'a target that climbs': () => plain('GET /healthz/../../../etc/passwd HTTP/1.1'),
    'a target that climbs encoded': () => plain('GET /%2e%2e/%2e%2e/etc/passwd HTTP/1.1'),
    'a target that climbs in two encodings': () => plain('GET /%252e%252e/etc/passwd HTTP/1.1'),
    'a target that climbs on Windows': () => plain('GET /..\\..\\windows\\win.ini HTTP/1.1'),
    everything: () => upgrade({ method: 'OPTIONS', target: '*' }),
    'the metrics': () => plain('GET /metrics HTTP/1.1'),
    'the readiness': () => plain('GET /readyz HTTP/1.1'),
    'the source': () => plain('GET /package.json HTTP/1.1'),
    'a poll instead of a socket': () => plain('GET /client/longpoll?vsn=2.0.0 HTTP/1.1'),
    TLS: () => '\x16\x03\x01\x00\xc8\x01\x00\x00\xc4\x03\x03',
    SSH: () => 'SSH-2.0-OpenSSH_9.6\r\n',
    noise: () => '\x00\x01\x02\x03\r\n\r\n',
    'an expectation that nobody meets': () => post(['Expect: miracles', 'Content-Length: 3'], 'abc'),
  };

  it('B21: is 60 vectors and more', () => {
    expect(Object.keys(VECTORS).length).toBeGreaterThanOrEqual(60);
  });

  it.each(Object.keys(VECTORS))('B21: %s is answered with 4xx or cut off', async (what) => {
    const answer = await exchange(server.api, Buffer.from(VECTORS[what]?.() ?? '', 'latin1'));
    expect(answer.status === undefined || (answer.status >= 400 && answer.status < 500) ? 'refused' : answer.head).toBe(
      'refused',
    );
    expect(answer.body).not.toMatch(/node_modules|\.js:|Error:|127\.0\.0\.1|pcc_/);
  });

  it.each([
    ['without Host', () => upgrade({ host: [] })],
    ['with two hosts', () => upgrade({ host: ['Host: x', 'Host: y'] })],
    ['of an absolute target', () => upgrade({ target: `http://evil.example${target()}` })],
    [
      'with an extension that we do not speak',
      () => upgrade({ headers: ['Sec-WebSocket-Extensions: permessage-deflate'] }),
    ],
    [
      'with a token as its subprotocol',
      () => upgrade({ headers: ['Sec-WebSocket-Protocol: phoenix, base64url.bearer.phx.c2VjcmV0'] }),
    ],
  ])('B21: an upgrade %s is accepted as if that was not there, or refused with 4xx', async (_what, bytes) => {
    const { status, head } = await exchange(server.api, bytes());
    expect([101, 400, 403]).toContain(status);
    expect(head).not.toMatch(/permessage-deflate|c2VjcmV0/);
  });

  it('B21: hides no second request: what follows a body that is not read is not answered as one', async () => {
    const hidden = 'GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n';
    const vectors = [
      plain('GET /healthz HTTP/1.1', [`Content-Length: ${hidden.length}`], hidden),
      post([`Content-Length: ${hidden.length}`], hidden),
      post([CHUNKED], `${hidden.length.toString(16)}\r\n${hidden}\r\n0\r\n\r\n`),
      post([CHUNKED, `Content-Length: 4`], `0\r\n\r\n${hidden}`),
      upgrade({ headers: [CHUNKED, 'Content-Length: 4'], body: `0\r\n\r\n${hidden}` }),
    ];
    for (const bytes of vectors) {
      const closing = bytes.replace('Host: x', 'Host: x\r\nConnection: close');
      const all = [await exchange(server.api, bytes), await exchange(server.api, closing)];
      expect(all.map(({ responses }: RawAnswer) => responses)).toEqual([1, 1]);
    }
  });

  it.each([
    ['by POST', () => upgrade({ method: 'POST' })],
    ['without key', () => upgrade({ without: 'Sec-WebSocket-K' })],
    ['of version 12', () => upgrade({ without: 'Sec-WebSocket-V', headers: ['Sec-WebSocket-Version: 12'] })],
    ['to something else', () => upgrade({ without: 'Upgrade', headers: ['Upgrade: h2c'] })],
  ])(
    'B21: an upgrade %s is refused as every other is, with a code, before the device is let in (D26)',
    async (_what, bytes) => {
      await db.query('DELETE FROM clients WHERE account_id = $1', [account.accountId]);
      const { head, body } = await exchange(server.api, bytes());
      const { rowCount } = await db.query('SELECT FROM clients WHERE account_id = $1', [account.accountId]);
      const type = /^content-type: (.*)$/im.exec(head)?.[1];
      expect({ devices: rowCount, type, isCoded: body.includes('"code"') }).toEqual({
        ...{ devices: 0, type: 'application/problem+json', isCoded: true },
      });
    },
  );

  it('B21: leaves the process as well as it was', async () => {
    await mustServe();
    expect(server.process.stderr).not.toMatch(/"level":"error"/);
  });
});

// ---- B22 -----------------------------------------------------------------------------------------------------------

describe('B22: who only looks', () => {
  /** Everything that may be read without a token, reviewed: nothing of it names a person, a peer, a table's row or a machine. */
  const METRICS = [
    'portcullis_change_log_backlog',
    'portcullis_changes_total',
    'portcullis_commit_apply_ms{le}',
    'portcullis_commit_decode_ms{le}',
    'portcullis_commits_total',
    'portcullis_decisions_total{outcome}',
    'portcullis_frames_refused_total{role,why}',
    'portcullis_pushes_total{event,role}',
    'portcullis_query_ms{le,question}',
    'portcullis_receipt_ms{le}',
    'portcullis_replication_lag_bytes',
    'portcullis_replication_lag_ms',
    'portcullis_replication_state{state}',
    'portcullis_revocation_ms{le}',
    'portcullis_rows_unreadable_total{table}',
    'portcullis_slot_lag_bytes',
    'portcullis_slot_retained_bytes',
    'portcullis_slot_safe_bytes',
    'portcullis_slot_state{state}',
    'portcullis_sockets_closed_total{role,why}',
    'portcullis_sockets_throttled_total{role}',
    'portcullis_sockets{role}',
    'portcullis_store_audits_total{outcome}',
    'portcullis_store_drift_total{table}',
    'portcullis_upgrades_total{status}',
  ];
  /** What the metrics library says of the process by itself. */
  const OF_THE_PROCESS = /^(nodejs|process)_[a-z0-9_]+(\{(le|kind|space|type|version|major|minor|patch|,)+\})?$/;

  interface Page {
    readonly status: number;
    readonly headers: Record<string, string>;
    readonly body: string;
  }

  async function read(url: string): Promise<Page> {
    const response = await fetch(url);
    const { date: _date, etag: _etag, 'content-length': _length, ...headers } = Object.fromEntries(response.headers);
    return { status: response.status, headers, body: await response.text() };
  }

  const HEADERS = { connection: 'keep-alive', 'keep-alive': 'timeout=5' };

  it('B22: finds the health of the peers’ listener, and nothing else there', async () => {
    const page = await read(`${server.api}/healthz`);
    expect(page).toEqual({
      status: 200,
      headers: { ...HEADERS, 'content-type': 'application/json', 'transfer-encoding': 'chunked' },
      body: '{"status":"ok"}',
    });
  });

  it('B22: finds health and readiness of the operators’ listener in so many words', async () => {
    const type = 'application/json; charset=utf-8';
    expect(await read(`${server.ops}/healthz`)).toEqual({
      status: 200,
      headers: { ...HEADERS, 'content-type': type },
      body: '{"status":"ok"}',
    });
    const ready = await read(`${server.ops}/readyz`);
    expect([ready.status, ready.headers]).toMatchObject([200, { 'content-type': type }]);
    expect(Object.keys(ready.headers).sort()).toEqual(['cache-control', 'connection', 'content-type', 'keep-alive']);
    const stream = '"serving":{"status":"up"},"stream":{"applied":"X/Y","status":"up"}';
    const bytes = '"retained_bytes":N,"lag_bytes":N,"safe_wal_bytes":N';
    const all = `{${stream},"slot":{"state":"reserved",${bytes},"invalidation":null,"status":"up"}}`;
    expect(ready.body.replaceAll(/[0-9A-F]+\/[0-9A-F]+/g, 'X/Y').replaceAll(/\b\d+\b/g, 'N')).toBe(
      `{"status":"ok","info":${all},"error":{},"details":${all}}`,
    );
  });

  it('B22: finds these metrics with these labels, each of a closed set', async () => {
    await mustServe();
    const { status, headers, body } = await read(`${server.ops}/metrics`);
    expect([status, headers['content-type']]).toEqual([200, 'text/plain; version=0.0.4; charset=utf-8']);
    const kinds = new Map([...body.matchAll(/^# TYPE (\S+) (\S+)$/gm)].map(([, name = '', kind]) => [name, kind]));
    const labels = new Map<string, Set<string>>([...kinds.keys()].map((name) => [name, new Set<string>()]));
    for (const [, series = '', given = ''] of body.matchAll(/^([a-z0-9_]+)(?:\{([^}]*)\})? /gm)) {
      const name = kinds.has(series) ? series : series.replace(/_(bucket|sum|count)$/, '');
      for (const [, label = ''] of given.matchAll(/([a-z_]+)="/g)) labels.get(name)?.add(label);
    }
    const shown = [...labels]
      .map(([name, given]) => (given.size ? `${name}{${[...given].sort().join()}}` : name))
      .sort();
    const ours = shown.filter((name) => name.startsWith('portcullis_'));
    // Those without any series yet have no label to show.
    const unlabelled = (name: string) => name.replace(/\{.*/, '');
    expect(ours.map(unlabelled)).toEqual(METRICS.map(unlabelled));
    for (const name of ours.filter((name) => name.includes('{'))) expect(METRICS).toContain(name);
    expect(shown.filter((name) => !name.startsWith('portcullis_') && !OF_THE_PROCESS.test(name))).toEqual([]);

    const values = [...body.matchAll(/[a-z_]+="([^"]*)"/g)].map(([, value = '']) => value);
    expect(values.filter((value) => !/^[A-Za-z0-9_.+ -]{0,40}$/.test(value))).toEqual([]);
    expect(body).not.toMatch(/[0-9a-f]{8}-[0-9a-f]{4}|\d+\.\d+\.\d+\.\d+|postgres|portcullis_test/);
  });

  it('B22: is told by no header what serves it', async () => {
    for (const url of [`${server.api}/healthz`, `${server.api}/x`, `${server.ops}/healthz`, `${server.ops}/x`]) {
      const { headers } = await read(url);
      expect(Object.keys(headers).filter((name) => /server|powered|version|via/i.test(name))).toEqual([]);
    }
  });
});

// ---- B25 -----------------------------------------------------------------------------------------------------------

describe('B25: what a peer writes to forge a log', () => {
  const FORGED = '{"level":"error","event":"forged"}';
  const EVIL = [
    `a\r\n${FORGED}\r\n`,
    `a\n${FORGED}`,
    '\u001b[31mred\u001b[0m',
    '\u009b31m',
    '\b\b\b',
    `\u2028${FORGED}`,
    '\u202e',
  ];

  it('B25: is escaped and cut short: each line of the log is one event of ours', async () => {
    const role = 'client';
    for (const [i, evil] of EVIL.entries()) {
      const latin1 = Buffer.from(evil)
        .toString('latin1')
        .replaceAll(/[\0-\x1f\x7f]/g, '?');
      const query = deviceQuery(tokens.client, `b25-${i}`, { name: evil, device_serial: evil, vsn: evil });
      await askUpgrade(server.api, `/${role}/websocket`, query);
      const { vsn: _vsn, ...good } = query;
      await askUpgrade(server.api, `/${role}/websocket`, {
        ...good,
        external_id: `${evil} ${i}`,
        public_key: keyOf(`evil ${i}`),
      });
      await askUpgrade(server.api, `/${encodeURIComponent(evil)}`, good, { 'user-agent': latin1, origin: latin1 });
      await exchange(
        server.api,
        `GET /x?${latin1} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n`,
      );
      await exchange(
        server.api,
        `GET /${evil} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n`,
      );
      await exchange(server.ops, `GET /${latin1} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`);
      const options = {
        token: tokens.client,
        externalId: `b25-${i}`,
        name: evil,
        userAgent: `x connlib/1.5.0-${i} ${latin1}`,
      };
      const peer = await RawPeer.joined(role, server.wsUrl, options);
      peer.send(evil, { [evil]: evil }, evil);
      peer.send(evil, { [evil]: evil });
      peer.send('create_flow', { resource_id: evil, connected_gateway_ids: [evil] });
      await peer.settled();
      peer.ws.send(evil);
      await peer.closed();
    }
    const long = 'x'.repeat(15_000);
    await askUpgrade(server.api, `/${long}`, {}, { 'user-agent': 'x' });
    const peer = await RawPeer.joined(role, server.wsUrl, {
      token: tokens.client,
      externalId: 'b25',
      publicKey: keyOf('b25'),
    });
    peer.send('x'.repeat(60_000), {});
    await peer.settled();
    peer.ws.send('x'.repeat(60_000));
    await peer.closed();

    const { stderr } = server.process;
    const lines = stderr.split('\n').slice(0, -1);
    expect(lines.filter((line) => line.includes('upgrade.refused')).length).toBeGreaterThan(10);
    const events = new Set(lines.map((line) => (JSON.parse(line) as { event: string }).event));
    expect([...events].filter((event) => !/^[a-z-]+\.[a-z-]+$/.test(event))).toEqual([]);
    expect(stderr.replaceAll('\n', '')).not.toMatch(/[\0-\x1f\x7f-\x9f\u2028\u2029]/);
    expect(Math.max(...lines.map((line) => line.length))).toBeLessThan(10_000);
  });
});
