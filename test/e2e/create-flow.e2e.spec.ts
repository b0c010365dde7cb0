/** From `create_flow` to `flow_created`: who gets one, through which gateway, and what stands in the way (wire-protocol.md 3.5, 4.5). */
import { randomUUID } from 'node:crypto';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, jest } from '@jest/globals';
import { Client } from 'pg';
import { aTestAccount, type TestAccount } from '../support/demo-account.js';
import type { Json, RawPeer } from '../support/raw-peer.js';
import { Scene } from '../support/scene.js';
import { createMigratedDatabase } from '../support/test-database.js';
import { startTestServer, type TestServer } from '../support/test-server.js';

jest.setTimeout(60_000);

let server: TestServer;
let ids: TestAccount;
let scene: Scene;

beforeAll(async () => {
  server = await startTestServer({ TRUSTED_PROXIES: '127.0.0.1/32' });
});

beforeEach(async () => {
  ids = await aTestAccount(server.db);
  scene = new Scene(server, ids);
});

afterEach(() => scene.leaveAll());

afterAll(() => server.close());

function ask(client: RawPeer, resourceId: string = ids.resourceId, connected: readonly string[] = []): void {
  client.send('create_flow', { resource_id: resourceId, connected_gateway_ids: connected });
}

/** As `join`; a gateway that comes again hears of its resources after `init`. */
async function rejoin(role: 'client' | 'gateway', name: string, publicKey?: string): Promise<void> {
  const { peer } = await scene.join(role, name, publicKey === undefined ? {} : { publicKey });
  await peer.settled();
  peer.drain();
}

/** Further resources of the account behind its site, in order; with a policy unless told. */
async function moreResources(count: number, withPolicy = true): Promise<string[]> {
  const made = Array.from({ length: count }, () => randomUUID());
  for (const [i, id] of made.entries()) {
    await server.db.sql(`
      INSERT INTO resources (account_id, id, type, address)
        VALUES ('${ids.accountId}', '${id}', 'cidr', '10.99.${i}.0/24');
      INSERT INTO resource_sites VALUES ('${ids.accountId}', '${id}', '${ids.siteId}')`);
    if (withPolicy) await grant(id);
  }
  return made;
}

async function grant(resourceId: string): Promise<void> {
  await server.db.query('INSERT INTO policies (account_id, group_id, resource_id) VALUES ($1, $2, $3)', [
    ...[ids.accountId, ids.groupId, resourceId],
  ]);
}

// ---- refusals ------------------------------------------------------------------------------------------------------

