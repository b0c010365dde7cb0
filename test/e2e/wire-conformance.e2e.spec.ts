/** The checklist of wire-protocol.md Appendix C, item by item, with simulated peers. decisions.md counts before it. */
import { randomBytes, randomUUID } from 'node:crypto';
import { isIPv4, isIPv6 } from 'node:net';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, jest } from '@jest/globals';
import { Ajv } from 'ajv';
import { Client } from 'pg';
import { aTestAccount, aToken } from '../support/demo-account.js';
import { presharedKeyOf, relayEntries, relayIdOf, RELAYS_UNTIL } from '../support/derivations.js';
import { eventually } from '../support/eventually.js';
import { type Json, keyOf, type PeerOptions, RawPeer } from '../support/raw-peer.js';
import { joinRelay, type RelayOptions, type TestRelay } from '../support/relays.js';
import { type Push, rejected, removed, type Scene, shown, Stage } from '../support/scene.js';
import { aResource, aPolicy, condition, setPolicy, setResource } from '../support/scene-rows.js';
import type { PeerRole } from '../support/strict-peer.js';
import { startTestServer, type TestServer } from '../support/test-server.js';
import { Transcript } from '../support/transcript.js';
import { askUpgrade, deviceQuery, type Query, type UpgradeAnswer } from '../support/upgrade.js';

jest.setTimeout(60_000);

const ROLES: readonly PeerRole[] = ['client', 'gateway', 'relay'];
const NIL_UUID = '00000000-0000-0000-0000-000000000000';
const OK = { status: 'ok', response: {} };
const refusal = (reason: string): Json => ({ status: 'error', response: { reason } });

let stage: Stage;
let scene: Scene;

beforeAll(async () => {
  // 203.0.113.128/25 is an external trusted proxy for item 4; 127.0.0.1 is where every peer of a test comes from.
  stage = await Stage.open({ TRUSTED_PROXIES: '127.0.0.1/32, 203.0.113.128/25' });
});

beforeEach(async () => {
  scene = await stage.account();
});

afterEach(() => stage.clear());

afterAll(() => stage.close());

// ---- 1: refs -------------------------------------------------------------------------------------------------------

describe('Appendix C 1', () => {
  it.each(ROLES.flatMap((role) => [0, 57, '9'].map((ref) => [role, ref] as const)))(
    'Appendix C 1: the join of a %s with the ref %j is answered with that ref, of that type, and with {}',
    async (role, ref) => {
      const peer = await connect(role);
      const heard = new Transcript(peer.ws);
      peer.ws.send(JSON.stringify({ topic: role, event: 'phx_join', payload: joinOf(role), ref }));
      expect(await heard.next()).toEqual({ topic: role, event: 'phx_reply', ref, payload: OK });
      // Rust peers read the text: a member more in the response, and they drop the frame.
      expect(heard.frames[0]?.text).toContain('"response":{}');
      expect(heard.frames[0]?.text).toContain(`"ref":${JSON.stringify(ref)}`);
      peer.ws.terminate(); // a V1 peer that is sent its own string back would be judged as a fault of ours
    },
  );
});

// ---- 2: frames and idle times --------------------------------------------------------------------------------------

describe('Appendix C 2', () => {
  it('Appendix C 2: nothing but text, Close without a reason and, to gateways, the barrier Ping is ever sent', async () => {
    const all: [PeerRole, Transcript][] = [];
    const follow = (peer: RawPeer): RawPeer => {
      all.push([peer.role, new Transcript(peer.ws)]);
      return peer;
    };
    const relay = follow(await connect('relay'));
    relay.send('phx_join', joinOf('relay'));
    await relay.until('init');
    follow((await scene.join('gateway', 'gateway')).peer);
    follow((await scene.join('client', 'client')).peer);
    for (let times = 0; times < 3; times += 1) {
      const flow = await scene.openFlow();
      const unverified = setPolicy(scene, `conditions = '${condition('client_verified', 'is', 'true')}'`);
      expect(await scene.hears(unverified)).toMatchObject({ gateway: [rejected(flow)] });
      await scene.hears(setPolicy(scene, `conditions = '[]'`));
    }
    for (const peer of [relay, scene.gateway, scene.client]) {
      peer.send('no_such_event', {});
      expect(await peer.next('phx_reply')).toEqual(refusal('unknown_message'));
      await peer.settled();
    }
    // Two ends that are ours, and one that is a peer's fault.
    const closed = Promise.all([scene.client.closed(), scene.gateway.closed(), relay.closed()]);
    relay.ws.send('{');
    await stage.server.db.query('DELETE FROM clients WHERE account_id = $1', [scene.ids.accountId]);
    await stage.server.db.query('DELETE FROM tokens WHERE id = $1', [scene.ids.gatewayTokenId]);
    expect(await closed).toEqual([1000, 1000, 1002]);

    for (const [role, { frames }] of all) {
      const pings = frames.filter(({ kind }) => kind === 'ping').map(({ text }) => JSON.parse(text) as Json);
      const barrier = { topic: 'phoenix', event: 'phx_error', payload: {}, ref: expect.any(Number) };
      expect(pings).toEqual(role === 'gateway' ? pings.map(() => barrier) : []);
      expect(frames.filter(({ kind, text }) => kind === 'close' && text !== '')).toEqual([]);
      const kinds = new Set(frames.map(({ kind }) => kind));
      for (const kind of ['binary', 'pong'] as const) expect(kinds).not.toContain(kind);
      expect(kinds).toContain('text');
      expect(frames.at(-1)?.kind).toBe('close');
    }
  });

  /**
   * Scaled by ten, so that the test need not take two minutes: 3.7 s of silence end a gateway instead of 37 s, and the
   * watch lasts 12 s instead of 120 s. A heartbeat comes every 2 s, which would be 20 s instead of 30 s, and the 3 s within
   * which a silent socket must be gone are not scaled: a slow machine may take that long.
   */
  it('Appendix C 2: with heartbeats a socket stays open for long, without them it is closed in time', async () => {
    const idle = { CLIENT_IDLE_MS: '3700', GATEWAY_IDLE_MS: '3700', RELAY_IDLE_MS: '4100' };
    const scaled = await Stage.open({ ...idle, RELAYS_REQUIRED: 'true' });
    try {
      const there = await scaled.account();
      const { text: token } = await aToken(scaled.server.db, 'relay', {});
      const beating = [
        (await joinRelay(scaled.server.wsUrl, { token })).peer,
        (await there.join('client', 'client')).peer,
        (await there.join('gateway', 'gateway')).peer,
      ];
      const heard = beating.map((peer) => new Transcript(peer.ws));
      const silent = await RawPeer.connect('gateway', scaled.server.wsUrl, {
        ...{ token: there.ids.gatewayToken, externalId: 'silent' },
      });
      const silentSince = performance.now();
      const isSilentGone = new Promise<number>((resolve) => {
        silent.ws.once('close', () => resolve(performance.now() - silentSince));
      });
      silent.send('phx_join', null); // the last it says
      const beats = 6;
      for (let beat = 0; beat < beats; beat += 1) {
        await new Promise((resolve) => setTimeout(resolve, 2000)); // real time is what is tested
        await Promise.all(beating.map((peer) => peer.settled()));
      }
      expect(beating.map(({ isClosed }) => isClosed)).toEqual([false, false, false]);
      // And the server said nothing of its own accord: no keepalive of any kind.
      const texts = heard.map(({ frames }) => frames.map(({ kind }) => kind));
      expect(texts).toEqual(beating.map(() => Array.from({ length: beats }, () => 'text')));

      const silence = await isSilentGone;
      expect(silence).toBeGreaterThanOrEqual(3700 - 5); // two clocks
      expect(silence).toBeLessThan(3700 + 3000);
      expect([silent.closeCode, silent.closeReason]).toEqual([1000, '']);
      await beating[0]?.close();
    } finally {
      await scaled.close();
    }
  });
});

