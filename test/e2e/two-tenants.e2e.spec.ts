/**
 * Two accounts in one installation that are the same in everything the schema lets them share: names, external ids, public
 * keys, and the uuids of actors, groups, memberships, sites, resources, policies, clients and gateways. What happens in one
 * happens to its peers alone, and not one byte of it reaches a peer of the other.
 */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, jest } from '@jest/globals';
import { eventually } from '../support/eventually.js';
import { PlainSocket } from '../support/plain-socket.js';
import { relayIdOf } from '../support/derivations.js';
import { type Json, keyOf, RawPeer } from '../support/raw-peer.js';
import { joinRelay } from '../support/relays.js';
import { type OpenFlow, type Push, rejected, removed, Stage } from '../support/scene.js';
import { condition } from '../support/scene-rows.js';
import { leaks, Recordings, sharedIds, SITE_NAME, Tenant } from '../support/tenants.js';

jest.setTimeout(60_000);

const DEBOUNCE_MS = 300;
const NIL_UUID = '00000000-0000-0000-0000-000000000000';
const OK = { status: 'ok', response: {} };
const CLOSED: Push = ['closed', 1000];
const SIGNED_OUT: Push = ['disconnect', { reason: 'token_expired' }];
const NOTHING = { gateway: [], client: [] };
const KINDS_OF_CANDIDATES = [
  ['broadcast_ice_candidates', 'ice_candidates'],
  ['broadcast_invalidated_ice_candidates', 'invalidate_ice_candidates'],
] as const;

let stage: Stage;
let alpha: Tenant;
let bravo: Tenant;
let recordings: Recordings;

beforeAll(async () => {
  // No relay of the installation: each account has its own, of which the other must never hear.
  stage = await Stage.open({ RELAYS_DEBOUNCE_MS: `${DEBOUNCE_MS}`, RELAYS_REQUIRED: 'true' });
});

beforeEach(async () => {
  recordEveryPeer();
  await settle();
});

afterEach(async () => {
  try {
    await clear();
  } finally {
    jest.restoreAllMocks();
  }
});

afterAll(() => stage.close());

/** From its first byte on, whoever makes it: a peer that a test forgets is heard as well. */
function recordEveryPeer(): void {
  recordings = new Recordings();
  const connect = RawPeer.connect.bind(RawPeer);
  jest.spyOn(RawPeer, 'connect').mockImplementation(async (role, wsUrl, options) => {
    const peer = await connect(role, wsUrl, options);
    recordings.record(peer, options.token);
    return peer;
  });
}

// ---- each for itself -----------------------------------------------------------------------------------------------

