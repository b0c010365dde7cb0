/** Connecting: who is let in, what everybody else is told, and what a connect leaves behind (wire-protocol.md 1). */
import { randomBytes, randomUUID } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, describe, expect, it, jest } from '@jest/globals';
import { Client } from 'pg';
import type { TokenId } from '../../src/core/model/ids.js';
import type { TokenKind } from '../../src/core/model/rows.js';
import { digestToken, mintToken } from '../../src/core/tokens/token.js';
import { aTestAccount, aToken, type TestAccount } from '../support/demo-account.js';
import { eventually } from '../support/eventually.js';
import { keyOf, RawPeer } from '../support/raw-peer.js';
import { startTestServer, type TestServer } from '../support/test-server.js';
import { askUpgrade, deviceQuery, type Headers, type Query, type UpgradeAnswer } from '../support/upgrade.js';

jest.setTimeout(30_000);

let server: TestServer;
let account: TestAccount;

beforeAll(async () => {
  server = await startTestServer();
});

beforeEach(async () => {
  account = await aTestAccount(server.db);
});

afterAll(() => server.close());

const CLIENT = '/client/websocket';
const GATEWAY = '/gateway/websocket';

function ask(path: string, query: Query, headers: Headers = {}): Promise<UpgradeAnswer> {
  return askUpgrade(server.api, path, query, headers);
}

/** A client of the account, with what the test changes about it. */
function asClient(more: Query = {}, headers: Headers = {}): Promise<UpgradeAnswer> {
  return ask(CLIENT, deviceQuery(account.clientToken, 'device', more), headers);
}

/** Every refusal says what it is in a form for machines (D26). */
function expectRefusal(answer: UpgradeAnswer, status: number, code: string): void {
  expect([answer.status, answer.problem['code']]).toEqual([status, code]);
  expect(answer.headers['content-type']).toBe('application/problem+json');
  expect(answer.problem).toMatchObject({ type: 'about:blank', status, title: expect.any(String) });
}

function without(query: Query, name: string): Query {
  return Object.fromEntries(Object.entries(query).filter(([key]) => key !== name));
}

describe('a token', () => {
  it('is required: nothing else is looked at without one', async () => {
    const missing = without(deviceQuery('', 'device', { public_key: 'bad' }), 'token');
    for (const path of [CLIENT, GATEWAY]) {
      expectRefusal(await ask(path, missing), 401, 'missing_token');
      expectRefusal(await ask(path, { ...missing, token: '' }), 401, 'missing_token');
    }
  });

  it('that is refused is refused with the same words, whatever is wrong with it (B9)', async () => {
    const { accountId, actorId, siteId, clientToken, clientTokenId, gatewayToken } = account;
    const now = new Date();
    const deleted = await aToken(server.db, 'client', { accountId, actorId });
    await server.db.query('DELETE FROM tokens WHERE id = $1', [deleted.id]);
    const disabled = await aTestAccount(server.db);
    await server.db.query('UPDATE actors SET disabled_at = now() WHERE id = $1', [disabled.actorId]);
    const tokens: Record<string, string> = {
      rubbish: 'rubbish',
      'a nul in it': `${clientToken}\0`,
      'too long': 'a'.repeat(10_000),
      unknown: mintToken('client', randomUUID() as TokenId, randomBytes(32)),
      'the secret of another': mintToken('client', clientTokenId, randomBytes(32)),
      'a nonce it was not made with': `nonce.${clientToken}`,
      expired: (await aToken(server.db, 'client', { accountId, actorId, expiresAt: now })).text,
      deleted: deleted.text,
      "a gateway's": gatewayToken,
      "a relay's": await aTokenOfKind('relay', { accountId }),
      "an api client's": await aTokenOfKind('api', { accountId, actorId }),
      'of a disabled actor': disabled.clientToken,
      'of a disabled provider': await aTokenWithIdentity('UPDATE auth_providers SET disabled_at = now() WHERE id = $1'),
      'of a deleted identity': await aTokenWithIdentity('DELETE FROM identities WHERE provider_id = $1'),
      'of a deleted site': (await aToken(server.db, 'gateway', { accountId, siteId })).text,
    };
    const bodies = new Set<string>();
    for (const [what, token] of Object.entries(tokens)) {
      const answer = await ask(CLIENT, deviceQuery(token, 'device'));
      expect([what, answer.status, answer.problem['code']]).toEqual([what, 401, 'invalid_token']);
      bodies.add(answer.body);
    }
    const crossed = await ask(GATEWAY, deviceQuery(clientToken, 'device'));
    expectRefusal(crossed, 401, 'invalid_token');
    expect([...bodies]).toEqual([crossed.body]);

    await server.db.query('DELETE FROM sites WHERE id = $1', [siteId]);
    expectRefusal(await ask(GATEWAY, deviceQuery(gatewayToken, 'device')), 401, 'invalid_token');
  });

  it('is refused when any one of its characters differs (B9)', async () => {
    const { clientToken } = account;
    for (let at = 0; at < clientToken.length; at += 1) {
      const other = clientToken[at] === 'x' ? 'y' : 'x';
      const token = clientToken.slice(0, at) + other + clientToken.slice(at + 1);
      expect([at, (await ask(CLIENT, deviceQuery(token, 'device'))).status]).toEqual([at, 401]);
    }
    expect((await asClient()).status).toBe(101);
  });

  it('may have a dot in front, as peers without a nonce send it', async () => {
    expect((await ask(CLIENT, deviceQuery(`.${account.clientToken}`, 'device'))).status).toBe(101);
  });

  it('in X-Authorization counts before the one in the query', async () => {
    const good = { 'x-authorization': `Bearer ${account.clientToken}` };
    const bad = { 'x-authorization': `Bearer ${account.gatewayToken}` };
    expect((await ask(CLIENT, deviceQuery('rubbish', 'device'), good)).status).toBe(101);
    expectRefusal(await asClient({}, bad), 401, 'invalid_token');
  });

  it('of a disabled account is forbidden to clients, while its gateways stay', async () => {
    await server.db.query('UPDATE accounts SET disabled_at = now() WHERE id = $1', [account.accountId]);
    expectRefusal(await asClient(), 403, 'account_disabled');
    expect((await ask(GATEWAY, deviceQuery(account.gatewayToken, 'device'))).status).toBe(101);
  });
});

