/** The example frames of the protocol description, made by our views, and each judged by the strict peer. */
import { describe, expect, it } from '@jest/globals';
import { checkServerFrame, checkServerPing } from '../../test/support/strict-peer.js';
import type { PeerRole } from '../../test/support/strict-peer.js';
import { DISTANT_TURN_EXPIRY } from '../core/derivations/turn-credentials.js';
import type { AccountId, ActorId, ClientId, GatewayId, RelayId, ResourceId, SiteId } from '../core/model/ids.js';
import type { ClientRow, Filter, GatewayRow, ResourceRow, SiteRow } from '../core/model/rows.js';
import { encodeBarrier, selectSerializer } from './frame.js';
import type { Serializer } from './frame.js';
import { DISCONNECT } from './outbound.js';
import type { ClientPushes, GatewayPushes } from './outbound.js';
import {
  candidatesOfGateway,
  clientInit,
  configChanged,
  flowCreated,
  flowCreationFailed,
} from './views/client-views.js';
import {
  allowAccess,
  authorizeFlow,
  candidatesOfClient,
  expiryUpdated,
  gatewayInit,
  rejectAccess,
  requestConnection,
} from './views/gateway-views.js';
import { relayEntries, relaysPresence } from './views/relay-entries.js';
import { clientResource, gatewayResource } from './views/resource-forms.js';

const ACCOUNT_ID = '3f1d0c52-8a47-4d5e-9b60-1c2d3e4f5a01' as AccountId;
const CLIENT_ID = '0c8f2b0e-6f0a-4a55-9d5c-2f4f7a1b9c01' as ClientId;
const GATEWAY_ID = '5b1d3f77-2c84-4c0e-8a3e-7d2f90c4e102' as GatewayId;
const DNS_ID = '4f0c1f7e-58b1-4a3e-9d0f-0a2b1c7e9a10' as ResourceId;
const CLIENT_KEY = 'AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=';
const GATEWAY_KEY = 'AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=';
const EXPIRES_AT = 1_767_225_600_999;
const RELAY_ID = '71f0a5de-3c55-4cf5-8d1f-2f1f9d0f6a55' as RelayId;
const CANDIDATE = 'candidate:1 1 udp 2130706431 198.51.100.4 52625 typ host';

const client: ClientRow = {
  accountId: ACCOUNT_ID,
  id: CLIENT_ID,
  actorId: 'b1a2c3d4-0000-4000-8000-000000000001' as ActorId,
  externalId: 'x',
  name: 'ada-laptop',
  ipv4: '100.66.12.9',
  ipv6: 'fd00:2021:1111::7:31c2',
  verifiedAt: null,
};
const frankfurt = aSite('9a7d20cc-6f1a-4f0e-8b35-31d7e5b0c011', 'Frankfurt');
const internetSite = aSite('d2f4b6a8-1c3e-4a5b-9c7d-8e6f5a4b3c44', 'Internet');
const gateway: GatewayRow = {
  accountId: ACCOUNT_ID,
  id: GATEWAY_ID,
  siteId: frankfurt.id,
  externalId: 'y',
  name: 'gw-fra-1',
  ipv4: '100.70.1.2',
  ipv6: 'fd00:2021:1111::a:11',
};
const git = aResource({
  id: DNS_ID,
  type: 'dns',
  name: 'Git',
  address: '*.git.corp.example',
  ipStack: 'dual',
  filters: [tcp(443), { protocol: 'icmp', ports: [] }],
});
const lan = aResource({
  id: 'a61a0a0d-0c53-4d3f-a1b0-7a1f2d4b5e22' as ResourceId,
  type: 'cidr',
  name: 'Office LAN',
  address: '10.20.0.0/16',
  addressDescription: 'https://wiki.corp.example/lan',
});
const internet = aResource({
  id: 'c0b9a3e1-2f4d-4b6c-8e7a-5d1c2b3a4f33' as ResourceId,
  type: 'internet',
  name: 'Internet',
  address: null,
});
const secrets = {
  presharedKey: 'j+ykmHfHyPkDbD0SL9KXsdjWdk3PGmxQuUVyz27B8/A=',
  clientIce: { username: 'tlen', password: 'daah7cjwuydigesnn7fyqj' },
  gatewayIce: { username: '2e3h', password: 'pngkpo7er6cwso3wodd35q' },
};
const relay = { id: RELAY_ID, ipv4: '203.0.113.7', ipv6: null, port: 3478, stampSecret: 'a3'.repeat(32) };
const config = {
  searchDomain: 'corp.example',
  upstreamDns: ['9.9.9.9', '[2620:fe::fe]:53'],
};

