import { beforeEach, describe, expect, it, jest } from '@jest/globals';
import { ACCOUNT, CLIENT, GATEWAY, idOf } from '../../test/support/builders.js';
import type { AccountId, ConnectionId, GatewayId } from '../core/model/ids.js';
import type { ClientPeer, GatewayPeer } from '../core/ports/presence.js';
import { LocalPresence } from './local-presence.js';

const aGatewayPeer = (of: Partial<GatewayPeer> = {}): GatewayPeer => ({
  accountId: ACCOUNT,
  gatewayId: GATEWAY,
  connectionId: idOf<ConnectionId>('conn'),
  upgradeNumber: 1,
  version: '1.4.16',
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