describe('the request', () => {
  it('from a web page of somebody else is forbidden (B18)', async () => {
    const { host } = new URL(server.api);
    const foreign = [
      'https://evil.example',
      `https://${host}`,
      `http://evil-${host}`,
      `http://${host}.evil`,
      'null',
      '',
    ];
    for (const origin of foreign) expectRefusal(await asClient({}, { origin }), 403, 'forbidden_origin');
    expect((await asClient({}, { origin: `http://${host}` })).status).toBe(101);
    expect((await asClient()).status).toBe(101);
  });

  it('for a serialization that we do not speak is forbidden', async () => {
    for (const vsn of ['3.0.0', '0', '', '1.0.0.0', 'two', '2.x', '-1'])
      expectRefusal(await asClient({ vsn }), 403, 'unsupported_vsn');
    for (const vsn of ['1', '1.0.0', '2', '2.0.0']) expect((await asClient({ vsn })).status).toBe(101);
  });

  it('for another path is not found, and a prefix before ours is fine', async () => {
    const query = deviceQuery(account.clientToken, 'device');
    for (const path of ['/', '/client', `${CLIENT}/`, `${CLIENT}/more`, '/xclient/websockets', '/CLIENT/websocket'])
      expectRefusal(await ask(path, query), 404, 'not_found');
    expect((await ask(`/a/prefix${CLIENT}`, query)).status).toBe(101);
  });

  it('without upgrade finds only the health of the listener', async () => {
    const health = await fetch(`${server.api}/healthz`);
    expect([health.status, await health.json()]).toEqual([200, { status: 'ok' }]);
    const page = await fetch(
      `${server.api}${CLIENT}?${new URLSearchParams(deviceQuery(account.clientToken, 'd')).toString()}`,
    );
    expect([page.status, JSON.stringify(await page.json())]).toEqual([404, expect.not.stringContaining('pcc_')]);
  });
});