function aSite(id: string, name: string): SiteRow {
  return { accountId: ACCOUNT_ID, id: id as SiteId, name, managedBy: 'account' };
}

function aResource(given: Partial<ResourceRow>): ResourceRow {
  return {
    accountId: ACCOUNT_ID,
    id: DNS_ID,
    type: 'dns',
    name: 'Git',
    address: 'git.corp.example',
    addressDescription: null,
    ipStack: null,
    filters: [],
    ...given,
  };
}

function tcp(port: number): Filter {
  return { protocol: 'tcp', ports: [{ from: port, to: port }] };
}

function present<T>(value: T | undefined): T {
  if (value === undefined) throw new Error('the view hid it');
  return value;
}

/** One push, the way a channel makes it: checked against the event's type, encoded, judged, and read again. */
function clientPush<Event extends keyof ClientPushes>(event: Event, payload: ClientPushes[Event]): unknown {
  return pushed('client', event, payload);
}

function gatewayPush<Event extends keyof GatewayPushes>(event: Event, payload: GatewayPushes[Event]): unknown {
  return pushed('gateway', event, payload);
}

function pushed(role: PeerRole, event: string, payload: unknown): unknown {
  for (const serializer of [serializerFor('1.0.0'), serializerFor('2.0.0')])
    checkServerFrame(role, serializer.encodePush(role, event, JSON.stringify(payload), '1'));
  return JSON.parse(serializerFor('1.0.0').encodePush(role, event, JSON.stringify(payload), null));
}

function serializerFor(vsn: string): Serializer {
  return present(selectSerializer(vsn));
}

const GOLDEN_CLIENT_INIT = {
  interface: {
    ipv4: '100.66.12.9',
    ipv6: 'fd00:2021:1111::7:31c2',
    upstream_dns: [
      { protocol: 'ip_port', address: '9.9.9.9:53' },
      { protocol: 'ip_port', address: '[2620:fe::fe]:53' },
    ],
    search_domain: 'corp.example',
  },
  resources: [
    {
      id: '4f0c1f7e-58b1-4a3e-9d0f-0a2b1c7e9a10',
      type: 'dns',
      address: '*.git.corp.example',
      name: 'Git',
      address_description: null,
      gateway_groups: [{ id: '9a7d20cc-6f1a-4f0e-8b35-31d7e5b0c011', name: 'Frankfurt' }],
      filters: [{ protocol: 'tcp', port_range_start: 443, port_range_end: 443 }, { protocol: 'icmp' }],
      ip_stack: 'dual',
    },
    {
      id: 'a61a0a0d-0c53-4d3f-a1b0-7a1f2d4b5e22',
      type: 'cidr',
      address: '10.20.0.0/16',
      name: 'Office LAN',
      address_description: 'https://wiki.corp.example/lan',
      gateway_groups: [{ id: '9a7d20cc-6f1a-4f0e-8b35-31d7e5b0c011', name: 'Frankfurt' }],
      filters: [],
    },
    {
      id: 'c0b9a3e1-2f4d-4b6c-8e7a-5d1c2b3a4f33',
      type: 'internet',
      can_be_disabled: true,
      gateway_groups: [{ id: 'd2f4b6a8-1c3e-4a5b-9c7d-8e6f5a4b3c44', name: 'Internet' }],
    },
  ],
  relays: [
    {
      id: '71f0a5de-3c55-4cf5-8d1f-2f1f9d0f6a55',
      type: 'turn',
      addr: '203.0.113.7:3478',
      username: '1767225600:xXzDtV05+ab3cvUI44IeCigIIjUsDQ8NJZ+6Y7dNqaA',
      password: 'DbsxnSuna3lRUZXpxvd70r/vTsWO5UbRfFIQeKrpvfM',
      expires_at: 1767225600,
    },
  ],
};

