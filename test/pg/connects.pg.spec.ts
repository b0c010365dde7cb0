import { randomBytes, randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { ConnectionId, TokenId } from '../../src/core/model/ids.js';
import { PublicKeyTakenError } from '../../src/core/ports/connects.js';
import type { ClientConnect, DeviceSession, GatewayConnect } from '../../src/core/ports/connects.js';
import { clientsOfUncleanEpochs, forgetHistory, markClean, openEpoch } from '../../src/db/epochs.js';
import type { Database } from '../../src/db/open-database.js';
import { openDatabase } from '../../src/db/open-database.js';
import { PostgresChangeLog } from '../../src/db/postgres-change-log.js';
import { PostgresConnects } from '../../src/db/postgres-connects.js';
import { PostgresHydrationReader } from '../../src/db/postgres-hydration-reader.js';
import { insertAccount } from '../support/account-rows.js';
import type { AccountIds } from '../support/account-rows.js';
import { createMigratedDatabase } from '../support/test-database.js';
import type { TestDatabase } from '../support/test-database.js';

const AT = Date.UTC(2026, 0, 5, 9);

let test: TestDatabase;
let database: Database;
let connects: PostgresConnects;
let ours: AccountIds;

beforeAll(async () => {
  test = await createMigratedDatabase();
  database = openDatabase(test.url, { max: 20 });
  connects = new PostgresConnects(database, await openEpoch(database));
  ours = await insertAccount(test);
});

afterAll(async () => {
  await database.close();
  await test.drop();
});

describe('a client connect', () => {
  it('makes the device, its session and its secret, and keeps address, name and secret the next time', async () => {
    const connect = aClientConnect({ externalId: 'kept', name: 'ada-laptop' });
    const first = await connects.connectClient(connect);
    const second = await connects.connectClient({ ...connect, name: 'renamed', session: aSession({ region: 'NO' }) });

    expect(second).toEqual({ ...first, changedPublishedRow: false });
    expect(first.changedPublishedRow).toBe(true);
    expect(first.pskBase).toHaveLength(32);
    const { rows } = await test.query(
      `SELECT name, region, token_id, host(remote_ip) AS ip FROM clients JOIN client_sessions ON client_id = id WHERE id = $1`,
      [first.id],
    );
    expect(rows).toEqual([{ name: 'ada-laptop', region: 'NO', token_id: ours.clientTokenId, ip: '203.0.113.9' }]);
  });

  it('D13: emits its connection id inside the transaction, also when no published row changes', async () => {
    const connect = aClientConnect();
    await connects.connectClient(connect);
    await test.query(`SELECT pg_create_logical_replication_slot('connect_message', 'pgoutput')`);
    const again = { ...connect, session: aSession({ region: 'SE' }) };
    await connects.connectClient(again);
    await test.query('CHECKPOINT'); // decoding ends where the WAL is flushed
    const { rows } = await test.query<{ kind: string; text: string }>(
      `SELECT chr(get_byte(data, 0)) AS kind, encode(data, 'escape') AS text
       FROM pg_logical_slot_get_binary_changes('connect_message', NULL, NULL, 'proto_version', '1',
         'publication_names', 'portcullis_changes,portcullis_flow_edits', 'messages', 'true')`,
    );
    expect(rows.map((row) => row.kind)).toEqual(['B', 'M', 'C']); // no row: the session is not published
    expect(rows[1]?.text).toContain('portcullis.connect');
    expect(rows[1]?.text).toContain(again.session.connectionId);
  });

  it('shows as connection facts in the next hydration', async () => {
    const ids = await insertAccount(test);
    const session = aSession({ region: 'DE', remoteIp: '2001:db8::7', tokenId: ids.clientTokenId });
    const client = await connects.connectClient({ ...aClientConnect(), ...tenant(ids), session });
    const { connections } = await new PostgresHydrationReader(database).readAccount(ids.accountId);
    expect(connections).toEqual([
      { clientId: client.id, tokenId: ids.clientTokenId, region: 'DE', remoteIp: '2001:db8::7', connectedAt: AT },
    ]);
  });

  it('domain 6.3: fifty at once in one account get fifty addresses without a gap', async () => {
    const ids = await insertAccount(test);
    const made = await Promise.all(
      Array.from({ length: 50 }, () => connects.connectClient({ ...aClientConnect(), ...tenant(ids) })),
    );
    const hosts = made.map((device) => Number(device.ipv4.split('.')[3])).sort((a, b) => a - b);
    expect(hosts).toEqual(Array.from({ length: 50 }, (_, i) => i + 1));
    expect(new Set(made.map((device) => device.ipv6)).size).toBe(50);
  });

  it('ten first connects of one device make one device', async () => {
    const ids = await insertAccount(test);
    const connect = { ...aClientConnect(), ...tenant(ids) };
    const made = await Promise.all(
      Array.from({ length: 10 }, () => connects.connectClient({ ...connect, session: aSession() })),
    );
    expect(new Set(made.map((device) => device.id)).size).toBe(1);
    expect(new Set(made.map((device) => Buffer.from(device.pskBase).toString('hex'))).size).toBe(1);
    expect(made.filter((device) => device.changedPublishedRow)).toHaveLength(1);
    expect((await test.query('SELECT FROM addresses WHERE account_id = $1', [ids.accountId])).rowCount).toBe(2);
  });

  it('with a key that another device of the account has, is refused and changes nothing', async () => {
    const session = aSession();
    await connects.connectClient(aClientConnect({ session }));
    const thief = aClientConnect({ session: aSession({ publicKey: session.publicKey }) });
    await expect(connects.connectClient(thief)).rejects.toThrow(PublicKeyTakenError);
    expect((await test.query('SELECT FROM clients WHERE external_id = $1', [thief.externalId])).rowCount).toBe(0);
    const elsewhere = await insertAccount(test);
    await expect(connects.connectClient({ ...thief, ...tenant(elsewhere) })).resolves.toBeDefined();
  });
});

describe('verification of a client', () => {
  const known = 'A1';
  it.each([
    ['stays when the id is the same', known, known, true],
    ['stays when none was known and none comes', null, null, true],
    ['stays when none was known and one comes', null, known, true],
    ['goes when another id comes', known, 'B2', false],
    ['goes when a known id is missing', known, null, false],
  ])('wire 1.7, domain 5.9: %s', async (_name, stored, sent, staysVerified) => {
    for (const hardware of ['deviceSerial', 'deviceUuid', 'identifierForVendor', 'firebaseInstallationId'] as const) {
      const connect = aClientConnect({ [hardware]: stored });
      const { id } = await connects.connectClient(connect);
      await test.query('UPDATE clients SET verified_at = now() WHERE id = $1', [id]);
      const again = await connects.connectClient({ ...connect, [hardware]: sent, session: aSession() });

      const { rows } = await test.query<{ verified: boolean }>(
        'SELECT verified_at IS NOT NULL AS verified FROM clients WHERE id = $1',
        [id],
      );
      expect([hardware, rows[0]?.verified]).toEqual([hardware, staysVerified]);
      expect(again.changedPublishedRow).toBe(stored !== sent);
    }
  });
});

describe('a gateway connect', () => {
  it('overwrites the name when it says one, keeps it when not, and makes one for a new gateway', async () => {
    const connect = aGatewayConnect({ name: null, newName: 'made-up' });
    const nameAfter = async (name: string | null): Promise<unknown> => {
      const { id } = await connects.connectGateway({ ...connect, name, session: aSession() });
      return (await test.query('SELECT name FROM gateways WHERE id = $1', [id])).rows[0]?.['name'];
    };
    expect(await nameAfter(null)).toBe('made-up');
    expect(await nameAfter('gw-fra-1')).toBe('gw-fra-1');
    expect(await nameAfter(null)).toBe('gw-fra-1');
  });

  it('changes no published row when nothing differs', async () => {
    const connect = aGatewayConnect({ name: 'same' });
    expect((await connects.connectGateway(connect)).changedPublishedRow).toBe(true);
    const again = await connects.connectGateway({ ...connect, session: aSession() });
    expect(again.changedPublishedRow).toBe(false);
  });
});

describe('a token', () => {
  const bearerOf = async (id: TokenId) => (await connects.findToken(id))?.bearerEnabled;

  it('comes with its secret, its account and its bearer', async () => {
    await giveSecret(ours.gatewayTokenId);
    expect(await connects.findToken(ours.gatewayTokenId)).toEqual({
      id: ours.gatewayTokenId,
      kind: 'gateway',
      accountId: ours.accountId,
      actorId: null,
      siteId: ours.siteId,
      expiresAt: null,
      salt: Buffer.alloc(16, 1),
      digest: Buffer.alloc(32, 2),
      accountDisabledAt: null,
      bearerEnabled: true,
    });
  });

  it('of an unknown id, or without a secret, is not found', async () => {
    expect(await connects.findToken(randomUUID() as TokenId)).toBeUndefined();
    expect(await connects.findToken((await insertAccount(test)).clientTokenId)).toBeUndefined();
  });

  it('D17: has no bearer while its actor is disabled, or its identity’s provider', async () => {
    const ids = await insertAccount(test);
    await giveSecret(ids.clientTokenId);
    expect(await bearerOf(ids.clientTokenId)).toBe(true);
    await test.query('UPDATE actors SET disabled_at = now() WHERE account_id = $1', [ids.accountId]);
    expect(await bearerOf(ids.clientTokenId)).toBe(false);

    await test.sql(`
      UPDATE actors SET disabled_at = NULL WHERE account_id = '${ids.accountId}';
      INSERT INTO auth_providers (account_id) VALUES ('${ids.accountId}');
      INSERT INTO identities (account_id, actor_id, provider_id, provider_identifier)
        SELECT account_id, '${ids.actorId}', id, 'ada' FROM auth_providers WHERE account_id = '${ids.accountId}';
      UPDATE tokens SET identity_id = (SELECT id FROM identities WHERE account_id = '${ids.accountId}')
        WHERE id = '${ids.clientTokenId}';`);
    expect(await bearerOf(ids.clientTokenId)).toBe(true);
    await test.query(`UPDATE auth_providers SET disabled_at = 'infinity' WHERE account_id = $1`, [ids.accountId]);
    expect(await bearerOf(ids.clientTokenId)).toBe(false);
  });

  it('reads the end of time as never, and a disabled account as disabled', async () => {
    const ids = await insertAccount(test);
    await giveSecret(ids.clientTokenId);
    await test.query(`UPDATE tokens SET expires_at = 'infinity' WHERE id = $1`, [ids.clientTokenId]);
    await test.query(`UPDATE accounts SET disabled_at = '2026-01-05T09:00:00Z' WHERE id = $1`, [ids.accountId]);
    expect(await connects.findToken(ids.clientTokenId)).toMatchObject({ expiresAt: null, accountDisabledAt: AT });
  });

  it('of the installation belongs to no account', async () => {
    const id = randomUUID() as TokenId;
    await test.query(`INSERT INTO tokens (id, kind) VALUES ($1, 'relay')`, [id]);
    await giveSecret(id);
    expect(await connects.findToken(id)).toMatchObject({
      accountId: null,
      accountDisabledAt: null,
      bearerEnabled: true,
    });
  });
});

describe('epochs', () => {
  it('D22: after an unclean stop a gateway learns which clients may hold what was never written, also when they came back first', async () => {
    const ids = await insertAccount(test);
    const client = { ...aClientConnect(), ...tenant(ids) };
    const gateway = { ...aGatewayConnect(), accountId: ids.accountId, siteId: ids.siteId };
    const cleanStop = await openEpoch(database);
    const before = new PostgresConnects(database, cleanStop);
    const { id: gatewayId } = await before.connectGateway(gateway);
    const { id: clientId } = await before.connectClient(client);
    await markClean(database, cleanStop, AT);

    const crashed = new PostgresConnects(database, await openEpoch(database));
    await crashed.connectGateway({ ...gateway, session: aSession() });
    expect(await clientsOfUncleanEpochs(database, ids.accountId, gatewayId)).toEqual([]);
    await crashed.connectClient({ ...client, session: aSession() });

    const now = new PostgresConnects(database, await openEpoch(database));
    await now.connectClient({ ...client, session: aSession() });
    await now.connectGateway({ ...gateway, session: aSession() });
    await now.connectGateway({ ...gateway, session: aSession() });
    expect(await clientsOfUncleanEpochs(database, ids.accountId, gatewayId)).toEqual([clientId]);
  });

  it('D8a: when the history of one account is gone its gateways learn of all its clients, and no others do', async () => {
    const connects = new PostgresConnects(database, await openEpoch(database));
    const connectBoth = async (ids: AccountIds) => {
      const gateway = { ...aGatewayConnect(), accountId: ids.accountId, siteId: ids.siteId };
      const { id: clientId } = await connects.connectClient({ ...aClientConnect(), ...tenant(ids) });
      const { id: gatewayId } = await connects.connectGateway(gateway);
      return { accountId: ids.accountId, clientId, gatewayId };
    };
    const first = await connectBoth(await insertAccount(test));
    const second = await connectBoth(await insertAccount(test));
    const told = () =>
      Promise.all(
        [first, second].map(({ accountId, gatewayId }) => clientsOfUncleanEpochs(database, accountId, gatewayId)),
      );
    await forgetHistory(database, first.accountId);
    expect(await told()).toEqual([[first.clientId], []]);
    await forgetHistory(database, null);
    expect(await told()).toEqual([[first.clientId], [second.clientId]]);
  });

  it('CUT-1: count as gone with the entering of another branch of history, or it is not entered', async () => {
    const connects = new PostgresConnects(database, await openEpoch(database));
    const ids = await insertAccount(test);
    const { id: clientId } = await connects.connectClient({ ...aClientConnect(), ...tenant(ids) });
    const gateway = { ...aGatewayConnect(), accountId: ids.accountId, siteId: ids.siteId };
    const { id: gatewayId } = await connects.connectGateway(gateway);
    const told = () => clientsOfUncleanEpochs(database, ids.accountId, gatewayId);
    const log = new PostgresChangeLog(database);
    await log.enterTimeline('7000000000000000001', 1);
    expect(await told()).toEqual([]);

    await test.sql('ALTER TABLE gateway_sessions RENAME TO away');
    await expect(log.enterTimeline('7000000000000000001', 2)).rejects.toThrow('gateway_sessions');
    await test.sql('ALTER TABLE away RENAME TO gateway_sessions');
    expect(await told()).toEqual([]);
    expect(await log.enterTimeline('7000000000000000001', 2)).toBe(true);
    expect(await told()).toEqual([clientId]);
  });
});

function tenant(ids: AccountIds) {
  return { accountId: ids.accountId, actorId: ids.actorId };
}

async function giveSecret(id: TokenId): Promise<void> {
  await test.query('INSERT INTO token_secrets VALUES ($1, $2, $3)', [id, Buffer.alloc(16, 1), Buffer.alloc(32, 2)]);
}

function aSession(parts: Partial<DeviceSession> = {}): DeviceSession {
  return {
    connectionId: randomUUID() as ConnectionId,
    tokenId: ours.clientTokenId,
    publicKey: randomBytes(32).toString('base64'),
    remoteIp: '203.0.113.9',
    region: null,
    city: null,
    latitude: null,
    longitude: null,
    userAgent: 'Ubuntu/24.4.0 connlib/1.5.2',
    version: '1.5.2',
    at: AT,
    ...parts,
  };
}

function aClientConnect(parts: Partial<ClientConnect> = {}): ClientConnect {
  return {
    accountId: ours.accountId,
    actorId: ours.actorId,
    externalId: randomUUID(),
    name: 'a client',
    deviceSerial: null,
    deviceUuid: null,
    identifierForVendor: null,
    firebaseInstallationId: null,
    session: aSession(),
    ...parts,
  };
}

function aGatewayConnect(parts: Partial<GatewayConnect> = {}): GatewayConnect {
  return {
    accountId: ours.accountId,
    siteId: ours.siteId,
    externalId: randomUUID(),
    name: 'a gateway',
    newName: 'new gateway',
    session: aSession(),
    ...parts,
  };
}