describe('a request is refused', () => {
  /** What the client is told; a gateway that hears of a refused request would be a fault. */
  async function refusalOf(resourceId: string): Promise<Json> {
    ask(scene.client, resourceId);
    const refusal = await scene.client.next('flow_creation_failed');
    await scene.gateway.settled();
    expect(scene.gateway.drain()).toEqual([]);
    return refusal;
  }

  it('as not_found: unknown, of another account, without a policy, with a disabled one, without a site', async () => {
    const foreign = await aTestAccount(server.db);
    const [ungranted = '', disabled = '', siteless = ''] = await moreResources(3, false);
    await grant(disabled);
    await server.db.query('UPDATE policies SET disabled_at = now() WHERE resource_id = $1', [disabled]);
    await grant(siteless);
    await server.db.query('DELETE FROM resource_sites WHERE resource_id = $1', [siteless]);
    await scene.join('gateway', 'gateway');
    await scene.join('client', 'client');
    for (const id of [randomUUID(), foreign.resourceId, ids.accountId, ungranted, disabled, siteless]) {
      expect(await refusalOf(id)).toEqual({ resource_id: id, reason: 'not_found' });
    }
  });

  it('as forbidden, with what is violated in the order of the conditions', async () => {
    const conditions = [
      { property: 'client_verified', operator: 'is', values: ['true'] },
      { property: 'remote_ip', operator: 'is_in_cidr', values: ['203.0.113.0/24'] },
      { property: 'provider_id', operator: 'is_in', values: [randomUUID()] },
      { property: 'remote_ip_location_region', operator: 'is_not_in', values: ['FR'] },
      { property: 'current_utc_datetime', operator: 'is_in_day_of_week_time_ranges', values: ['no such window'] },
      { property: 'remote_ip', operator: 'is_not_in_cidr', values: ['127.0.0.0/8'] },
    ];
    await server.db.query('UPDATE policies SET conditions = $1 WHERE id = $2', [
      ...[JSON.stringify(conditions), ids.policyId],
    ]);
    await scene.join('gateway', 'gateway');
    await scene.join('client', 'client', { headers: { 'x-geo-location-region': 'DE' } });
    expect(await refusalOf(ids.resourceId)).toEqual({
      resource_id: ids.resourceId,
      reason: 'forbidden',
      violated_properties: ['client_verified', 'remote_ip', 'provider_id', 'current_utc_datetime'],
    });
  });

  it('as forbidden, with what every policy lacks and nothing twice, and allowed as soon as one conforms', async () => {
    const [first, second] = [randomUUID(), randomUUID()].sort();
    const verified = `[{"property":"client_verified","operator":"is","values":["true"]}]`;
    const inFrance = `[{"property":"remote_ip_location_region","operator":"is_in","values":["FR"]}, ${verified.slice(1)}`;
    const groupId = randomUUID();
    await server.db.sql(`
      DELETE FROM policies WHERE id = '${ids.policyId}';
      INSERT INTO groups (account_id, id) VALUES ('${ids.accountId}', '${groupId}');
      INSERT INTO memberships (account_id, actor_id, group_id) VALUES ('${ids.accountId}', '${ids.actorId}', '${groupId}');
      INSERT INTO policies (account_id, id, group_id, resource_id, conditions) VALUES
        ('${ids.accountId}', '${second}', '${groupId}', '${ids.resourceId}', '${verified}'),
        ('${ids.accountId}', '${first}', '${ids.groupId}', '${ids.resourceId}', '${inFrance}')`);
    await scene.join('gateway', 'gateway');
    const { id } = await scene.join('client', 'client');
    expect((await refusalOf(ids.resourceId))['violated_properties']).toEqual([
      'remote_ip_location_region',
      'client_verified',
    ]);
    await server.db.query('UPDATE clients SET verified_at = now() WHERE id = $1', [id]);
    await scene.client.next('resource_created_or_updated');
    await scene.openFlow();
  });

  it('as offline once in 2 s for each resource; what is asked in between is not answered (D26)', async () => {
    const [other = ''] = await moreResources(1);
    await scene.join('client', 'client');
    const { client } = scene;
    const offline = (id: string) => ({ resource_id: id, reason: 'offline' });
    for (let times = 0; times < 5; times += 1) ask(client);
    ask(client, other);
    await client.settled();
    expect(client.drain()).toEqual([
      ['flow_creation_failed', offline(ids.resourceId)],
      ['flow_creation_failed', offline(other)],
    ]);
    const [first] = client.received.slice(-2);

    while (
      !client.received
        .slice(-1)
        .some(({ payload, at }) => payload['resource_id'] === ids.resourceId && at > (first?.at ?? 0))
    ) {
      ask(client);
      await client.settled();
    }
    expect(client.drain()).toEqual([['flow_creation_failed', offline(ids.resourceId)]]);
    expect((client.received.at(-1)?.at ?? 0) - (first?.at ?? 0)).toBeGreaterThan(1900);
  });

  it('as offline when all that is there is a gateway of another site, or one too old for the client (D33)', async () => {
    const otherSite = randomUUID();
    await server.db.query('INSERT INTO sites (account_id, id) VALUES ($1, $2)', [ids.accountId, otherSite]);
    await scene.join('gateway', 'old', { userAgent: 'Linux/6 connlib/1.3.9' });
    const { peer: moved } = await scene.join('gateway', 'elsewhere');
    await server.db.query('UPDATE gateways SET site_id = $1 WHERE external_id = $2 AND account_id = $3', [
      ...[otherSite, 'elsewhere', ids.accountId],
    ]);
    await scene.applied();
    await scene.join('client', 'client');
    ask(scene.client);
    expect(await scene.client.next('flow_creation_failed')).toMatchObject({ reason: 'offline' });
    await moved.settled();
    expect(moved.drain()).toEqual([]);
  });
});

