import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { ACCOUNT_TABLES, type AccountTable } from '../model/rows.js';
import { COLUMNS } from './columns.js';
import type { RawRow } from './commit.js';
import { keyOf, parseRow, rowKey, UnreadableRowError } from './parse-row.js';
import { EARLIEST, LATEST } from './parse-timestamp.js';

const ACCOUNT = '10000000-0000-4000-8000-000000000001';
const ID = '20000000-0000-4000-8000-000000000002';
const OTHER = '30000000-0000-4000-8000-000000000003';

/** A row of each table that parses without a fault. */
const VALID: { readonly [T in AccountTable]: RawRow } = {
  accounts: { id: ACCOUNT, name: 'Acme', slug: 'acme', config: '{}', disabled_at: null },
  actors: { account_id: ACCOUNT, id: ID, type: 'account_user', name: 'Ada', disabled_at: null },
  auth_providers: { account_id: ACCOUNT, id: ID, name: 'Okta', adapter: 'okta', disabled_at: null },
  identities: {
    account_id: ACCOUNT,
    id: ID,
    actor_id: OTHER,
    provider_id: OTHER,
    provider_identifier: 'ada',
    email: null,
  },
  groups: { account_id: ACCOUNT, id: ID, name: 'Engineers' },
  memberships: { account_id: ACCOUNT, id: ID, actor_id: OTHER, group_id: OTHER },
  sites: { account_id: ACCOUNT, id: ID, name: 'Berlin', managed_by: 'account' },
  gateways: {
    account_id: ACCOUNT,
    id: ID,
    site_id: OTHER,
    external_id: 'gw',
    name: 'gw',
    ipv4: '100.64.0.1',
    ipv6: 'fd00:2021:1111::1',
  },
  clients: {
    account_id: ACCOUNT,
    id: ID,
    actor_id: OTHER,
    external_id: 'c',
    name: 'laptop',
    ipv4: '100.64.0.2',
    ipv6: 'fd00:2021:1111::2',
    verified_at: null,
  },
  resources: {
    account_id: ACCOUNT,
    id: ID,
    type: 'dns',
    name: 'Wiki',
    address: 'wiki.example.com',
    address_description: null,
    ip_stack: 'dual',
    filters: '[]',
  },
  resource_sites: { account_id: ACCOUNT, resource_id: ID, site_id: OTHER },
  policies: {
    account_id: ACCOUNT,
    id: ID,
    group_id: OTHER,
    resource_id: OTHER,
    conditions: '[]',
    description: null,
    disabled_at: null,
  },
  tokens: {
    id: ID,
    account_id: ACCOUNT,
    kind: 'client',
    actor_id: OTHER,
    identity_id: null,
    site_id: null,
    expires_at: null,
  },
};

function parse<T extends AccountTable>(table: T, over: RawRow = {}) {
  return parseRow(table, { ...VALID[table], ...over });
}