describe('what a client is told', () => {
  it('init', () => {
    const shown = [
      { resource: git, sites: [frankfurt] },
      { resource: lan, sites: [frankfurt] },
      { resource: internet, sites: [internetSite] },
    ];
    const init = clientInit(client, config, shown, '1.5.2', relayEntries([relay], CLIENT_KEY, 1_767_225_600));
    expect(clientPush('init', init)).toEqual({
      topic: 'client',
      event: 'init',
      ref: null,
      payload: GOLDEN_CLIENT_INIT,
    });
  });

  it('resource_created_or_updated, resource_deleted and config_changed', () => {
    const resource = present(clientResource(git, [frankfurt], '1.5.2'));
    expect(clientPush('resource_created_or_updated', resource)).toMatchObject({
      payload: GOLDEN_CLIENT_INIT.resources[0],
    });
    expect(clientPush('resource_deleted', DNS_ID)).toEqual({
      topic: 'client',
      event: 'resource_deleted',
      ref: null,
      payload: '4f0c1f7e-58b1-4a3e-9d0f-0a2b1c7e9a10',
    });
    expect(clientPush('config_changed', configChanged(client, { searchDomain: null, upstreamDns: [] }))).toMatchObject({
      payload: {
        interface: {
          ipv4: '100.66.12.9',
          ipv6: 'fd00:2021:1111::7:31c2',
          upstream_dns: [],
          search_domain: null,
        },
      },
    });
  });

  it('flow_created', () => {
    const answer = {
      resourceId: DNS_ID,
      sequence: 1,
      gatewayId: GATEWAY_ID,
      siteId: frankfurt.id,
      gatewayPublicKey: GATEWAY_KEY,
      gatewayIpv4: gateway.ipv4,
      gatewayIpv6: gateway.ipv6,
      secrets,
    };
    expect(clientPush('flow_created', flowCreated(answer))).toMatchObject({
      payload: {
        resource_id: '4f0c1f7e-58b1-4a3e-9d0f-0a2b1c7e9a10',
        gateway_id: '5b1d3f77-2c84-4c0e-8a3e-7d2f90c4e102',
        gateway_group_id: '9a7d20cc-6f1a-4f0e-8b35-31d7e5b0c011',
        gateway_public_key: 'AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=',
        gateway_ipv4: '100.70.1.2',
        gateway_ipv6: 'fd00:2021:1111::a:11',
        preshared_key: 'j+ykmHfHyPkDbD0SL9KXsdjWdk3PGmxQuUVyz27B8/A=',
        client_ice_credentials: { username: 'tlen', password: 'daah7cjwuydigesnn7fyqj' },
        gateway_ice_credentials: { username: '2e3h', password: 'pngkpo7er6cwso3wodd35q' },
      },
    });
  });

  it('flow_creation_failed, for each reason', () => {
    const violated = ['remote_ip_location_region', 'client_verified', 'remote_ip_location_region'];
    expect(clientPush('flow_creation_failed', flowCreationFailed(DNS_ID, 'forbidden', violated))).toMatchObject({
      payload: {
        resource_id: DNS_ID,
        reason: 'forbidden',
        violated_properties: ['remote_ip_location_region', 'client_verified'],
      },
    });
    for (const reason of ['not_found', 'offline'] as const) {
      const frame = clientPush('flow_creation_failed', flowCreationFailed(DNS_ID, reason, violated));
      expect(frame).toEqual({
        topic: 'client',
        event: 'flow_creation_failed',
        ref: null,
        payload: { resource_id: DNS_ID, reason },
      });
    }
  });

  it('candidates, relays and the end', () => {
    for (const event of ['ice_candidates', 'invalidate_ice_candidates'] as const)
      expect(clientPush(event, candidatesOfGateway(GATEWAY_ID, [CANDIDATE]))).toMatchObject({
        event,
        payload: { gateway_id: GATEWAY_ID, candidates: [CANDIDATE] },
      });
    expect(clientPush('relays_presence', relaysPresence([RELAY_ID], []))).toMatchObject({
      payload: { disconnected_ids: [RELAY_ID], connected: [] },
    });
    expect(clientPush('disconnect', DISCONNECT)).toMatchObject({ payload: { reason: 'token_expired' } });
  });
});