describe('two tenants with the same ids, names and keys', () => {
  it('are given what is their own, each', async () => {
    for (const tenant of [alpha, bravo]) {
      const { scene, shared } = tenant;
      expect([scene.device('client').id, scene.device('gateway').id]).toEqual([shared.client, shared.gateway]);
      expect(scene.client.init).toEqual({
        interface: interfaceOf(tenant),
        resources: sorted([tenant.git(), tenant.office()]),
        relays: tenant.entries('client'),
      });
      expect(scene.gateway.init).toMatchObject({
        ...{ account_slug: tenant.slug, relays: tenant.entries('gateway'), authorizations: [] },
      });
    }
    // Even their tunnel addresses are the same: what keeps them apart is not any of these.
    expect(interfaceOf(alpha)['ipv4']).toBe(interfaceOf(bravo)['ipv4']);
  });

  it('open flows between the same ids at the same time, with secrets that differ although ids and keys do not', async () => {
    const told = await Promise.all([alpha, bravo].map(secretsTold));
    const [ofAlpha, ofBravo] = told;
    for (const name of ['psk', 'clientIce', 'gatewayIce', 'ref']) {
      expect(ofAlpha?.[name]).toEqual(expect.any(String));
      expect(ofAlpha?.[name]).not.toBe(ofBravo?.[name]);
    }
  });

  it('answer with each other’s ref in vain: it opens nothing, here or there', async () => {
    const refs = new Map<Tenant, unknown>();
    for (const tenant of [alpha, bravo]) {
      askFor(tenant);
      refs.set(tenant, (await tenant.scene.gateway.next('authorize_flow'))['ref']);
    }
    for (const [tenant, other] of both()) {
      tenant.scene.gateway.send('flow_authorized', { ref: refs.get(other) });
      expect(await tenant.scene.gateway.next('phx_reply')).toMatchObject({ response: { reason: 'invalid_ref' } });
    }
    await expectSilence(alpha, bravo);
    for (const tenant of [alpha, bravo]) {
      tenant.scene.gateway.send('flow_authorized', { ref: refs.get(tenant) });
      expect(await tenant.scene.gateway.next('phx_reply')).toEqual(OK);
      expect(await tenant.scene.client.next('flow_created')).toMatchObject({ resource_id: tenant.shared.git });
    }
  });

  it.each(KINDS_OF_CANDIDATES)(
    '%s: reach the own device with that id, and nobody who is only in the other',
    async (...kinds) => {
      for (const tenant of [alpha, bravo]) {
        await tenant.scene.join('client', `${tenant.name}-client`);
        await tenant.scene.join('gateway', `${tenant.name}-gateway`);
        await openBoth(tenant);
        await tenant.scene.openFlow(tenant.shared.git, `${tenant.name}-client`, `${tenant.name}-gateway`);
      }
      for (const [tenant, other] of both()) {
        const foreign = (role: string): string => other.scene.device(`${other.name}-${role}`).id;
        const candidates = candidatesOf(tenant);
        tenant.scene.client.send(kinds[0], { candidates, gateway_ids: [foreign('gateway'), other.shared.gateway] });
        tenant.scene.gateway.send(kinds[0], { candidates, client_ids: [foreign('client'), other.shared.client] });
        for (const name of ['client', 'gateway']) await tenant.scene.device(name).peer.awaits(kinds[1]);
        expect(await tenant.scene.heard()).toEqual({
          client: [[kinds[1], { gateway_id: tenant.shared.gateway, candidates }]],
          gateway: [[kinds[1], { client_id: tenant.shared.client, candidates }]],
          [`${tenant.name}-client`]: [],
          [`${tenant.name}-gateway`]: [],
        });
        await expectSilence(other);
      }
    },
  );

  it('do not find each other’s gateways, as one they are connected to or by name in the old dialect', async () => {
    await bravo.scene.join('gateway', 'bravo-gateway');
    const { id } = bravo.scene.device('bravo-gateway');
    askFor(alpha, alpha.shared.git, [id]);
    await alpha.scene.gateway.next('authorize_flow');

    const { peer: old } = await alpha.scene.join('client', 'old-client', { userAgent: OLD_CLIENT });
    for (const event of ['request_connection', 'reuse_connection']) {
      old.send(event, {
        ...{ resource_id: alpha.shared.git, gateway_id: id, payload: null },
        ...{ client_payload: {}, client_preshared_key: keyOf('psk') },
      });
      expect(await old.next('phx_reply')).toEqual({ status: 'error', response: { reason: 'not_found' } });
    }
    await expectSilence(bravo);
    // Nor does its own gateway, gone, find a stand-in next door: there the same id is online.
    await alpha.scene.leave('gateway');
    askFor(alpha, alpha.shared.office);
    expect(await alpha.scene.client.next('flow_creation_failed')).toMatchObject({ reason: 'offline' });
    await expectSilence(bravo);
  });
});

// ---- revocation ----------------------------------------------------------------------------------------------------