describe('parseRow', () => {
  it.each(ACCOUNT_TABLES)('reads a whole row of %s, from exactly the columns listed for it', (table) => {
    expect(Object.keys(VALID[table]).sort()).toEqual([...COLUMNS[table]].sort());
    const { row, faults } = parse(table);
    expect(faults).toEqual([]);
    expect(row).toMatchObject({
      [table === 'accounts' || table === 'tokens' ? 'id' : 'accountId']: expect.any(String),
    });
    expect(Object.keys(row ?? {})).toHaveLength(COLUMNS[table].length);
  });

  const required = ACCOUNT_TABLES.flatMap((table) =>
    Object.keys(VALID[table])
      .filter((column) => column === 'id' || column.endsWith('_id'))
      .filter((column) => !['external_id'].includes(column))
      .map((column) => [table, column] as const),
  );
  it.each(required)('D15: a row of %s whose %s is missing or no UUID cannot be read at all', (table, column) => {
    const { [column]: _gone, ...rest } = VALID[table];
    expect(() => parseRow(table, rest)).toThrow(UnreadableRowError);
    for (const id of ['', 'not-a-uuid', ID.toUpperCase().replace('2', 'A'), `${ID}0`]) {
      expect(() => parse(table, { [column]: id })).toThrow(UnreadableRowError);
    }
  });

  it.each(ACCOUNT_TABLES)('D15: a column of %s that is not there makes the row absent', (table) => {
    for (const column of COLUMNS[table].filter((name) => name !== 'id' && !/(?<!external)_id$/.test(name))) {
      const { [column]: _gone, ...rest } = VALID[table];
      const { row, faults } = parseRow(table, rest);
      expect(faults.map((fault) => fault.part)).toContain(column);
      expect(row).toBeNull();
    }
  });

  it('D4: any disabled_at but NULL means switched off', () => {
    const disabledAt = (text: string | null) => parse('policies', { disabled_at: text }).row?.disabledAt;
    expect(disabledAt(null)).toBeNull();
    expect(disabledAt('2026-11-21 02:32:26.123456+00')).toBe(Date.parse('2026-11-21T02:32:26.123Z'));
    expect(disabledAt('infinity')).toBe(LATEST);
    expect(disabledAt('-infinity')).toBe(EARLIEST);
    expect(disabledAt('tomorrow')).toBe(EARLIEST);
  });

  it('an expiry of NULL or infinity is never; one that does not parse is long past', () => {
    const expiresAt = (text: string | null) => parse('tokens', { expires_at: text }).row?.expiresAt;
    expect(expiresAt(null)).toBeNull();
    expect(expiresAt('infinity')).toBeNull();
    expect(expiresAt('-infinity')).toBe(EARLIEST);
    expect(expiresAt('294276-12-31 00:00:00+00')).toBe(LATEST);
    expect(expiresAt('never')).toBe(EARLIEST);
    expect(parse('tokens', { expires_at: 'never' }).faults).toHaveLength(1);
  });

  it('a client is verified at any time that parses, and by nothing else', () => {
    const verifiedAt = (text: string | null) => parse('clients', { verified_at: text }).row?.verifiedAt;
    expect(verifiedAt(null)).toBeNull();
    expect(verifiedAt('1970-01-01 00:00:00+00')).toBe(0);
    expect(verifiedAt('yes')).toBeNull();
  });

  it('a relay token of the installation has no account', () => {
    const token = parse('tokens', { kind: 'relay', account_id: null, actor_id: null }).row;
    expect(token).toMatchObject({ kind: 'relay', accountId: null, actorId: null });
  });

  it('an unknown kind of actor, token or resource is absent', () => {
    expect(parse('actors', { type: 'superuser' }).row).toBeNull();
    expect(parse('tokens', { kind: 'browser' }).row).toBeNull();
    expect(parse('resources', { type: '__proto__' }).row).toBeNull();
  });

  it('device addresses are one address of their family, without prefix', () => {
    expect(parse('gateways', { ipv4: '100.64.0.1/32' }).row?.ipv4).toBe('100.64.0.1');
    expect(parse('gateways', { ipv4: '100.64.0.1/10' }).row).toBeNull();
    expect(parse('clients', { ipv4: 'fd00:2021:1111::2' }).row).toBeNull();
    expect(parse('clients', { ipv6: null }).row).toBeNull();
  });

  it('faults cut values short and escape them', () => {
    const { faults } = parse('actors', { type: `\n${'x'.repeat(1_000)}` });
    expect(faults[0]?.problem.length).toBeLessThan(80);
    expect(faults[0]?.problem).not.toContain('\n');
  });
});

