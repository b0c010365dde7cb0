/** Relays, as they and the peers that use them see it (wire-protocol.md 5 and 7.3). */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, jest } from '@jest/globals';
import { createHash } from 'node:crypto';
import { aToken } from '../support/demo-account.js';
import { type Json, RawPeer } from '../support/raw-peer.js';
import { joinRelay, type RelayOptions, type TestRelay } from '../support/relays.js';
import { type Push, type Scene, Stage } from '../support/scene.js';
import { askUpgrade } from '../support/upgrade.js';

jest.setTimeout(30_000);

const DEBOUNCE_MS = 400;

let stage: Stage;
let scene: Scene;
let relayToken: string;

beforeAll(async () => {
  stage = await Stage.open({ RELAYS_DEBOUNCE_MS: `${DEBOUNCE_MS}`, RELAYS_REQUIRED: 'true' });
});

beforeEach(async () => {
  scene = await stage.account();
  relayToken = (await aToken(stage.server.db, 'relay', { accountId: scene.ids.accountId })).text;
});

afterEach(async () => {
  await stage.clear();
  for (const { peer } of relays.splice(0)) if (!peer.isClosed) await peer.close();
});

afterAll(() => stage.close());

const relays: TestRelay[] = [];

async function aRelay(of: Partial<RelayOptions> = {}): Promise<TestRelay> {
  const relay = await joinRelay(stage.server.wsUrl, { token: relayToken, ...of });
  relays.push(relay);
  return relay;
}