describe('a connection parameter', () => {
  it.each(Object.entries({ missing: '', blank: '   ', 'with a nul': 'a\0b', 'over-long': 'x'.repeat(256) }))(
    'external_id that is %s is named in a 422',
    async (_what, externalId) => {
      await expectFault({ external_id: externalId }, 'external_id');
    },
  );

  it.each(
    Object.entries({
      missing: '',
      'no base64': '!'.repeat(44),
      base64url: `${'_'.repeat(43)}=`,
      '31 bytes long': Buffer.alloc(31, 9).toString('base64'),
      '33 bytes long': Buffer.alloc(33, 9).toString('base64'),
      'without padding': Buffer.alloc(32, 9).toString('base64').slice(0, 43),
      'not canonical': `${'A'.repeat(42)}B=`,
      '44 other characters': '\u{1F600}'.repeat(44),
    }),
  )('public_key that is %s is named in a 422 (D30)', async (_what, publicKey) => {
    await expectFault({ public_key: publicKey }, 'public_key');
  });

  it.each([
    ...['00'.repeat(32), `01${'00'.repeat(31)}`, `ec${'ff'.repeat(30)}7f`, `ed${'ff'.repeat(30)}7f`],
    ...[`ee${'ff'.repeat(30)}7f`, `${'00'.repeat(31)}80`, `01${'00'.repeat(30)}80`],
    'e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800',
    '5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157',
  ])('public_key of low order %s is named in a 422 (B7)', async (hex) => {
    await expectFault({ public_key: Buffer.from(hex, 'hex').toString('base64') }, 'public_key');
  });

  it('public_key of another device of the account is taken, also with its spare bit set (B7)', async () => {
    const { accountId, clientToken, gatewayToken } = account;
    expect((await ask(CLIENT, deviceQuery(clientToken, 'first'))).status).toBe(101);
    expect((await ask(CLIENT, deviceQuery(clientToken, 'first'))).status).toBe(101);
    const key = Buffer.from(keyOf('first'), 'base64');
    await expectFault({ public_key: key.toString('base64') }, 'public_key', [CLIENT]);
    key[31] = (key[31] ?? 0) | 0x80;
    await expectFault({ public_key: key.toString('base64') }, 'public_key', [CLIENT]);
    expect((await ask(GATEWAY, deviceQuery(gatewayToken, 'first'))).status).toBe(101);
    const other = await aTestAccount(server.db);
    expect((await ask(CLIENT, deviceQuery(other.clientToken, 'first'))).status).toBe(101);
    const { rows } = await server.db.query('SELECT external_id FROM clients WHERE account_id = $1', [accountId]);
    expect(rows).toEqual([{ external_id: 'first' }]);
  });

  it.each(['name', 'device_serial', 'device_uuid', 'identifier_for_vendor', 'firebase_installation_id'])(
    '%s that is over-long or has a nul is named in a 422',
    async (name) => {
      const paths = name === 'name' ? [CLIENT, GATEWAY] : [CLIENT];
      await expectFault({ [name]: 'x'.repeat(256) }, name, paths);
      await expectFault({ [name]: 'nul\0' }, name, paths);
    },
  );

  it('last_seen_user_agent is what a missing or foreign user agent is called', async () => {
    for (const agent of [undefined, '', 'curl/8', 'connlib/', `x connlib/${'1'.repeat(300)}`]) {
      for (const [path, token] of [
        [CLIENT, account.clientToken],
        [GATEWAY, account.gatewayToken],
      ] as const) {
        const answer = await ask(path, deviceQuery(token, 'device'), { 'user-agent': agent });
        expectRefusal(answer, 422, 'invalid_connect_params');
        expect(Object.keys(answer.problem['errors'] as object)).toEqual(['last_seen_user_agent']);
      }
    }
  });

  it('never comes back in the answer, and all bad ones are named together', async () => {
    const canary = 'canary'.repeat(100);
    const query = { token: account.clientToken, external_id: canary, public_key: canary, name: canary };
    const answer = await ask(CLIENT, query, { 'user-agent': canary });
    expectRefusal(answer, 422, 'invalid_connect_params');
    expect(Object.keys(answer.problem['errors'] as object).sort()).toEqual(
      ['external_id', 'last_seen_user_agent', 'name', 'public_key'].sort(),
    );
    expect(answer.body).not.toContain('canary');
  });

  it('may hold any other text, which is kept as it is (B4)', async () => {
    const name = '😀 Ünïcode\u202e '.repeat(20).trim().slice(0, 250);
    expect((await asClient({ name, external_id: `id-${name.slice(0, 50)}` })).status).toBe(101);
    const { rows } = await server.db.query('SELECT name FROM clients WHERE account_id = $1', [account.accountId]);
    expect(rows).toEqual([{ name }]);
  });

  it('that nobody knows is ignored: what a row holds is not for the peer to set (B15)', async () => {
    const other = await aTestAccount(server.db);
    const sets = { account_id: other.accountId, actor_id: other.actorId, verified_at: '2020-01-01', id: randomUUID() };
    expect((await asClient({ ...sets, ipv4: '100.64.9.9', version: '9.9.9' })).status).toBe(101);
    const { rows } = await server.db.query('SELECT actor_id, verified_at, host(ipv4) AS ipv4 FROM clients');
    expect(rows).toContainEqual({ actor_id: account.actorId, verified_at: null, ipv4: '100.64.0.1' });
    expect(rows).not.toContainEqual(expect.objectContaining({ actor_id: other.actorId }));
  });

  async function expectFault(more: Query, name: string, paths: readonly string[] = [CLIENT, GATEWAY]): Promise<void> {
    for (const path of paths) {
      const token = path === CLIENT ? account.clientToken : account.gatewayToken;
      const answer = await ask(path, deviceQuery(token, 'device', more));
      expectRefusal(answer, 422, 'invalid_connect_params');
      expect(answer.problem['errors']).toEqual({ [name]: [expect.any(String)] });
    }
  }
});

