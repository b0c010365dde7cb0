import { beforeEach, describe, expect, it } from '@jest/globals';
import { ACCOUNT } from '../../../test/support/builders.js';
import { aStoredRelayToken, ChannelHouse, RELAY_TOKEN, settled } from '../../../test/support/channel-house.js';
import { relayIdOf } from '../../core/derivations/relay-id.js';

let house: ChannelHouse;

beforeEach(() => {
  house = new ChannelHouse();
});

const online = (): string[] => house.presence.relays(ACCOUNT).map(({ relayId }) => relayId);

describe('RelayChannel', () => {
  it('is online once its init is written, under the id of its secret', async () => {
    const relay = house.connectRelay({}, 'stamp-secret-example');
    expect(online()).toEqual([]);
    await settled();
    expect(relay.socket.take()).toEqual([['init', {}]]);
    expect(online()).toEqual(['794258bf-b89b-4084-917e-44c666791a3d']);
  });

  it('is gone from the moment its socket ends', async () => {
    const relay = await house.relay();
    relay.socket.close(1000);
    expect(online()).toEqual([]);
    expect([house.tokens.watchers.size, house.clock.pending]).toEqual([0, 0]);
  });

  it('understands nothing', async () => {
    const relay = await house.relay();
    relay.channel.receive({ joinRef: null, ref: 1, topic: 'relay', event: 'create_flow', payload: {} });
    expect(relay.socket.replies).toEqual(['unknown_message']);
    expect(online()).toHaveLength(1);
  });

  it('ends for good when its token is deleted or has passed its end', async () => {
    const deleted = await house.relay();
    house.tokens.tell('deleted');
    expect(deleted.socket.events()).toEqual(['init', 'disconnect', 'closed 1000']);

    house.tokens.stored.set(RELAY_TOKEN, aStoredRelayToken({ expiresAt: house.clock.now() + 1000 }));
    const expired = await house.relay();
    house.clock.advance(999);
    expect(expired.socket.events()).toEqual(['init']);
    house.clock.advance(1);
    expect(expired.socket.events()).toEqual(['disconnect', 'closed 1000']);
    expect(online()).toEqual([]);
  });

  it('is only sent away, to be judged anew, when there is doubt about its token', async () => {
    const relay = await house.relay();
    house.tokens.tell('doubtful');
    expect(relay.socket.events()).toEqual(['init', 'closed 1012']);
  });

  it('ORD-2: finds a token that was deleted between its upgrade and its join', async () => {
    house.tokens.stored.delete(RELAY_TOKEN);
    const relay = await house.relay();
    expect(relay.socket.events()).toEqual(['disconnect', 'closed 1000']);
    expect(online()).toEqual([]);
  });

  it('ORD-2: hears of a token that is deleted while it asks for it', async () => {
    let answer = (): void => undefined;
    house.tokens.holdAnswer = new Promise((resolve) => (answer = resolve));
    const relay = house.connectRelay();
    await settled();
    house.tokens.tell('deleted');
    answer();
    await settled();
    expect(relay.socket.events()).toEqual(['disconnect', 'closed 1000']);
    expect(online()).toEqual([]);
  });

  it('closes, never refuses, when the database does not answer', async () => {
    house.tokens.holdAnswer = Promise.reject(new Error('no database'));
    const relay = await house.relay();
    expect(relay.socket.events()).toEqual(['closed 1012']);
    expect(house.tokens.watchers.size).toBe(0);
  });

  it('leaves nothing behind when its socket ends while it joins', async () => {
    const relay = house.connectRelay();
    relay.socket.close(1000);
    await settled();
    expect(relay.socket.events()).toEqual(['closed 1000']);
    expect([online(), house.tokens.watchers.size]).toEqual([[], 0]);
  });

  it('S11: gives way to a newer connection with the same secret, without a disconnect', async () => {
    const older = await house.relay({}, 'same', 'older');
    const newer = await house.relay({}, 'same', 'newer');
    expect(house.heard).toEqual(['older init', 'newer init', 'older closed 1000']);
    expect(online()).toEqual([relayIdOf('same')]);
    older.socket.close(1000);
    expect(online()).toEqual([relayIdOf('same')]);
    newer.socket.close(1000);
    expect(online()).toEqual([]);
  });
});

describe('relays, as clients and gateways hear of them', () => {
  it('are in each init, with the credentials of each', async () => {
    await house.relay();
    const gateway = await house.gateway();
    const client = await house.client();
    const [inGateway, inClient] = [gateway, client].map(({ socket }) => socket.take()[0]?.[1] as { relays: object[] });
    expect(inGateway?.relays).toEqual([
      expect.objectContaining({
        id: relayIdOf('secret'),
        type: 'turn',
        addr: '203.0.113.7:3478',
        expires_at: 2_145_916_800,
      }),
    ]);
    expect(inClient?.relays).toHaveLength(1);
    expect(inClient?.relays).not.toEqual(inGateway?.relays);
  });

  it('come and go in pushes, three seconds late when they go', async () => {
    const gateway = await house.gateway();
    const client = await house.client();
    const relay = await house.relay();
    expect([gateway.socket.events(), client.socket.events()]).toEqual([
      ['init', 'relays_presence'],
      ['init', 'relays_presence'],
    ]);
    relay.socket.close(1000);
    house.later(2999);
    expect([gateway.socket.events(), client.socket.events()]).toEqual([[], []]);
    house.later(1);
    const gone = [['relays_presence', { disconnected_ids: [relayIdOf('secret')], connected: [] }]];
    expect([gateway.socket.take(), client.socket.take()]).toEqual([gone, gone]);
  });

  it('D31: a gateway without any is passed over for a client that needs one, and chosen for a tool', async () => {
    house = new ChannelHouse(undefined, { relaysRequired: true });
    const gateway = await house.gateway();
    const client = await house.client();
    client.asksFor();
    expect(client.socket.take().at(-1)).toEqual([
      'flow_creation_failed',
      expect.objectContaining({ reason: 'offline' }),
    ]);
    const relay = await house.relay();
    client.asksFor();
    expect(gateway.socket.events()).toEqual(['init', 'relays_presence', 'authorize_flow']);
    gateway.channel.evict();
    relay.socket.close(1000);
    const bare = await house.gateway({}, 'bare');
    client.asksFor();
    expect(bare.socket.events()).toEqual(['init']);
    client.socket.isRustPeer = false;
    client.asksFor();
    expect(bare.socket.events()).toEqual(['authorize_flow']);
  });
});
