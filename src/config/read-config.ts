/** From environment variables to Config. Nothing else in the program reads the environment. */
import { type Config, type Feature, FEATURES } from './config.js';
import { type Environment, EnvironmentReader } from './environment-reader.js';

/** Throws ConfigError, which names every bad variable together. */
export function readConfig(env: Environment): Config {
  const read = new EnvironmentReader(env);
  const config: Config = {
    databaseUrl: read.postgresUrl('DATABASE_URL'),
    databasePoolSize: read.positiveInt('DATABASE_POOL_SIZE', 10),
    dataDir: read.path('PORTCULLIS_DATA_DIR', '.portcullis'),
    apiHost: read.host('API_HOST', '127.0.0.1'),
    apiPort: read.integer('API_PORT', 8081, PORTS),
    opsHost: read.host('OPS_HOST', '127.0.0.1'),
    opsPort: read.integer('OPS_PORT', 4000, PORTS),
    trustedProxies: read.cidrs('TRUSTED_PROXIES'),
    geoIpDatabase: read.optionalPath('GEOIP_DATABASE'),
    replicationSlot: read.identifier('REPLICATION_SLOT', 'portcullis'),
    replicationMode: read.oneOf('REPLICATION_MODE', 'stream', ['stream', 'poll']),
    publicationPrefix: read.identifier('PUBLICATION_PREFIX', 'portcullis'),
    heartbeatIntervalMs: read.positiveInt('HEARTBEAT_INTERVAL_MS', 5_000),
    staleAfterMs: read.positiveInt('STALE_AFTER_MS', 30_000),
    maxLagSeconds: read.positiveInt('MAX_LAG_SECONDS', 300),
    changeLogRetentionDays: read.integer('CHANGE_LOG_RETENTION_DAYS', 30, { min: 0, max: 36_500 }),
    maxPendingBytes: read.positiveInt('MAX_PENDING_BYTES', 128 * MIB),
    maxTxChanges: read.positiveInt('MAX_TX_CHANGES', 50_000),
    maxTxBytes: read.positiveInt('MAX_TX_BYTES', 64 * MIB),
    storeIdleTtlMs: read.positiveInt('STORE_IDLE_TTL_MS', 60_000),
    hydrationConcurrency: read.positiveInt('HYDRATION_CONCURRENCY', 8),
    auditIntervalSeconds: read.integer('AUDIT_INTERVAL_SECONDS', 600, { min: 0, max: 86_400 }),
    clientIdleMs: read.positiveInt('CLIENT_IDLE_MS', 307_000),
    gatewayIdleMs: read.positiveInt('GATEWAY_IDLE_MS', 37_000),
    relayIdleMs: read.positiveInt('RELAY_IDLE_MS', 41_000),
    relaysDebounceMs: read.positiveInt('RELAYS_DEBOUNCE_MS', 3_000),
    relaysRequired: read.flag('RELAYS_REQUIRED', true),
    connectTimeoutMs: read.positiveInt('CONNECT_TIMEOUT_MS', 5_000),
    joinTimeoutMs: read.positiveInt('JOIN_TIMEOUT_MS', 10_000),
    maxFrameBytes: read.positiveInt('MAX_FRAME_BYTES', 64 * KIB),
    maxOutboundBytes: read.positiveInt('MAX_OUTBOUND_BYTES', MIB),
    maxUnansweredFlows: read.positiveInt('MAX_UNANSWERED_FLOWS', 32),
    receipts: read.oneOf('RECEIPTS', 'on', ['on', 'off']),
    receiptTimeoutMs: read.positiveInt('RECEIPT_TIMEOUT_MS', 10_000),
    maxConcurrentUpgrades: read.positiveInt('MAX_CONCURRENT_UPGRADES', 256),
    connectBurst: read.positiveInt('CONNECT_BURST', 5),
    connectsPerSecond: read.positiveInt('CONNECTS_PER_SECOND', 1),
    maxBackOffSeconds: read.integer('MAX_BACK_OFF_SECONDS', 60, { min: 0, max: 3_600 }),
    clientFramesPerSecond: read.positiveInt('CLIENT_FRAMES_PER_SECOND', 100),
    gatewayFramesPerSecond: read.positiveInt('GATEWAY_FRAMES_PER_SECOND', 2_000),
    relayFramesPerSecond: read.positiveInt('RELAY_FRAMES_PER_SECOND', 10),
    drainSeconds: read.integer('DRAIN_SECONDS', 10, { min: 0, max: 3_600 }),
    logLevel: read.oneOf('LOG_LEVEL', 'info', ['error', 'warn', 'info', 'debug']),
    logFormat: read.oneOf('LOG_FORMAT', 'auto', ['json', 'pretty', 'auto']),
    features: readFeatures(read),
    warnings: unknownFeatures(env),
  };
  checkTogether(config, read);
  read.throwIfFaulty();
  return config;
}

const KIB = 1024;
const MIB = 1024 * KIB;
/** 0 lets the system choose a free port, which the ready line then names. */
const PORTS = { min: 0, max: 65_535 };

function readFeatures(read: EnvironmentReader): Record<Feature, boolean> {
  const switches = FEATURES.map((feature) => [feature, read.flag(variableOf(feature), true)] as const);
  return Object.fromEntries(switches) as Record<Feature, boolean>;
}

/** A warning, not an error: an environment made for another version must not keep this one from starting. */
function unknownFeatures(env: Environment): string[] {
  const known = new Set(FEATURES.map(variableOf));
  const unknown = Object.keys(env).filter((name) => name.startsWith('FEATURE_') && !known.has(name));
  return unknown.sort().map((name) => `${name} is not a feature of this version and has no effect`);
}

function variableOf(feature: Feature): string {
  return `FEATURE_${feature.toUpperCase()}`;
}

/** Values that are fine alone and not together. */
function checkTogether(config: Config, read: EnvironmentReader): void {
  if (config.heartbeatIntervalMs >= config.staleAfterMs) {
    read.fault('HEARTBEAT_INTERVAL_MS', 'must be below STALE_AFTER_MS, or the stream is stale between two heartbeats');
  }
  if (config.maxLagSeconds * 1_000 <= config.staleAfterMs) {
    read.fault('MAX_LAG_SECONDS', 'must be above STALE_AFTER_MS, or a backlog is abandoned before it is stale');
  }
  if (config.maxPendingBytes < config.maxTxBytes) {
    read.fault(
      'MAX_PENDING_BYTES',
      'must not be below MAX_TX_BYTES, or reading pauses inside one transaction for ever',
    );
  }
  if (config.apiPort !== 0 && config.apiPort === config.opsPort && config.apiHost === config.opsHost) {
    read.fault('OPS_PORT', 'must differ from API_PORT on the same host');
  }
}