/** What takes flows away, as statements on one tenant, and what its own peers then hear. */
const REVOCATIONS: readonly [
  what: string,
  sql: (of: Tenant) => string,
  heard: (of: Tenant) => { readonly gateway: readonly Push[]; readonly client: readonly Push[] },
][] = [
  ['a policy is deleted', (t) => `DELETE FROM policies ${t.row('gitPolicy')}`, losesGit],
  ['a policy is disabled', (t) => `UPDATE policies SET disabled_at = now() ${t.row('gitPolicy')}`, losesGit],
  [
    'a condition is added',
    (t) => `UPDATE policies SET conditions = '${condition('client_verified', 'is', 'true')}' ${t.row('gitPolicy')}`,
    losesGit,
  ],
  ['a resource is deleted', (t) => `DELETE FROM resources ${t.row('git')}`, losesGit],
  [
    'a resource leaves its site',
    (t) => `DELETE FROM resource_sites ${ofAccount(t)} AND resource_id = '${t.shared.git}'`,
    losesGit,
  ],
  ['a membership is deleted', (t) => `DELETE FROM memberships ${t.row('membership')}`, losesBoth],
  ['a group is deleted', (t) => `DELETE FROM groups ${t.row('group')}`, losesBoth],
  [
    'a resource gets another address',
    (t) => `UPDATE resources SET address = '172.16.${t.number}.0/24' ${t.row('office')}`,
    (t) => ({
      gateway: [pair(t, t.shared.office)],
      client: [['resource_created_or_updated', t.office({ address: `172.16.${t.number}.0/24` })]],
    }),
  ],
  [
    'the flows are deleted',
    (t) => `DELETE FROM flows ${ofAccount(t)}`,
    (t) => ({ gateway: pairs(t), client: toggle(t) }),
  ],
  [
    'a gateway is deleted',
    (t) => `DELETE FROM gateways ${t.row('gateway')}`,
    (t) => ({ gateway: [...pairs(t), CLOSED], client: toggle(t) }),
  ],
  [
    'a site is deleted',
    (t) => `DELETE FROM sites ${t.row('site')}`,
    (t) => ({ ...losesBoth(t), gateway: [...pairs(t), CLOSED] }),
  ],
  ['a client is deleted', (t) => `DELETE FROM clients ${t.row('client')}`, closes],
  ['an actor is disabled', (t) => `UPDATE actors SET disabled_at = now() ${t.row('actor')}`, closes],
  ['an actor is deleted', (t) => `DELETE FROM actors ${t.row('actor')}`, closes],
  ['an identity is deleted', (t) => `DELETE FROM identities ${t.row('identity')}`, closes],
  ['a provider is disabled', (t) => `UPDATE auth_providers SET disabled_at = now() ${t.row('provider')}`, closes],
  [
    'a token is deleted',
    (t) => `DELETE FROM tokens WHERE id = '${t.scene.ids.clientTokenId}'`,
    (t) => ({ gateway: pairs(t), client: [SIGNED_OUT, CLOSED] }),
  ],
  [
    'the account is disabled',
    (t) => `UPDATE accounts SET disabled_at = now() WHERE id = '${t.scene.ids.accountId}'`,
    closes,
  ],
  [
    'the account is deleted',
    (t) => `DELETE FROM accounts WHERE id = '${t.scene.ids.accountId}'`,
    (t) => ({ gateway: [...pairs(t), CLOSED], client: [CLOSED] }),
  ],
];

describe('what is taken from one tenant', () => {
  const rows = REVOCATIONS.flatMap(([what, ...row]) => ['alpha', 'bravo'].map((name) => [what, name, ...row] as const));

  it.each(rows)('%s in %s: its peers lose it, and the other’s flows with the same ids go on', async (...row) => {
    const [, name, sql, heard] = row;
    const [tenant, other] = name === 'alpha' ? [alpha, bravo] : [bravo, alpha];
    const [, before] = [await openBoth(tenant), await openBoth(other)];
    for (const one of [tenant, other]) await recorded(one);
    expect(byResource(await tenant.scene.hears(sql(tenant)))).toEqual(heard(tenant));
    await expectSilence(other);
    await expectWorks(other);
    expect(await openBoth(other)).toEqual(before);
    await expectSilence(other);
    const history = await other.scene.history((all) => all.length >= 2);
    expect(history.map(({ revoked_reason }) => revoked_reason)).toEqual([null, null]);
  });

  it.each([
    ['a policy', losesGit, (t: Tenant) => `DELETE FROM policies WHERE id = '${t.shared.gitPolicy}'`],
    ['a membership', losesBoth, (t: Tenant) => `DELETE FROM memberships WHERE id = '${t.shared.membership}'`],
    ['a client', closes, (t: Tenant) => `UPDATE actors SET disabled_at = now() WHERE id = '${t.shared.actor}'`],
  ])('%s, by a statement that names no account, is taken from both in one commit', async (_what, heard, sql) => {
    for (const tenant of [alpha, bravo]) await openBoth(tenant);
    const ofAlpha = await alpha.scene.hears(sql(alpha));
    expect([ofAlpha, await bravo.scene.heard()].map(byResource)).toEqual([heard(alpha), heard(bravo)]);
  });

  it('by TRUNCATE of all flows: both gateways reject, both clients ask again, each of its own', async () => {
    for (const tenant of [alpha, bravo]) await openBoth(tenant);
    for (const tenant of [alpha, bravo]) await recorded(tenant);
    const heard = await alpha.scene.hears('TRUNCATE flows');
    expect([heard, await bravo.scene.heard()].map(byResource)).toEqual(
      [alpha, bravo].map((tenant) => ({ gateway: pairs(tenant), client: toggle(tenant) })),
    );
    for (const tenant of [alpha, bravo]) await openBoth(tenant);
  });

  it('while its gateway was away is rejected when that comes again, and the other’s, away too, gets its flows back', async () => {
    const [, flows] = [await openBoth(alpha), await openBoth(bravo)];
    for (const tenant of [alpha, bravo]) {
      await recorded(tenant);
      await tenant.scene.leave('gateway');
    }
    expect(await alpha.scene.hears(`DELETE FROM memberships ${alpha.row('membership')}`)).toEqual({
      client: losesBoth(alpha).client,
    });
    for (const { scene } of [alpha, bravo]) await scene.join('gateway', 'gateway');
    expect(alpha.scene.gateway.init['authorizations']).toEqual([
      {
        client_id: alpha.shared.client,
        resource_id: NIL_UUID,
        expires_at: expect.any(Number),
      },
    ]);
    expect(bravo.scene.gateway.init['authorizations']).toEqual(authorizations(flows));
    expect(await alpha.scene.heard()).toEqual({ gateway: pairs(alpha), client: [] });
    expect(await bravo.scene.heard()).toEqual({ gateway: updates(bravo), client: [] });
  });
});