// ---- choice --------------------------------------------------------------------------------------------------------

describe('the gateway', () => {
  const BERLIN = '52.52,13.40';
  const FRANKFURT = '50.11,8.68';
  const NEW_YORK = '40.71,-74.01';

  function at(coordinates: string): Readonly<Record<string, string>> {
    return { 'x-geo-location-coordinates': coordinates };
  }

  const gateway = (name: string, place: string | undefined, version: string) =>
    scene.join('gateway', name, {
      userAgent: `Linux/6 connlib/${version}`,
      ...(place === undefined ? {} : { headers: at(place) }),
    });

  /** Who is asked when the client asks, `times` times: their names. */
  async function chosen(connected: readonly string[] = [], times = 10): Promise<Set<string>> {
    for (let i = 0; i < times; i += 1) ask(scene.client, ids.resourceId, connected);
    await scene.client.settled();
    const names = new Set<string>();
    for (const name of ['new-york', 'old', 'new', 'nowhere']) {
      const { peer } = scene.device(name);
      await peer.settled();
      for (const [event, payload] of peer.drain()) {
        expect(event).toBe('authorize_flow');
        names.add(name);
        peer.send('flow_authorized', { ref: payload['ref'] });
        await peer.next('phx_reply');
      }
    }
    return names;
  }

  beforeEach(async () => {
    await gateway('new-york', NEW_YORK, '1.4.20');
    await gateway('old', FRANKFURT, '1.4.9');
    await gateway('new', FRANKFURT, '1.4.16');
    await gateway('nowhere', undefined, '1.4.20');
  });

  it('is the nearest, and of the nearest the one with the highest version', async () => {
    await scene.join('client', 'client', { headers: at(BERLIN) });
    expect(await chosen()).toEqual(new Set(['new']));
    const { peer: downgraded } = await gateway('new', FRANKFURT, '1.4.1');
    await downgraded.settled();
    downgraded.drain();
    expect(await chosen()).toEqual(new Set(['old']));
  });

  it('is any when nobody knows where the client is', async () => {
    await scene.join('client', 'client');
    expect((await chosen([], 60)).size).toBeGreaterThan(1);
  });

  it('is one that the client is connected to, however far, when it may serve', async () => {
    await scene.join('client', 'client', { headers: at(BERLIN) });
    expect(await chosen([scene.device('new-york').id])).toEqual(new Set(['new-york']));
    expect(await chosen([randomUUID(), scene.device('nowhere').id])).toEqual(new Set(['nowhere']));
    const both = [scene.device('new-york').id, scene.device('old').id];
    expect(await chosen(both)).toEqual(new Set(['old'])); // among those the nearest
    expect(await chosen([randomUUID(), ids.siteId])).toEqual(new Set(['new']));
  });
});

// ---- rows ----------------------------------------------------------------------------------------------------------

