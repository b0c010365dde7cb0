/**
 * Secrets in what is said about them: everything that uses one, and everything that goes wrong with one, at debug level, and
 * then no trace of any (reliability.md 4, B26; D8b, D37). Adds relays, the old dialect and faults of the database to ops.e2e.
 */
import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it, jest } from '@jest/globals';
import { readConfig } from '../../src/config/read-config.js';
import { aTestAccount, aToken, type TestAccount } from '../support/demo-account.js';
import { eventually } from '../support/eventually.js';
import { launchOn, LaunchedServer, type ServerOnDatabase } from '../support/launched-server.js';
import { exchange } from '../support/raw-http.js';
import { type Json, keyOf, RawPeer } from '../support/raw-peer.js';
import { joinRelay } from '../support/relays.js';
import { Scene } from '../support/scene.js';
import { createMigratedDatabase, type TestDatabase } from '../support/test-database.js';
import { settingsFor } from '../support/test-server.js';
import { askUpgrade, deviceQuery } from '../support/upgrade.js';

jest.setTimeout(60_000);

const PASSWORD = 'canary-of-the-database';
const OLD_CLIENT = 'Windows/10.0 connlib/1.3.7';
const OLD_GATEWAY = 'Linux/6.8.0 connlib/1.3.2 (x86_64)';

/** By what it is: everything that would give it away. */
class Secrets {
  readonly #forms = new Map<string, Set<string>>();

