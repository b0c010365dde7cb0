/** What an operator is told, and that nobody is told a secret (D8b, D36 to D38, B22, B26). */
import { afterAll, beforeAll, describe, expect, it, jest } from '@jest/globals';
import { Client } from 'pg';
import { parsePosition } from '../../src/core/model/position.js';
import { aTestAccount, type TestAccount } from '../support/demo-account.js';
import { eventually } from '../support/eventually.js';
import { launchOn, type ServerOnDatabase } from '../support/launched-server.js';
import { type Json, RawPeer } from '../support/raw-peer.js';
import { Scene } from '../support/scene.js';
import { createMigratedDatabase, type TestDatabase } from '../support/test-database.js';
import { startTestServer, type TestServer } from '../support/test-server.js';
import { askUpgrade, deviceQuery } from '../support/upgrade.js';

jest.setTimeout(60_000);

async function get(url: string): Promise<{ readonly status: number; readonly body: string }> {
  const response = await fetch(url);
  return { status: response.status, body: await response.text() };
}

describe('the operators’ endpoints', () => {
  let server: TestServer;
  let scene: Scene;

  beforeAll(async () => {
    server = await startTestServer({ STALE_AFTER_MS: '2000' });
    scene = new Scene(server, await aTestAccount(server.db));
  });

  afterAll(() => server.close());

  it('/healthz says that the process is alive', async () => {
    expect(await get(`${server.ops}/healthz`)).toEqual({ status: 200, body: '{"status":"ok"}' });
  });

  it('/readyz says that peers are welcome and how far the stream is, and nothing else', async () => {
    const { status, body } = await get(`${server.ops}/readyz`);
    const said = JSON.parse(body) as { details: { stream: { applied: string } } };
    expect(status).toBe(200);
    expect(said).toMatchObject({ status: 'ok', details: { serving: { status: 'up' }, stream: { status: 'up' } } });
    expect(Object.keys(said.details).sort()).toEqual(['serving', 'slot', 'stream']);
    expect(parsePosition(said.details.stream.applied)).toBeGreaterThan(0n);
  });

  it('/readyz says how the slot is', async () => {
    await eventually('the slot to be seen', async () =>
      (await get(`${server.ops}/readyz`)).body.includes('"state":"reserved"'),
    );
    const { body } = await get(`${server.ops}/readyz`);
    const { slot } = (JSON.parse(body) as { details: { slot: Json } }).details;
    expect(slot).toEqual({
      ...{ status: 'up', state: 'reserved', invalidation: null },
      ...{ retained_bytes: expect.any(Number), lag_bytes: expect.any(Number), safe_wal_bytes: expect.any(Number) },
    });
    const metrics = (await get(`${server.ops}/metrics`)).body;
    const states = metrics.split('\n').filter((line) => line.startsWith('portcullis_slot_state{'));
    expect(states.filter((line) => line.endsWith(' 1'))).toEqual(['portcullis_slot_state{state="reserved"} 1']);
    expect(states).toHaveLength(6);
    expect(metrics).toMatch(/^portcullis_slot_retained_bytes \d+$/m);
    expect(metrics).toMatch(/^portcullis_slot_lag_bytes \d+$/m);
    expect(metrics).toMatch(/^portcullis_slot_safe_bytes \d+$/m);
  });

  it('/readyz?applied= is 200 for what is applied, 503 for what is not, 400 for what is no position', async () => {
    const at = (applied: string) => get(`${server.ops}/readyz?applied=${encodeURIComponent(applied)}`);
    const current = (await get(`${server.ops}/readyz`)).body;
    const { applied } = (JSON.parse(current) as { details: { stream: { applied: string } } }).details.stream;
    expect((await at(applied)).status).toBe(200);
    expect((await at('0/1')).status).toBe(200);
    const future = await at('FFFFFFFF/FFFFFFFF');
    expect([future.status, JSON.parse(future.body)]).toMatchObject([503, { status: 'error' }]);
    for (const bad of ['', 'x', '1', '/', '1/', '0/0/0', '-1/2', 'G/1', '123456789/0', '1/2 ', "1/2'"]) {
      expect([bad, (await at(bad)).status]).toEqual([bad, 400]);
    }
    expect((await get(`${server.ops}/readyz?applied=0/1&applied=0/2`)).status).toBe(400);
  });

  it('/readyz?applied= is 200 once a commit is applied by every live channel', async () => {
    await scene.join('client', 'reader');
    const { peer } = scene.device('reader');
    await server.db.query('UPDATE resources SET name = $1 WHERE id = $2', ['renamed', scene.ids.resourceId]);
    await scene.applied();
    await peer.settled();
    expect(peer.drain()).toEqual([['resource_created_or_updated', expect.objectContaining({ name: 'renamed' })]]);
    await scene.leaveAll();
  });

  it('/metrics counts what happens, and no label is an id, an address or a word of a peer', async () => {
    await scene.join('gateway', 'gateway-canary');
    await scene.join('client', 'client-canary', { name: 'name-canary' });
    const { clientId } = await scene.openFlow(undefined, 'client-canary', 'gateway-canary');
    const { peer } = scene.device('client-canary');
    peer.send('event_canary', {}, 'client');
    await peer.next('phx_reply');
    await server.db.query('DELETE FROM policies WHERE id = $1', [scene.ids.policyId]);
    await peer.next('resource_deleted');
    await scene.applied();

    const { body } = await get(`${server.ops}/metrics`);
    const value = (series: string): number =>
      Number(
        body
          .split('\n')
          .find((line) => line.startsWith(`${series} `))
          ?.split(' ')[1],
      );
    for (const series of [
      ...['portcullis_commits_total', 'portcullis_changes_total', 'portcullis_commit_decode_ms_count'],
      ...['portcullis_commit_apply_ms_count', 'portcullis_replication_state{state="streaming"}'],
      ...['portcullis_sockets{role="client"}', 'portcullis_sockets{role="gateway"}'],
      ...['portcullis_pushes_total{role="client",event="flow_created"}', 'portcullis_upgrades_total{status="101"}'],
      ...[
        'portcullis_pushes_total{role="gateway",event="reject_access"}',
        'portcullis_decisions_total{outcome="allowed"}',
      ],
      ...['portcullis_decisions_total{outcome="rejected"}', 'portcullis_query_ms_count{question="find-token"}'],
      'portcullis_frames_refused_total{role="client",why="unknown-message"}',
    ]) {
      expect([series, value(series)]).toEqual([series, expect.any(Number)]);
      expect([series, value(series) > 0]).toEqual([series, true]);
    }
    for (const series of [
      'portcullis_replication_lag_bytes',
      'portcullis_replication_lag_ms',
      'nodejs_eventloop_lag_p99_seconds',
    ]) {
      expect([series, value(series) >= 0]).toEqual([series, true]);
    }
    expect(body).not.toMatch(/canary|[0-9a-f]{8}-[0-9a-f]{4}|127\.0\.0\.1|100\.64\.|portcullis_test_/);
    expect(body).not.toContain(clientId);
    await scene.leaveAll();
  });

  it('anything else is not found, and says nothing of the machine', async () => {
    for (const path of ['/', '/admin', '/metrics/../../etc/passwd', '/client/websocket']) {
      const { status, body } = await get(server.ops + path);
      expect(status).toBe(404);
      expect(body).not.toMatch(/node_modules|\.js|at .*:\d+/);
    }
  });

  it('/readyz is 503 and says why while nothing is heard from the database; /healthz stays 200', async () => {
    const admin = new Client({ connectionString: process.env['PORTCULLIS_TEST_POSTGRES_URL'] });
    await admin.connect();
    const { name } = server.db;
    await admin.query(`ALTER DATABASE ${name} ALLOW_CONNECTIONS false`);
    await admin.query('SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = $1', [name]);
    await eventually('the stream to be stale', async () => (await get(`${server.ops}/readyz`)).status === 503);
    const { body } = await get(`${server.ops}/readyz`);
    expect(JSON.parse(body)).toMatchObject({
      details: { serving: { status: 'down', problems: [expect.any(String)] } },
    });
    expect(body).not.toContain(name);
    expect((await get(`${server.ops}/healthz`)).status).toBe(200);
    await admin.query(`ALTER DATABASE ${name} ALLOW_CONNECTIONS true`);
    await admin.end();
    await eventually('the stream to be fresh', async () => (await get(`${server.ops}/readyz`)).status === 200);
  });
});