describe('the row of a flow (D21)', () => {
  let holder: Client;

  beforeEach(async () => {
    holder = new Client({ connectionString: server.db.url });
    await holder.connect();
  });

  afterEach(async () => {
    await holder.end();
    await server.db.query('ALTER TABLE flows DROP CONSTRAINT IF EXISTS refuses');
  });

  async function hold(tables: string): Promise<void> {
    await holder.query('BEGIN');
    await holder.query(`LOCK TABLE ${tables} IN ACCESS EXCLUSIVE MODE`);
  }

  async function refuseRowsOf(clientId: string): Promise<void> {
    await server.db.query(`ALTER TABLE flows ADD CONSTRAINT refuses CHECK (client_id <> '${clientId}')`);
  }

  it('is not waited for: with every table locked the flow is open, and its row comes when it can', async () => {
    await scene.join('gateway', 'gateway');
    await scene.join('client', 'client');
    const { rows } = await holder.query<{ name: string }>(
      `SELECT format('%I', tablename) AS name FROM pg_tables WHERE schemaname = 'public'`,
    );
    await hold(rows.map(({ name }) => name).join(', '));
    await scene.openFlow();
    expect((await holder.query('SELECT FROM flows WHERE account_id = $1', [ids.accountId])).rowCount).toBe(0);
    await holder.query('COMMIT');
    const [row] = await scene.history((written) => written.length === 1);
    expect(row).toMatchObject({ policy_id: ids.policyId, resource_id: ids.resourceId, revoked_reason: null });
  });

  it('that can never be written takes the flow back: reject, then the toggle that lets the client ask again', async () => {
    await scene.join('gateway', 'gateway');
    const { id: clientId } = await scene.join('client', 'client');
    const { client, gateway } = scene;
    await refuseRowsOf(clientId);
    for (let times = 0; times < 2; times += 1) {
      ask(client);
      const { ref } = await gateway.next('authorize_flow');
      expect(await gateway.next('reject_access')).toEqual({ client_id: clientId, resource_id: ids.resourceId });
      expect(await client.next('resource_deleted')).toBe(ids.resourceId);
      expect(await client.next('resource_created_or_updated')).toMatchObject({ id: ids.resourceId });
      // The client forgot its request with the resource: a late answer must not reach it (D20b).
      gateway.send('flow_authorized', { ref });
      await gateway.next('phx_reply');
      await client.settled();
      expect(client.drain()).toEqual([]);
    }
    await server.db.query('ALTER TABLE flows DROP CONSTRAINT refuses');
    await scene.openFlow();
    await scene.history((rows) => rows.length === 1);
  });

  it('comes before flow_created where the gateway never prunes (before 1.4.13)', async () => {
    await scene.join('gateway', 'gateway', { userAgent: 'Linux/6 connlib/1.4.12' });
    await scene.join('client', 'client');
    const { client, gateway } = scene;
    await hold('flows');
    ask(client);
    gateway.send('flow_authorized', { ref: (await gateway.next('authorize_flow'))['ref'] });
    expect(await gateway.next('phx_reply')).toEqual({ status: 'ok', response: {} });
    await client.settled();
    expect(client.drain()).toEqual([]);
    await holder.query('COMMIT');
    await client.next('flow_created');
    await scene.history((rows) => rows.length === 1);
  });

  it('that can never be written means no flow_created there', async () => {
    await scene.join('gateway', 'gateway', { userAgent: 'Linux/6 connlib/1.4.12' });
    const { id: clientId } = await scene.join('client', 'client');
    const { client, gateway } = scene;
    await refuseRowsOf(clientId);
    await hold('flows');
    ask(client);
    gateway.send('flow_authorized', { ref: (await gateway.next('authorize_flow'))['ref'] });
    await gateway.next('phx_reply');
    await holder.query('COMMIT');
    expect(await gateway.next('reject_access')).toEqual({ client_id: clientId, resource_id: ids.resourceId });
    expect(await client.next('resource_deleted')).toBe(ids.resourceId);
    expect(await client.next('resource_created_or_updated')).toMatchObject({ id: ids.resourceId });
    await client.settled();
    expect(client.drain()).toEqual([]);
  });
});

// ---- answers -------------------------------------------------------------------------------------------------------

