/** Clients before 1.4, between the two channels that serve them (wire-protocol.md 3.6 and 4.6). */
import { beforeEach, describe, expect, it } from '@jest/globals';
import {
  anAccountInUse,
  aPolicy,
  CLIENT,
  deleted,
  GATEWAY,
  idOf,
  MONDAY_9,
  RESOURCE,
  SITE,
  truncated,
} from '../../../test/support/builders.js';
import { ChannelHouse, type JoinedClient, type JoinedGateway } from '../../../test/support/channel-house.js';
import type { GatewayId } from '../../core/model/ids.js';

const PSK = 'AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=';
const PAYLOAD = { ice_parameters: { username: 'u', password: 'p' }, domain: null };
const ANSWER = { ConnectionAccepted: { ice_parameters: { username: 'x', password: 'y' } } };
const IN_14_DAYS = MONDAY_9 / 1000 + 14 * 24 * 60 * 60;

let house: ChannelHouse;
let gateway: JoinedGateway;
let client: JoinedClient;

beforeEach(async () => {
  house = new ChannelHouse();
  gateway = await house.gateway({ version: '1.3.2' });
  client = await house.client({ version: '1.3.7' });
  gateway.socket.take();
  client.socket.take();
});

const prepare = (): void => {
  client.says('prepare_connection', { resource_id: RESOURCE });
};
const request = (gatewayId: string = GATEWAY): void => {
  const payload = { client_payload: PAYLOAD, client_preshared_key: PSK };
  client.says('request_connection', { resource_id: RESOURCE, gateway_id: gatewayId, ...payload });
};
const reuse = (gatewayId: string = GATEWAY): void => {
  client.says('reuse_connection', { resource_id: RESOURCE, gateway_id: gatewayId, payload: PAYLOAD });
};
const refOf = (event: string): string => {
  const [, payload] = gateway.socket.heard.findLast(([name]) => name === event) ?? [];
  return (payload as { ref: string }).ref;
};
const ready = (ref: string): void => {
  gateway.says('connection_ready', { ref, gateway_payload: ANSWER });
};

describe('prepare_connection', () => {
  it('names a gateway, and nothing is granted by it', () => {
    prepare();
    expect(client.socket.take()).toEqual([
      [
        'reply',
        {
          ref: 1,
          resource_id: RESOURCE,
          gateway_group_id: SITE,
          gateway_id: GATEWAY,
          gateway_remote_ip: '192.0.2.8',
        },
      ],
    ]);
    expect([gateway.socket.events(), house.flowRecords.added]).toEqual([[], []]);
  });

  it('prefers a gateway the client has', async () => {
    const other = idOf<GatewayId>('other');
    house = new ChannelHouse([
      ...anAccountInUse(),
      ['gateways', { ...anAccountInUse().find(([table]) => table === 'gateways')?.[1], id: other } as never],
    ]);
    await house.gateway({ version: '1.3.2' });
    await house.gateway({ version: '1.3.2', gatewayId: other }, 'other');
    client = await house.client({ version: '1.3.7' });
    client.says('prepare_connection', { resource_id: RESOURCE, connected_gateway_ids: [other] });
    expect(client.socket.take().at(-1)).toEqual(['reply', expect.objectContaining({ gateway_id: other })]);
  });
});

describe('request_connection', () => {
  it('reaches the gateway with what the client sent, and its answer comes back as the reply', async () => {
    request();
    expect(gateway.socket.take()).toEqual([
      [
        'request_connection',
        {
          ref: expect.any(String),
          resource: expect.objectContaining({ id: RESOURCE }),
          client: {
            id: CLIENT,
            payload: PAYLOAD,
            peer: expect.objectContaining({ persistent_keepalive: 25, public_key: 'client key', preshared_key: PSK }),
          },
          expires_at: IN_14_DAYS,
        },
      ],
    ]);
    expect(client.socket.events()).toEqual([]);
    expect(house.flowRecords.added).toHaveLength(1);
  });

  it('D21: the reply waits for the row at gateways that never prune', async () => {
    request();
    ready(refOf('request_connection'));
    expect([gateway.socket.replies, client.socket.events()]).toEqual([['ok'], []]);
    await house.flowRecords.flush();
    expect(client.socket.take()).toEqual([
      [
        'reply',
        {
          ref: 1,
          resource_id: RESOURCE,
          persistent_keepalive: 25,
          gateway_public_key: 'gateway key',
          gateway_payload: ANSWER,
        },
      ],
    ]);
  });

  it('is one more flow to the same revocation', () => {
    request();
    gateway.socket.take();
    house.commit(deleted('policies', aPolicy()));
    expect(gateway.socket.take()).toEqual([['reject_access', { client_id: CLIENT, resource_id: RESOURCE }]]);
    house.turn();
    expect(client.socket.events()).toEqual(['resource_deleted']);
  });

  it('S2: nothing is answered to a client whose flow was revoked before the gateway answered (B12)', () => {
    request();
    const ref = refOf('request_connection');
    house.commit(truncated('policies'));
    house.turn();
    ready(ref);
    expect(gateway.socket.replies).toEqual(['invalid_ref']);
    expect(client.socket.events()).toEqual(['resource_deleted']);
  });

  it('a repeat waits for the answer to the one before: each brings a key of its own', () => {
    request();
    request();
    expect(gateway.socket.events()).toEqual(['request_connection']);
  });

  it('the repeat is sent when the one before is answered', () => {
    request();
    request();
    const ref = refOf('request_connection');
    gateway.socket.take();
    ready(ref);
    expect(gateway.socket.events()).toEqual(['request_connection']);
  });
});