// ---- 3: refusals ---------------------------------------------------------------------------------------------------

describe('Appendix C 3', () => {
  const path = (role: PeerRole): string => `/${role}/websocket`;

  function expectRefused(answer: UpgradeAnswer, status: number, code: string): void {
    expect([answer.status, answer.problem['code']]).toEqual([status, code]);
    expect(answer.headers['content-type']).toBe('application/problem+json');
    expect(answer.problem['status']).toBe(status);
  }

  it.each(ROLES)('Appendix C 3: a %s without a token, or with one that is not good, gets 401', async (role) => {
    const { accountId, actorId, siteId } = scene.ids;
    const db = stage.server.db;
    const ask = (token: string | undefined): Promise<UpgradeAnswer> => {
      const { token: _, ...query } = deviceQuery('', 'device', { ipv4: '203.0.113.7' });
      return askUpgrade(stage.server.api, path(role), { ...query, ...(token !== undefined && { token }) });
    };
    expectRefused(await ask(undefined), 401, 'missing_token');
    expectRefused(await ask(''), 401, 'missing_token');
    const good = await aToken(db, role, ownerOf(role));
    expect((await ask(good.text)).status).toBe(101);
    const others = ROLES.filter((other) => other !== role).map((other) => aToken(db, other, ownerOf(other)));
    const expired = await aToken(db, role, { ...ownerOf(role), expiresAt: new Date() });
    const wrong = [
      'rubbish',
      `${good.text.slice(0, -1)}~`,
      expired.text,
      ...(await Promise.all(others)).map((t) => t.text),
    ];
    for (const token of wrong) expectRefused(await ask(token), 401, 'invalid_token');
    await db.query('DELETE FROM tokens WHERE id = $1', [good.id]);
    expectRefused(await ask(good.text), 401, 'invalid_token');

    const last = await aToken(db, role, ownerOf(role));
    if (role === 'client') await db.query('UPDATE actors SET disabled_at = now() WHERE id = $1', [actorId]);
    if (role === 'gateway') await db.query('DELETE FROM sites WHERE id = $1', [siteId]);
    if (role === 'relay') await db.query('DELETE FROM accounts WHERE id = $1', [accountId]);
    expectRefused(await ask(last.text), 401, 'invalid_token');
  });

  it('Appendix C 3: an account that is disabled, a foreign origin and an unknown vsn get 403, another path 404', async () => {
    const { clientToken, accountId } = scene.ids;
    const query = deviceQuery(clientToken, 'device');
    const ask = (at: string, more: Query = {}, headers: Query = {}): Promise<UpgradeAnswer> =>
      askUpgrade(stage.server.api, at, { ...query, ...more }, headers);
    expectRefused(await ask(path('client'), {}, { origin: 'https://evil.example' }), 403, 'forbidden_origin');
    expectRefused(await ask(path('client'), { vsn: '3.0.0' }), 403, 'unsupported_vsn');
    expectRefused(await ask('/clients/websocket'), 404, 'not_found');
    expectRefused(await ask('/client/longpoll'), 404, 'not_found');
    await stage.server.db.query('UPDATE accounts SET disabled_at = now() WHERE id = $1', [accountId]);
    expectRefused(await ask(path('client')), 403, 'account_disabled');
  });

  it.each([
    ['client', {}, ['external_id', 'public_key'], { external_id: '', public_key: '' }],
    ['client', {}, ['public_key'], { public_key: 'AQEBAQ==' }],
    ['client', { 'user-agent': undefined }, ['last_seen_user_agent'], {}],
    ['gateway', {}, ['external_id'], { external_id: '' }],
    ['gateway', {}, ['public_key'], { public_key: 'A'.repeat(44) }],
    ['gateway', { 'user-agent': 'curl/8' }, ['last_seen_user_agent'], {}],
    ['relay', {}, ['ipv4'], { ipv4: '' }],
    ['relay', {}, ['port'], { port: '65536' }],
    ['relay', { 'user-agent': undefined }, ['last_seen_user_agent'], {}],
  ] as const)('Appendix C 3: a %s with %j gets 422 that names %j: %j', async (role, headers, faults, query) => {
    const { text } = await aToken(stage.server.db, role, ownerOf(role));
    const asked = { ...deviceQuery(text, 'device', { ipv4: '203.0.113.7' }), ...query };
    const answer = await askUpgrade(stage.server.api, path(role), asked, headers);
    expectRefused(answer, 422, 'invalid_connect_params');
    expect(Object.keys(answer.problem['errors'] as object).sort()).toEqual([...faults]);
  });

  describe('overload', () => {
    let narrow: TestServer;

    beforeAll(async () => {
      narrow = await startTestServer({
        ...{ MAX_CONCURRENT_UPGRADES: '2', CONNECT_TIMEOUT_MS: '1000', CONNECT_BURST: '5', CONNECTS_PER_SECOND: '1' },
      });
    });

    afterAll(() => narrow.close());

    function expectComeBack(answer: UpgradeAnswer): void {
      expect(answer.status).toBe(503);
      expect(answer.headers['content-type']).toBe('application/problem+json');
      expect(answer.headers['retry-after']).toMatch(/^[1-9]\d*$/);
    }

    it('Appendix C 3: more upgrades than the server takes, and a database that hangs, are 503 and never 429', async () => {
      const { text } = await aToken(narrow.db, 'relay', {});
      const ask = (n: number): Promise<UpgradeAnswer> =>
        askUpgrade(narrow.api, path('relay'), { token: text, ipv4: `203.0.113.${n}` });
      const holder = new Client({ connectionString: narrow.db.url });
      await holder.connect();
      await holder.query('BEGIN; LOCK TABLE token_secrets IN ACCESS EXCLUSIVE MODE');
      const held = [ask(1), ask(2)];
      const waiting = `SELECT FROM pg_locks WHERE relation = 'token_secrets'::regclass AND NOT granted`;
      await eventually('two upgrades to wait', async () => (await narrow.db.query(waiting)).rowCount === 2);
      expectComeBack(await ask(3));
      for (const answer of await Promise.all(held)) expectComeBack(answer); // the database hung for longer than they may
      await holder.query('ROLLBACK');
      await holder.end();
      await eventually('the pool to recover', async () => (await ask(4)).status === 101);
    });

    it('Appendix C 3: a device that connects again and again is held back with 503, another one is not (D34)', async () => {
      const { clientToken } = await aTestAccount(narrow.db);
      const ask = (name: string): Promise<UpgradeAnswer> =>
        askUpgrade(narrow.api, path('client'), deviceQuery(clientToken, name));
      const answers: UpgradeAnswer[] = [];
      for (let times = 0; times < 12; times += 1) answers.push(await ask('impatient'));
      expect(answers.slice(0, 5).map(({ status }) => status)).toEqual([101, 101, 101, 101, 101]);
      const refused = answers.filter(({ status }) => status !== 101);
      expect(refused.length).toBeGreaterThan(0);
      refused.forEach(expectComeBack);
      expect((await ask('patient')).status).toBe(101);
    });
  });
});

