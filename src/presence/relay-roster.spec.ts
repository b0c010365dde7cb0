import { beforeEach, describe, expect, it, jest } from '@jest/globals';
import { ACCOUNT, idOf } from '../../test/support/builders.js';
import type { AccountId, ConnectionId, RelayId } from '../core/model/ids.js';
import type { RelayPeer } from '../core/ports/presence.js';
import { LocalPresence } from './local-presence.js';

const OTHER_ACCOUNT = idOf<AccountId>('other');

const aRelay = (of: Partial<RelayPeer> = {}): RelayPeer => ({
  accountId: null,
  relayId: idOf<RelayId>('relay'),
  connectionId: idOf<ConnectionId>('conn'),
  upgradeNumber: 1,
  ipv4: '203.0.113.7',
  ipv6: null,
  port: 3478,
  stampSecret: 'secret',
  latitude: null,
  longitude: null,
  evict: jest.fn(),
  ...of,
});

describe('relays in LocalPresence', () => {
  let presence: LocalPresence;
  let changes: string[];

  beforeEach(() => {
    presence = new LocalPresence();
    changes = [];
    presence.onRelays(ACCOUNT, () => changes.push('ours'));
    presence.onRelays(OTHER_ACCOUNT, () => changes.push('others'));
  });

  it('S5: an account sees its own and the installation’s, and hears of both; never of another’s', () => {
    const everybodys = aRelay();
    const ours = aRelay({ accountId: ACCOUNT, relayId: idOf<RelayId>('ours'), ipv4: '203.0.113.8' });
    presence.enterRelay(everybodys);
    expect(changes.splice(0)).toEqual(['ours', 'others']);
    presence.enterRelay(ours);
    expect(changes.splice(0)).toEqual(['ours']);
    expect(presence.relays(ACCOUNT)).toEqual([everybodys, ours]);
    expect(presence.relays(OTHER_ACCOUNT)).toEqual([everybodys]);
  });

  it('S11: of one id the newest upgrade stays and the other is evicted, whichever enters first', () => {
    for (const order of [
      [1, 2],
      [2, 1],
    ]) {
      const fresh = new LocalPresence();
      const relays = order.map((upgradeNumber) => aRelay({ upgradeNumber }));
      for (const relay of relays) fresh.enterRelay(relay);
      const [older, newer] = [...relays].sort((a, b) => a.upgradeNumber - b.upgradeNumber);
      expect(fresh.relays(ACCOUNT)).toEqual([newer]);
      expect(older?.evict).toHaveBeenCalledTimes(1);
      expect(newer?.evict).not.toHaveBeenCalled();
    }
  });

  it('a restarted relay, with another id at the same address, takes the place of the old one in one change', () => {
    const old = aRelay();
    const restarted = aRelay({ relayId: idOf<RelayId>('again'), upgradeNumber: 2 });
    presence.enterRelay(old);
    changes.length = 0;
    presence.enterRelay(restarted);
    expect(changes).toEqual(['ours', 'others']);
    expect(presence.relays(ACCOUNT)).toEqual([restarted]);
    expect(old.evict).toHaveBeenCalledTimes(1);
  });

  it.each([
    ['another port', { port: 3479 }],
    ['another address', { ipv4: '203.0.113.8' }],
    ['an address of the other family', { ipv4: null, ipv6: '2001:db8::7' }],
    ['the same address in an account', { accountId: ACCOUNT }],
  ])('%s is another relay', (_, of) => {
    const first = aRelay();
    presence.enterRelay(first);
    presence.enterRelay(aRelay({ relayId: idOf<RelayId>('second'), upgradeNumber: 2, ...of }));
    expect(presence.relays(ACCOUNT)).toHaveLength(2);
    expect(first.evict).not.toHaveBeenCalled();
  });

  it('lists a relay once that came with two tokens, as it came last', () => {
    const ours = aRelay({ accountId: ACCOUNT, upgradeNumber: 2 });
    presence.enterRelay(aRelay({ upgradeNumber: 1 }));
    presence.enterRelay(ours);
    expect(presence.relays(ACCOUNT)).toEqual([ours]);
    const everybodys = aRelay({ upgradeNumber: 3 });
    presence.enterRelay(everybodys);
    expect(presence.relays(ACCOUNT)).toEqual([everybodys]);
  });

  it('forgets who left, once; leaving after somebody else took the place does nothing', () => {
    const leaveFirst = presence.enterRelay(aRelay());
    const second = aRelay({ upgradeNumber: 2 });
    const leaveSecond = presence.enterRelay(second);
    changes.length = 0;
    leaveFirst();
    expect([changes, presence.relays(ACCOUNT)]).toEqual([[], [second]]);
    leaveSecond();
    leaveSecond();
    expect([changes, presence.relays(ACCOUNT)]).toEqual([['ours', 'others'], []]);
  });

  it('tells nobody who has stopped listening', () => {
    const heard = jest.fn();
    const stop = presence.onRelays(ACCOUNT, heard);
    stop();
    stop();
    presence.enterRelay(aRelay());
    expect(heard).not.toHaveBeenCalled();
  });
});