// ---- relays --------------------------------------------------------------------------------------------------------

describe('a relay of one tenant', () => {
  it('that claims the address and the secret of the other’s is listed there to nobody, and drives nobody out', async () => {
    const [victim] = alpha.relays;
    const [v4 = '', v6 = ''] = victim?.addrs ?? [];
    const query = { ipv4: v4.replace(':3478', ''), ipv6: v6.slice(1, v6.indexOf(']')), port: '3478' };
    const impostor = await joinRelay(stage.server.wsUrl, {
      ...{ token: await bravo.token('relay'), query, stampSecret: victim?.stampSecret ?? '' },
    });
    await new Promise((resolve) => setTimeout(resolve, DEBOUNCE_MS + 200)); // nothing is to come
    await expectSilence(alpha, bravo);
    await victim?.peer.settled();
    expect(victim?.peer.isClosed).toBe(false);
    await alpha.scene.join('client', 'client');
    expect(alpha.scene.client.init['relays']).toEqual(alpha.entries('client'));
    await impostor.peer.close();
    await new Promise((resolve) => setTimeout(resolve, DEBOUNCE_MS + 200));
    await expectSilence(alpha, bravo);
  });

  it('that leaves is reported in its account; the other, whose relay stays, hears nothing', async () => {
    await replaceRelay(alpha);
    await expectSilence(bravo);
    await replaceRelay(bravo);
    await expectSilence(alpha);
    for (const tenant of [alpha, bravo]) await expectWorks(tenant);
  });
});

// ---- everything at once --------------------------------------------------------------------------------------------

