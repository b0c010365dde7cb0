import { describe, expect, it } from '@jest/globals';
import type { AccountId, ActorId, ClientId, RelayId, ResourceId, SiteId } from '../../core/model/ids.js';
import type { ClientRow, ResourceRow, SiteRow } from '../../core/model/rows.js';
import { clientInit, clientInterface } from './client-views.js';
import { relayEntries } from './relay-entries.js';
import { clientResource, gatewayResource } from './resource-forms.js';

const ACCOUNT_ID = '3f1d0c52-8a47-4d5e-9b60-1c2d3e4f5a01' as AccountId;
const KEY = 'AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=';

function aResource(given: Partial<ResourceRow> = {}): ResourceRow {
  return {
    accountId: ACCOUNT_ID,
    id: '4f0c1f7e-58b1-4a3e-9d0f-0a2b1c7e9a10' as ResourceId,
    type: 'dns',
    name: 'Git',
    address: 'git.corp.example',
    addressDescription: null,
    ipStack: null,
    filters: [],
    ...given,
  };
}

function aSite(id: string): SiteRow {
  return { accountId: ACCOUNT_ID, id: id as SiteId, name: `site ${id}`, managedBy: 'account' };
}

const client: ClientRow = {
  accountId: ACCOUNT_ID,
  id: '0c8f2b0e-6f0a-4a55-9d5c-2f4f7a1b9c01' as ClientId,
  actorId: 'b1a2c3d4-0000-4000-8000-000000000001' as ActorId,
  externalId: 'x',
  name: 'ada-laptop',
  ipv4: '100.66.12.9',
  ipv6: 'fd00:2021:1111::7:31c2',
  verifiedAt: null,
};

describe('a resource for a client', () => {
  it('is hidden without a site, and where its version cannot use it', () => {
    expect(clientResource(aResource(), [], '1.5.2')).toBeUndefined();
    expect(clientResource(aResource({ address: 'a.*.com' }), [aSite('a')], '1.1.0')).toBeUndefined();
    const internet = aResource({ type: 'internet', address: null });
    expect(clientResource(internet, [aSite('a')], '1.2.0')).toBeUndefined();
    expect(
      clientInit(client, { searchDomain: null, upstreamDns: [] }, [{ resource: internet, sites: [] }], '1.5.2', []),
    ).toMatchObject({ resources: [] });
  });

  it('is hidden when its address could not be read', () => {
    for (const type of ['dns', 'cidr', 'ip'] as const) {
      expect(clientResource(aResource({ type, address: null }), [aSite('a')], '1.5.2')).toBeUndefined();
      expect(clientResource(aResource({ type, address: null }), [aSite('a')], '1.1.0')).toBeUndefined();
      expect(gatewayResource(aResource({ type, address: null }), '1.4.0')).toBeUndefined();
    }
  });

  it('lists its sites by id, so that the same resource is the same text', () => {
    const forms = [
      clientResource(aResource(), [aSite('b'), aSite('a')], '1.5.2'),
      clientResource(aResource(), [aSite('a'), aSite('b')], '1.5.2'),
    ];
    expect(JSON.stringify(forms[0])).toBe(JSON.stringify(forms[1]));
    expect(forms[0]?.gateway_groups.map((site) => site.id)).toEqual(['a', 'b']);
  });

  it('shows a single address as a network, and the ip stack of dns only', () => {
    const single = clientResource(
      aResource({ type: 'ip', address: '10.1.2.3/32', ipStack: 'dual' }),
      [aSite('a')],
      '1.5.2',
    );
    expect(single).toMatchObject({ type: 'cidr', address: '10.1.2.3/32' });
    expect(single).not.toHaveProperty('ip_stack');
    expect(clientResource(aResource(), [aSite('a')], '1.5.2')).not.toHaveProperty('ip_stack');
    expect(clientResource(aResource({ ipStack: 'ipv4_only' }), [aSite('a')], '1.5.2')).toMatchObject({
      ip_stack: 'ipv4_only',
    });
  });

  it('has one filter per port range; no ports means all of them', () => {
    const resource = aResource({
      filters: [
        {
          protocol: 'tcp',
          ports: [
            { from: 80, to: 80 },
            { from: 8000, to: 8100 },
          ],
        },
        { protocol: 'udp', ports: [] },
        { protocol: 'icmp', ports: [{ from: 1, to: 2 }] },
      ],
    });
    const filters = [
      { protocol: 'tcp', port_range_start: 80, port_range_end: 80 },
      { protocol: 'tcp', port_range_start: 8000, port_range_end: 8100 },
      { protocol: 'udp' },
      { protocol: 'icmp' },
    ];
    expect(clientResource(resource, [aSite('a')], '1.5.2')).toMatchObject({ filters });
    expect(gatewayResource(resource, '1.4.0')).toMatchObject({ filters });
  });
});