describe('what a connect leaves behind', () => {
  it("keeps a client's name and overwrites a gateway's, and both keep their addresses", async () => {
    const as = (path: string, token: string, name: string) =>
      ask(path, deviceQuery(token, 'device', { name })).then(({ status }) => status);
    const rowOf = async (table: string): Promise<unknown[]> => {
      const text = `SELECT id, name, host(ipv4) AS ipv4, host(ipv6) AS ipv6 FROM ${table} WHERE account_id = $1`;
      return (await server.db.query(text, [account.accountId])).rows;
    };
    expect(await as(CLIENT, account.clientToken, 'laptop')).toBe(101);
    expect(await as(GATEWAY, account.gatewayToken, 'gw-fra')).toBe(101);
    const [client, gateway] = [await rowOf('clients'), await rowOf('gateways')];
    expect(await as(CLIENT, account.clientToken, 'renamed')).toBe(101);
    expect(await as(GATEWAY, account.gatewayToken, 'gw-ams')).toBe(101);
    expect(client).toMatchObject([{ name: 'laptop', ipv4: '100.64.0.1', ipv6: 'fd00:2021:1111::1' }]);
    expect(await rowOf('clients')).toEqual(client);
    expect(gateway).toMatchObject([{ name: 'gw-fra', ipv4: '100.64.0.2', ipv6: 'fd00:2021:1111::2' }]);
    expect(await rowOf('gateways')).toEqual([{ ...(gateway[0] as object), name: 'gw-ams' }]);
  });

  it('clears the verification of a client that comes back with other hardware, and of no other', async () => {
    const verify = () =>
      server.db.query('UPDATE clients SET verified_at = now() WHERE account_id = $1', [account.accountId]);
    const isVerified = async (): Promise<unknown> => {
      const text = 'SELECT verified_at IS NOT NULL AS yes FROM clients WHERE account_id = $1';
      return (await server.db.query(text, [account.accountId])).rows[0]?.['yes'];
    };
    const connects = async (hardware: Query): Promise<unknown> => {
      expect((await asClient(hardware)).status).toBe(101);
      return isVerified();
    };
    expect(await connects({})).toBe(false);
    await verify();
    expect(await connects({ device_serial: 'A' })).toBe(true); // not known before
    expect(await connects({ device_serial: 'A', device_uuid: 'U' })).toBe(true);
    expect(await connects({ device_serial: 'B', device_uuid: 'U' })).toBe(false);
    await verify();
    expect(await connects({ device_serial: 'B', device_uuid: 'other' })).toBe(false);
  });

  it('takes one external id in two accounts for two devices', async () => {
    const other = await aTestAccount(server.db);
    expect((await asClient()).status).toBe(101);
    expect((await ask(CLIENT, deviceQuery(other.clientToken, 'device'))).status).toBe(101);
    const { rows } = await server.db.query('SELECT count(*)::int AS n FROM clients WHERE account_id = ANY($1)', [
      [account.accountId, other.accountId],
    ]);
    expect(rows).toEqual([{ n: 2 }]);
  });
});