describe('two busy tenants', () => {
  /** Each makes of its tenant what it found, and expects every push of its peers, whole and in order. */
  const STEPS: readonly ((of: Tenant) => Promise<void>)[] = [
    renamesResource,
    revokesAndGrants,
    leavesGroupAndReturns,
    changesConfig,
    changesSlug,
    renamesSite,
    exchangesCandidates,
    cutsFlows,
    verifiesClient,
    connectsTwice,
    missesRevocation,
    replaceRelay,
    usesOldDialect,
    losesVisitor,
    usesTool,
  ];

  it('do everything, at the same time and in opposite order, and each peer hears of its own account alone', async () => {
    const run = async (tenant: Tenant, steps: typeof STEPS): Promise<void> => {
      for (const step of steps) await step(tenant);
    };
    /** Each to its end, also when the other one fails. */
    const together = async (...runs: readonly Promise<void>[]): Promise<void> => {
      await Promise.allSettled(runs);
      await Promise.all(runs);
    };
    const half = Math.floor(STEPS.length / 2);
    await together(run(alpha, STEPS), run(bravo, [...STEPS].reverse()));
    await together(run(alpha, [...STEPS.slice(half), ...STEPS.slice(0, half)]), run(bravo, STEPS));

    // The search can find: each mark did reach the peers it is for, and there is a lot to be found.
    for (const tenant of [alpha, bravo]) {
      const heard = tenant.heard.join('\n');
      expect([...tenant.marks].filter((mark) => !heard.includes(mark))).toEqual([]);
      expect(tenant.transcripts.length).toBeGreaterThan(15);
      expect(tenant.heard.length).toBeGreaterThan(200);
      expect(tenant.taint.size).toBeGreaterThan(60);
      expect(leaks(tenant, tenant).length).toBeGreaterThan(200);
    }
  });

  async function renamesResource(of: Tenant): Promise<void> {
    await openBoth(of);
    const name = mark(of, `Git, renamed by ${of.name}`);
    for (const changed of [{ name }, {}]) {
      const sql = `UPDATE resources SET name = '${changed.name ?? of.gitName}' ${of.row('git')}`;
      expect(await of.scene.hears(sql)).toEqual({
        gateway: [['resource_updated', of.gitForGateway(changed)]],
        client: [['resource_created_or_updated', of.git(changed)]],
      });
    }
  }

  async function revokesAndGrants(of: Tenant): Promise<void> {
    await openBoth(of);
    const set = (value: string): string => `UPDATE policies SET disabled_at = ${value} ${of.row('gitPolicy')}`;
    expect(await of.scene.hears(set('now()'))).toEqual(losesGit(of));
    expect(await of.scene.hears(set('NULL'))).toEqual({ gateway: [], client: [created(of.git())] });
  }

  async function leavesGroupAndReturns(of: Tenant): Promise<void> {
    await openBoth(of);
    expect(await of.scene.hears(`DELETE FROM memberships ${of.row('membership')}`)).toEqual(losesBoth(of));
    const { accountId, actorId, groupId } = of.scene.ids;
    const returns = `INSERT INTO memberships (account_id, id, actor_id, group_id)
      VALUES ('${accountId}', '${of.shared.membership}', '${actorId}', '${groupId}')`;
    expect(await of.scene.hears(returns)).toEqual({
      gateway: [],
      client: sorted([of.git(), of.office()]).map(created),
    });
  }

  async function changesConfig(of: Tenant): Promise<void> {
    const domain = mark(of, `other.${of.name}.example`);
    for (const search_domain of [domain, of.searchDomain]) {
      const sql = `UPDATE accounts SET config = '${of.config(search_domain)}' WHERE id = '${of.scene.ids.accountId}'`;
      const changed = { interface: { ...interfaceOf(of), search_domain } };
      expect(await of.scene.hears(sql)).toEqual({ gateway: [], client: [['config_changed', changed]] });
    }
  }

  async function changesSlug(of: Tenant): Promise<void> {
    const flows = await openBoth(of);
    const other = mark(of, `${of.name}_too_${of.scene.ids.accountId.slice(0, 8)}`);
    for (const account_slug of [other, of.slug]) {
      const sql = `UPDATE accounts SET slug = '${account_slug}' WHERE id = '${of.scene.ids.accountId}'`;
      const init = { ...of.scene.gateway.init, account_slug, relays: of.entries('gateway') };
      expect(await of.scene.hears(sql)).toEqual({
        gateway: [['init', { ...init, authorizations: authorizations(flows) }], ...updates(of)],
        client: [],
      });
    }
  }

  async function renamesSite(of: Tenant): Promise<void> {
    await openBoth(of);
    for (const name of [mark(of, `Site of ${of.name}`), SITE_NAME]) {
      const gateway_groups = [{ id: of.shared.site, name }];
      expect(await of.scene.hears(`UPDATE sites SET name = '${name}' ${of.row('site')}`)).toEqual({
        gateway: [],
        client: sorted([of.git({ gateway_groups }), of.office({ gateway_groups })]).map(created),
      });
    }
  }

  async function exchangesCandidates(of: Tenant): Promise<void> {
    await expectWorks(of);
  }

  async function cutsFlows(of: Tenant): Promise<void> {
    await openBoth(of);
    await recorded(of);
    expect(byResource(await of.scene.hears(`DELETE FROM flows ${ofAccount(of)}`))).toEqual({
      gateway: pairs(of),
      client: toggle(of),
    });
  }

  async function verifiesClient(of: Tenant): Promise<void> {
    await openBoth(of);
    const only = (conditions: string): string =>
      `UPDATE policies SET conditions = '${conditions}' ${of.row('gitPolicy')}`;
    const verify = (at: string): string => `UPDATE clients SET verified_at = ${at} ${of.row('client')}`;
    expect(await of.scene.hears(only(condition('client_verified', 'is', 'true')))).toEqual(losesGit(of));
    expect(await of.scene.hears(verify('now()'))).toEqual({ gateway: [], client: [created(of.git())] });
    await of.scene.openFlow();
    expect(await of.scene.hears(verify('NULL'))).toEqual(losesGit(of));
    expect(await of.scene.hears(only('[]'))).toEqual({ gateway: [], client: [created(of.git())] });
  }

  async function connectsTwice(of: Tenant): Promise<void> {
    await openBoth(of);
    const { client: first } = of.scene;
    await of.scene.join('client', 'client');
    expect([await first.closed(), first.drain()]).toEqual([1000, []]);
    expect(await of.scene.heard()).toEqual(NOTHING);
  }

  async function missesRevocation(of: Tenant): Promise<void> {
    const flows = await openBoth(of);
    await recorded(of);
    await of.scene.leave('gateway');
    const set = (value: string): string => `UPDATE policies SET disabled_at = ${value} ${of.row('gitPolicy')}`;
    expect(await of.scene.hears(set('now()'))).toEqual({ client: losesGit(of).client });
    await of.scene.join('gateway', 'gateway');
    const kept = flows.filter(({ resourceId }) => resourceId === of.shared.office);
    const mine = ({ client_id }: Json): boolean => client_id === of.shared.client;
    // Of visitors that have gone it is told to hold nothing, which it has heard before (D22).
    const listed = of.scene.gateway.init['authorizations'] as Json[];
    expect(listed.filter(mine)).toEqual(authorizations(kept));
    expect(listed.filter((entry) => !mine(entry) && entry['resource_id'] !== NIL_UUID)).toEqual([]);
    const { gateway = [], client } = await of.scene.heard();
    expect(gateway.filter(([event, payload]) => event !== 'reject_access' || mine(payload as Json))).toEqual([
      pair(of, of.shared.git),
      ['resource_updated', of.officeForGateway()],
    ]);
    expect(client).toEqual([]);
    expect(await of.scene.hears(set('NULL'))).toEqual({ gateway: [], client: [created(of.git())] });
  }

  async function usesOldDialect(of: Tenant): Promise<void> {
    const { scene, shared } = of;
    const { id: gatewayId, peer: gateway } = await scene.join('gateway', 'old-gateway', { userAgent: OLD_GATEWAY });
    const { id: clientId, peer: client } = await scene.join('client', 'old-client', { userAgent: OLD_CLIENT });
    await scene.heard();
    const ask = { resource_id: shared.git, gateway_id: gatewayId };
    client.send('prepare_connection', { resource_id: shared.git, connected_gateway_ids: [gatewayId] });
    expect(await client.next('phx_reply')).toMatchObject({
      status: 'ok',
      response: { resource_id: shared.git, gateway_id: gatewayId, gateway_group_id: shared.site },
    });
    const client_payload = { ice_parameters: { username: mark(of, `old user of ${of.name}`), password: 'same' } };
    const gateway_payload = { ConnectionAccepted: mark(of, `old gateway of ${of.name}`) };
    const preshared_key = mark(of, keyOf(`a key of ${of.name}`));
    client.send('request_connection', { ...ask, client_payload, client_preshared_key: preshared_key });
    const asked = await gateway.next('request_connection');
    expect(asked).toMatchObject({
      resource: of.gitForGateway(),
      client: { id: clientId, payload: client_payload, peer: { preshared_key } },
    });
    gateway.send('connection_ready', { ref: asked['ref'], gateway_payload });
    expect(await gateway.next('phx_reply')).toEqual(OK);
    expect(await client.next('phx_reply')).toMatchObject({ status: 'ok', response: { gateway_payload } });
    client.send('reuse_connection', { ...ask, resource_id: shared.office, payload: client_payload });
    expect(await gateway.next('allow_access')).toMatchObject({
      ...{ client_id: clientId, resource: of.officeForGateway(), payload: client_payload },
    });
    await scene.leave('old-client');
    await scene.leave('old-gateway');
    expect(await scene.heard()).toEqual(NOTHING);
  }

  /** Another device of the same person, whose token ends, and which is then deleted. */
  async function losesVisitor(of: Tenant): Promise<void> {
    const { scene } = of;
    const token = await of.token('client');
    const publicKey = keyOf(`visitor of ${of.name}`);
    const tokenId = [...of.secrets].at(-1);
    const { id: clientId } = await scene.join('client', 'visitor', { token, publicKey });
    const flow = await scene.openFlow(of.shared.git, 'visitor');
    expect(await scene.hears(`DELETE FROM tokens WHERE id = '${tokenId}'`)).toEqual({
      ...{ gateway: [rejected(flow)], client: [], visitor: [SIGNED_OUT, CLOSED] },
    });
    await scene.join('client', 'visitor', { publicKey });
    const again = await scene.openFlow(of.shared.office, 'visitor');
    mark(of, publicKey);
    expect(again.clientId).toBe(clientId);
    const gone = `DELETE FROM clients WHERE id = '${clientId}'`;
    expect(await scene.hears(gone)).toEqual({ gateway: [rejected(again)], client: [], visitor: [CLOSED] });
  }

  /** A tool that speaks V2 is a client like any other. */
  async function usesTool(of: Tenant): Promise<void> {
    const token = of.scene.ids.clientToken;
    const query = { vsn: '2.0.0' };
    const tool = await PlainSocket.open('client', stage.server.wsUrl, { token, externalId: 'tool', query });
    recordings.record(tool, token);
    tool.send(['1', '1', 'client', 'phx_join', {}]);
    const init = JSON.parse(await tool.untilText('"init"')) as [string, null, string, string, Json];
    expect(sorted(init[4]['resources'] as Json[])).toEqual(sorted([of.git(), of.office()]));
    await tool.close();
  }
});

