/** What an operator can set, as one value that is read once. Every variable is in `.env.example` too. */
import type { IPv4, IPv6 } from 'ipaddr.js';

export interface Config {
  /** DATABASE_URL. PostgreSQL 15 to 18 with wal_level=logical. Undefined (default): the embedded one under `dataDir`. */
  readonly databaseUrl: string | undefined;
  /** DATABASE_POOL_SIZE. Connections for queries, besides the one of the stream. Default 10. */
  readonly databasePoolSize: number;
  /** PORTCULLIS_DATA_DIR. Folder of the embedded PostgreSQL. Default `.portcullis`. */
  readonly dataDir: string;

  /** API_HOST. Address on which peers are accepted. Default 127.0.0.1. */
  readonly apiHost: string;
  /** API_PORT. 0 lets the system choose. Default 8081. */
  readonly apiPort: number;
  /** OPS_HOST. Address of health, readiness and metrics. Default 127.0.0.1. */
  readonly opsHost: string;
  /** OPS_PORT. 0 lets the system choose. Default 4000. */
  readonly opsPort: number;
  /** TRUSTED_PROXIES. Ranges whose X-Forwarded-For is believed. Default none: the address of the connection counts. */
  readonly trustedProxies: readonly Cidr[];

  /** GEOIP_DATABASE. Where peers are of whom no proxy says it: `dbip`, or the path of an .mmdb file. Default none: unknown. */
  readonly geoIpDatabase: string | undefined;

  /** REPLICATION_SLOT. Name of the one durable slot of this installation. Default portcullis. */
  readonly replicationSlot: string;
  /** REPLICATION_MODE. stream, or poll where the database refuses connections in replication mode. Default stream. */
  readonly replicationMode: 'stream' | 'poll';
  /** PUBLICATION_PREFIX. The publications are `<prefix>_changes` and `<prefix>_flow_edits`. Default portcullis. */
  readonly publicationPrefix: string;
  /** HEARTBEAT_INTERVAL_MS. How often the stream has to prove that it is fresh. Default 5000; below STALE_AFTER_MS. */
  readonly heartbeatIntervalMs: number;
  /** STALE_AFTER_MS. Without such a proof for this long no flow is authorized (D14). Default 30000. */
  readonly staleAfterMs: number;
  /** MAX_LAG_SECONDS. A stream that is behind for longer is begun anew and every account is read again. Default 300; above STALE_AFTER_MS. */
  readonly maxLagSeconds: number;
  /** CHANGE_LOG_RETENTION_DAYS. How long recorded commits are kept; 0 keeps them for ever. Default 30. */
  readonly changeLogRetentionDays: number;
  /** MAX_PENDING_BYTES. Unapplied or unrecorded changes held in memory before reading pauses. Default 134217728; not below MAX_TX_BYTES. */
  readonly maxPendingBytes: number;
  /** MAX_TX_CHANGES. A longer transaction is not held but answered by re-reading its accounts. Default 50000. */
  readonly maxTxChanges: number;
  /** MAX_TX_BYTES. The same for its size. Default 67108864. */
  readonly maxTxBytes: number;

  /** STORE_IDLE_TTL_MS. How long an account stays in memory after its last channel. Default 60000. */
  readonly storeIdleTtlMs: number;
  /** HYDRATION_CONCURRENCY. Accounts read from the database at the same time. Default 8. */
  readonly hydrationConcurrency: number;

  /** AUDIT_INTERVAL_SECONDS. Each account in memory is compared with the database about so often; 0: never. Default 600. */
  readonly auditIntervalSeconds: number;

