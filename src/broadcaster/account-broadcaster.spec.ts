import { beforeEach, describe, expect, it, jest } from '@jest/globals';
import { ACCOUNT, CLIENT, GATEWAY, idOf, MONDAY_9 } from '../../test/support/builders.js';
import { noImpact } from '../core/authorizer/client-impact.js';
import type { AccountId, ClientId, GatewayId } from '../core/model/ids.js';
import type {
  AppliedStep,
  ClientSubscriber,
  GatewayImpact,
  GatewaySubscriber,
  StepImpacts,
} from '../core/ports/account-streams.js';
import type { Logger } from '../core/support/logger.js';
import { AccountBroadcaster } from './account-broadcaster.js';

const step: AppliedStep = { accountId: ACCOUNT, position: 7n, committedAt: MONDAY_9, now: MONDAY_9 };
const impact: GatewayImpact = {
  flows: new Set(),
  resources: new Set(),
  slugChanged: false,
  isGone: false,
  deletedTokens: new Set(),
  cuts: [],
};
const impacts = (gateways: readonly GatewayId[], clients: readonly ClientId[]): StepImpacts => ({
  gateways: new Map(gateways.map((id) => [id, impact])),
  clients: new Map(clients.map((id) => [id, noImpact()])),
});
const other = idOf<ClientId>('other');

describe('AccountBroadcaster', () => {
  let log: jest.Mocked<Logger>;
  let streams: AccountBroadcaster;
  let heard: string[];

  beforeEach(() => {
    log = { error: jest.fn(), warn: jest.fn(), info: jest.fn(), debug: jest.fn() };
    streams = new AccountBroadcaster(log);
    heard = [];
  });

  const gateway = (name: string, gatewayId = GATEWAY): GatewaySubscriber => ({
    gatewayId,
    onStep: () => void heard.push(name),
    onFailure: () => void heard.push(`${name} failed`),
  });
  const client = (name: string, clientId = CLIENT): ClientSubscriber => ({
    clientId,
    onStep: () => void heard.push(name),
    onFailure: () => void heard.push(`${name} failed`),
  });

  it('ORD-4: every gateway hears of a step before any client, inside `publish`', () => {
    streams.subscribeClient(ACCOUNT, client('c1'));
    streams.subscribeGateway(ACCOUNT, gateway('g1'));
    streams.subscribeClient(ACCOUNT, client('c2', other));
    streams.subscribeGateway(ACCOUNT, gateway('g2', idOf<GatewayId>('g2')));
    streams.publish(step, impacts([GATEWAY, idOf<GatewayId>('g2')], [CLIENT, other]));
    expect(heard).toEqual(['g1', 'g2', 'c1', 'c2']);
  });

  it('passes on the step and the impact as they are', () => {
    const onStep = jest.fn<GatewaySubscriber['onStep']>();
    streams.subscribeGateway(ACCOUNT, { ...gateway('g'), onStep });
    streams.publish(step, impacts([GATEWAY], []));
    expect(onStep.mock.calls).toEqual([[step, impact]]);
  });

  it('tells only those whom the step concerns', () => {
    streams.subscribeClient(ACCOUNT, client('c1'));
    streams.subscribeClient(ACCOUNT, client('c2', other));
    streams.publish(step, impacts([], [other]));
    expect(heard).toEqual(['c2']);
  });

  it('S5: an account hears nothing of another one', () => {
    streams.subscribeClient(idOf<AccountId>('other'), client('foreign'));
    streams.publish(step, impacts([], [CLIENT]));
    expect(heard).toEqual([]);
  });

  it('D12: a subscriber that throws is told so, and the others go on', () => {
    streams.subscribeGateway(ACCOUNT, {
      ...gateway('bad'),
      onStep: () => {
        throw new Error('no');
      },
    });
    streams.subscribeGateway(ACCOUNT, gateway('twin'));
    streams.subscribeClient(ACCOUNT, client('c1'));
    streams.publish(step, impacts([GATEWAY], [CLIENT]));
    expect(heard).toEqual(['bad failed', 'twin', 'c1']);
  });

  it('even one whose failure handler throws stops nobody', () => {
    const fails = (): never => {
      throw new Error('no');
    };
    streams.subscribeGateway(ACCOUNT, { gatewayId: GATEWAY, onStep: fails, onFailure: fails });
    streams.subscribeClient(ACCOUNT, client('c1'));
    streams.publish(step, impacts([GATEWAY], [CLIENT]));
    streams.fail(ACCOUNT, new Error('gone'));
    expect(heard).toEqual(['c1', 'c1 failed']);
    expect(log.error).toHaveBeenCalledTimes(2);
  });

  it('hears nothing after it unsubscribed, also twice', () => {
    const leave = streams.subscribeClient(ACCOUNT, client('c1'));
    streams.subscribeClient(ACCOUNT, client('c2', other));
    leave();
    leave();
    streams.publish(step, impacts([], [CLIENT, other]));
    streams.fail(ACCOUNT, new Error('gone'));
    expect(heard).toEqual(['c2', 'c2 failed']);
  });

  it('a twin that leaves does not silence the one that stays', () => {
    const leave = streams.subscribeGateway(ACCOUNT, gateway('old'));
    streams.subscribeGateway(ACCOUNT, gateway('new'));
    leave();
    streams.publish(step, impacts([GATEWAY], []));
    expect(heard).toEqual(['new']);
    expect([...streams.liveGateways(ACCOUNT)]).toEqual([GATEWAY]);
  });

  it('a subscriber may unsubscribe itself and others while it hears', () => {
    const leave: (() => void)[] = [];
    leave.push(
      streams.subscribeGateway(ACCOUNT, {
        ...gateway('g'),
        onStep: () => {
          heard.push('g');
          for (const undo of leave) undo();
        },
      }),
    );
    leave.push(streams.subscribeClient(ACCOUNT, client('c1')));
    streams.publish(step, impacts([GATEWAY], [CLIENT]));
    expect(heard).toEqual(['g']);
    expect([streams.liveGateways(ACCOUNT).size, streams.liveClients(ACCOUNT).size]).toEqual([0, 0]);
  });

  it('knows who is live, and forgets an account that nobody listens to', () => {
    const leave = [streams.subscribeGateway(ACCOUNT, gateway('g')), streams.subscribeClient(ACCOUNT, client('c'))];
    expect([[...streams.liveGateways(ACCOUNT)], [...streams.liveClients(ACCOUNT)]]).toEqual([[GATEWAY], [CLIENT]]);
    for (const undo of leave) undo();
    expect([streams.liveGateways(ACCOUNT).size, streams.liveClients(ACCOUNT).size]).toEqual([0, 0]);
    streams.subscribeClient(ACCOUNT, client('again'));
    streams.publish(step, impacts([], [CLIENT]));
    expect(heard).toEqual(['again']);
  });

  it('D14: everybody of an account is failed together', () => {
    const leave: (() => void)[] = [];
    leave.push(
      streams.subscribeGateway(ACCOUNT, { ...gateway('g'), onFailure: () => leave.forEach((undo) => undo()) }),
    );
    leave.push(streams.subscribeClient(ACCOUNT, client('c1')));
    streams.subscribeClient(idOf<AccountId>('other'), client('foreign'));
    streams.fail(ACCOUNT, new Error('gone'));
    expect(heard).toEqual(['c1 failed']); // although the gateway's handler unsubscribed it
  });
});