describe('reuse_connection', () => {
  it('lets the client use its connection for one resource more; gateways of 1.4 do not answer', () => {
    reuse();
    reuse();
    expect(gateway.socket.take()).toEqual(
      Array.from({ length: 2 }, () => [
        'allow_access',
        {
          ref: expect.any(String),
          client_id: CLIENT,
          resource: expect.objectContaining({ id: RESOURCE }),
          expires_at: IN_14_DAYS,
          payload: PAYLOAD,
          client_ipv4: expect.any(String),
          client_ipv6: expect.any(String),
        },
      ]),
    );
    expect([client.socket.events(), house.flowRecords.added.length]).toEqual([[], 1]);
  });

  it('is answered when the gateway is', async () => {
    reuse();
    ready(refOf('allow_access'));
    await house.flowRecords.flush();
    expect(client.socket.events()).toEqual(['reply']);
  });

  it('takes no place from others, however often it is asked', async () => {
    house = new ChannelHouse(undefined, { maxUnansweredFlows: 1 });
    gateway = await house.gateway({ version: '1.3.2' });
    client = await house.client({ version: '1.3.7' });
    for (let i = 0; i < 300; i += 1) reuse();
    gateway.socket.take();
    request();
    expect(gateway.socket.events()).toEqual(['request_connection']);
  });
});

describe('refusals are replies', () => {
  const asking = { prepare, request, reuse };

  it.each(['prepare', 'request', 'reuse'] as const)('%s: not_found when no policy names the resource', (what) => {
    house.commit(deleted('policies', aPolicy()));
    house.turn();
    asking[what]();
    expect([client.socket.replies, client.socket.events()]).toEqual([['not_found'], ['resource_deleted']]);
  });

  it.each(['prepare', 'request', 'reuse'] as const)('%s: forbidden, with what was violated', async (what) => {
    const conditions = [{ property: 'remote_ip_location_region', operator: 'is_in', values: ['US'] }] as never;
    house = new ChannelHouse(
      anAccountInUse().map((row) => (row[0] === 'policies' ? ['policies', aPolicy({ conditions })] : row)),
    );
    gateway = await house.gateway({ version: '1.3.2' });
    client = await house.client({ version: '1.3.7' });
    asking[what]();
    expect(client.socket.replies).toEqual(['forbidden {"violated_properties":["remote_ip_location_region"]}']);
    expect(gateway.socket.events()).toEqual(['init']);
  });

  it.each(['prepare', 'request', 'reuse'] as const)('%s: offline when the gateway is away, each time', (what) => {
    gateway.channel.evict();
    asking[what]();
    asking[what]();
    expect(client.socket.replies).toEqual(['offline', 'offline']);
  });

  it.each(['request', 'reuse'] as const)('%s: not_found when there is no such gateway', (what) => {
    asking[what](idOf<GatewayId>('nobody'));
    expect(client.socket.replies).toEqual(['not_found']);
  });

  it.each(['prepare', 'request', 'reuse'] as const)(
    '%s: offline at a gateway that no longer knows it',
    async (what) => {
      gateway.channel.evict();
      await house.gateway({ version: '1.5.0' });
      asking[what]();
      expect(client.socket.replies).toEqual(['offline']);
    },
  );

  it.each(['prepare', 'request', 'reuse'] as const)('%s: no answer while nothing is known for certain', (what) => {
    house.mayGrant = false;
    asking[what]();
    expect([client.socket.replies, client.socket.events(), gateway.socket.events()]).toEqual([[], [], []]);
  });
});

describe('connection_ready', () => {
  it.each([
    ['a ref of authorize_flow', 'create_flow'],
    ['no ref of ours', undefined],
  ])('with %s is invalid_ref', (_, event) => {
    if (event) client.asksFor();
    ready(event ? refOf('authorize_flow') : 'v1.nonsense');
    expect([gateway.socket.replies, client.socket.events()]).toEqual([['invalid_ref'], []]);
  });

  it('is good once, and only with what was asked', async () => {
    request();
    const ref = refOf('request_connection');
    gateway.says('flow_authorized', { ref });
    ready(ref);
    expect(gateway.socket.replies).toEqual(['invalid_ref', 'invalid_ref']);
    await house.flowRecords.flush();
    expect(client.socket.events()).toEqual([]);
  });
});