describe('an answer', () => {
  it('is owed for at most 32 requests at a time, and all are answered in the end (D34)', async () => {
    const resources = [ids.resourceId, ...(await moreResources(9))];
    const names = Array.from({ length: 10 }, (_, i) => `client-${i}`);
    const { peer: gateway } = await scene.join('gateway', 'gateway');
    for (const name of names) await scene.join('client', name);
    const clients = names.map((name) => scene.device(name).peer);
    for (const resource of resources) for (const client of clients) ask(client, resource);
    await Promise.all(clients.map((client) => client.settled()));
    await gateway.settled();

    const asked = (): number => gateway.received.filter(({ event }) => event === 'authorize_flow').length;
    expect(asked()).toBe(32);
    for (let answers = 0; answers < 100; answers += 1) {
      const { ref } = await gateway.until('authorize_flow');
      expect(asked() - answers).toBeLessThanOrEqual(32);
      gateway.send('flow_authorized', { ref });
      await gateway.settled();
      expect(asked()).toBe(Math.min(100, 32 + answers + 1));
    }
    for (const client of clients) {
      await client.settled();
      const created = client.drain().map(([event, payload]) => [event, payload['resource_id']]);
      expect(created.sort()).toEqual(resources.map((id) => ['flow_created', id]).sort());
    }
    gateway.drain();
  });

  const INVALID = { status: 'error', response: { reason: 'invalid_ref' } };

  async function replyTo(gateway: RawPeer, ref: unknown): Promise<Json> {
    gateway.send('flow_authorized', { ref });
    return gateway.next('phx_reply');
  }

  async function expectNothingFor(client: RawPeer): Promise<void> {
    await client.settled();
    expect(client.drain()).toEqual([]);
  }

  it('counts once', async () => {
    await scene.join('gateway', 'gateway');
    await scene.join('client', 'client');
    ask(scene.client);
    const { ref } = await scene.gateway.next('authorize_flow');
    expect(await replyTo(scene.gateway, ref)).toEqual({ status: 'ok', response: {} });
    await scene.client.next('flow_created');
    expect(await replyTo(scene.gateway, ref)).toEqual(INVALID);
    await expectNothingFor(scene.client);
  });

  it('that was altered, or made up, opens nothing (B12)', async () => {
    await scene.join('gateway', 'gateway');
    await scene.join('client', 'client');
    ask(scene.client);
    const ref = (await scene.gateway.next('authorize_flow'))['ref'] as string;
    const altered = [0, 1, 2, 3, 40, 80, 120, 160, ref.length - 1].map(
      (at) => ref.slice(0, at) + (ref[at] === 'x' ? 'y' : 'x') + ref.slice(at + 1),
    );
    const madeUp = [
      '',
      'x',
      'v1.',
      '__proto__',
      ids.gatewayToken,
      `${ref}A`,
      ref.slice(1),
      ref.slice(0, -1),
      ` ${ref}`,
    ];
    for (const bad of [...altered, ...madeUp]) {
      expect([bad, await replyTo(scene.gateway, bad)]).toEqual([bad, INVALID]);
    }
    await expectNothingFor(scene.client);
    expect(await replyTo(scene.gateway, ref)).toEqual({ status: 'ok', response: {} });
    await scene.client.next('flow_created');
  });

  it('of another gateway, of this account or of another, is none (B12)', async () => {
    const foreign = new Scene(server, await aTestAccount(server.db));
    await foreign.join('gateway', 'gateway');
    await scene.join('gateway', 'gateway');
    await scene.join('client', 'client');
    ask(scene.client);
    const { ref } = await scene.gateway.next('authorize_flow');
    await scene.join('gateway', 'neighbour');
    expect(await replyTo(scene.device('neighbour').peer, ref)).toEqual(INVALID);
    expect(await replyTo(foreign.gateway, ref)).toEqual(INVALID);
    await expectNothingFor(scene.client);
    expect(await replyTo(scene.gateway, ref)).toEqual({ status: 'ok', response: {} });
    await scene.client.next('flow_created');
    await foreign.leaveAll();
  });

  it('from before the gateway came again is none', async () => {
    await scene.join('gateway', 'gateway');
    await scene.join('client', 'client');
    ask(scene.client);
    const { ref } = await scene.gateway.next('authorize_flow');
    await rejoin('gateway', 'gateway');
    expect(await replyTo(scene.gateway, ref)).toEqual(INVALID);
    await expectNothingFor(scene.client);
  });

  it('from before the server was started again is none (D29)', async () => {
    const db = await createMigratedDatabase();
    const account = await aTestAccount(db);
    let running = await startTestServer({}, db);
    try {
      scene = new Scene(running, account);
      await scene.join('gateway', 'gateway');
      await scene.join('client', 'client');
      ask(scene.client, account.resourceId);
      const { ref } = await scene.gateway.next('authorize_flow');
      await running.close();

      running = await startTestServer({}, db);
      scene = new Scene(running, account);
      await rejoin('gateway', 'gateway');
      await rejoin('client', 'client');
      expect(await replyTo(scene.gateway, ref)).toEqual(INVALID);
      await expectNothingFor(scene.client);
      await scene.openFlow();
    } finally {
      await running.close();
      await db.drop();
    }
  });

  it('to a client that has connected again since reaches nobody: it asks again itself (D29)', async () => {
    await scene.join('gateway', 'gateway');
    await scene.join('client', 'client');
    ask(scene.client);
    const { ref } = await scene.gateway.next('authorize_flow');
    await scene.join('client', 'client');
    await replyTo(scene.gateway, ref);
    await expectNothingFor(scene.client);
    await scene.openFlow();
  });

  it('to a request that the client forgot with its resource reaches nobody (D20b)', async () => {
    const site = randomUUID();
    await server.db.query('INSERT INTO sites (account_id, id) VALUES ($1, $2)', [ids.accountId, site]);
    await scene.join('gateway', 'gateway');
    await scene.join('client', 'client');
    ask(scene.client);
    const { ref } = await scene.gateway.next('authorize_flow');
    await server.db.query('INSERT INTO resource_sites VALUES ($1, $2, $3)', [ids.accountId, ids.resourceId, site]);
    await scene.client.next('resource_deleted');
    await scene.client.next('resource_created_or_updated');
    await replyTo(scene.gateway, ref);
    await expectNothingFor(scene.client);
    await scene.openFlow();
  });

  it('after the access was taken back reaches nobody (D19)', async () => {
    await scene.join('gateway', 'gateway');
    await scene.join('client', 'client');
    ask(scene.client);
    const { ref } = await scene.gateway.next('authorize_flow');
    await server.db.query('DELETE FROM policies WHERE id = $1', [ids.policyId]);
    await scene.gateway.next('reject_access');
    await scene.client.next('resource_deleted');
    await replyTo(scene.gateway, ref);
    await expectNothingFor(scene.client);
  });
});