describe('a resource for a gateway', () => {
  it('is none where its version cannot serve it', () => {
    expect(gatewayResource(aResource({ address: 'a.*.com' }), '1.1.0')).toBeUndefined();
  });

  it('has no sites, no description and no ip stack', () => {
    const resource = aResource({ addressDescription: 'x', ipStack: 'dual' });
    expect(Object.keys(gatewayResource(resource, '1.4.0') ?? {})).toEqual(['id', 'type', 'address', 'name', 'filters']);
    expect(gatewayResource(aResource({ type: 'internet', address: null }), '1.4.0')).toEqual({
      id: resource.id,
      type: 'internet',
    });
  });
});

describe('the interface of a client', () => {
  it.each([
    ['9.9.9.9', '9.9.9.9:53'],
    ['9.9.9.9:5353', '9.9.9.9:5353'],
    [' 9.9.9.9 ', '9.9.9.9:53'],
    ['2620:fe::fe', '[2620:fe::fe]:53'],
    ['[2620:FE:0::fe]', '[2620:fe::fe]:53'],
    ['[2620:fe::fe]:5353', '[2620:fe::fe]:5353'],
  ])('has the upstream server %s as %s', (stored, address) => {
    const { upstream_dns } = clientInterface(client, { searchDomain: null, upstreamDns: [stored] });
    expect(upstream_dns).toEqual([{ protocol: 'ip_port', address }]);
  });

  it.each([
    '',
    'dns.example',
    'https://9.9.9.9',
    '9.9.9.9:0',
    '9.9.9.9:65536',
    '9.9.9.9:',
    '9.9.9',
    '010.0.0.1',
    'fe80::1%eth0',
    '[2620:fe::fe',
    '2620:fe::fe]:53',
    '[9.9.9.9]:53',
    '::1'.repeat(5_000),
  ])('leaves out the server %j, which would cost the client the whole message', (stored) => {
    const { upstream_dns } = clientInterface(client, { searchDomain: null, upstreamDns: [stored, '9.9.9.9'] });
    expect(upstream_dns).toEqual([{ protocol: 'ip_port', address: '9.9.9.9:53' }]);
  });

  it.each([
    ['corp.example', 'corp.example'],
    [' corp.example ', 'corp.example'],
    ['corp', 'corp'],
    ['', null],
    ['.', null],
    ['corp..example', null],
    ['corp.example/x', null],
    [`${'a'.repeat(64)}.example`, null],
    ['a.'.repeat(5_000), null],
    ['bücher.example', null],
    [null, null],
  ])('has the search domain %j as %j', (stored, domain) => {
    expect(clientInterface(client, { searchDomain: stored, upstreamDns: [] }).search_domain).toBe(domain);
  });
});

describe('the entries of relays', () => {
  it('of one relay stand next to each other with the same credentials (D28)', () => {
    const dual = { id: 'r1' as RelayId, ipv4: '203.0.113.7', ipv6: '2001:db8::7', port: 3478, stampSecret: 's1' };
    const entries = relayEntries(
      [dual, { ...dual, id: 'r2' as RelayId, ipv4: null, stampSecret: 's2' }],
      KEY,
      1_767_225_600,
    );
    expect(entries.map(({ id, addr }) => `${id} ${addr}`)).toEqual([
      'r1 203.0.113.7:3478',
      'r1 [2001:db8::7]:3478',
      'r2 [2001:db8::7]:3478',
    ]);
    expect(entries[0]?.password).toBe(entries[1]?.password);
    expect(entries[0]?.password).not.toBe(entries[2]?.password);
  });

  it('are the same at every call: another password drops relayed traffic', () => {
    const relay = { id: 'r1' as RelayId, ipv4: '203.0.113.7', ipv6: null, port: 3478, stampSecret: 's1' };
    expect(relayEntries([relay], KEY, 1_767_225_600)).toEqual(relayEntries([relay], KEY, 1_767_225_600));
  });
});