// ---- what a tenant does --------------------------------------------------------------------------------------------

const OLD_CLIENT = 'Windows/10.0 connlib/1.3.7';
const OLD_GATEWAY = 'Linux/6.8.0 connlib/1.3.2 (x86_64)';

function both(): readonly (readonly [Tenant, Tenant])[] {
  return [
    [alpha, bravo],
    [bravo, alpha],
  ];
}

/** Two new tenants, each with a relay, a gateway and a client. */
async function settle(): Promise<void> {
  const shared = sharedIds();
  alpha = await Tenant.make(stage.server, recordings, { name: 'alpha', number: 71, shared });
  bravo = await Tenant.make(stage.server, recordings, { name: 'bravo', number: 72, shared });
  for (const { scene } of [alpha, bravo]) {
    await scene.join('gateway', 'gateway');
    await scene.join('client', 'client');
  }
}

/** Ends the tenants there are, who must have heard nothing of each other. */
async function clear(): Promise<void> {
  try {
    expect([...leaks(alpha, bravo), ...leaks(bravo, alpha)]).toEqual([]);
  } finally {
    for (const tenant of [alpha, bravo]) await tenant.leave();
  }
}

function mark(of: Tenant, text: string): string {
  of.marks.add(text);
  return text;
}

function askFor({ scene, shared }: Tenant, resourceId: string = shared.git, connected: readonly string[] = []): void {
  scene.client.send('create_flow', { resource_id: resourceId, connected_gateway_ids: connected });
}