// ---- secrets -------------------------------------------------------------------------------------------------------

describe('the secrets of a pair (wire-protocol.md 0.11, 6.6, 6.7)', () => {
  /** What both sides were told, after checking that it is the same. */
  async function secretsOf(from: string, through: string): Promise<Json> {
    const [client, gateway] = [scene.device(from).peer, scene.device(through)];
    ask(client, ids.resourceId, [gateway.id]);
    const asked = await gateway.peer.next('authorize_flow');
    gateway.peer.send('flow_authorized', { ref: asked['ref'] });
    await gateway.peer.next('phx_reply');
    const created = await client.next('flow_created');
    const told = (of: Json, psk: unknown): Json => ({
      psk,
      client: of['client_ice_credentials'],
      gateway: of['gateway_ice_credentials'],
    });
    expect(told(created, created['preshared_key'])).toEqual(told(asked, (asked['client'] as Json)['preshared_key']));
    expect(created['gateway_id']).toBe(gateway.id);
    return told(created, created['preshared_key']);
  }

  it('are the same on both sides, at every request and after both came again', async () => {
    await scene.join('gateway', 'gateway');
    await scene.join('client', 'client');
    const secrets = await secretsOf('client', 'gateway');
    expect(secrets['client']).not.toEqual(secrets['gateway']);
    expect(await secretsOf('client', 'gateway')).toEqual(secrets);
    await rejoin('client', 'client');
    await rejoin('gateway', 'gateway');
    expect(await secretsOf('client', 'gateway')).toEqual(secrets);
  });

  it('are others for every other pair, and for the same devices with another key', async () => {
    for (const name of ['gateway', 'other-gateway']) await scene.join('gateway', name);
    for (const name of ['client', 'other-client']) await scene.join('client', name);
    const all = [
      await secretsOf('client', 'gateway'),
      await secretsOf('other-client', 'gateway'),
      await secretsOf('client', 'other-gateway'),
      await secretsOf('other-client', 'other-gateway'),
    ];
    await rejoin('client', 'client', Buffer.alloc(32, 77).toString('base64'));
    all.push(await secretsOf('client', 'gateway'));
    await rejoin('gateway', 'gateway', Buffer.alloc(32, 78).toString('base64'));
    all.push(await secretsOf('client', 'gateway'));
    for (const member of ['psk', 'client', 'gateway']) {
      expect(new Set(all.map((secrets) => JSON.stringify(secrets[member]))).size).toBe(all.length);
    }
  });
});