// ---- 4: forwarding -------------------------------------------------------------------------------------------------

describe('Appendix C 4', () => {
  /** What the server takes for the address of a client that comes with this header through the proxy 127.0.0.1. */
  async function remoteIp(server: TestServer, forwarded: string | undefined): Promise<unknown> {
    const { accountId, clientToken } = await aTestAccount(server.db);
    const headers = forwarded === undefined ? {} : { 'x-forwarded-for': forwarded };
    expect(
      (await askUpgrade(server.api, '/client/websocket', deviceQuery(clientToken, 'device'), headers)).status,
    ).toBe(101);
    const text = 'SELECT host(remote_ip) AS ip FROM client_sessions WHERE account_id = $1';
    return (await server.db.query(text, [accountId])).rows[0]?.['ip'];
  }

  it.each([
    ['no header', undefined, '127.0.0.1'],
    ['one address', '198.51.100.7', '198.51.100.7'],
    ['an IPv6 address', '2001:db8::7', '2001:db8::7'],
    ['no spaces', '192.0.2.1,198.51.100.7', '198.51.100.7'],
    ['what the peer itself wrote in front', '192.0.2.1, 198.51.100.7', '198.51.100.7'],
    ['an external proxy that is trusted', '198.51.100.7, 203.0.113.200', '198.51.100.7'],
    ['two of them', '192.0.2.1, 198.51.100.7, 203.0.113.201, 203.0.113.200', '198.51.100.7'],
    ['an external proxy that is not trusted', '198.51.100.7, 203.0.113.7', '203.0.113.7'],
    ['only trusted proxies', '203.0.113.200, 127.0.0.1', '127.0.0.1'],
    ['a port', '198.51.100.7:4711', '198.51.100.7'],
    ['a port and IPv6', '[2001:db8::7]:4711', '2001:db8::7'],
    ['nothing', '', '127.0.0.1'],
  ])('Appendix C 4: X-Forwarded-For with %s: %s is %s', async (_what, forwarded, expected) => {
    expect(await remoteIp(stage.server, forwarded)).toBe(expected);
  });

  it('Appendix C 4, D36: a private address in X-Forwarded-For is a peer, not a proxy, until TRUSTED_PROXIES says so', async () => {
    // Else a peer of the proxy's own network could invent what stands to the left of its address.
    const addresses = ['127.9.9.9', '::1', 'fd12::3', '10.1.2.3', '172.31.255.254', '192.168.1.1'];
    for (const address of addresses) expect(await remoteIp(stage.server, `198.51.100.7, ${address}`)).toBe(address);
    const wider = await startTestServer({ TRUSTED_PROXIES: '127.0.0.1/32, 10.0.0.0/8' });
    try {
      expect(await remoteIp(wider, '198.51.100.7, 10.1.2.3')).toBe('198.51.100.7');
    } finally {
      await wider.close();
    }
  });

  it('Appendix C 4: X-Forwarded-For of somebody who is no trusted proxy counts for nothing', async () => {
    const strict = await startTestServer({ TRUSTED_PROXIES: '203.0.113.128/25' });
    try {
      expect(await remoteIp(strict, '198.51.100.7')).toBe('127.0.0.1');
    } finally {
      await strict.close();
    }
  });
});

// ---- 5: init -------------------------------------------------------------------------------------------------------

