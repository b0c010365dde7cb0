import { beforeEach, describe, expect, it, jest } from '@jest/globals';
import { ACCOUNT, CLIENT, GATEWAY, idOf } from '../../test/support/builders.js';
import type { AccountId, ClientId, ConnectionId, GatewayId, ResourceId } from '../core/model/ids.js';
import type { ClientPeer, GatewayPeer } from '../core/ports/presence.js';
import { LocalPresence } from './local-presence.js';
import { OwedToggles } from './owed-toggles.js';

const aGatewayPeer = (of: Partial<GatewayPeer> = {}): GatewayPeer => ({
  accountId: ACCOUNT,
  gatewayId: GATEWAY,
  connectionId: idOf<ConnectionId>('conn'),
  upgradeNumber: 1,
  version: '1.4.16',
  remoteIp: null,
  latitude: null,
  longitude: null,
  hasRelay: true,
  requestFlow: jest.fn(),
  iceFromClient: jest.fn(),
  evict: jest.fn(),
  ...of,
});

const aClientPeer = (of: Partial<ClientPeer> = {}): ClientPeer => ({
  accountId: ACCOUNT,
  clientId: CLIENT,
  connectionId: idOf<ConnectionId>('conn'),
  upgradeNumber: 1,
  publicKey: '',
  pskBase: new Uint8Array(32),
  remoteIp: null,
  flowAuthorized: jest.fn(),
  connectionReady: jest.fn(),
  toggle: jest.fn(),
  iceFromGateway: jest.fn(),
  evict: jest.fn(),
  ...of,
});

describe('LocalPresence', () => {
  let presence: LocalPresence;

  beforeEach(() => {
    presence = new LocalPresence();
  });

  it('finds who has entered, by account', () => {
    const [gateway, client] = [aGatewayPeer(), aClientPeer()];
    presence.enterGateway(gateway);
    presence.enterClient(client);
    expect(presence.gateway(ACCOUNT, GATEWAY)).toBe(gateway);
    expect(presence.client(ACCOUNT, CLIENT)).toBe(client);
    expect([...presence.gateways(ACCOUNT)]).toEqual([gateway]);
    const foreign = idOf<AccountId>('other');
    expect([presence.gateway(foreign, GATEWAY), presence.client(foreign, CLIENT)]).toEqual([undefined, undefined]);
    expect([...presence.gateways(foreign)]).toEqual([]);
  });

  it('D23, S11: the newest upgrade stays and the other is evicted, whichever enters first', () => {
    for (const order of [
      [1, 2],
      [2, 1],
    ]) {
      const fresh = new LocalPresence();
      const peers = order.map((upgradeNumber) => aGatewayPeer({ upgradeNumber }));
      for (const peer of peers) fresh.enterGateway(peer);
      const [older, newer] = [...peers].sort((a, b) => a.upgradeNumber - b.upgradeNumber);
      expect(fresh.gateway(ACCOUNT, GATEWAY)).toBe(newer);
      expect(older?.evict).toHaveBeenCalledTimes(1);
      expect(newer?.evict).not.toHaveBeenCalled();
    }
  });

  it('the place is taken before the older one is told to go, so nobody finds it empty', () => {
    const newer = aClientPeer({ upgradeNumber: 2 });
    let seen: unknown;
    const older = aClientPeer({ evict: () => (seen = presence.client(ACCOUNT, CLIENT)) });
    presence.enterClient(older);
    presence.enterClient(newer);
    expect(seen).toBe(newer);
  });

  it('leaving after somebody else took the place does nothing', () => {
    const newer = aClientPeer({ upgradeNumber: 2 });
    const leave: (() => void)[] = [];
    leave.push(presence.enterClient(aClientPeer({ evict: () => leave.forEach((undo) => undo()) })));
    presence.enterClient(newer);
    expect(presence.client(ACCOUNT, CLIENT)).toBe(newer);
  });

  it('the leave of one that was refused takes nobody away', () => {
    const newer = aGatewayPeer({ upgradeNumber: 2 });
    presence.enterGateway(newer);
    presence.enterGateway(aGatewayPeer({ upgradeNumber: 1 }))();
    expect(presence.gateway(ACCOUNT, GATEWAY)).toBe(newer);
  });

  it('D20b: tells a client that is here to toggle, and one that is away when it comes back, once', () => {
    const [first, second] = [idOf<ResourceId>('r1'), idOf<ResourceId>('r2')];
    const client = aClientPeer();
    for (const id of [first, second, first]) presence.toggle(ACCOUNT, CLIENT, id);
    presence.enterClient(client);
    expect(client.toggle).not.toHaveBeenCalled();
    expect([...presence.takeOwedToggles(ACCOUNT, CLIENT)]).toEqual([first, second]);
    expect([...presence.takeOwedToggles(ACCOUNT, CLIENT)]).toEqual([]);
    presence.toggle(ACCOUNT, CLIENT, first);
    expect(client.toggle).toHaveBeenCalledWith(first);
    expect([...presence.takeOwedToggles(ACCOUNT, CLIENT)]).toEqual([]);
  });

  it('G6: of too many clients that are away, those that have been longest are forgotten', () => {
    const owed = new OwedToggles(2);
    const clients = ['c1', 'c2', 'c3'].map((name) => idOf<ClientId>(name));
    for (const id of clients) owed.add(ACCOUNT, id, idOf<ResourceId>('r'));
    expect(clients.map((id) => owed.take(ACCOUNT, id).size)).toEqual([0, 1, 1]);
  });

  it('forgets who left, and a device may come back', () => {
    const leave = presence.enterGateway(aGatewayPeer());
    presence.enterGateway(aGatewayPeer({ gatewayId: idOf<GatewayId>('other') }));
    leave();
    leave();
    expect(presence.gateway(ACCOUNT, GATEWAY)).toBeUndefined();
    expect([...presence.gateways(ACCOUNT)]).toHaveLength(1);
    const again = aGatewayPeer({ upgradeNumber: 3 });
    presence.enterGateway(again);
    expect(presence.gateway(ACCOUNT, GATEWAY)).toBe(again);
  });
});