describe('a resource', () => {
  it.each([
    ['dns', 'Wiki.Example.com', 'Wiki.Example.com'],
    ['cidr', '10.1.2.3/8', '10.0.0.0/8'],
    ['cidr', '2001:DB8::1/32', '2001:db8::/32'],
    ['cidr', '192.168.0.0/16', '192.168.0.0/16'],
    ['cidr', '172.16.0.0/12', '172.16.0.0/12'],
    ['ip', '10.1.2.3', '10.1.2.3/32'],
    ['ip', '10.1.2.3/32', '10.1.2.3/32'],
    ['ip', '2001:0DB8:0:0::0001', '2001:db8::1/128'],
    ['ip', 'fd00:2021:ffff::5', 'fd00:2021:ffff::5/128'],
  ])('of type %s at %s has the address %s', (type, address, canonical) => {
    expect(parse('resources', { type, address }).row?.address).toBe(canonical);
  });

  it.each([
    ['dns', '*.com'],
    ['dns', '10.1.2.3'],
    ['dns', null],
    ['cidr', null],
    ['cidr', '10.1.2.3'],
    ['cidr', '10.0.0.0/33'],
    ['cidr', '10.0.0/8'],
    ['cidr', '0.0.0.0/0'],
    ['cidr', '::/0'],
    ['cidr', '0.0.0.0/1'],
    ['cidr', '64.0.0.0/2'],
    ['cidr', '127.0.0.0/8'],
    ['cidr', '100.64.0.0/10'],
    ['cidr', '100.64.1.0/24'],
    ['cidr', 'fd00:2021:1111::/48'],
    ['cidr', 'fd00::/8'],
    ['cidr', '::ffff:10.0.0.0/104'],
    ['ip', '10.1.2.0/24'],
    ['ip', '127.0.0.1'],
    ['ip', '0.0.0.0'],
    ['ip', '::'],
    ['ip', '::1'],
    ['ip', '100.64.0.1'],
    ['ip', 'fd00:2021:1111::1'],
    ['ip', '::ffff:10.1.2.3'],
    ['ip', '010.1.2.3'],
    ['ip', 'fe80::1%eth0'],
    ['internet', 'example.com'],
    ['internet', '0.0.0.0/0'],
  ])('S9: of type %s at %j is absent', (type, address) => {
    const { row, faults } = parse('resources', { type, address });
    expect(row).toBeNull();
    expect(faults.map((fault) => fault.part)).toContain('address');
  });

  it('has an ip stack only when it is dns, both families unless it says otherwise', () => {
    expect(parse('resources', { ip_stack: 'ipv6_only' }).row?.ipStack).toBe('ipv6_only');
    expect(parse('resources', { ip_stack: null }).row?.ipStack).toBe('dual');
    expect(parse('resources', { ip_stack: 'ipv5_only' }).row).toBeNull();
    expect(parse('resources', { type: 'internet', address: null, ip_stack: null }).row?.ipStack).toBeNull();
  });

  it.each([
    ['[]', []],
    ['[{"protocol": "tcp", "ports": []}]', [{ protocol: 'tcp', ports: [] }]],
    ['[{"protocol": "udp"}]', [{ protocol: 'udp', ports: [] }]],
    ['[{"protocol": "icmp", "ports": ["80"]}]', [{ protocol: 'icmp', ports: [] }]],
    [
      '[{"protocol": "tcp", "ports": ["80", "8000 - 8100", " 0-65535 "]}, {"protocol": "icmp"}]',
      [
        {
          protocol: 'tcp',
          ports: [
            { from: 80, to: 80 },
            { from: 8000, to: 8100 },
            { from: 0, to: 65535 },
          ],
        },
        { protocol: 'icmp', ports: [] },
      ],
    ],
  ])('with filters %s', (filters, expected) => {
    expect(parse('resources', { filters }).row?.filters).toEqual(expected);
  });

  it.each([
    null,
    '',
    'null',
    '{}',
    '"[]"',
    '[null]',
    '[[]]',
    '["tcp"]',
    '[{}]',
    '[{"protocol": "sctp"}]',
    '[{"protocol": "TCP"}]',
    '[{"protocol": "tcp", "ports": null}]',
    '[{"protocol": "tcp", "ports": "80"}]',
    '[{"protocol": "tcp", "ports": [80]}]',
    '[{"protocol": "tcp", "ports": [""]}]',
    '[{"protocol": "tcp", "ports": ["-1"]}]',
    '[{"protocol": "tcp", "ports": ["65536"]}]',
    '[{"protocol": "tcp", "ports": ["90 - 80"]}]',
    '[{"protocol": "tcp", "ports": ["80-"]}]',
    '[{"protocol": "tcp", "ports": ["http"]}]',
    '[{"protocol": "tcp", "ports": ["0x50"]}]',
    '[{"protocol": "tcp", "port": "443"}]',
    '[{"protocol": "tcp", "__proto__": {"ports": ["443"]}}]',
    '[{"__proto__": {"protocol": "tcp"}}]',
    '[{"protocol": "tcp", "ports": ["443"]}, {"protocol": "sctp"}]',
  ])('S9: with filters %s is absent, never open', (filters) => {
    const { row, faults } = parse('resources', { filters });
    expect(row).toBeNull();
    expect(faults[0]?.part).toMatch(/^filters/);
  });

  it('S9: any JSON but the empty list never reads as "everything allowed"', () => {
    fc.assert(
      fc.property(fc.json(), (json) => {
        fc.pre(json.trim() !== '[]');
        expect(parse('resources', { filters: json }).row).toBeNull();
      }),
      { numRuns: 1_000 },
    );
  });

  it('S9: of type internet with filters is absent, for the peers cannot enforce them', () => {
    const internet = { type: 'internet', address: null, ip_stack: null };
    expect(parse('resources', internet).row).toMatchObject({ address: null, filters: [] });
    expect(parse('resources', { ...internet, filters: '[{"protocol": "icmp"}]' }).row).toBeNull();
  });
});