describe('Appendix C 5', () => {
  /** Resources of every type, typed as people type them, and what of each may be on the wire. */
  const TYPED: readonly [type: string, address: string | null, sent: string | undefined, more?: string][] = [
    ['dns', '*.git.corp.example', '*.git.corp.example'],
    ['dns', 'ipv6.corp.example', 'ipv6.corp.example', `ip_stack = 'ipv6_only'`],
    ['cidr', '10.30.4.7/16', '10.30.0.0/16', `address_description = 'the office'`],
    ['cidr', '2001:db8:1::5/48', '2001:db8:1::/48', `filters = '[{"protocol":"tcp","ports":["80","443 - 445"]}]'`],
    ['ip', '192.0.2.7', '192.0.2.7/32', `filters = '[{"protocol":"icmp"},{"protocol":"udp"}]'`],
    ['ip', '2001:db8::9', '2001:db8::9/128'],
    ['internet', null, undefined],
  ];

  async function furnish(): Promise<void> {
    const { accountId, siteId, groupId } = scene.ids;
    const dns = [{ address: '2620:fe::fe' }, { address: '9.9.9.9' }, { address: '[2620:fe::9]:5353' }];
    const config = { clients_upstream_dns: dns.map((server) => ({ protocol: 'ip_port', ...server })) };
    await stage.server.db.query('UPDATE accounts SET config = $1 WHERE id = $2', [JSON.stringify(config), accountId]);
    for (const [type, address, , more] of TYPED) {
      const id = randomUUID();
      await stage.server.db.query('INSERT INTO resources (account_id, id, type, address) VALUES ($1, $2, $3, $4)', [
        ...[accountId, id, type, address],
      ]);
      await stage.server.db.sql(`
        ${more === undefined ? '' : `UPDATE resources SET ${more} WHERE account_id = '${accountId}' AND id = '${id}';`}
        INSERT INTO resource_sites VALUES ('${accountId}', '${id}', '${siteId}');
        INSERT INTO policies (account_id, group_id, resource_id) VALUES ('${accountId}', '${groupId}', '${id}')`);
    }
  }

  it('Appendix C 5: init of both roles has every mandatory member, no null, networks and addresses in their form', async () => {
    await furnish();
    const { text: token } = await aToken(stage.server.db, 'relay', { accountId: scene.ids.accountId });
    const relay = await joinRelay(stage.server.wsUrl, {
      token,
      query: { ipv4: '203.0.113.7', ipv6: '2001:db8:0:0::7' },
    });
    await scene.join('gateway', 'gateway');
    const { peer: client } = await scene.join('client', 'client');
    const { resources, relays } = client.init as { resources: Json[]; relays: Json[] };
    for (const { id } of resources) await scene.openFlow(id as string);
    await scene.history((rows) => rows.length === resources.length);
    const { peer: gateway } = await scene.join('gateway', 'gateway');

    expect(faultsOf('client', client.init)).toEqual([]);
    expect(faultsOf('gateway', gateway.init)).toEqual([]);
    const sent = ['10.20.0.0/16', ...TYPED.map(([, , address]) => address)];
    expect(resources.map(({ address }) => address).sort()).toEqual(sent.sort());
    expect(relays.map(({ addr }) => addr).sort()).toEqual(
      ['198.51.100.1:3478', '203.0.113.7:3478', '[2001:db8::7]:3478'].sort(),
    );
    expect(gateway.init['authorizations']).toHaveLength(resources.length);
    expect(client.init['interface']).toMatchObject({
      upstream_dns: ['[2620:fe::fe]:53', '9.9.9.9:53', '[2620:fe::9]:5353'].map((address) => ({ address })),
    });
    await relay.peer.close();
  });

  it('Appendix C 5: the schemas refuse what a peer could not read', async () => {
    await furnish();
    const { peer: client } = await scene.join('client', 'client');
    const { peer: gateway } = await scene.join('gateway', 'gateway');
    const spoil = (init: Json, how: (copy: { [name: string]: Json & Json[] }) => void): Json => {
      const copy = structuredClone(init) as { [name: string]: Json & Json[] };
      how(copy);
      return copy;
    };
    const spoilFirst = (name: string, type: string | undefined, change: Json): Json =>
      spoil(client.init, (copy) => {
        Object.assign(copy[name]?.find((one) => type === undefined || one['type'] === type) ?? {}, change);
      });
    const bad: [PeerRole, Json][] = [
      ['client', spoilFirst('resources', 'cidr', { address: '10.20.0.1/16' })],
      ['client', spoilFirst('resources', 'cidr', { address: '10.20.0.1' })],
      ['client', spoilFirst('resources', 'dns', { ip_stack: null })],
      ['client', spoilFirst('resources', 'dns', { name: null })],
      ['client', spoilFirst('resources', 'dns', { gateway_groups: [] })],
      ['client', spoilFirst('resources', 'cidr', { filters: [{ protocol: 'sctp' }] })],
      ['client', spoilFirst('resources', 'internet', { type: 'ip' })],
      ['client', spoilFirst('relays', undefined, { addr: '2001:db8::7:3478' })],
      ['client', spoilFirst('relays', undefined, { expires_at: 2_145_916_800_000 })],
      ['client', spoil(client.init, (copy) => delete copy['interface']?.['ipv4'])],
      ['client', spoil(client.init, (copy) => Object.assign(copy['interface'] ?? {}, { ipv6: 'fd00::1/128' }))],
      ['gateway', spoil(gateway.init, (copy) => delete copy['config'])],
      ['gateway', spoil(gateway.init, (copy) => delete copy['interface'])],
      [
        'gateway',
        spoil(gateway.init, (copy) => copy['authorizations']?.push({ client_id: NIL_UUID, resource_id: NIL_UUID })),
      ],
    ];
    for (const [role, init] of bad) expect(faultsOf(role, init)).not.toEqual([]);
  });
});

// ---- 6: one pair, one set of secrets -------------------------------------------------------------------------------

describe('Appendix C 6', () => {
  it('Appendix C 6: from create_flow to flow_created PSK and ICE are the same on both sides and every time', async () => {
    await scene.join('gateway', 'gateway');
    await scene.join('client', 'client');
    const first = await secretsTold();
    expect(await secretsTold()).toEqual(first);
    expect(await secretsTold(await anotherResource())).toEqual(first);
    for (const name of ['client', 'gateway'] as const) {
      await scene.join(name, name);
      await scene.heard();
      expect(await secretsTold()).toEqual(first);
    }
  });

  async function anotherResource(): Promise<string> {
    const id = await aResource(scene);
    await scene.hears(aPolicy(scene, { resourceId: id }).sql);
    return id;
  }
});

// ---- 7: failures ---------------------------------------------------------------------------------------------------

describe('Appendix C 7', () => {
  async function failure(resourceId: string = scene.ids.resourceId): Promise<Json> {
    scene.client.send('create_flow', { resource_id: resourceId, connected_gateway_ids: [] });
    return scene.client.next('flow_creation_failed');
  }

  it('Appendix C 7: not_found, for a resource that no policy of the client’s groups names or that has no site', async () => {
    const [ungranted, siteless] = [await aResource(scene), await aResource(scene)];
    await stage.server.db.sql(`${aPolicy(scene, { resourceId: siteless }).sql};
      DELETE FROM resource_sites WHERE resource_id = '${siteless}'`);
    await scene.join('gateway', 'gateway');
    await scene.join('client', 'client');
    for (const id of [randomUUID(), ungranted, siteless]) {
      expect(await failure(id)).toEqual({ resource_id: id, reason: 'not_found' });
    }
  });

  it('Appendix C 7: offline, without a gateway in the site and without one of the client’s generation', async () => {
    await scene.join('client', 'client');
    const offline = { resource_id: scene.ids.resourceId, reason: 'offline' };
    expect(await failure()).toEqual(offline);
    await scene.leave('client'); // one offline in 2 s for each channel (D26)
    await scene.join('gateway', 'gateway', { userAgent: 'Linux/6.8.0 connlib/1.3.9 (x86_64)' });
    await scene.join('client', 'client');
    expect(await failure()).toEqual(offline);
  });

  it('Appendix C 7: forbidden, with each violated property once and in order', async () => {
    const conditions = [
      ...(JSON.parse(condition('remote_ip_location_region', 'is_in', 'US')) as Json[]),
      ...(JSON.parse(condition('remote_ip', 'is_in_cidr', '192.0.2.0/24')) as Json[]),
      ...(JSON.parse(condition('remote_ip', 'is_not_in_cidr', '127.0.0.0/8')) as Json[]),
      ...(JSON.parse(condition('provider_id', 'is_in', randomUUID())) as Json[]),
      ...(JSON.parse(condition('current_utc_datetime', 'is_in_day_of_week_time_ranges', 'M//UTC')) as Json[]),
      ...(JSON.parse(condition('client_verified', 'is', 'true')) as Json[]),
    ];
    await stage.server.db.sql(setPolicy(scene, `conditions = '${JSON.stringify(conditions)}'`));
    await scene.join('gateway', 'gateway');
    await scene.join('client', 'client');
    expect(await failure()).toEqual({
      resource_id: scene.ids.resourceId,
      reason: 'forbidden',
      violated_properties: [
        ...['remote_ip_location_region', 'remote_ip', 'provider_id', 'current_utc_datetime', 'client_verified'],
      ],
    });
  });
});

