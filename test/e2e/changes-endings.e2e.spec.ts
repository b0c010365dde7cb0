/** What ends a connection, how it ends, and what the flows of it come to. */
import { randomUUID } from 'node:crypto';
import { afterAll, afterEach, beforeAll, describe, expect, it, jest } from '@jest/globals';
import { RawPeer } from '../support/raw-peer.js';
import { aPolicy, condition, setAccount, setPolicy } from '../support/scene-rows.js';
import { type Push, rejected, removed, type Scene, shown, Stage } from '../support/scene.js';

jest.setTimeout(30_000);

let stage: Stage;

beforeAll(async () => {
  stage = await Stage.open();
});

afterEach(() => stage.clear());
afterAll(() => stage.close());

const CLOSED: Push = ['closed', 1000];
const SIGNED_OUT: Push = ['disconnect', { reason: 'token_expired' }];

describe('a client', () => {
  it('that is no longer verified loses what a policy gives verified clients only', async () => {
    const scene = await stage.joined();
    const ofClient = `WHERE id = '${scene.device('client').id}'`;
    const verifiedOnly = setPolicy(scene, `conditions = '${condition('client_verified', 'is', 'true')}'`);
    expect(await scene.hears(verifiedOnly)).toEqual({ gateway: [], client: [removed(scene.ids.resourceId)] });

    expect(await scene.hears(`UPDATE clients SET verified_at = now() ${ofClient}`)).toEqual({
      gateway: [],
      client: [shown(scene)],
    });
    const flow = await scene.openFlow();
    expect(await scene.hears(`UPDATE clients SET verified_at = NULL ${ofClient}`)).toEqual({
      gateway: [rejected(flow)],
      client: [removed(scene.ids.resourceId)],
    });
  });

  it('that is deleted is closed without being signed out, and may come again as a new one', async () => {
    const scene = await stage.withFlow();
    expect(await scene.hears(`DELETE FROM clients WHERE id = '${scene.flow.clientId}'`)).toEqual({
      gateway: [rejected(scene.flow)],
      client: [CLOSED],
    });
    expect((await scene.join('client', 'client')).id).not.toBe(scene.flow.clientId);
  });

  it('whose token is deleted is signed out, after its flows are rejected', async () => {
    const scene = await stage.withFlow();
    expect(await scene.hears(`DELETE FROM tokens WHERE id = '${scene.ids.clientTokenId}'`)).toEqual({
      gateway: [rejected(scene.flow)],
      client: [SIGNED_OUT, CLOSED],
    });
    await expect(clientAgain(scene)).rejects.toMatchObject({ status: 401 });
  });

  it('whose token is made to have expired is signed out, after its flows are rejected', async () => {
    const scene = await stage.withFlow();
    const past = `UPDATE tokens SET expires_at = now() - interval '1 s' WHERE id = '${scene.ids.clientTokenId}'`;
    expect(await scene.hears(past)).toEqual({ gateway: [rejected(scene.flow)], client: [SIGNED_OUT, CLOSED] });
  });

  it.each([
    ['actor is disabled', (ids: SignedIn) => `UPDATE actors SET disabled_at = now() WHERE id = '${ids.actorId}'`],
    ['actor is deleted', (ids: SignedIn) => `DELETE FROM actors WHERE id = '${ids.actorId}'`],
    ['identity is deleted', (ids: SignedIn) => `DELETE FROM identities WHERE id = '${ids.identityId}'`],
    [
      'provider is disabled',
      (ids: SignedIn) => `UPDATE auth_providers SET disabled_at = now() WHERE id = '${ids.providerId}'`,
    ],
    ['provider is deleted', (ids: SignedIn) => `DELETE FROM auth_providers WHERE id = '${ids.providerId}'`],
  ])('whose %s is closed without being signed out, and refused when it comes again', async (_what, statement) => {
    const scene = await stage.account();
    const signedIn = await withIdentity(scene);
    await scene.join('gateway', 'gateway');
    await scene.join('client', 'client');
    const flow = await scene.openFlow();
    expect(await scene.hears(statement(signedIn))).toEqual({ gateway: [rejected(flow)], client: [CLOSED] });
    await expect(clientAgain(scene)).rejects.toMatchObject({ status: 401 });
  });
});

describe('a gateway', () => {
  it('whose row is deleted is rejected and closed; its client makes the resource anew and finds another (D20b)', async () => {
    const scene = await stage.withFlow();
    expect(await scene.hears(`DELETE FROM gateways WHERE id = '${scene.device('gateway').id}'`)).toEqual({
      gateway: [rejected(scene.flow), CLOSED],
      client: [removed(scene.ids.resourceId), shown(scene)],
    });
  });

  it('whose site is deleted is rejected and ended, and its client loses the resource', async () => {
    const scene = await stage.withFlow();
    expect(await scene.hears(`DELETE FROM sites WHERE id = '${scene.ids.siteId}'`)).toEqual({
      gateway: [rejected(scene.flow), CLOSED],
      client: [removed(scene.ids.resourceId)],
    });
  });

  it('whose token is deleted is signed out; a gateway with another token stays', async () => {
    const scene = await stage.withFlow();
    expect(await scene.hears(`DELETE FROM tokens WHERE id = '${scene.ids.gatewayTokenId}'`)).toEqual({
      gateway: [SIGNED_OUT, CLOSED],
      client: [],
    });
    await expect(gatewayAgain(scene)).rejects.toMatchObject({ status: 401 });
  });
});