describe('a secret', () => {
  let db: TestDatabase;
  let server: ServerOnDatabase;
  let ids: TestAccount;
  /** By what it is: every way it could be written. */
  const secrets: Record<string, readonly string[]> = {};
  const answers: string[] = [];

  beforeAll(async () => {
    db = await createMigratedDatabase();
    const url = new URL(db.url);
    if (url.password === '') url.password = 'canary-of-the-database';
    server = await launchOn(db, { LOG_LEVEL: 'debug', DATABASE_URL: url.href });
    ids = await aTestAccount(db);
    secrets['database password'] = [url.password];
    secrets['client token'] = formsOfToken(ids.clientToken);
    secrets['gateway token'] = formsOfToken(ids.gatewayToken);
  });

  afterAll(async () => {
    await server.process.kill();
    await db.drop();
  });

  it('appears in no log at debug level, no change_log, no metric and no answer (B26)', async () => {
    await db.sql(`
      WITH provider AS (INSERT INTO auth_providers (account_id) VALUES ('${ids.accountId}') RETURNING account_id, id)
      INSERT INTO provider_secrets SELECT account_id, id, '{"client_secret":"canary-of-a-provider"}' FROM provider`);
    secrets['provider secret'] = ['canary-of-a-provider'];
    await aLife();
    await aWrongLife();
    const { rows } = await db.query<{ device: string; psk: Buffer; digest: Buffer; salt: Buffer }>(
      `SELECT device_id AS device, psk_base AS psk, digest, salt FROM device_secrets, token_secrets`,
    );
    for (const { device, psk, digest, salt } of rows) {
      secrets[`psk_base of ${device}`] = formsOfBytes(psk);
      secrets['digest of a token'] = [
        ...(secrets['digest of a token'] ?? []),
        ...formsOfBytes(digest),
        ...formsOfBytes(salt),
      ];
    }

    const metrics = (await get(`${server.ops}/metrics`)).body;
    const ready = (await get(`${server.ops}/readyz`)).body;
    const log = await db.query<{ row: string }>('SELECT change_log::text AS row FROM change_log');
    server.process.signal('SIGTERM');
    await server.process.end();
    const places = {
      stderr: server.process.stderr,
      stdout: server.process.stdout,
      change_log: log.rows.map(({ row }) => row).join('\n'),
      answers: [...answers, metrics, ready].join('\n'),
    };
    // Each place holds what it should: an empty one would prove nothing.
    expect(places.stderr.match(/"level":"debug"/g)?.length).toBeGreaterThan(10);
    expect(places.change_log).toContain(ids.clientTokenId);
    expect(places.answers).toContain('invalid_token');
    expect(places.stdout).toContain('"event":"ready"');
    expect(Object.keys(secrets).length).toBeGreaterThanOrEqual(9);
    const leaks = Object.entries(places).flatMap(([place, text]) =>
      Object.entries(secrets)
        .filter(([, forms]) => forms.some((form) => text.includes(form)))
        .map(([secret]) => `${secret} in ${place}`),
    );
    expect(leaks).toEqual([]);
  });

  /** Everything that uses a secret, as it should be: connects, flows, a row that is refused with its values, an eviction. */
  async function aLife(): Promise<void> {
    const scene = new Scene(server, ids);
    await scene.join('gateway', 'gateway');
    await scene.join('client', 'client', { headers: { 'x-authorization': `Bearer ${ids.clientToken}` } });
    scene.client.send('create_flow', { resource_id: ids.resourceId, connected_gateway_ids: [] });
    const asked = await scene.gateway.next('authorize_flow');
    secrets['preshared key'] = formsOfText((asked['client'] as Json)['preshared_key']);
    secrets['ice of the client'] = formsOfText((asked['client_ice_credentials'] as Json)['password']);
    secrets['ice of the gateway'] = formsOfText((asked['gateway_ice_credentials'] as Json)['password']);
    secrets['ref'] = formsOfText(asked['ref']);
    scene.gateway.send('flow_authorized', { ref: asked['ref'] });
    await scene.gateway.next('phx_reply');
    await scene.client.next('flow_created');
    await scene.history((rows) => rows.length === 1);
    await db.sql(`DELETE FROM flows; ALTER TABLE flows ADD CONSTRAINT refuses CHECK (client_id IS NULL) NOT VALID`);
    await scene.gateway.next('reject_access');
    await scene.client.next('resource_deleted');
    scene.client.send('create_flow', { resource_id: ids.resourceId, connected_gateway_ids: [] });
    await scene.gateway.until('reject_access');
    await scene.join('client', 'client');
    await db.query('DELETE FROM tokens WHERE id = $1', [ids.clientTokenId]);
    await scene.client.until('disconnect');
    await scene.applied();
    await scene.leaveAll();
  }

  /** Secrets where they do not belong. */
  async function aWrongLife(): Promise<void> {
    const { clientToken, gatewayToken } = ids;
    const wrong = [
      ['/client/websocket', deviceQuery(clientToken, 'device')], // deleted
      ['/client/websocket', deviceQuery(gatewayToken, 'device')],
      ['/client/websocket', deviceQuery(`${gatewayToken}x`, 'device')],
      [`/client/websocket/${gatewayToken}`, deviceQuery(gatewayToken, 'device')],
      ['/gateway/websocket', deviceQuery(gatewayToken, gatewayToken, { public_key: gatewayToken })],
      ['/gateway/websocket', deviceQuery(gatewayToken, 'device', { vsn: gatewayToken })],
      ['/gateway/websocket', deviceQuery(gatewayToken, 'device', { name: `${gatewayToken}\0` })],
    ] as const;
    for (const [path, query] of wrong) {
      for (const headers of [
        {},
        { origin: `http://${gatewayToken}` },
        { 'x-authorization': `Bearer ${gatewayToken}` },
      ]) {
        answers.push((await askUpgrade(server.api, path, query, headers)).body);
      }
    }
    answers.push((await get(`${server.api}/healthz?token=${gatewayToken}`)).body);
    answers.push((await get(`${server.api}/${gatewayToken}`)).body);
    const gateway = await RawPeer.joined('gateway', server.wsUrl, { token: gatewayToken, externalId: 'gateway' });
    gateway.send(gatewayToken, { token: gatewayToken });
    gateway.send('flow_authorized', { ref: gatewayToken });
    gateway.ws.send(gatewayToken);
    await gateway.closed();
  }
});

/** With its secret part alone, since a log could cut it. */
function formsOfToken(token: string): readonly string[] {
  return [token, token.slice('pcc_'.length + 22, -6)];
}

function formsOfBytes(bytes: Buffer): readonly string[] {
  const base64 = bytes.toString('base64');
  return [
    bytes.toString('hex'),
    base64.replace(/=+$/, ''),
    bytes.toString('base64url'),
    JSON.stringify([...bytes]).slice(1, -1),
  ];
}

function formsOfText(text: unknown): readonly string[] {
  if (typeof text !== 'string' || text.length < 16) throw new Error(`no secret: ${String(text)}`);
  return [text, encodeURIComponent(text)];
}