/** Flows to both resources, in order of their ids. */
async function openBoth({ scene, shared }: Tenant): Promise<OpenFlow[]> {
  const flows: OpenFlow[] = [];
  for (const id of [shared.git, shared.office].sort()) flows.push(await scene.openFlow(id));
  return flows;
}

async function secretsTold({ scene, shared }: Tenant): Promise<Record<string, unknown>> {
  scene.client.send('create_flow', { resource_id: shared.git, connected_gateway_ids: [] });
  const asked = await scene.gateway.next('authorize_flow');
  scene.gateway.send('flow_authorized', { ref: asked['ref'] });
  await scene.gateway.next('phx_reply');
  const created = await scene.client.next('flow_created');
  return {
    ref: asked['ref'],
    psk: created['preshared_key'],
    clientIce: (created['client_ice_credentials'] as Json)['password'],
    gatewayIce: (created['gateway_ice_credentials'] as Json)['password'],
  };
}

function candidatesOf(of: Tenant): string[] {
  const candidate = mark(of, `candidate:1 1 udp 2130706431 192.0.2.1${of.number} 50712 typ host of ${of.name}`);
  return [candidate, 'candidate:the same in both'];
}

/** Flows open, and candidates pass both ways, unchanged. */
async function expectWorks(of: Tenant): Promise<void> {
  await openBoth(of);
  const { client, gateway } = of.scene;
  const candidates = candidatesOf(of);
  for (const [sent, received] of KINDS_OF_CANDIDATES) {
    client.send(sent, { candidates, gateway_ids: [of.shared.gateway] });
    expect(await gateway.next(received)).toEqual({ client_id: of.shared.client, candidates });
    gateway.send(sent, { candidates, client_ids: [of.shared.client] });
    expect(await client.next(received)).toEqual({ gateway_id: of.shared.gateway, candidates });
  }
}