describe('policy conditions', () => {
  it('are kept as written, null values as none', () => {
    const conditions =
      '[{"property": "p", "operator": "o", "values": [" a "]}, {"property": "", "operator": "", "values": null}]';
    expect(parse('policies', { conditions }).row?.conditions).toEqual([
      { property: 'p', operator: 'o', values: [' a '] },
      { property: '', operator: '', values: [] },
    ]);
  });

  it.each([
    null,
    '',
    'null',
    '{}',
    '"[]"',
    '[null]',
    '[[]]',
    '[{}]',
    '[{"property": "remote_ip", "operator": "is_not_in_cidr"}]',
    '[{"property": "remote_ip", "operator": "is_not_in_cidr", "value": []}]',
    '[{"property": "remote_ip", "operator": "is_not_in_cidr", "values": "10.0.0.0/8"}]',
    '[{"property": "client_verified", "operator": "is", "values": [true]}]',
    '[{"property": "client_verified", "operator": "is", "values": [], "unless": "x"}]',
    '[{"property": 1, "operator": "is", "values": []}]',
    '[{"__proto__": {"property": "client_verified", "operator": "is", "values": []}}]',
    `${'['.repeat(10_000)}${']'.repeat(10_000)}`,
  ])('D15: of any other shape are unreadable as a whole (%#)', (conditions) => {
    const { row, faults } = parse('policies', { conditions });
    expect(row?.conditions).toBe('unreadable');
    expect(faults).toEqual([{ part: 'conditions', problem: expect.any(String) }]);
  });
});