describe('an account', () => {
  it('that is disabled loses its clients without signing them out; its gateways stay (403 on return)', async () => {
    const scene = await stage.withFlow();
    expect(await scene.hears(setAccount(scene, 'disabled_at = now()'))).toEqual({
      gateway: [rejected(scene.flow)],
      client: [CLOSED],
    });
    await expect(clientAgain(scene)).rejects.toMatchObject({ status: 403 });

    expect(await scene.hears(setAccount(scene, 'disabled_at = NULL'))).toEqual({ gateway: [] });
    await scene.join('client', 'client');
    await scene.openFlow();
  });

  it('that is deleted rejects each flow once, then closes everybody', async () => {
    const scene = await stage.withFlow();
    await scene.history((rows) => rows.length === 1);
    expect(await scene.hears(`DELETE FROM accounts WHERE id = '${scene.ids.accountId}'`)).toEqual({
      gateway: [rejected(scene.flow), CLOSED],
      client: [CLOSED],
    });
    await expect(clientAgain(scene)).rejects.toMatchObject({ status: 401 });
    await expect(gatewayAgain(scene)).rejects.toMatchObject({ status: 401 });
  });

  it('whose config changes tells its clients the whole interface, and nothing when it means the same', async () => {
    const scene = await stage.withFlow();
    const config = `{"search_domain":"corp.example","clients_upstream_dns":[{"protocol":"ip_port","address":"9.9.9.9"}]}`;
    const { ipv4, ipv6 } = scene.client.init['interface'] as Record<string, unknown>;
    const upstream_dns = [{ protocol: 'ip_port', address: '9.9.9.9:53' }];
    expect(await scene.hears(setAccount(scene, `config = '${config}'`))).toEqual({
      gateway: [],
      client: [['config_changed', { interface: { ipv4, ipv6, upstream_dns, search_domain: 'corp.example' } }]],
    });
    expect(await scene.hears(setAccount(scene, `config = config || '{"theme":"dark"}'`))).toEqual({
      gateway: [],
      client: [],
    });
  });

  it('whose slug changes sends its gateways the join sequence again, with every flow', async () => {
    const scene = await stage.withFlow();
    const { init } = scene.gateway;
    const { clientId, resourceId, expiresAt } = scene.flow;
    const slug = `renamed_${randomUUID().slice(0, 8)}`;
    const authorizations = [{ client_id: clientId, resource_id: resourceId, expires_at: expiresAt }];
    const form = { id: resourceId, type: 'cidr', address: '10.20.0.0/16', name: 'Unnamed resource', filters: [] };
    expect(await scene.hears(setAccount(scene, `slug = '${slug}'`))).toEqual({
      gateway: [
        ['init', { ...init, account_slug: slug, authorizations }],
        ['resource_updated', form],
      ],
      client: [],
    });
  });

  it('that is only given another name tells nobody', async () => {
    const scene = await stage.withFlow();
    expect(await scene.hears(setAccount(scene, `name = 'Another name'`))).toEqual({ gateway: [], client: [] });
  });
});

describe('a neighbour account', () => {
  it('hears nothing, whatever happens next door, although everything there has the same name (S6)', async () => {
    const scene = await stage.withFlow();
    const neighbour = await stage.withFlow();
    const { ids } = scene;
    const statements = [
      aPolicy(scene, { groupId: ids.groupId, resourceId: ids.resourceId }).sql + ' ON CONFLICT DO NOTHING',
      `UPDATE resources SET name = 'Office', filters = '[{"protocol":"icmp"}]' WHERE id = '${ids.resourceId}'`,
      `UPDATE sites SET name = 'Frankfurt' WHERE id = '${ids.siteId}'`,
      setAccount(scene, `config = '{"search_domain":"corp.example"}', slug = 'next_door_${ids.accountId.slice(0, 8)}'`),
      `DELETE FROM flows WHERE account_id = '${ids.accountId}'`,
      setPolicy(scene, 'disabled_at = now()'),
      `DELETE FROM tokens WHERE account_id = '${ids.accountId}'`,
      setAccount(scene, 'disabled_at = now()'),
      `DELETE FROM accounts WHERE id = '${ids.accountId}'`,
    ];
    for (const statement of statements) {
      expect([statement, await neighbour.hears(statement)]).toEqual([statement, { gateway: [], client: [] }]);
    }
    expect(await neighbour.hears(setPolicy(neighbour, 'disabled_at = now()'))).toEqual({
      gateway: [rejected(neighbour.flow)],
      client: [removed(neighbour.ids.resourceId)],
    });
  });
});

// ---- helpers -------------------------------------------------------------------------------------------------------

interface SignedIn {
  readonly actorId: string;
  readonly identityId: string;
  readonly providerId: string;
}

/** Makes the client's token one of a sign-in: it has an identity of a provider. */
async function withIdentity({ server, ids }: Scene): Promise<SignedIn> {
  const [identityId, providerId] = [randomUUID(), randomUUID()];
  await server.db.sql(`
    INSERT INTO auth_providers (account_id, id) VALUES ('${ids.accountId}', '${providerId}');
    INSERT INTO identities (account_id, id, actor_id, provider_id, provider_identifier)
      VALUES ('${ids.accountId}', '${identityId}', '${ids.actorId}', '${providerId}', 'ada');
    UPDATE tokens SET identity_id = '${identityId}' WHERE id = '${ids.clientTokenId}'`);
  return { actorId: ids.actorId, identityId, providerId };
}

function clientAgain({ server, ids }: Scene): Promise<RawPeer> {
  return RawPeer.connect('client', server.wsUrl, { token: ids.clientToken, externalId: 'client' });
}

function gatewayAgain({ server, ids }: Scene): Promise<RawPeer> {
  return RawPeer.connect('gateway', server.wsUrl, { token: ids.gatewayToken, externalId: 'gateway' });
}