describe('what a gateway is told', () => {
  const pair = { clientId: CLIENT_ID, resourceId: DNS_ID, expiresAt: EXPIRES_AT };

  it('init', () => {
    const relays = relayEntries([{ ...relay, ipv4: null, ipv6: '2001:db8::7' }], GATEWAY_KEY, DISTANT_TURN_EXPIRY);
    const init = gatewayInit('acme', gateway, relays, [pair], []);
    expect(gatewayPush('init', init)).toMatchObject({
      topic: 'gateway',
      payload: {
        account_slug: 'acme',
        interface: { ipv4: '100.70.1.2', ipv6: 'fd00:2021:1111::a:11' },
        config: { ipv4_masquerade_enabled: true, ipv6_masquerade_enabled: true },
        relays: [{ id: RELAY_ID, type: 'turn', addr: '[2001:db8::7]:3478', expires_at: 2145916800 }],
        authorizations: [{ client_id: CLIENT_ID, resource_id: DNS_ID, expires_at: 1767225600 }],
      },
    });
  });

  it('init, with a placeholder for a client that has nothing left (D22)', () => {
    const init = gatewayInit('acme', gateway, [], [], [CLIENT_ID]);
    expect(gatewayPush('init', init)).toMatchObject({
      payload: {
        authorizations: [{ client_id: CLIENT_ID, resource_id: '00000000-0000-0000-0000-000000000000' }],
      },
    });
  });

  const grant = () => ({
    ref: 'v1.opaque',
    resource: present(gatewayResource({ ...git, filters: [] }, '1.4.12')),
    ...{ client, clientPublicKey: CLIENT_KEY, secrets, expiresAt: EXPIRES_AT },
  });

  it('request_connection and allow_access, with what a client before 1.4 sent along', () => {
    const payload = { ice_parameters: { username: 'u', password: 'p' }, domain: null };
    const resource = { id: DNS_ID, type: 'dns', address: '*.git.corp.example', name: 'Git', filters: [] };
    const asked = { payload, presharedKey: GATEWAY_KEY };
    expect(gatewayPush('request_connection', requestConnection(grant(), asked))).toMatchObject({
      payload: {
        ref: 'v1.opaque',
        resource,
        client: {
          id: CLIENT_ID,
          payload,
          peer: {
            persistent_keepalive: 25,
            public_key: CLIENT_KEY,
            preshared_key: GATEWAY_KEY,
            ipv4: '100.66.12.9',
            ipv6: 'fd00:2021:1111::7:31c2',
          },
        },
        expires_at: 1767225600,
      },
    });
    expect(gatewayPush('allow_access', allowAccess(grant(), null))).toMatchObject({
      payload: {
        ref: 'v1.opaque',
        client_id: CLIENT_ID,
        resource,
        expires_at: 1767225600,
        payload: null,
        client_ipv4: '100.66.12.9',
        client_ipv6: 'fd00:2021:1111::7:31c2',
      },
    });
  });

  it('authorize_flow, its expiry rounded down to a second', () => {
    expect(gatewayPush('authorize_flow', authorizeFlow(grant()))).toEqual({
      topic: 'gateway',
      event: 'authorize_flow',
      ref: null,
      payload: {
        ref: 'v1.opaque',
        resource: { id: DNS_ID, type: 'dns', address: '*.git.corp.example', name: 'Git', filters: [] },
        client: {
          id: CLIENT_ID,
          public_key: CLIENT_KEY,
          preshared_key: 'j+ykmHfHyPkDbD0SL9KXsdjWdk3PGmxQuUVyz27B8/A=',
          ipv4: '100.66.12.9',
          ipv6: 'fd00:2021:1111::7:31c2',
        },
        client_ice_credentials: { username: 'tlen', password: 'daah7cjwuydigesnn7fyqj' },
        gateway_ice_credentials: { username: '2e3h', password: 'pngkpo7er6cwso3wodd35q' },
        expires_at: 1767225600,
      },
    });
  });

  it('reject_access and access_authorization_expiry_updated', () => {
    expect(gatewayPush('reject_access', rejectAccess(CLIENT_ID, DNS_ID))).toMatchObject({
      payload: { client_id: CLIENT_ID, resource_id: DNS_ID },
    });
    expect(gatewayPush('access_authorization_expiry_updated', expiryUpdated(pair))).toMatchObject({
      payload: { client_id: CLIENT_ID, resource_id: DNS_ID, expires_at: 1767225600 },
    });
  });

  it('resource_updated', () => {
    const edited = { ...git, filters: [{ protocol: 'udp' as const, ports: [] }, tcp(22)] };
    expect(gatewayPush('resource_updated', present(gatewayResource(edited, '1.4.12')))).toEqual({
      topic: 'gateway',
      event: 'resource_updated',
      ref: null,
      payload: {
        id: '4f0c1f7e-58b1-4a3e-9d0f-0a2b1c7e9a10',
        type: 'dns',
        address: '*.git.corp.example',
        name: 'Git',
        filters: [{ protocol: 'udp' }, { protocol: 'tcp', port_range_start: 22, port_range_end: 22 }],
      },
    });
  });

  it('candidates, relays and the end', () => {
    for (const event of ['ice_candidates', 'invalidate_ice_candidates'] as const)
      expect(gatewayPush(event, candidatesOfClient(CLIENT_ID, [CANDIDATE]))).toMatchObject({
        event,
        payload: { client_id: CLIENT_ID, candidates: [CANDIDATE] },
      });
    gatewayPush('relays_presence', relaysPresence([], []));
    gatewayPush('disconnect', DISCONNECT);
  });
});