// ---- 8: frames that are wrong --------------------------------------------------------------------------------------

describe('Appendix C 8', () => {
  const BAD: Readonly<Record<PeerRole, readonly [event: string, payload: unknown]>> = {
    client: ['create_flow', { resource_id: 'no uuid', connected_gateway_ids: [] }],
    gateway: ['flow_authorized', { ref: 7 }],
    relay: ['heartbeat', {}], // has no message but its join
  };

  it.each(ROLES)(
    'Appendix C 8: what a %s says too early, wrongly or in no known words is answered, and it goes on',
    async (role) => {
      const peer = await connect(role);
      const reply = async (event: string, payload: unknown, topic?: string): Promise<Json> => {
        const ref = peer.send(event, payload, topic);
        const answer = await peer.next('phx_reply');
        expect(peer.received.at(-1)?.ref).toBe(ref);
        return answer;
      };
      const [badEvent, badPayload] = BAD[role];
      expect(await reply(badEvent, badPayload)).toEqual(refusal('unmatched topic'));
      expect(await reply('no_such_event', {})).toEqual(refusal('unmatched topic'));
      expect(await reply('phx_join', null, 'room:1')).toEqual(refusal('unmatched topic'));
      expect(await reply('phx_join', joinOf(role))).toEqual(OK);
      await peer.next('init');
      expect(await reply('no_such_event', {})).toEqual(refusal('unknown_message'));
      expect(await reply(badEvent, badPayload)).toEqual(refusal('unknown_message'));
      expect(await reply(badEvent, null)).toEqual(refusal('unknown_message'));
      expect(await reply('anything', {}, 'room:1')).toEqual(refusal('unmatched topic'));
      await peer.settled();
      expect([peer.isClosed, peer.drain()]).toEqual([false, []]);
      await peer.close();
    },
  );

  it('Appendix C 8: and after all that a client and a gateway still open a flow', async () => {
    await scene.join('gateway', 'gateway');
    await scene.join('client', 'client');
    for (const role of ['client', 'gateway'] as const) {
      scene[role].send(...BAD[role]);
      expect(await scene[role].next('phx_reply')).toEqual(refusal('unknown_message'));
    }
    await scene.openFlow();
  });
});

// ---- 9 and 10: revoked while somebody is away ----------------------------------------------------------------------

describe('Appendix C 9', () => {
  it('Appendix C 9: a policy deleted while the client is offline still yields reject_access', async () => {
    await scene.join('gateway', 'gateway');
    await scene.join('client', 'client');
    const flow = await scene.openFlow();
    await scene.leave('client');
    await scene.heard();
    expect(await scene.hears(`DELETE FROM policies WHERE id = '${scene.ids.policyId}'`)).toEqual({
      gateway: [rejected(flow)],
    });
  });
});

describe('Appendix C 10', () => {
  it('Appendix C 10: a gateway that was away while a pair was revoked is not given it, and is told to reject it', async () => {
    await scene.join('gateway', 'gateway');
    await scene.join('client', 'client');
    const second = await aResource(scene);
    await scene.hears(aPolicy(scene, { resourceId: second }).sql);
    const [revoked, kept] = [await scene.openFlow(), await scene.openFlow(second)];
    await scene.history((rows) => rows.length === 2);
    await scene.leave('gateway');
    expect(await scene.hears(`DELETE FROM policies WHERE id = '${scene.ids.policyId}'`)).toEqual({
      client: [removed(revoked.resourceId)],
    });
    const { peer: gateway } = await scene.join('gateway', 'gateway');
    expect(gateway.init['authorizations']).toEqual([
      { client_id: kept.clientId, resource_id: kept.resourceId, expires_at: kept.expiresAt },
    ]);
    const { gateway: heard = [] } = await scene.heard();
    expect(heard[0]).toEqual(rejected(revoked));
    expect(heard.filter(([event]) => event === 'reject_access')).toHaveLength(1);
  });

  it('Appendix C 10: also when it was the client’s only pair: the client is then listed with no resource (D22)', async () => {
    await scene.join('gateway', 'gateway');
    await scene.join('client', 'client');
    const revoked = await scene.openFlow();
    await scene.history((rows) => rows.length === 1);
    await scene.leave('gateway');
    await scene.hears(`DELETE FROM policies WHERE id = '${scene.ids.policyId}'`);
    const { peer: gateway } = await scene.join('gateway', 'gateway');
    // Gateways of 2025 prune only clients that are listed: the nil uuid is nobody's resource.
    expect(gateway.init['authorizations']).toEqual([
      { client_id: revoked.clientId, resource_id: NIL_UUID, expires_at: expect.any(Number) },
    ]);
    expect(await scene.heard()).toEqual({ gateway: [rejected(revoked)], client: [] });
  });
});

// ---- 11 and 12: relays and derivations -----------------------------------------------------------------------------

