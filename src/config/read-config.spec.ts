import { describe, it, expect } from '@jest/globals';
import ipaddr from 'ipaddr.js';
import { readFileSync } from 'node:fs';
import { ConfigError } from './config-error.js';
import { readConfig } from './read-config.js';

describe('readConfig (D36)', () => {
  it('an empty environment gives the documented defaults, and empty variables count as unset', () => {
    const config = readConfig({});
    expect(config).toMatchObject({
      databaseUrl: undefined,
      dataDir: '.portcullis',
      apiHost: '127.0.0.1',
      apiPort: 8081,
      opsHost: '127.0.0.1',
      opsPort: 4000,
      replicationSlot: 'portcullis',
      publicationPrefix: 'portcullis',
      trustedProxies: [],
      logLevel: 'info',
      logFormat: 'auto',
      drainSeconds: 10,
      warnings: [],
    });
    expect(readConfig({ API_PORT: '', DATABASE_URL: ' ', LOG_LEVEL: '' })).toEqual(config);
  });

  it('.env.example names exactly the variables that are read, with their defaults', () => {
    const asked = new Set<string>();
    readConfig(new Proxy({}, { get: (_target, name) => void asked.add(String(name)) }));

    const lines = readFileSync(new URL('../../.env.example', import.meta.url), 'utf8').split('\n');
    const shown = lines.flatMap((line) => /^# ([A-Z][A-Z_]*)=(.*)$/.exec(line)?.slice(1, 3) ?? []);
    const example = Object.fromEntries(
      shown.flatMap((name, index) => (index % 2 === 0 ? [[name, shown[index + 1] ?? '']] : [])),
    );

    expect(Object.keys(example).sort()).toEqual([...asked].sort());
    expect(readConfig(example)).toEqual(readConfig({}));
    const others = Object.keys(example).filter((name) => example[name] === '');
    expect(others).toEqual(['DATABASE_URL', 'TRUSTED_PROXIES', 'GEOIP_DATABASE']);
  });

  it('one error names every bad variable and what is wrong with it', () => {
    const faults = faultsOf({
      DATABASE_URL: 'mysql://root:hunter2@db/x',
      API_PORT: '80810',
      OPS_PORT: '4000x',
      STALE_AFTER_MS: '0',
      LOG_LEVEL: 'loud',
      REPLICATION_SLOT: 'drop table"',
      PUBLICATION_PREFIX: 'p'.repeat(42),
      TRUSTED_PROXIES: '10.0.0.0/8, 10.0.0.0/33, nonsense',
      FEATURE_TRAFFIC_FILTERS: 'yes',
      API_HOST: 'http://here',
    });
    expect(faults.map((fault) => fault.split(' ')[0])).toEqual([
      'DATABASE_URL',
      'API_HOST',
      'API_PORT',
      'OPS_PORT',
      'TRUSTED_PROXIES',
      'TRUSTED_PROXIES',
      'REPLICATION_SLOT',
      'PUBLICATION_PREFIX',
      'STALE_AFTER_MS',
      'LOG_LEVEL',
      'FEATURE_TRAFFIC_FILTERS',
    ]);
    expect(faults).toContain('LOG_LEVEL must be one of error, warn, info, debug, not "loud"');
    expect(faults).toContain('API_PORT must be a whole number from 0 to 65535, not "80810"');
  });

  it.each([
    'mysql://root:hunter2@db/x',
    'postgres://root:hunter2@db:99999/x',
    'root:hunter2',
    'postgres://u:hunter2@db',
  ])('a bad DATABASE_URL is refused without quoting it (%#)', (url) => {
    const [fault, ...others] = faultsOf({ DATABASE_URL: url });
    expect(fault).toMatch(/^DATABASE_URL /);
    expect(fault).not.toContain('hunter2');
    expect(others).toEqual([]);
  });

  it('trusted proxies are addresses and ranges of both families', () => {
    const { trustedProxies } = readConfig({ TRUSTED_PROXIES: '10.0.0.0/8,192.0.2.1 2001:db8::/32, ::1' });
    expect(trustedProxies.map(([address, length]) => `${address.toString()}/${length}`)).toEqual([
      '10.0.0.0/8',
      '192.0.2.1/32',
      '2001:db8::/32',
      '::1/128',
    ]);
    const [range] = trustedProxies;
    expect(range && ipaddr.parse('10.200.0.1').match([...range])).toBe(true);
  });

  it.each(['10.1', '0x0a.0.0.1', '10.0.0.0/8/8', '10.0.0.0/-1', '::/129', '10.0.0.0/'])(
    'the proxy range %s is refused',
    (text) => expect(faultsOf({ TRUSTED_PROXIES: text })).toHaveLength(1),
  );

  it.each(['1e3', '-1', '5.5', '0', '0x10', '99999999999999999999'])('%p is no whole number above 0', (text) => {
    expect(faultsOf({ MAX_UNANSWERED_FLOWS: text })).toHaveLength(1);
  });

  it('0 keeps the change log for ever and is a value of its own', () => {
    expect(readConfig({ CHANGE_LOG_RETENTION_DAYS: '0' }).changeLogRetentionDays).toBe(0);
  });

  it('values that contradict each other are refused', () => {
    expect(faultsOf({ HEARTBEAT_INTERVAL_MS: '30000' })).toHaveLength(1);
    expect(faultsOf({ MAX_PENDING_BYTES: '1000' })).toHaveLength(1);
    expect(faultsOf({ API_PORT: '4000' })).toEqual(['OPS_PORT must differ from API_PORT on the same host']);
    expect(readConfig({ API_PORT: '0', OPS_PORT: '0' })).toMatchObject({ apiPort: 0, opsPort: 0 });
  });

  it('a feature is switched off by name; an unknown one is a warning, not an error', () => {
    const config = readConfig({ FEATURE_INTERNET_RESOURCE: 'false', FEATURE_TELEPORT: 'true' });
    expect(config.features).toEqual({
      internet_resource: false,
      multi_site_resources: true,
      policy_conditions: true,
      traffic_filters: true,
    });
    expect(config.warnings).toEqual(['FEATURE_TELEPORT is not a feature of this version and has no effect']);
  });
});

function faultsOf(env: Record<string, string>): readonly string[] {
  try {
    readConfig(env);
  } catch (error) {
    if (error instanceof ConfigError) return error.faults;
    throw error;
  }
  return [];
}
