import { beforeEach, describe, expect, it, jest } from '@jest/globals';
import { aClient, aFlowRecord, CLIENT, GATEWAY, idOf, RESOURCE } from '../../../test/support/builders.js';
import { ManualClock } from '../../../test/support/manual-clock.js';
import type { Flow } from '../../core/authorizer/flow-table.js';
import type { ConnectionId, ResourceId } from '../../core/model/ids.js';
import type { ClientPeer, FlowDialect, FlowRequest, PairSecrets } from '../../core/ports/presence.js';
import { FlowQueue } from './flow-queue.js';

const { shape, id: flowId, policyId, membershipId, tokenId, expiresAt } = aFlowRecord();
const flow: Flow = {
  gatewayId: GATEWAY,
  clientId: CLIENT,
  resourceId: RESOURCE,
  shape,
  grant: { flowId, policyId, membershipId, tokenId, expiresAt, isUnlimited: false },
  record: null,
  formerRecords: [],
};
const secrets: PairSecrets = {
  presharedKey: '',
  clientIce: { username: '', password: '' },
  gatewayIce: { username: '', password: '' },
};
const CONNECTION = idOf<ConnectionId>('conn');

function aRequest(
  resource = 'r1',
  of: { connectionId?: ConnectionId; sequence?: number; dialect?: FlowDialect } = {},
): FlowRequest {
  const client: ClientPeer = {
    accountId: aClient().accountId,
    clientId: CLIENT,
    connectionId: of.connectionId ?? CONNECTION,
    upgradeNumber: 1,
    publicKey: '',
    pskBase: new Uint8Array(32),
    remoteIp: null,
    flowAuthorized: jest.fn(),
    connectionReady: jest.fn(),
    toggle: jest.fn(),
    iceFromGateway: jest.fn(),
    evict: jest.fn(),
  };
  const { sequence = 1, dialect = { kind: 'flow' } } = of;
  return { client, row: aClient(), resourceId: idOf<ResourceId>(resource), sequence, dialect };
}

describe('FlowQueue', () => {
  let clock: ManualClock;
  let queue: FlowQueue;
  let isHeld: boolean;

  beforeEach(() => {
    clock = new ManualClock();
    isHeld = true;
    queue = new FlowQueue(1, clock, () => isHeld);
  });

  const send = (ref: string, request = aRequest('r0')): void => {
    queue.sent(ref, { request, flow, secrets, sentAt: clock.now() });
  };

  it('admits up to its limit, and the next one when one is answered', () => {
    const [first, second] = [aRequest('r1'), aRequest('r2')];
    expect(queue.admit(first)).toBe(true);
    send('a', first);
    expect([queue.admit(second), queue.next()]).toEqual([false, undefined]);
    expect(queue.answered('a')?.request).toBe(first);
    expect(queue.next()).toBe(second);
    expect(queue.next()).toBeUndefined();
  });

  it('a ref is answered once, and an unknown one never', () => {
    send('a');
    expect([queue.answered('b'), queue.answered('a')?.sentAt, queue.answered('a')]).toEqual([
      undefined,
      clock.now(),
      undefined,
    ]);
  });

  it('D29: an answer comes too late after a minute, and its place is free', () => {
    send('a');
    clock.advance(60_000);
    expect(queue.admit(aRequest())).toBe(false);
    clock.advance(1);
    expect(queue.admit(aRequest())).toBe(true);
    expect(queue.answered('a')).toBeUndefined();
  });

  it('a client that repeats itself waits once, in its first place, with its last word', () => {
    send('a');
    for (let sequence = 1; sequence <= 5; sequence += 1) {
      queue.admit(aRequest('r1', { sequence }));
      queue.admit(aRequest('r2', { sequence }));
      clock.advance(2000);
    }
    queue.answered('a');
    expect([queue.next(), queue.next(), queue.next()]).toMatchObject([
      { resourceId: idOf('r1'), sequence: 5 },
      { resourceId: idOf('r2'), sequence: 5 },
      undefined,
    ]);
  });

  it('D34: a repeat of what is not answered takes no second place, and the answer serves its last word', () => {
    const [first, repeat] = [aRequest('r1', { sequence: 1 }), aRequest('r1', { sequence: 2 })];
    queue = new FlowQueue(2, clock, () => isHeld);
    send('a', first);
    expect(queue.admit(repeat)).toBe(false);
    expect(queue.next()).toBeUndefined();
    expect(queue.answered('a')?.request).toBe(repeat);
  });

  it('asks again for a flow that was lost before its answer came', () => {
    queue = new FlowQueue(2, clock, () => isHeld);
    send('a', aRequest('r1'));
    isHeld = false;
    expect(queue.admit(aRequest('r1'))).toBe(true);
  });

  it('connections of one client wait apart', () => {
    send('a');
    queue.admit(aRequest('r1'));
    queue.admit(aRequest('r1', { connectionId: idOf('later') }));
    queue.answered('a');
    expect([queue.next()?.client.connectionId, queue.next()?.client.connectionId]).toEqual([CONNECTION, idOf('later')]);
  });

  it('D34: what nobody has repeated for ten seconds is dropped', () => {
    send('a');
    queue.admit(aRequest('r1'));
    clock.advance(6000);
    queue.admit(aRequest('r2'));
    clock.advance(4001);
    queue.answered('a');
    expect([queue.next()?.resourceId, queue.next()]).toEqual([idOf('r2'), undefined]);
  });

  it('D32: concerns those who wait or wait for an answer, and no others', () => {
    const other = idOf<ConnectionId>('other');
    expect(queue.concerns(CONNECTION)).toBe(false);
    send('a');
    queue.admit(aRequest('r1', { connectionId: other }));
    expect([queue.concerns(CONNECTION), queue.concerns(other)]).toEqual([true, true]);
    queue.answered('a');
    queue.next();
    expect([queue.concerns(CONNECTION), queue.concerns(other)]).toEqual([false, false]);
  });
});