describe('with relays of our own', () => {
  /** Stands for the 3 s of the product. */
  const DEBOUNCE_MS = 600;

  let own: Stage;
  const relays: TestRelay[] = [];

  beforeAll(async () => {
    own = await Stage.open({ RELAYS_DEBOUNCE_MS: `${DEBOUNCE_MS}`, RELAYS_REQUIRED: 'true' });
  });

  beforeEach(async () => {
    scene = await own.account();
  });

  afterEach(async () => {
    await own.clear();
    for (const { peer } of relays.splice(0)) if (!peer.isClosed) await peer.close();
  });

  afterAll(() => own.close());

  async function aRelay(options: Partial<RelayOptions> = {}): Promise<TestRelay> {
    const { text } = await aToken(own.server.db, 'relay', { accountId: scene.ids.accountId });
    const relay = await joinRelay(own.server.wsUrl, { token: text, ...options });
    relays.push(relay);
    return relay;
  }

  async function joined(): Promise<void> {
    await scene.join('gateway', 'gateway');
    await scene.join('client', 'client');
  }

  /** What both were told, as `[gone, to use]` by id; the same to both. */
  async function nextPresence(): Promise<unknown> {
    const told: unknown[] = [];
    for (const peer of [scene.gateway, scene.client]) {
      const { disconnected_ids, connected } = await peer.next('relays_presence');
      told.push([disconnected_ids, [...new Set((connected as { id: string }[]).map(({ id }) => id))].sort()]);
    }
    expect(told[0]).toEqual(told[1]);
    return told[0];
  }

  const idsOf = (...of: readonly TestRelay[]): string[] => of.map(({ stampSecret }) => relayIdOf(stampSecret)).sort();

  /** Longer than the delay, with all that it caused arrived. */
  async function afterDelay(): Promise<Record<string, Push[]>> {
    await new Promise((resolve) => setTimeout(resolve, DEBOUNCE_MS + 200)); // nothing is to come: nothing to await
    return scene.heard();
  }

  describe('Appendix C 11', () => {
    it('Appendix C 11: a flap shorter than the delay is not pushed', async () => {
      const flapping = await aRelay();
      await aRelay();
      await joined();
      await flapping.peer.close();
      await aRelay({ stampSecret: flapping.stampSecret });
      expect(await afterDelay()).toEqual({ gateway: [], client: [] });
    });

    it('Appendix C 11: nor is the flap of the only relay a peer was given, while another one has joined since', async () => {
      const flapping = await aRelay();
      await joined();
      await aRelay();
      expect(await afterDelay()).toEqual({ gateway: [], client: [] });
      await flapping.peer.close();
      await aRelay({ stampSecret: flapping.stampSecret });
      expect(await afterDelay()).toEqual({ gateway: [], client: [] });
    });

    it('Appendix C 11: a restart with a new secret is pushed at once', async () => {
      const query = { ipv4: '203.0.113.20' };
      const old = await aRelay({ query });
      await joined();
      const restartedAt = performance.now();
      const restarted = await aRelay({ query });
      expect(await nextPresence()).toEqual([idsOf(old), idsOf(restarted)]);
      expect(performance.now() - restartedAt).toBeLessThan(DEBOUNCE_MS);
      expect(await afterDelay()).toEqual({ gateway: [], client: [] });
    });

    it('Appendix C 11: the last relay gone is pushed with nothing to use; the next one that joins at once', async () => {
      const last = await aRelay();
      await joined();
      const goneAt = performance.now();
      await last.peer.close();
      expect(await nextPresence()).toEqual([idsOf(last), []]);
      expect(performance.now() - goneAt).toBeGreaterThanOrEqual(DEBOUNCE_MS - 5); // two clocks
      const joinedAt = performance.now();
      const next = await aRelay();
      expect(await nextPresence()).toEqual([[], idsOf(next)]);
      expect(performance.now() - joinedAt).toBeLessThan(DEBOUNCE_MS);
    });
  });

  describe('Appendix C 12', () => {
    it('Appendix C 12: TURN credentials are what 6.5 computes from key, secret and expiry', async () => {
      const expiresAt = Math.floor(Date.now() / 1000) + 7 * 86_400;
      await own.server.db.query('UPDATE tokens SET expires_at = to_timestamp($1) WHERE id = $2', [
        ...[expiresAt, scene.ids.clientTokenId],
      ]);
      const query = { ipv4: '203.0.113.7', ipv6: '2001:db8::7', port: '3500' };
      const { stampSecret } = await aRelay({ query });
      await joined();
      const relay = { stampSecret, addrs: ['203.0.113.7:3500', '[2001:db8::7]:3500'] };
      expect(scene.client.init['relays']).toEqual(relayEntries(relay, keyOf('client'), expiresAt));
      expect(scene.gateway.init['relays']).toEqual(relayEntries(relay, keyOf('gateway'), RELAYS_UNTIL));
    });

    it('Appendix C 12: TURN vector of 6.5: the derivation of this test is the documented one', () => {
      const relay = { stampSecret: 'a3'.repeat(32), addrs: ['203.0.113.7:3478'] };
      expect(relayEntries(relay, 'AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=', 1_767_225_600)).toMatchObject([
        {
          username: '1767225600:xXzDtV05+ab3cvUI44IeCigIIjUsDQ8NJZ+6Y7dNqaA',
          password: 'DbsxnSuna3lRUZXpxvd70r/vTsWO5UbRfFIQeKrpvfM',
        },
      ]);
      expect(relayIdOf('stamp-secret-example')).toBe('794258bf-b89b-4084-917e-44c666791a3d');
    });

    it('Appendix C 12: the preshared key is what 6.7 computes from the secret bases, ids and keys of both', async () => {
      await aRelay();
      const clientKey = randomBytes(32).toString('base64');
      for (const publicKey of [clientKey, randomBytes(32).toString('base64')]) {
        await scene.join('gateway', 'gateway');
        await scene.join('client', 'client', { publicKey });
        const { id: clientId } = scene.device('client');
        const { id: gatewayId } = scene.device('gateway');
        await scene.heard();
        const { psk } = await secretsTold();
        expect(psk).toBe(
          await presharedKeyOf(own.server.db, {
            accountId: scene.ids.accountId,
            client: { id: clientId, publicKey },
            gateway: { id: gatewayId, publicKey: keyOf('gateway') },
          }),
        );
      }
    });

    it('Appendix C 12: ICE credentials have their form, and are others for another key or device (D28)', async () => {
      await aRelay();
      await joined();
      await scene.join('gateway', 'other-gateway');
      await scene.join('client', 'other-client');
      const told = [await secretsTold(), await secretsTold(scene.ids.resourceId, 'other-client')];
      told.push(await secretsTold(scene.ids.resourceId, 'client', 'other-gateway'));
      await scene.join('client', 'client', { publicKey: randomBytes(32).toString('base64') });
      told.push(await secretsTold());
      await scene.join('gateway', 'gateway', { publicKey: randomBytes(32).toString('base64') });
      await scene.heard();
      told.push(await secretsTold());
      for (const { clientIce, gatewayIce } of told) {
        for (const { username, password } of [clientIce, gatewayIce]) {
          expect([username, password]).toEqual([
            expect.stringMatching(/^[a-z2-7]{4}$/),
            expect.stringMatching(/^[a-z2-7]{22}$/),
          ]);
        }
      }
      // Usernames have 20 bits: passwords are what must never meet.
      const passwords = told.flatMap(({ clientIce, gatewayIce }) => [clientIce.password, gatewayIce.password]);
      expect(new Set(passwords).size).toBe(passwords.length);
    });
  });
});