describe('replies and control frames', () => {
  it('pass the strict peer in both serializations', () => {
    for (const [vsn, ref] of [['1.0.0', 57] as const, ['2.0.0', '57'] as const]) {
      const serializer = serializerFor(vsn);
      for (const topic of ['client', 'phoenix']) {
        checkServerFrame('client', serializer.encodeOk({ joinRef: null, ref, topic }));
        checkServerFrame('client', serializer.encodeError({ joinRef: null, ref, topic: 'x' }, 'unmatched topic'));
      }
      checkServerFrame('client', serializer.encodeClose('client', vsn === '2.0.0' ? '1' : null));
      checkServerFrame('relay', serializer.encodePush('relay', 'init', '{}', '1'));
    }
    checkServerPing(encodeBarrier(1));
  });
});

describe('the strict peer', () => {
  const init = { topic: 'client', event: 'init', ref: null, payload: GOLDEN_CLIENT_INIT };
  const ok = { topic: 'client', event: 'phx_reply', ref: 0, payload: { status: 'ok', response: {} } };

  it('refuses init when any member is missing, null or of another type, and when one is added', () => {
    checkServerFrame('client', init);
    const mayBeAbsent = ['ip_stack'];
    const mayBeNull = ['search_domain', 'address_description', 'ref'];
    const paths = pathsOf(init);
    expect(paths.length).toBeGreaterThan(40);
    for (const path of paths) {
      const name = String(path.at(-1));
      const isListEntry = typeof path.at(-1) === 'number';
      if (!isListEntry && !mayBeAbsent.includes(name)) expectRefused(altered(init, path, undefined));
      if (!mayBeNull.includes(name)) expectRefused(altered(init, path, null));
      expectRefused(altered(init, path, Symbol.for('not JSON')));
      expectRefused(altered(init, [...path, 'unheard_of'], 1));
    }
  });

  it.each([
    ['a reply with a response', { ...ok, payload: { status: 'ok', response: { a: 1 } } }],
    ['a reply to a string ref in V1', { ...ok, ref: '0' }],
    ['a join_ref in V1', { ...ok, join_ref: null }],
    ['an error without reason', { ...ok, payload: { status: 'error', response: {} } }],
    ['phx_error, which makes zombies', { ...init, event: 'phx_error', payload: {} }],
    ['phx_close with a payload', { ...init, event: 'phx_close', payload: { a: 1 } }],
    ['a push with a ref', { ...init, ref: 3 }],
    ['a push on another topic', { ...init, topic: 'gateway' }],
    ['an event that only gateways know', { ...init, event: 'reject_access' }],
    ['an event nobody knows', { ...init, event: 'resource_removed' }],
    ['resource_deleted with an object', { ...init, event: 'resource_deleted', payload: { id: DNS_ID } }],
    ['a disconnect reason peers take for another', { ...init, event: 'disconnect', payload: { reason: 'shutdown' } }],
    ['host bits', altered(init, ['payload', 'resources', 1, 'address'], '10.20.0.1/16')],
    [
      'an IPv6 server without brackets',
      altered(init, ['payload', 'interface', 'upstream_dns', 1, 'address'], '::1:53'),
    ],
    ['milliseconds', altered(init, ['payload', 'relays', 0, 'expires_at'], 1767225600000)],
    ['a resource twice', altered(init, ['payload', 'resources', 1], GOLDEN_CLIENT_INIT.resources[0])],
    ['upper-case ids', altered(init, ['payload', 'relays', 0, 'id'], RELAY_ID.toUpperCase())],
  ])('refuses %s', (_what, frame) => {
    expectRefused(frame);
  });

  it('refuses relay entries that peers would not merge', () => {
    const [one, two] = ['203.0.113.7', '203.0.113.8'].map((ipv4, i) =>
      relayEntries(
        [{ ...relay, id: (RELAY_ID.slice(0, -1) + String(i)) as RelayId, ipv4, ipv6: `2001:db8::${i}` }],
        CLIENT_KEY,
        1_767_225_600,
      ),
    );
    const presence = (connected: unknown) => ({
      ...init,
      event: 'relays_presence',
      payload: { disconnected_ids: [], connected },
    });
    checkServerFrame('client', presence([one?.[0], one?.[1], two?.[0], two?.[1]]));
    expectRefused(presence([one?.[0], two?.[0], one?.[1], two?.[1]]));
    expectRefused(presence([one?.[0], one?.[0]]));
  });

  it('refuses any ping but the barrier', () => {
    expect(() => checkServerPing('')).toThrow();
    expect(() => checkServerPing(JSON.stringify(ok))).toThrow();
    expect(() => checkServerPing(encodeBarrier(1).padEnd(126))).toThrow(/125/);
  });

  it('names the member', () => {
    const bad = altered(init, ['payload', 'resources', 0, 'name'], 7);
    expect(() => checkServerFrame('client', bad)).toThrow(/resources\[0\]\.name/);
  });
});

type Path = readonly (string | number)[];

function expectRefused(frame: unknown): void {
  expect(() => checkServerFrame('client', frame)).toThrow();
}

function pathsOf(value: unknown, path: Path = []): Path[] {
  if (typeof value !== 'object' || value === null) return path.length > 0 ? [path] : [];
  const entries = Array.isArray(value) ? value.map((item, i) => [i, item] as const) : Object.entries(value);
  return [...(path.length > 0 ? [path] : []), ...entries.flatMap(([key, item]) => pathsOf(item, [...path, key]))];
}

/** A copy with another value at the path; `undefined` removes the member. Below a scalar it becomes an object. */
function altered(value: unknown, [key, ...rest]: Path, put: unknown): unknown {
  if (key === undefined) return put;
  if (Array.isArray(value) && typeof key === 'number')
    return value.map((item: unknown, i) => (i === key ? altered(item, rest, put) : item));
  const copy: Record<string, unknown> = typeof value === 'object' ? { ...value } : {};
  const changed = altered(copy[key], rest, put);
  if (changed === undefined) delete copy[key];
  else copy[key] = changed;
  return copy;
}