async function expectSilence(...of: readonly Tenant[]): Promise<void> {
  for (const { scene } of of) {
    for (const [name, pushes] of Object.entries(await scene.heard())) expect([name, pushes]).toEqual([name, []]);
  }
}

/** Its relay leaves, for good; when its peers know that, another one comes. */
async function replaceRelay(of: Tenant): Promise<void> {
  const [gone] = of.relays;
  await gone?.peer.close();
  const expectTold = async (disconnected_ids: readonly string[], toUse: Tenant['relays']): Promise<void> => {
    for (const role of ['gateway', 'client'] as const) await of.scene[role].awaits('relays_presence');
    const push = (role: 'gateway' | 'client'): Push => [
      ...(['relays_presence', { disconnected_ids, connected: of.entries(role, toUse) }] as const),
    ];
    expect(await of.scene.heard()).toEqual({ gateway: [push('gateway')], client: [push('client')] });
  };
  await expectTold([relayIdOf(gone?.stampSecret ?? '')], []);
  await expectTold([], [await of.joinRelay()]);
}

// ---- what its peers hear -------------------------------------------------------------------------------------------

function ofAccount({ scene }: Tenant): string {
  return `WHERE account_id = '${scene.ids.accountId}'`;
}

function pair({ shared }: Tenant, resourceId: string): Push {
  return rejected({ clientId: shared.client, resourceId });
}

/** With the rejects that come first in order of their resources: no order is promised among those of one commit. */
function byResource({ gateway = [], ...others }: Record<string, Push[]>): Record<string, Push[]> {
  const end = gateway.findIndex(([event]) => event !== 'reject_access');
  const rejects = gateway.slice(0, end < 0 ? gateway.length : end);
  const keyOfReject = ([, payload]: Push): string => (payload as { resource_id: string }).resource_id;
  rejects.sort((a, b) => (keyOfReject(a) < keyOfReject(b) ? -1 : 1));
  return { ...others, gateway: [...rejects, ...gateway.slice(rejects.length)] };
}

/** Rejects of both flows, in order of the resources. */
function pairs(of: Tenant): Push[] {
  return [of.shared.git, of.shared.office].sort().map((id) => pair(of, id));
}

function losesGit(of: Tenant): { gateway: Push[]; client: Push[] } {
  return { gateway: [pair(of, of.shared.git)], client: [removed(of.shared.git)] };
}

function losesBoth(of: Tenant): { gateway: Push[]; client: Push[] } {
  return { gateway: pairs(of), client: [of.shared.git, of.shared.office].sort().map(removed) };
}

function closes(of: Tenant): { gateway: Push[]; client: Push[] } {
  return { gateway: pairs(of), client: [CLOSED] };
}

/** The client forgets both resources, and is given them anew. */
function toggle(of: Tenant): Push[] {
  return [...losesBoth(of).client, ...sorted([of.git(), of.office()]).map(created)];
}

function created(resource: Json): Push {
  return ['resource_created_or_updated', resource];
}

function updates(of: Tenant): Push[] {
  return sorted([of.gitForGateway(), of.officeForGateway()]).map((form) => ['resource_updated', form]);
}

function authorizations(flows: readonly OpenFlow[]): Json[] {
  return flows.map(({ clientId, resourceId, expiresAt }) => ({
    ...{ client_id: clientId, resource_id: resourceId, expires_at: expiresAt },
  }));
}

function interfaceOf(of: Tenant): Json {
  const { ipv4, ipv6 } = of.scene.client.init['interface'] as Json;
  const upstream_dns = [{ protocol: 'ip_port', address: of.dnsServer }];
  return { ipv4, ipv6, upstream_dns, search_domain: of.searchDomain };
}

function sorted(list: readonly Json[]): Json[] {
  return [...list].sort((a, b) => ((a['id'] as string) < (b['id'] as string) ? -1 : 1));
}

/** Rows are written beside the pushes: both flows of its client are there. */
function recorded({ scene, shared }: Tenant): Promise<void> {
  const open = 'SELECT FROM flows WHERE account_id = $1 AND client_id = $2 AND revoked_at IS NULL';
  return eventually('two flows to be on record', async () => {
    return (await scene.server.db.query(open, [scene.ids.accountId, shared.client])).rowCount === 2;
  });
}