  get kinds(): readonly string[] {
    return [...this.#forms.keys()].sort();
  }

  /** Texts are looked for as they are and as a URL or JSON would hold them. */
  add(kind: string, ...texts: readonly string[]): void {
    const forms = this.#forms.get(kind) ?? new Set<string>();
    for (const text of texts) {
      if (text.length < 12) throw new Error(`a ${kind} of ${text.length} characters could be anywhere`);
      for (const form of [text, encodeURIComponent(text), JSON.stringify(text).slice(1, -1)]) forms.add(form);
    }
    this.#forms.set(kind, forms);
  }

  addBytes(kind: string, bytes: Buffer): void {
    const base64 = bytes.toString('base64').replace(/=+$/, '');
    this.add(
      kind,
      bytes.toString('hex'),
      base64,
      bytes.toString('base64url'),
      [...bytes].join(),
      [...bytes].join(', '),
    );
  }

  /** With its secret part alone: a log could cut it anywhere. */
  addToken(kind: string, token: string): void {
    const secret = token.slice('pcc_'.length + 22, -6);
    this.add(kind, token, secret, secret.slice(0, 22), secret.slice(-22));
  }

  /** Whatever stands, at any depth, under the name of a secret. */
  addFrom(value: unknown): void {
    if (typeof value !== 'object' || value === null) return;
    for (const [name, inner] of Object.entries(value)) {
      if (typeof inner === 'string' && NAMES.has(name) && inner.length >= 12) this.add(name, inner);
      else this.addFrom(inner);
    }
  }

  foundIn(places: Readonly<Record<string, string>>): readonly string[] {
    return Object.entries(places).flatMap(([place, text]) =>
      [...this.#forms]
        .filter(([, forms]) => [...forms].some((form) => text.includes(form)))
        .map(([kind]) => `${kind} in ${place}`),
    );
  }
}

const NAMES = new Set(['preshared_key', 'client_preshared_key', 'password', 'ref', 'stamp_secret']);

let db: TestDatabase;
let server: ServerOnDatabase;
let ids: TestAccount;
const secrets = new Secrets();
const answers: string[] = [];
/** Whoever spoke to the server. */
const peers: RawPeer[] = [];

beforeAll(async () => {
  db = await createMigratedDatabase();
  server = await launchOn(db, { LOG_LEVEL: 'debug', DATABASE_URL: withPassword(db.url) });
  ids = await aTestAccount(db);
  secrets.add('password of the database', PASSWORD);
  secrets.addToken('client token', ids.clientToken);
  secrets.addToken('gateway token', ids.gatewayToken);
});

afterAll(async () => {
  await server.process.kill();
  await db.drop();
});

/** The servers of these tests trust everybody: any password will do, and is one. */
function withPassword(url: string): string {
  const given = new URL(url);
  given.password = PASSWORD;
  return given.href;
}

async function told(url: string): Promise<void> {
  const response = await fetch(url);
  answers.push([...response.headers].join('\n'), await response.text());
}

async function joined(scene: Scene, ...of: Parameters<Scene['join']>): Promise<RawPeer> {
  const { peer } = await scene.join(...of);
  peers.push(peer);
  return peer;
}

async function aRelay(token: string): Promise<RawPeer> {
  const stampSecret = randomBytes(32).toString('hex');
  secrets.add('stamp_secret', stampSecret);
  const { peer } = await joinRelay(server.wsUrl, { token, stampSecret });
  peers.push(peer);
  return peer;
}

/** Everything as it should be. */
async function aLife(relayToken: string): Promise<void> {
  const relay = await aRelay(relayToken);
  const scene = new Scene(server, ids);
  await joined(scene, 'gateway', 'gateway');
  await joined(scene, 'client', 'client', { headers: { 'x-authorization': `Bearer ${ids.clientToken}` } });
  await scene.openFlow();
  const credentials = { username: 'user', password: 'canary-of-an-ice-password' };
  const candidates = ['candidate:1 canary-of-a-candidate'];
  secrets.add('ICE candidate', 'canary-of-a-candidate');
  scene.client.send('broadcast_ice_candidates', { candidates, gateway_ids: [scene.device('gateway').id] });
  await scene.gateway.until('ice_candidates');

  // The dialect before 1.4 brings a key and credentials of the client's own making.
  await joined(scene, 'gateway', 'old-gateway', { userAgent: OLD_GATEWAY });
  const oldClient = await joined(scene, 'client', 'old-client', { userAgent: OLD_CLIENT });
  const psk = randomBytes(32).toString('base64');
  secrets.add('client_preshared_key', psk);
  secrets.add('ICE password of the old dialect', credentials.password);
  const gatewayId = scene.device('old-gateway').id;
  oldClient.send('request_connection', {
    ...{ resource_id: ids.resourceId, gateway_id: gatewayId, client_preshared_key: psk },
    client_payload: { ice_parameters: credentials, domain: null },
  });
  const asked = await scene.device('old-gateway').peer.next('request_connection');
  scene.device('old-gateway').peer.send('connection_ready', {
    ref: asked['ref'],
    gateway_payload: { ConnectionAccepted: { ice_parameters: credentials } },
  });
  await oldClient.next('phx_reply');
  oldClient.send('reuse_connection', { resource_id: ids.resourceId, gateway_id: gatewayId, payload: credentials });
  await scene.device('old-gateway').peer.until('allow_access');

  // A relay that goes and another that comes: credentials are told anew.
  await relay.close();
  await aRelay(relayToken);
  await scene.client.awaits('relays_presence').catch(() => undefined); // only when it was given the first one
  await db.sql(`UPDATE policies SET disabled_at = now() WHERE id = '${ids.policyId}'`);
  await scene.gateway.until('reject_access');
  await db.sql(`UPDATE policies SET disabled_at = NULL WHERE id = '${ids.policyId}'`);
  await scene.applied();
  await scene.leaveAll();
}

/** Secrets where they do not belong: as every parameter, header, topic, event and member there is. */
async function aWrongLife(relayToken: string): Promise<void> {
  const all = [ids.clientToken, ids.gatewayToken, relayToken];
  for (const token of all) {
    for (const role of ['client', 'gateway', 'relay'] as const) {
      const good = deviceQuery(token, 'device', { ipv4: '192.0.2.3' });
      for (const query of [
        good,
        { ...good, public_key: token },
        { ...good, external_id: `${token}\0`, name: `${token}\0`, ipv4: token, port: token },
        { ...good, vsn: token },
        { ...good, token: `${token}x` },
        { ...good, token: `${token}.${token}` },
        { ...good, [token]: token, token: 'rubbish' },
      ]) {
        for (const headers of [{}, { origin: `http://${token}` }, { 'user-agent': token, 'x-forwarded-for': token }]) {
          answers.push((await askUpgrade(server.api, `/${role}/websocket`, query, headers)).body);
        }
      }
      answers.push((await askUpgrade(server.api, `/${role}/websocket/${token}`, good)).body);
    }
    const lines = ['GET', 'POST', token].map((method) => `${method} /${token}?token=${token} HTTP/1.1`);
    for (const line of [...lines, `GET /${token} HTTP/7`, `${token}\r\n${token}: ${token}`]) {
      answers.push(
        (await exchange(server.api, `${line}\r\nHost: ${token}\r\nX-Authorization: Bearer ${token}\r\n\r\n`)).body,
      );
    }
    await told(`${server.ops}/readyz?applied=${token}`);
    await told(`${server.ops}/metrics?token=${token}`);
    await told(`${server.api}/healthz?token=${token}`);
  }
  for (const role of ['client', 'gateway'] as const) {
    const token = role === 'client' ? ids.clientToken : ids.gatewayToken;
    const peer = await RawPeer.joined(role, server.wsUrl, { token, externalId: `wrong-${role}` });
    peer.send(token, { token, [token]: token });
    peer.send('x', { token }, token);
    peer.send('flow_authorized', { ref: token });
    peer.send('create_flow', { resource_id: token, connected_gateway_ids: [token] });
    await peer.settled();
    answers.push(
      JSON.stringify(peer.drain().filter(([, payload]) => (payload['response'] as Json)['reason'] === token)),
    );
    peer.ws.send(`{"token":"${token}"`);
    await peer.closed();
  }
}

/** The database fails in the middle of what uses secrets, and says why with the row it met. */
async function aBrokenLife(relayToken: string): Promise<void> {
  const scene = new Scene(server, ids);
  await joined(scene, 'gateway', 'gateway');
  await joined(scene, 'client', 'client');
  const connects = async (): Promise<void> => {
    const query = deviceQuery(ids.clientToken, 'client');
    answers.push((await askUpgrade(server.api, '/client/websocket', query)).body);
    answers.push((await askUpgrade(server.api, '/gateway/websocket', deviceQuery(ids.gatewayToken, 'gateway'))).body);
    answers.push((await askUpgrade(server.api, '/relay/websocket', { token: relayToken, ipv4: '192.0.2.4' })).body);
  };
  const whileBroken = async (breaks: string, mends: string): Promise<void> => {
    await db.sql(breaks);
    await connects();
    await db.sql(mends);
  };
  await whileBroken('ALTER TABLE token_secrets RENAME TO away', 'ALTER TABLE away RENAME TO token_secrets');
  await whileBroken('ALTER TABLE client_sessions RENAME TO away', 'ALTER TABLE away RENAME TO client_sessions');
  await whileBroken(
    'ALTER TABLE client_sessions ADD CONSTRAINT refuses CHECK (public_key IS NULL) NOT VALID',
    'ALTER TABLE client_sessions DROP CONSTRAINT refuses',
  );
  await whileBroken(
    `ALTER TABLE device_secrets RENAME COLUMN psk_base TO away; ALTER TABLE gateway_sessions RENAME TO away_too`,
    `ALTER TABLE device_secrets RENAME COLUMN away TO psk_base; ALTER TABLE away_too RENAME TO gateway_sessions`,
  );

  // A flow whose row is refused, with all its values.
  await db.sql('ALTER TABLE flows ADD CONSTRAINT refuses CHECK (client_id IS NULL) NOT VALID');
  await scene.heard(); // what the join itself rejects
  scene.client.send('create_flow', { resource_id: ids.resourceId, connected_gateway_ids: [] });
  await scene.gateway.until('authorize_flow');
  await scene.gateway.until('reject_access');
  await db.sql('ALTER TABLE flows DROP CONSTRAINT refuses');

  // Sessions that end under the server, the stream's among them.
  await db.query(
    'SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = $1 AND pid <> pg_backend_pid()',
    [db.name],
  );
  await connects();
  await eventually('the stream', async () => (await fetch(`${server.ops}/readyz`)).ok);
  await db.query('DELETE FROM tokens WHERE id = $1', [ids.clientTokenId]);
  await scene.client.until('disconnect');
  await scene.applied();
  await connects();
  await scene.leaveAll();
}

async function secretsOfTheDatabase(): Promise<void> {
  const { rows } = await db.query<{ psk: Buffer }>('SELECT psk_base AS psk FROM device_secrets');
  for (const { psk } of rows) secrets.addBytes('psk_base', psk);
  const kept = await db.query<{ digest: Buffer; salt: Buffer }>('SELECT digest, salt FROM token_secrets');
  for (const { digest, salt } of kept.rows) {
    secrets.addBytes('digest', digest);
    secrets.addBytes('salt', salt);
  }
}

describe('B26: a secret', () => {
  it('B26: is nowhere in logs, ready line, change_log, metrics, health, readiness and answers', async () => {
    const { id, text: relayToken } = await aToken(db, 'relay', { accountId: ids.accountId });
    secrets.addToken('relay token', relayToken);
    await aLife(relayToken);
    await aWrongLife(relayToken);
    await aBrokenLife(relayToken);
    await secretsOfTheDatabase();
    for (const { received } of peers) for (const { payload } of received) secrets.addFrom(payload);
    for (const path of ['/healthz', '/readyz', '/metrics']) await told(server.ops + path);
    await told(`${server.api}/healthz`);
    const log = await db.query<{ row: string }>('SELECT change_log::text AS row FROM change_log');
    const history = await db.query<{ row: string }>('SELECT flows::text AS row FROM flows');
    server.process.signal('SIGTERM');
    expect((await server.process.end()).code).toBe(0);

    const { stderr, stdout } = server.process;
    const rowsOf = (rows: readonly { row: string }[]) => rows.map(({ row }) => row).join('\n');
    const places = {
      ...{ stderr, stdout, change_log: rowsOf(log.rows), flows: rowsOf(history.rows), answers: answers.join('\n') },
    };
    // Each place holds what it should, and each kind of secret was met: an empty one would prove nothing.
    expect(secrets.kinds).toEqual([
      ...['ICE candidate', 'ICE password of the old dialect', 'client token', 'client_preshared_key', 'digest'],
      ...['gateway token', 'password', 'password of the database', 'preshared_key', 'psk_base', 'ref', 'relay token'],
      ...['salt', 'stamp_secret'],
    ]);
    expect(stderr.match(/"level":"debug"/g)?.length).toBeGreaterThan(100);
    for (const event of ['upgrade.failed', 'flow.unwritable', 'relay.joined', 'socket.closed', 'upgrade.refused']) {
      expect([event, stderr.includes(event)]).toEqual([event, true]);
    }
    expect(places.change_log).toContain(id);
    expect(places.flows).toContain(ids.resourceId);
    for (const code of [
      'invalid_token',
      'invalid_connect_params',
      'unsupported_vsn',
      'forbidden_origin',
      'unavailable',
    ]) {
      expect(places.answers).toContain(code);
    }
    expect(stdout).toContain('"event":"ready"');
    expect(secrets.foundIn(places)).toEqual([]);
  });

  it('B26: is found by this test wherever it stands, whole or in part', () => {
    const token = ids.clientToken;
    const key = keyOf('x').replace('C', '+');
    const found = new Secrets();
    found.addToken('token', token);
    found.add('key', key);
    found.addBytes('bytes', Buffer.alloc(32, 7));
    const inText = (text: string) => found.foundIn({ log: `before ${text} after` });
    expect(inText(token)).toEqual(['token in log']);
    expect(inText(token.slice(26, 50))).toEqual(['token in log']);
    expect(inText(encodeURIComponent(key))).toEqual(['key in log']);
    expect(inText(Buffer.alloc(32, 7).toString('hex'))).toEqual(['bytes in log']);
    expect(inText(JSON.stringify([...Buffer.alloc(32, 7)]))).toEqual(['bytes in log']);
    expect(inText('nothing')).toEqual([]);
  });
});

describe('B26: the operators’ listener', () => {
  it('B26: does not repeat what it was asked for', async () => {
    const own = await launchOn(db, { LOG_LEVEL: 'debug' });
    const token = ids.gatewayToken;
    const found = new Secrets();
    found.addToken('token', token);
    try {
      const lines = ['GET', 'POST', token].map((method) => `${method} /${token}?token=${token} HTTP/1.1`);
      const asked = [...lines, `GET /readyz?applied=${token} HTTP/1.1`, `GET /metrics?x=${token} HTTP/1.1`, token];
      for (const line of asked) {
        const { body } = await exchange(own.ops, `${line}\r\nHost: ${token}\r\nConnection: close\r\n\r\n`);
        expect([line.slice(0, 12), found.foundIn({ body })]).toEqual([line.slice(0, 12), []]);
      }
      expect(found.foundIn({ log: own.process.stderr })).toEqual([]);
    } finally {
      await own.process.kill();
    }
  });
});

describe('B26: the password of the database', () => {
  /** Ways to write it into DATABASE_URL, each with what then happens. */
  const WAYS: readonly (readonly [string, (url: URL) => void])[] = [
    ['with characters that are encoded', (url) => (url.password = `${PASSWORD}@/:%`)],
    ['as a parameter', (url) => url.searchParams.set('password', PASSWORD)],
  ];

  it.each(WAYS)('B26: written %s is not in the ready line, and not in the log', async (_how, write) => {
    const url = new URL(db.url);
    write(url);
    const process = LaunchedServer.start({ ...settingsFor(db), DATABASE_URL: url.href, LOG_LEVEL: 'debug' });
    try {
      await process.ready().catch(() => undefined); // refused is as good
      process.signal('SIGTERM');
      await process.end();
      expect(process.stdout + process.stderr).toMatch(/"event":"ready"|DATABASE_URL/);
      expect(process.stdout + process.stderr).not.toContain(PASSWORD);
    } finally {
      await process.kill();
    }
  });

  it('B26: is not in the refusal of a setting', () => {
    for (const url of [
      `postgres://me:${PASSWORD}@[::1/x`,
      `mysql://me:${PASSWORD}@127.0.0.1/x`,
      `${PASSWORD}`,
      `postgres://me:${PASSWORD}@a`,
    ]) {
      expect(() => readConfig({ DATABASE_URL: url })).toThrow('DATABASE_URL');
      expect(() => readConfig({ DATABASE_URL: url })).not.toThrow(PASSWORD);
    }
  });

  it('B26: is not in the refusal to start, whatever is wrong with the rest of its URL', async () => {
    const nowhere = new URL(db.url);
    nowhere.pathname = '/nowhere';
    nowhere.password = PASSWORD;
    const urls = [
      nowhere.href,
      `postgres://me:${PASSWORD}@127.0.0.1:1/x`,
      `postgres://me:${PASSWORD}%zz@127.0.0.1/x`,
      `postgres://me:${PASSWORD}@127.0.0.1:1/x?sslmode=verify-full&sslrootcert=/nowhere`,
    ];
    const refused = urls.map(async (url) => {
      const process = LaunchedServer.start({ ...settingsFor(db), DATABASE_URL: url, LOG_LEVEL: 'debug' });
      expect((await process.end()).code).toBe(1);
      expect(process.stderr).not.toBe('');
      expect(process.stdout + process.stderr).not.toContain(PASSWORD);
    });
    await Promise.all(refused);
  });
});