describe('forwarding headers (wire-protocol.md 1.6, B8)', () => {
  let proxied: TestServer;
  const FROM_BERLIN = { 'x-forwarded-for': '203.0.113.7', 'x-geo-location-region': 'DE' };
  const BERLIN_ONLY = JSON.stringify([
    { property: 'remote_ip', operator: 'is_in_cidr', values: ['203.0.113.0/24'] },
    { property: 'remote_ip_location_region', operator: 'is_in', values: ['DE'] },
  ]);

  beforeAll(async () => {
    proxied = await startTestServer({ TRUSTED_PROXIES: '127.0.0.1/32, 10.0.0.0/8' });
  });

  afterAll(() => proxied.close());

  /** Whether a client that comes with these headers may use a resource that only Berlin may use; what its session says. */
  async function mayUse(through: TestServer, headers: Readonly<Record<string, string>>): Promise<unknown[]> {
    const ids = await aTestAccount(through.db);
    await through.db.query('UPDATE policies SET conditions = $1 WHERE id = $2', [BERLIN_ONLY, ids.policyId]);
    const options = { token: ids.clientToken, externalId: 'device', headers };
    const client = await RawPeer.joined('client', through.wsUrl, options);
    const shown = (client.init['resources'] as unknown[]).length;
    client.send('create_flow', { resource_id: ids.resourceId, connected_gateway_ids: [] });
    const { reason } = await client.next('flow_creation_failed');
    await client.close();
    const text = 'SELECT host(remote_ip) AS ip, region FROM client_sessions WHERE account_id = $1';
    const { rows } = await through.db.query(text, [ids.accountId]);
    return [shown, reason, rows[0]?.['ip'], rows[0]?.['region']];
  }

  it('of a trusted proxy are believed', async () => {
    expect(await mayUse(proxied, FROM_BERLIN)).toEqual([1, 'offline', '203.0.113.7', 'DE']);
    const throughTwo = { ...FROM_BERLIN, 'x-forwarded-for': '203.0.113.7, 10.1.2.3' };
    expect(await mayUse(proxied, throughTwo)).toEqual([1, 'offline', '203.0.113.7', 'DE']);
  });

  it('of anybody else are not', async () => {
    expect(await mayUse(server, FROM_BERLIN)).toEqual([0, 'forbidden', '127.0.0.1', null]);
  });

  it.each(['203.0.113.7, 198.51.100.9', '203.0.113.7, 198.51.100.9, 10.0.0.1', '203.0.113.7, ::ffff:198.51.100.9'])(
    'that a peer wrote before the proxy did are not: %s',
    async (forwarded) => {
      const headers = { ...FROM_BERLIN, 'x-forwarded-for': forwarded };
      expect(await mayUse(proxied, headers)).toEqual([0, 'forbidden', '198.51.100.9', 'DE']);
    },
  );

  it.each([
    '203.0.113.7, unknown',
    '203.0.113.7, ',
    'rubbish',
    '203.0.113.7, 1.2.3.4.5',
    `${'1.1.1.1,'.repeat(1000)}x`,
  ])('that cannot be read to their end say nothing: %.40s', async (forwarded) => {
    const headers = { ...FROM_BERLIN, 'x-forwarded-for': forwarded };
    expect(await mayUse(proxied, headers)).toEqual([0, 'forbidden', '127.0.0.1', 'DE']);
  });

  it.each(['', 'germany', 'ZZ9', '\u00fc\u00fc', 'D E'])(
    'with the region %j leave it unknown, which denies',
    async (region) => {
      const [shown, reason] = await mayUse(proxied, { ...FROM_BERLIN, 'x-geo-location-region': region });
      expect([shown, reason]).toEqual([0, 'forbidden']);
    },
  );

  it('with coordinates that are none do not stop the connect: the peer stands in the middle of its country', async () => {
    for (const coordinates of ['abc,def', ',', '1', '91,181', '1e400,2', 'NaN,NaN', '1,2,3']) {
      const answer = await mayUse(proxied, { ...FROM_BERLIN, 'x-geo-location-coordinates': coordinates });
      expect(answer[0]).toBe(1);
    }
    const text = `SELECT DISTINCT latitude, longitude FROM client_sessions WHERE region = 'DE'`;
    expect((await proxied.db.query(text)).rows).toEqual([{ latitude: 51, longitude: 9 }]);
  });

  it('that say no region leave it to the GeoIP database, which is asked for the real address', async () => {
    const located = await startTestServer({ TRUSTED_PROXIES: '127.0.0.1', GEOIP_DATABASE: 'dbip' });
    try {
      expect(await mayUse(located, { 'x-forwarded-for': '8.8.8.8' })).toEqual([0, 'forbidden', '8.8.8.8', 'US']);
      expect((await mayUse(located, {})).at(-1)).toBeNull();
      const said = await mayUse(located, { 'x-forwarded-for': '8.8.8.8', 'x-geo-location-region': 'DE' });
      expect(said.at(-1)).toBe('DE');
    } finally {
      await located.close();
    }
  });
});