// ---- 13: a channel that fails --------------------------------------------------------------------------------------

describe('Appendix C 13', () => {
  afterEach(() => {
    jest.restoreAllMocks();
  });

  /** The server runs in this process: whoever makes JSON of a value like this one from now on throws. */
  function plant(isIt: (text: string) => boolean): void {
    const { stringify } = JSON;
    jest.spyOn(JSON, 'stringify').mockImplementation((...args: unknown[]) => {
      const text = Reflect.apply(stringify, JSON, args) as string | undefined;
      if (text !== undefined && isIt(text)) throw new Error('planted by the test');
      return text as string;
    });
  }

  /** It ended, and nothing was said after `heard` messages: no disconnect, no phx_error, no phx_close. */
  async function expectClosedInSilence(peer: RawPeer, heard: number): Promise<void> {
    expect([1011, 1012]).toContain(await peer.closed());
    expect(peer.closeReason).toBe('');
    expect(peer.received.slice(heard)).toEqual([]);
  }

  it('Appendix C 13: a client’s channel that throws closes its socket and no other, without disconnect', async () => {
    await scene.join('gateway', 'gateway');
    await scene.join('client', 'client');
    await scene.openFlow();
    const { client } = scene;
    const heard = client.received.length;
    plant((text) => text.includes('"interface"') && text.includes('planted.example'));
    await stage.server.db.sql(
      `UPDATE accounts SET config = '{"search_domain":"planted.example"}' WHERE id = '${scene.ids.accountId}'`,
    );
    await expectClosedInSilence(client, heard);
    jest.restoreAllMocks();
    await scene.gateway.settled();
    expect(scene.gateway.drain()).toEqual([]);
    await scene.join('client', 'client');
    await scene.openFlow();
  });

  it('Appendix C 13: a gateway’s channel that throws closes its socket and no other, without disconnect', async () => {
    await scene.join('gateway', 'gateway');
    await scene.join('client', 'client');
    await scene.openFlow();
    const { gateway } = scene;
    const heard = gateway.received.length;
    // The gateway's form of a resource: what the client is sent has sites, what is recorded has the account.
    plant((text) => text.includes('Planted name') && !/gateway_groups|account_id|created_at/.test(text));
    await stage.server.db.sql(setResource(scene, `name = 'Planted name'`));
    await expectClosedInSilence(gateway, heard);
    jest.restoreAllMocks();
    expect(await scene.client.next('resource_created_or_updated')).toEqual(shown(scene, { name: 'Planted name' })[1]);
    await scene.join('gateway', 'gateway');
    await scene.heard();
    await scene.openFlow();
  });

  it('Appendix C 13: a join that fails is answered with ok, then closed without disconnect', async () => {
    const there = await Stage.open();
    try {
      const { ids } = await there.account();
      await there.server.db.query('ALTER TABLE flows RENAME TO flows_away');
      const gateway = await RawPeer.connect('gateway', there.server.wsUrl, {
        ...{ token: ids.gatewayToken, externalId: 'gateway' },
      });
      gateway.send('phx_join', null);
      expect(await gateway.next('phx_reply')).toEqual(OK);
      await expectClosedInSilence(gateway, 1);
      await there.server.db.query('ALTER TABLE flows_away RENAME TO flows');
    } finally {
      await there.close();
    }
  });
});

// ---- 14: far expiries ----------------------------------------------------------------------------------------------

describe('Appendix C 14', () => {
  // A timer of JavaScript holds 2^31-1 ms, 24.8 days; one set for longer fires after 1 ms.
  it.each([25, 26, 30, 50, 365 * 80])(
    'Appendix C 14: a client token that ends in %d days does not end its socket or its flow now',
    async (days) => {
      const endsAt = Math.floor(Date.now() / 1000) + days * 86_400;
      const { accountId, actorId } = scene.ids;
      const token = await aToken(stage.server.db, 'client', { accountId, actorId, expiresAt: new Date(endsAt * 1000) });
      await scene.join('gateway', 'gateway');
      await scene.join('client', 'client', { token: token.text });
      const flow = await scene.openFlow();
      expect(flow.expiresAt).toBe(endsAt);
      for (let times = 0; times < 20; times += 1) {
        expect(await scene.openFlow()).toEqual(flow);
        expect(await scene.hears(setResource(scene, `address_description = 'round ${times}'`))).toEqual({
          gateway: [],
          client: [shown(scene, { address_description: `round ${times}` })],
        });
      }
      expect([scene.client.isClosed, scene.gateway.isClosed]).toEqual([false, false]);
    },
  );
});

// ---- 15: connected gateways ----------------------------------------------------------------------------------------

describe('Appendix C 15', () => {
  const at = (coordinates: string) => ({ headers: { 'x-geo-location-coordinates': coordinates } });

  it('Appendix C 15: connected_gateway_ids that contain an eligible gateway always win', async () => {
    const near = await scene.join('gateway', 'near', at('50.11,8.68'));
    const far = await scene.join('gateway', 'far', at('-33.86,151.21'));
    const old = await scene.join('gateway', 'old', { userAgent: 'Linux/6 connlib/1.3.9', ...at('50.11,8.68') });
    await scene.join('client', 'client', at('52.52,13.40'));
    /** The gateway that the client is sent to; nobody else hears of it. */
    const asked = async (connected: readonly string[]): Promise<unknown> => {
      scene.client.send('create_flow', { resource_id: scene.ids.resourceId, connected_gateway_ids: connected });
      await scene.client.settled();
      const found: string[] = [];
      for (const { id, peer } of [near, far, old]) {
        await peer.settled();
        for (const [event, { ref }] of peer.drain()) {
          expect(event).toBe('authorize_flow');
          found.push(id);
          peer.send('flow_authorized', { ref });
          expect(await peer.next('phx_reply')).toEqual(OK);
        }
      }
      const { gateway_id } = await scene.client.next('flow_created');
      expect(found).toEqual([gateway_id]);
      return gateway_id;
    };
    for (let times = 0; times < 5; times += 1) {
      expect(await asked([])).toBe(near.id);
      expect(await asked([far.id])).toBe(far.id);
      expect(await asked([randomUUID(), old.id, far.id])).toBe(far.id);
      expect(await asked([old.id, randomUUID()])).toBe(near.id); // none of them is eligible
    }
  });
});

// ---- helpers -------------------------------------------------------------------------------------------------------

/** Whose a token of this kind is. */
function ownerOf(role: PeerRole): { accountId: string; actorId?: string; siteId?: string } {
  const { accountId, actorId, siteId } = scene.ids;
  return { accountId, ...(role === 'client' && { actorId }), ...(role === 'gateway' && { siteId }) };
}