describe('an account config', () => {
  const config = (value: unknown) => parse('accounts', { config: JSON.stringify(value) });
  const dns = (...addresses: unknown[]) => ({
    clients_upstream_dns: addresses.map((address) => ({ protocol: 'ip_port', address })),
  });

  it('keeps upstream servers as stored, trimmed', () => {
    const stored = [' 1.1.1.1 ', '8.8.8.8:5353', '2606:4700::1111', '[2606:4700::1112]:53'];
    const { row, faults } = config({ search_domain: 'corp.example.com', ...dns(...stored) });
    expect(faults).toEqual([]);
    expect(row?.config).toEqual({
      searchDomain: 'corp.example.com',
      upstreamDns: ['1.1.1.1', '8.8.8.8:5353', '2606:4700::1111', '[2606:4700::1112]:53'],
    });
  });

  it('is empty without content, and ignores the keys of other concerns', () => {
    const empty = { searchDomain: null, upstreamDns: [] };
    for (const value of [{}, { search_domain: null, clients_upstream_dns: null }, { notifications: {} }]) {
      expect(config(value)).toMatchObject({ row: { config: empty }, faults: [] });
    }
  });

  it.each([null, '', 'null', '[]', '"x"', '{"search_domain":'])('D15: %j reads as empty, with a fault', (text) => {
    const { row, faults } = parse('accounts', { config: text });
    expect(row?.config).toEqual({ searchDomain: null, upstreamDns: [] });
    expect(faults).toHaveLength(1);
  });

  it.each([
    '',
    'localhost',
    '.example.com',
    'a..example.com',
    'example.com.',
    'example.c',
    'exa_mple.com',
    `${'a'.repeat(64)}.com`,
    `${'a.'.repeat(127)}com`,
    5,
    {},
  ])('D15: the search domain %j counts as not set, the rest stands', (domain) => {
    const { row, faults } = config({ search_domain: domain, ...dns('1.1.1.1') });
    expect(row?.config).toEqual({ searchDomain: null, upstreamDns: ['1.1.1.1'] });
    expect(faults.map((fault) => fault.part)).toEqual(['config.search_domain']);
  });

  it.each([
    '',
    'dns.example.com',
    '1.1.1',
    '1.1.1.1:0',
    '1.1.1.1:65536',
    '1.1.1.1:',
    '[1.1.1.1]:53',
    '[2606:4700::1111]',
    '1.1.1.1:53', // the same as 1.1.1.1
    '100.64.0.53',
    '[fd00:2021:1111::53]:53',
    5,
    null,
  ])('D15: the upstream server %j is left out, the others stand', (address) => {
    const { row, faults } = config(dns('1.1.1.1', address, '9.9.9.9'));
    expect(row?.config.upstreamDns).toEqual(['1.1.1.1', '9.9.9.9']);
    expect(faults.map((fault) => fault.part)).toEqual(['config.clients_upstream_dns[1]']);
  });

  it('D15: upstream servers of a protocol that peers may not know are left out', () => {
    const entries = [{ protocol: 'dns_over_tls', address: '1.1.1.1' }, null, 'x', { address: '1.1.1.1' }];
    const { row, faults } = config({ clients_upstream_dns: entries });
    expect(row?.config.upstreamDns).toEqual([]);
    expect(faults).toHaveLength(4);
    expect(config({ clients_upstream_dns: 'x' }).faults).toHaveLength(1);
  });
});

describe('row keys', () => {
  it.each(ACCOUNT_TABLES)('are the same before and after parsing a row of %s', (table) => {
    const { row } = parse(table);
    expect(row && keyOf(table, row)).toBe(rowKey(table, VALID[table]));
  });

  it('are both ids where a row has no id of its own', () => {
    expect(rowKey('resource_sites', VALID.resource_sites)).toBe(`${ID}/${OTHER}`);
  });

  it('D15: cannot be had of a row without ids', () => {
    expect(() => rowKey('groups', { name: 'x' })).toThrow(UnreadableRowError);
    expect(() => rowKey('resource_sites', { resource_id: ID, site_id: null })).toThrow(UnreadableRowError);
  });
});

describe('raw rows', () => {
  it('B5: whatever text stands in the columns, parsing answers or says the row is unreadable, and touches no prototype', () => {
    const text = fc.option(
      fc.oneof(fc.string({ unit: 'binary' }), fc.json(), fc.constant(ID), fc.constant('infinity')),
    );
    const before = Object.getOwnPropertyNames(Object.prototype);
    fc.assert(
      fc.property(fc.constantFrom(...ACCOUNT_TABLES), fc.infiniteStream(text), (table, texts) => {
        const raw = Object.fromEntries(COLUMNS[table].map((column) => [column, texts.next().value ?? null]));
        const ids = Object.fromEntries(Object.entries(VALID[table]).filter(([column]) => /^id$|_id$/.test(column)));
        expect(() => parseRow(table, { ...raw, ...ids })).not.toThrow();
      }),
      { numRuns: 1_000 },
    );
    expect(Object.getOwnPropertyNames(Object.prototype)).toEqual(before);
  });
});