describe('while the database is away', () => {
  let fragile: TestServer;
  let admin: Client;

  beforeAll(async () => {
    fragile = await startTestServer({ CONNECT_TIMEOUT_MS: '1000' });
    admin = new Client({ connectionString: process.env['PORTCULLIS_TEST_POSTGRES_URL'] });
    await admin.connect();
  });

  afterAll(async () => {
    await admin.end();
    await fragile.close();
  });

  function expectComeBack(answer: UpgradeAnswer): void {
    expectRefusal(answer, 503, 'unavailable');
    expect(Number(answer.headers['retry-after'])).toBeGreaterThanOrEqual(1);
  }

  it('a connect is told to come back, even when the database only hangs (B11)', async () => {
    const ids = await aTestAccount(fragile.db);
    const query = deviceQuery(ids.clientToken, 'device');
    const holder = new Client({ connectionString: fragile.db.url });
    await holder.connect();
    await holder.query('BEGIN');
    await holder.query('LOCK TABLE token_secrets IN ACCESS EXCLUSIVE MODE');
    const askedAt = performance.now();
    expectComeBack(await askUpgrade(fragile.api, CLIENT, query));
    expect(performance.now() - askedAt).toBeLessThan(3000);
    // Without a database there is nothing to say yes with, but what is plainly wrong is still said at once.
    expectRefusal(await askUpgrade(fragile.api, CLIENT, { ...query, token: 'rubbish' }), 401, 'invalid_token');
    await holder.query('ROLLBACK');
    await holder.end();
    expect((await askUpgrade(fragile.api, CLIENT, query)).status).toBe(101);
  });

  it('a connect is told to come back, and is let in when the database is there again', async () => {
    const ids = await aTestAccount(fragile.db);
    const query = deviceQuery(ids.clientToken, 'device');
    const { name } = fragile.db;
    const neighbour = await RawPeer.joined('client', fragile.wsUrl, {
      token: ids.clientToken,
      externalId: 'neighbour',
    });
    await admin.query(`ALTER DATABASE ${name} ALLOW_CONNECTIONS false`);
    await admin.query('SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = $1', [name]);
    expectComeBack(await askUpgrade(fragile.api, CLIENT, query));
    expectComeBack(await askUpgrade(fragile.api, GATEWAY, deviceQuery(ids.gatewayToken, 'device')));
    await neighbour.settled();

    await admin.query(`ALTER DATABASE ${name} ALLOW_CONNECTIONS true`);
    await eventually('the database', async () => (await askUpgrade(fragile.api, CLIENT, query)).status === 101);
    await neighbour.settled();
    expect(neighbour.drain()).toEqual([]);
    await neighbour.close();
  });
});

// ---- rows ----------------------------------------------------------------------------------------------------------

/** A token of a kind that no device may connect with, with a secret that fits. */
async function aTokenOfKind(kind: TokenKind, owner: { accountId: string; actorId?: string }): Promise<string> {
  const id = randomUUID() as TokenId;
  await server.db.query('INSERT INTO tokens (id, account_id, kind, actor_id) VALUES ($1, $2, $3, $4)', [
    ...[id, owner.accountId, kind, owner.actorId ?? null],
  ]);
  return givenSecret(kind, id);
}

/** A client token of an identity, of which `spoil` then does away with something; $1 is the provider. */
async function aTokenWithIdentity(spoil: string): Promise<string> {
  const [providerId, identityId, id] = [randomUUID(), randomUUID(), randomUUID() as TokenId];
  const { accountId, actorId } = account;
  await server.db.query('INSERT INTO auth_providers (account_id, id) VALUES ($1, $2)', [accountId, providerId]);
  await server.db.query(
    'INSERT INTO identities (account_id, id, actor_id, provider_id, provider_identifier) VALUES ($1, $2, $3, $4, $5)',
    [accountId, identityId, actorId, providerId, 'ada'],
  );
  await server.db.query(
    `INSERT INTO tokens (id, account_id, kind, actor_id, identity_id) VALUES ($1, $2, 'client', $3, $4)`,
    [id, accountId, actorId, identityId],
  );
  const text = await givenSecret('client', id);
  expect((await ask(CLIENT, deviceQuery(text, 'device'))).status).toBe(101);
  await server.db.query(spoil, [providerId]);
  return text;
}

async function givenSecret(kind: TokenKind, id: TokenId): Promise<string> {
  const [secret, salt] = [randomBytes(32), randomBytes(16)];
  await server.db.query('INSERT INTO token_secrets (token_id, salt, digest) VALUES ($1, $2, $3)', [
    ...[id, salt, Buffer.from(digestToken('', secret, salt))],
  ]);
  return mintToken(kind, id, secret);
}