/** First 122 bits of SHA-256 as a v4 UUID: computed here from the rule, not by the product. */
function idOf({ stampSecret }: { readonly stampSecret: string }): string {
  const hex = createHash('sha256').update(stampSecret).digest('hex');
  const variant = ((parseInt(hex.charAt(16), 16) & 3) | 8).toString(16);
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-4${hex.slice(13, 16)}-${variant}${hex.slice(17, 20)}-${hex.slice(20, 32)}`;
}

interface Entry {
  readonly id: string;
  readonly addr: string;
  readonly username: string;
  readonly password: string;
  readonly expires_at: number;
}

const entriesOf = (init: Json): Entry[] => init['relays'] as Entry[];

/** `[gone, ids to use]` of a relays_presence; each id once. */
function presence([event, payload]: Push): [string[], string[]] {
  expect(event).toBe('relays_presence');
  const { disconnected_ids, connected } = payload as { disconnected_ids: string[]; connected: Entry[] };
  return [disconnected_ids, [...new Set(connected.map(({ id }) => id))]];
}

async function nextPresence(peer: RawPeer): Promise<[string[], string[]]> {
  return presence(['relays_presence', await peer.next('relays_presence')]);
}

/** Longer than the delay, with all that it caused arrived. */
async function afterDelay(): Promise<Record<string, Push[]>> {
  await new Promise((resolve) => setTimeout(resolve, DEBOUNCE_MS + 200));
  return scene.heard();
}

describe('a relay', () => {
  it('Appendix A: joins with its secret and gets {} twice', async () => {
    const peer = await RawPeer.connect('relay', stage.server.wsUrl, {
      token: relayToken,
      query: { ipv4: '203.0.113.9' },
    });
    const ref = peer.send('phx_join', { stamp_secret: 'a3'.repeat(32) });
    expect(await peer.next('phx_reply')).toEqual({ status: 'ok', response: {} });
    expect(peer.received.find(({ event }) => event === 'phx_reply')?.ref).toBe(ref);
    expect(await peer.next('init')).toEqual({});
    await peer.close();
  });

  it.each([[null], [{}], [{ stamp_secret: null }], [{ stamp_secret: 7 }], [{ stamp_secret: '' }], ['secret']])(
    'is refused with %j as the payload of its join',
    async (payload) => {
      const peer = await RawPeer.connect('relay', stage.server.wsUrl, {
        token: relayToken,
        query: { ipv4: '203.0.113.9' },
      });
      peer.send('phx_join', payload);
      expect(await peer.next('phx_reply')).toEqual({ status: 'error', response: { reason: 'join crashed' } });
      await peer.close();
    },
  );

  it('hears unknown_message for whatever else it says', async () => {
    const { peer } = await aRelay();
    peer.send('create_flow', {});
    expect(await peer.next('phx_reply')).toEqual({ status: 'error', response: { reason: 'unknown_message' } });
    await peer.settled();
  });

  it.each([
    ['no address', {}, { ipv4: ["can't be blank"] }],
    ['an address with a prefix', { ipv4: '203.0.113.7/32' }, { ipv4: ['is invalid'] }],
    ['an IPv6 address as IPv4', { ipv4: '::1' }, { ipv4: ['is invalid'] }],
    ['an address with a zone', { ipv6: 'fe80::1%eth0' }, { ipv6: ['is invalid'] }],
    ['port 0', { ipv4: '203.0.113.7', port: '0' }, { port: ['is invalid'] }],
    ['port 65536', { ipv4: '203.0.113.7', port: '65536' }, { port: ['is invalid'] }],
  ])('with %s is refused with 422', async (_, query, errors) => {
    const headers = { 'user-agent': 'relay/0.1.0' };
    const answer = await askUpgrade(stage.server.api, '/relay/websocket', { token: relayToken, ...query }, headers);
    expect([answer.status, answer.problem['errors']]).toEqual([422, errors]);
  });

  it.each(['client', 'gateway'] as const)(
    'with a token of a %s is refused with 401, and the other way round',
    async (role) => {
      const { clientToken, gatewayToken } = scene.ids;
      const foreign = role === 'client' ? clientToken : gatewayToken;
      const asRelay = await askUpgrade(stage.server.api, '/relay/websocket', { token: foreign, ipv4: '203.0.113.7' });
      const asDevice = await askUpgrade(stage.server.api, `/${role}/websocket`, { token: relayToken });
      expect([asRelay.status, asDevice.status]).toEqual([401, 401]);
    },
  );

  it('is told to stop for good when its token is deleted, of an account or of none', async () => {
    const ofNone = await aToken(stage.server.db, 'relay', {});
    const mine = await aRelay();
    const everybodys = await aRelay({ token: ofNone.text });
    await stage.server.db.query(`DELETE FROM tokens WHERE kind = 'relay' AND (id = $1 OR account_id = $2)`, [
      ...[ofNone.id, scene.ids.accountId],
    ]);
    for (const { peer } of [mine, everybodys]) {
      expect(await peer.next('disconnect')).toEqual({ reason: 'token_expired' });
      expect(await peer.closed()).toBe(1000);
    }
  });

  it('is sent away to come back when its token is edited', async () => {
    const { peer } = await aRelay();
    await stage.server.db.query(
      `UPDATE tokens SET expires_at = now() + '1 day' WHERE kind = 'relay' AND account_id = $1`,
      [scene.ids.accountId],
    );
    expect([await peer.closed(), peer.received.map(({ event }) => event)]).toEqual([1012, ['phx_reply', 'init']]);
  });

  it('S11: gives way to a newer connection with the same secret; peers hear nothing of it', async () => {
    const stampSecret = 'b7'.repeat(32);
    const query = { ipv4: '203.0.113.9' };
    const older = await aRelay({ stampSecret, query });
    await scene.join('client', 'client');
    await aRelay({ stampSecret, query });
    expect(await older.peer.closed()).toBe(1000);
    expect(await afterDelay()).toEqual({ client: [] });
  });
});

describe('credentials', () => {
  it('Appendix C 12: follow the documented rule', async () => {
    const expiresAt = new Date(1_767_225_600_000 + 86_400_000 * 365);
    const { accountId, actorId } = scene.ids;
    const { text } = await aToken(stage.server.db, 'client', { accountId, actorId, expiresAt });
    await aRelay({ stampSecret: 'a3'.repeat(32), query: { ipv4: '203.0.113.7', ipv6: '2001:db8:0::7', port: '3478' } });
    const publicKey = 'CQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=';
    const { peer } = await scene.join('client', 'client', { token: text, publicKey });
    const seconds = expiresAt.getTime() / 1000;
    const b64 = (input: string): string => createHash('sha256').update(input).digest('base64').replace(/=+$/, '');
    const salt = b64(publicKey);
    const common = {
      id: idOf({ stampSecret: 'a3'.repeat(32) }),
      type: 'turn',
      username: `${seconds}:${salt}`,
      password: b64(`${seconds}:${'a3'.repeat(32)}:${salt}`),
      expires_at: seconds,
    };
    expect(entriesOf(peer.init)).toEqual([
      { ...common, addr: '203.0.113.7:3478' },
      { ...common, addr: '[2001:db8::7]:3478' },
    ]);
  });

  it.each(['client', 'gateway'] as const)('of a %s are the same after it reconnects with its key', async (role) => {
    await aRelay();
    const first = await scene.join(role, 'device');
    const entries = entriesOf(first.peer.init);
    await scene.leave('device');
    const second = await scene.join(role, 'device');
    expect(entriesOf(second.peer.init)).toEqual(entries);
    expect(entries[0]?.expires_at).toBe(2_145_916_800);
  });

  it('never cross accounts: each sees its own relays and the installation’s', async () => {
    const ofNone = await aToken(stage.server.db, 'relay', {});
    const other = await stage.account();
    const mine = await aRelay();
    const everybodys = await aRelay({ token: ofNone.text });
    const here = await scene.join('client', 'client');
    const there = await other.join('client', 'client');
    expect(
      entriesOf(here.peer.init)
        .map(({ id }) => id)
        .sort(),
    ).toEqual([idOf(mine), idOf(everybodys)].sort());
    expect(entriesOf(there.peer.init).map(({ id }) => id)).toEqual([idOf(everybodys)]);
  });
});

describe('7.3: a relay disappears', () => {
  it('Appendix C 11: a flap shorter than the delay is not pushed', async () => {
    const flapping = await aRelay();
    await scene.join('gateway', 'gateway');
    await scene.join('client', 'client');
    await flapping.peer.close();
    await aRelay({ stampSecret: flapping.stampSecret });
    expect(await afterDelay()).toEqual({ gateway: [], client: [] });
  });

  it('one that stays away is pushed after the delay, with what is left or has come meanwhile', async () => {
    const lost = await aRelay();
    const stays = await aRelay();
    await scene.join('gateway', 'gateway');
    await scene.join('client', 'client');
    const leftAt = performance.now();
    await lost.peer.close();
    const comes = await aRelay();
    for (const peer of [scene.gateway, scene.client]) {
      const [gone, connected] = await nextPresence(peer);
      expect(performance.now() - leftAt).toBeGreaterThanOrEqual(DEBOUNCE_MS - 5);
      expect([gone, connected.sort()]).toEqual([[idOf(lost)], [idOf(stays), idOf(comes)].sort()]);
    }
  });

  it('Appendix C 11: a restart, with a new secret at the same address, is pushed at once', async () => {
    const query = { ipv4: '203.0.113.20', ipv6: '2001:db8::20' };
    const old = await aRelay({ query });
    await scene.join('gateway', 'gateway');
    await scene.join('client', 'client');
    const restarted = await aRelay({ query }); // its old socket is still open: nobody has noticed that it is dead
    for (const peer of [scene.gateway, scene.client]) {
      expect(await nextPresence(peer)).toEqual([[idOf(old)], [idOf(restarted)]]);
    }
    expect(await old.peer.closed()).toBe(1000);
    expect(await afterDelay()).toEqual({ gateway: [], client: [] });
  });

  it('Appendix C 11: the last one gone is pushed with nothing to use, the next one to join at once', async () => {
    const last = await aRelay();
    await scene.join('gateway', 'gateway');
    await scene.join('client', 'client');
    await last.peer.close();
    for (const peer of [scene.gateway, scene.client]) expect(await nextPresence(peer)).toEqual([[idOf(last)], []]);
    const first = await aRelay();
    for (const peer of [scene.gateway, scene.client]) expect(await nextPresence(peer)).toEqual([[], [idOf(first)]]);
  });

  it('a relay more is pushed to nobody who has one', async () => {
    await aRelay();
    await scene.join('client', 'client');
    await aRelay();
    expect(await afterDelay()).toEqual({ client: [] });
  });
});

describe('D31: without any relay', () => {
  it('real clients hear offline; a flow opens as soon as the gateway was given one', async () => {
    await scene.join('gateway', 'gateway');
    const { peer: client } = await scene.join('client', 'client');
    client.send('create_flow', { resource_id: scene.ids.resourceId, connected_gateway_ids: [] });
    expect(await client.next('flow_creation_failed')).toMatchObject({ reason: 'offline' });
    await aRelay();
    await scene.gateway.next('relays_presence');
    await client.next('relays_presence');
    await scene.openFlow();
  });
});