function joinOf(role: PeerRole): Json | null {
  return role === 'relay' ? { stamp_secret: randomBytes(32).toString('hex') } : null;
}

/** Connected and not joined. */
async function connect(role: PeerRole, options: Partial<PeerOptions> = {}): Promise<RawPeer> {
  const { text: token } = await aToken(stage.server.db, role, ownerOf(role));
  const who = role === 'relay' ? { query: { ipv4: '192.0.2.77' } } : { externalId: `lone-${role}` };
  return RawPeer.connect(role, stage.server.wsUrl, { token, ...who, ...options });
}

interface Ice {
  readonly username: string;
  readonly password: string;
}

interface Secrets {
  readonly psk: string;
  readonly clientIce: Ice;
  readonly gatewayIce: Ice;
}

/** Opens a flow, and resolves with what both ends were told, which must be the same. */
async function secretsTold(
  resourceId: string = scene.ids.resourceId,
  from = 'client',
  through = 'gateway',
): Promise<Secrets> {
  const [{ peer: client }, { id, peer: gateway }] = [scene.device(from), scene.device(through)];
  client.send('create_flow', { resource_id: resourceId, connected_gateway_ids: [id] });
  const asked = await gateway.next('authorize_flow');
  gateway.send('flow_authorized', { ref: asked['ref'] });
  expect(await gateway.next('phx_reply')).toEqual(OK);
  const created = await client.next('flow_created');
  const toldBy = (told: Json, psk: unknown): Secrets => ({
    psk: psk as string,
    clientIce: told['client_ice_credentials'] as Ice,
    gatewayIce: told['gateway_ice_credentials'] as Ice,
  });
  const secrets = toldBy(created, created['preshared_key']);
  expect(toldBy(asked, (asked['client'] as Json)['preshared_key'])).toEqual(secrets);
  return secrets;
}

// ---- JSON schemas of init, from wire-protocol.md 3.2, 4.2 and section 6 --------------------------------------------

function faultsOf(role: PeerRole, init: Json): unknown[] {
  const validate = role === 'client' ? isClientInit : isGatewayInit;
  validate(init);
  return validate.errors ?? [];
}

const ajv = new Ajv({
  allErrors: true,
  formats: { ipv4: isIPv4, ipv6: isPlainIPv6, network: isNetwork, socket: isSocket },
});

function isPlainIPv6(text: string): boolean {
  return isIPv6(text) && !text.includes('%');
}

/** `ip:port`, an IPv6 address in brackets. */
function isSocket(text: string): boolean {
  const [, v6, v4 = '', port] = /^(?:\[([0-9a-f:.]+)\]|([0-9.]+)):(\d{1,5})$/.exec(text) ?? [];
  return (v6 === undefined ? isIPv4(v4) : isIPv6(v6)) && Number(port) >= 1 && Number(port) <= 65_535;
}

/** With a prefix, and all bits after it zero. */
function isNetwork(text: string): boolean {
  const [, address = '', prefix = ''] = /^([0-9a-f.:]+)\/(\d{1,3})$/.exec(text) ?? [];
  const bits = isIPv4(address)
    ? bitsOf(address.split('.'), 8, 10)
    : isIPv6(address)
      ? bitsOf(groupsOf(address), 16, 16)
      : '';
  return bits !== '' && Number(prefix) <= bits.length && !bits.slice(Number(prefix)).includes('1');
}

function bitsOf(parts: readonly string[], width: number, radix: number): string {
  return parts.map((part) => parseInt(part, radix).toString(2).padStart(width, '0')).join('');
}

/** The eight groups of an IPv6 address in hexadecimal. */
function groupsOf(address: string): string[] {
  const [head = [], tail] = address.split('::').map((half) => half.split(':').filter((group) => group !== ''));
  if (tail === undefined) return head;
  return [...head, ...Array.from({ length: 8 - head.length - tail.length }, () => '0'), ...tail];
}

const id = { type: 'string', pattern: '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' };
const text = { type: 'string' };
const port = { type: 'integer', minimum: 0, maximum: 65_535 };
/** Seconds: milliseconds would be in the year 50,000. */
const unixSeconds = { type: 'integer', minimum: 1, maximum: 99_999_999_999 };

function object(properties: Json, optional: Json = {}): Json {
  const required = Object.keys(properties);
  return { type: 'object', properties: { ...properties, ...optional }, required, additionalProperties: false };
}

function list(items: Json, more: Json = {}): Json {
  return { type: 'array', items, ...more };
}

const ranges = { protocol: { enum: ['tcp', 'udp'] }, port_range_start: port, port_range_end: port };
const filters = list({ anyOf: [object({ protocol: { enum: ['tcp', 'udp', 'icmp'] } }), object(ranges)] });
const sites = list(object({ id, name: text }), { minItems: 1 });
const network = {
  ...{ id, name: text, address_description: { type: ['string', 'null'] }, gateway_groups: sites, filters },
};
const resource = {
  oneOf: [
    object(
      { ...network, type: { const: 'dns' }, address: text },
      { ip_stack: { enum: ['dual', 'ipv4_only', 'ipv6_only'] } },
    ),
    object({ ...network, type: { const: 'cidr' }, address: { type: 'string', format: 'network' } }),
    object({ id, type: { const: 'internet' }, gateway_groups: sites, can_be_disabled: { const: true } }),
  ],
};
const socketAddress = { type: 'string', format: 'socket' };
const relayEntry = object({
  ...{ id, type: { const: 'turn' }, addr: socketAddress, expires_at: unixSeconds },
  username: { type: 'string', pattern: '^[0-9]+:[A-Za-z0-9+/]{43}$' },
  password: { type: 'string', pattern: '^[A-Za-z0-9+/]{43}$' },
});
const addresses = { ipv4: { type: 'string', format: 'ipv4' }, ipv6: { type: 'string', format: 'ipv6' } };

const isClientInit = ajv.compile(
  object({
    interface: object({
      ...addresses,
      upstream_dns: list(object({ protocol: { const: 'ip_port' }, address: socketAddress })),
      search_domain: { type: ['string', 'null'] },
    }),
    resources: list(resource),
    relays: list(relayEntry, { maxItems: 4 }),
  }),
);

const isGatewayInit = ajv.compile(
  object({
    account_slug: text,
    interface: object(addresses),
    config: object({ ipv4_masquerade_enabled: { const: true }, ipv6_masquerade_enabled: { const: true } }),
    relays: list(relayEntry, { maxItems: 4 }),
    authorizations: list(object({ client_id: id, resource_id: id, expires_at: unixSeconds })),
  }),
);