  /** CLIENT_IDLE_MS. A silent client socket is closed. Default 307000, which is the peers' own rhythm. */
  readonly clientIdleMs: number;
  /** GATEWAY_IDLE_MS. A silent gateway socket is closed; also bounds how long a revocation waits for one. Default 37000. */
  readonly gatewayIdleMs: number;
  /** RELAY_IDLE_MS. A silent relay socket is closed. Default 41000. */
  readonly relayIdleMs: number;
  /** RELAYS_DEBOUNCE_MS. A relay that is back within this time is not reported as gone. Default 3000, as peers expect. */
  readonly relaysDebounceMs: number;
  /** RELAYS_REQUIRED. Real peers reconnect instead of using a gateway that was given no relay; false is for simulated ones. Default true. */
  readonly relaysRequired: boolean;
  /** CONNECT_TIMEOUT_MS. Every upgrade is answered or destroyed within this, whatever the database does. Default 5000. */
  readonly connectTimeoutMs: number;
  /** JOIN_TIMEOUT_MS. A socket that has not joined by then is closed. Default 10000. */
  readonly joinTimeoutMs: number;
  /** MAX_FRAME_BYTES. A longer frame from a peer closes its socket. Default 65536. */
  readonly maxFrameBytes: number;
  /** MAX_OUTBOUND_BYTES. Unsent bytes of one socket; beyond, it is terminated. Default 1048576. */
  readonly maxOutboundBytes: number;
  /** MAX_UNANSWERED_FLOWS. `authorize_flow` messages a gateway may owe an answer to; further ones wait. Default 32. */
  readonly maxUnansweredFlows: number;
  /** RECEIPTS. Whether gateways must prove that they have read a rejection; off where a proxy answers pings itself. Default on. */
  readonly receipts: 'on' | 'off';
  /** RECEIPT_TIMEOUT_MS. A gateway that has not proven it by then is cut off; also how long it can hold back the log. Default 10000. */
  readonly receiptTimeoutMs: number;
  /** MAX_CONCURRENT_UPGRADES. Upgrades in progress in the whole process; further ones get 503. Default 256. */
  readonly maxConcurrentUpgrades: number;
  /** CONNECT_BURST. Connects of one device, token and address at once; then CONNECTS_PER_SECOND; further ones get 503. Default 5. */
  readonly connectBurst: number;
  /** CONNECTS_PER_SECOND. Default 1. */
  readonly connectsPerSecond: number;
  /** MAX_BACK_OFF_SECONDS. Longest time a device must wait after we closed its socket; 0: none. Default 60. */
  readonly maxBackOffSeconds: number;
  /** CLIENT_FRAMES_PER_SECOND. Frames of one client that are read, five times as many at once. Default 100. */
  readonly clientFramesPerSecond: number;
  /** GATEWAY_FRAMES_PER_SECOND. The same for gateways, which answer for all their clients. Default 2000. */
  readonly gatewayFramesPerSecond: number;
  /** RELAY_FRAMES_PER_SECOND. The same for relays, which say next to nothing. Default 10. */
  readonly relayFramesPerSecond: number;
  /** DRAIN_SECONDS. Over this time sockets are closed at SIGTERM. Default 10. */
  readonly drainSeconds: number;

  /** LOG_LEVEL. error, warn, info or debug. Default info. */
  readonly logLevel: 'error' | 'warn' | 'info' | 'debug';
  /** LOG_FORMAT. json, pretty, or auto (default): pretty on a terminal. */
  readonly logFormat: 'json' | 'pretty' | 'auto';
  /** FEATURE_<NAME>. Switches for the whole installation, true or false. Default true. */
  readonly features: Readonly<Record<Feature, boolean>>;
  /** What is odd but no error, for the log: one sentence each. */
  readonly warnings: readonly string[];
}

/** Network address and prefix length, as `match` of ipaddr.js takes them. */
export type Cidr = readonly [address: IPv4 | IPv6, prefixLength: number];

/** The original's deployment-wide switches that concern what we serve (domain.md 1.1). */
export const FEATURES = ['internet_resource', 'multi_site_resources', 'policy_conditions', 'traffic_filters'] as const;
export type Feature = (typeof FEATURES)[number];
