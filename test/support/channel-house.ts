/**
 * Client and gateway channels of one account with everything real around them but the ports to the outside: sockets,
 * flow records, the database behind the store, time and chance. One list keeps what all peers hear, in order.
 */
import { printRow } from '../../src/core/changes/print-row.js';
import type { Change, Commit } from '../../src/core/changes/commit.js';
import { RefSealer } from '../../src/core/derivations/sealed-ref.js';
import type { FlowRecord, StoredFlow } from '../../src/core/model/flow.js';
import type { ClientId, ConnectionId, FlowId, GatewayId, TokenId } from '../../src/core/model/ids.js';
import type { AccountHandle } from '../../src/core/ports/account-stores.js';
import type { Cut } from '../../src/core/ports/account-streams.js';
import type { Position } from '../../src/core/model/position.js';
import type { LastHeard } from '../../src/core/ports/commit-sink.js';
import type { AccountSnapshot } from '../../src/core/ports/hydration-reader.js';
import type { FlowClosing, FlowDelivery, FlowRecords, UnexpiredFlows } from '../../src/core/ports/flow-records.js';
import type { Connects, StoredToken } from '../../src/core/ports/connects.js';
import type { Metrics } from '../../src/core/ports/metrics.js';
import type { TokenNews, TokenWatch } from '../../src/core/ports/token-watch.js';
import type { Random } from '../../src/core/support/clock.js';
import type { Logger } from '../../src/core/support/logger.js';
import type { Scheduler } from '../../src/core/support/scheduler.js';
import { AccountBroadcaster } from '../../src/broadcaster/account-broadcaster.js';
import type { Channel, ChannelSocket } from '../../src/channels/channel.js';
import type { ChannelLimits, ChannelServices } from '../../src/channels/channel-services.js';
import { ClientChannel } from '../../src/channels/client/client-channel.js';
import type { ConnectedClient, ConnectedGateway, ConnectedRelay } from '../../src/channels/connected-peer.js';
import { GatewayChannel } from '../../src/channels/gateway/gateway-channel.js';
import { RelayChannel } from '../../src/channels/relay/relay-channel.js';
import { ViewScheduler } from '../../src/channels/view-scheduler.js';
import { LocalPresence } from '../../src/presence/local-presence.js';
import type { Addressed } from '../../src/protocol/frame.js';
import type { ClientPushes, GatewayPushes, RelayPushes } from '../../src/protocol/outbound.js';
import { OpenReceipts } from '../../src/replication/open-receipts.js';
import { AccountStore } from '../../src/store/account-store.js';
import { ManualClock } from './manual-clock.js';
import {
  ACCOUNT,
  ACTOR,
  anAccountInUse,
  type AnyRow,
  CLIENT,
  GATEWAY,
  GATEWAY_TOKEN,
  idOf,
  MONDAY_9,
  RESOURCE,
  SITE,
  TOKEN,
} from './builders.js';

/** What one peer heard, or the end of its socket as `['closed', code]`. */
export type Heard = readonly [event: string, payload: unknown];

export class FakeSocket<Pushes> implements ChannelSocket<Pushes> {
  isRustPeer = true;
  readonly heard: Heard[] = [];
  readonly replies: string[] = [];
  /** Whether the peer answers a ping at once; else a test calls `pongs`. */
  answersPings = true;
  /** Pings that were sent. */
  barriers = 0;
  #barrier: (() => void) | undefined;
  closedWith: number | undefined;
  /** Whether the socket dies, as one does whose peer reads too slowly, when this event is pushed. */
  diesAt: string | undefined;
  #channel: Channel | undefined;

  constructor(
    readonly name: string,
    private readonly all: string[],
  ) {}

  carries(channel: Channel): void {
    this.#channel = channel;
    if (this.closedWith !== undefined) channel.closed();
  }

  push<Event extends keyof Pushes & string>(event: Event, payload: Pushes[Event]): void {
    if (this.closedWith !== undefined) return;
    this.heard.push([event, payload]);
    this.all.push(`${this.name} ${event}`);
    if (event === this.diesAt) this.#end(1006);
  }

  replyOk(): void {
    this.replies.push('ok');
  }

  replyData(to: Addressed, response: Readonly<Record<string, unknown>>): void {
    this.heard.push(['reply', { ref: to.ref, ...response }]);
    this.all.push(`${this.name} reply`);
  }

  replyError(_to: unknown, reason: string, extra?: Readonly<Record<string, unknown>>): void {
    this.replies.push(extra ? `${reason} ${JSON.stringify(extra)}` : reason);
  }

  close(code: number): void {
    if (this.closedWith !== undefined) return;
    this.heard.push(['closed', code]);
    this.all.push(`${this.name} closed ${code}`);
    this.#end(code);
  }

  barrier(passed: () => void): void {
    if (this.closedWith !== undefined) return;
    this.barriers += 1;
    this.#barrier = passed;
    if (this.answersPings) this.pongs();
  }

  /** The peer has read everything up to the last ping. */
  pongs(): void {
    const passed = this.#barrier;
    this.#barrier = undefined;
    passed?.();
  }

  terminate(): void {
    if (this.closedWith !== undefined) return;
    this.heard.push(['closed', 1006]);
    this.all.push(`${this.name} closed 1006`);
    this.#end(1006);
  }

  crashed(): void {
    this.close(1011);
  }

  /** What was heard since the last call. */
  take(): Heard[] {
    return this.heard.splice(0);
  }

  /** The names of what was heard since the last call. */
  events(): string[] {
    return this.take().map(([event, payload]) => (event === 'closed' ? `closed ${String(payload)}` : event));
  }

  #end(code: number): void {
    this.closedWith = code;
    this.#channel?.closed();
  }
}

class FakeFlowRecords implements FlowRecords {
  readonly added: FlowRecord[] = [];
  readonly closings: FlowClosing[] = [];
  readonly deliveries: FlowDelivery[] = [];
  /** Gateways that have read what they were told of unclean epochs. */
  readonly told: GatewayId[] = [];
  /** What a join reads. */
  stored: StoredFlow[] = [];
  readUpTo: Position = 0n;
  unclean: ClientId[] = [];
  readonly #outcomes = new Map<FlowId, { written(): void; unwritable(error: unknown): void }>();
  /** Set: a read waits until it is called. */
  holdRead: Promise<void> = Promise.resolve();
  reads = 0;

  add(record: FlowRecord, outcome: { written(): void; unwritable(error: unknown): void }): void {
    this.added.push(record);
    this.#outcomes.set(record.id, outcome);
  }

  close(closing: FlowClosing): void {
    this.closings.push(closing);
  }

  delivered(delivery: FlowDelivery): void {
    this.deliveries.push(delivery);
  }

  uncleanEpochsTold(_account: unknown, gatewayId: GatewayId): void {
    this.told.push(gatewayId);
  }

  putBackRevoked(): void {
    throw new Error('the store does this, not a channel');
  }

  historyGone(): void {
    throw new Error('the store does this, not a channel');
  }

  async unexpired(): Promise<UnexpiredFlows> {
    this.reads += 1;
    const rows = [...this.stored];
    await this.holdRead;
    return { rows, upperBound: this.readUpTo };
  }

  async clientsOfUncleanEpochs(): Promise<readonly ClientId[]> {
    return this.unclean;
  }

  async flush(): Promise<void> {
    for (const { id } of this.added) this.written(id);
  }

  written(id: FlowId): void {
    const outcome = this.#outcomes.get(id);
    this.#outcomes.delete(id);
    outcome?.written();
  }

  unwritable(id: FlowId): void {
    const outcome = this.#outcomes.get(id);
    this.#outcomes.delete(id);
    outcome?.unwritable(new Error('refused for good'));
  }

  /** Reasons of the closings since the last call. */
  takeReasons(): string[] {
    return this.closings.splice(0).map(({ reason }) => reason);
  }
}

/** Tokens as the database has them, and news of them when a test says so. */
class FakeTokens implements TokenWatch, Pick<Connects, 'findToken'> {
  readonly stored = new Map<TokenId, StoredToken>();
  readonly watchers = new Set<(news: TokenNews) => void>();
  /** Set: an answer waits for it. */
  holdAnswer: Promise<void> = Promise.resolve();

  watchToken(_id: TokenId, _account: unknown, heard: (news: TokenNews) => void): () => void {
    this.watchers.add(heard);
    return () => this.watchers.delete(heard);
  }

  async findToken(id: TokenId): Promise<StoredToken | undefined> {
    await this.holdAnswer;
    return this.stored.get(id);
  }

  tell(news: TokenNews): void {
    for (const heard of [...this.watchers]) heard(news);
  }
}

/** Turns that come when a test says so. */
class ManualScheduler implements Scheduler {
  readonly #turns: (() => void)[] = [];

  nextTurn(task: () => void): void {
    this.#turns.push(task);
  }

  elapsedMs(): number {
    return 0;
  }

  run(): void {
    while (this.#turns.length > 0) this.#turns.shift()?.();
  }
}

class CountingRandom implements Random {
  #count = 0;

  uuid(): string {
    this.#count += 1;
    return `00000000-0000-4000-9000-${this.#count.toString(16).padStart(12, '0')}`;
  }

  bytes(length: number): Uint8Array {
    this.#count += 1;
    return new Uint8Array(length).fill(this.#count % 256);
  }

  fraction(): number {
    return 0;
  }
}

export const RELAY_TOKEN = idOf<TokenId>('rtoken');

export function aStoredRelayToken(of: Partial<StoredToken> = {}): StoredToken {
  return {
    id: RELAY_TOKEN,
    kind: 'relay',
    accountId: null,
    actorId: null,
    siteId: null,
    expiresAt: null,
    salt: new Uint8Array(16),
    digest: new Uint8Array(32),
    accountDisabledAt: null,
    bearerEnabled: true,
    ...of,
  };
}

const ignore = (): void => undefined;
const SILENT: Logger = { error: ignore, warn: ignore, info: ignore, debug: ignore };
const UNCOUNTED: Metrics = {
  commitApplied: ignore,
  replicationLag: ignore,
  slot: ignore,
  storeDrifted: ignore,
  storeAudited: ignore,
  replicationState: ignore,
  changeLogBacklog: ignore,
  rowUnreadable: ignore,
  channelOpened: ignore,
  channelClosed: ignore,
  pushed: ignore,
  decided: ignore,
  upgradeAnswered: ignore,
  frameRefused: ignore,
  throttled: ignore,
  receipted: ignore,
  queried: ignore,
};

export class JoinedClient {
  constructor(
    readonly socket: FakeSocket<ClientPushes>,
    readonly channel: ClientChannel,
  ) {}

  says(event: string, payload: unknown): void {
    this.channel.receive({ joinRef: null, ref: 1, topic: 'client', event, payload });
  }

  asksFor(resourceId: string = RESOURCE): void {
    this.says('create_flow', { resource_id: resourceId, connected_gateway_ids: [] });
  }
}

export class JoinedGateway {
  constructor(
    readonly socket: FakeSocket<GatewayPushes>,
    readonly channel: GatewayChannel,
  ) {}

  says(event: string, payload: unknown): void {
    this.channel.receive({ joinRef: null, ref: 1, topic: 'gateway', event, payload });
  }

  /** Answers the `authorize_flow` that was pushed last. */
  answers(asked: Heard | undefined = this.socket.heard.findLast(([event]) => event === 'authorize_flow')): void {
    this.says('flow_authorized', { ref: (asked?.[1] as { ref: string }).ref });
  }
}

export class JoinedRelay {
  constructor(
    readonly socket: FakeSocket<RelayPushes>,
    readonly channel: RelayChannel,
  ) {}
}

export class ChannelHouse {
  readonly clock = new ManualClock();
  readonly streams = new AccountBroadcaster(SILENT);
  readonly presence = new LocalPresence();
  readonly flowRecords = new FakeFlowRecords();
  readonly openReceipts = new OpenReceipts();
  readonly tokens = new FakeTokens();
  readonly random = new CountingRandom();
  readonly scheduler = new ManualScheduler();
  readonly views = new ViewScheduler(this.scheduler);
  readonly store: AccountStore;
  readonly services: ChannelServices;
  /** What everybody heard, as `name event`. */
  readonly heard: string[] = [];
  mayGrant = true;
  gaps = 0;
  sawConnect: Promise<boolean> = Promise.resolve(true);
  cutsNotYetVisible: Cut[] = [];
  released = 0;
  #upgrades = 0;
  #position = 100n;
  /** The rows it began with. */
  readonly #asRead: () => AccountSnapshot;

  constructor(rows: readonly AnyRow[] = anAccountInUse(), limits: Partial<ChannelLimits> = {}) {
    this.store = new AccountStore(ACCOUNT, this.streams, 100n, []);
    this.#asRead = () => ({
      rows: new Map(
        rows.map(([table]) => [table, rows.filter((row) => row[0] === table).map(([, row]) => printRow(row))]),
      ),
      connections: [],
      snapshot: { xmax: 0n, running: new Set() },
      upperBound: 0n,
      cutFlows: new Set(),
    });
    this.store.hydrate(this.#asRead());
    this.tokens.stored.set(RELAY_TOKEN, aStoredRelayToken());
    this.services = {
      stores: { open: async () => this.#handle() },
      streams: this.streams,
      presence: this.presence,
      flowRecords: this.flowRecords,
      receipts: this.openReceipts,
      tokens: this.tokens,
      connects: this.tokens,
      sealer: new RefSealer(new Uint8Array(32).fill(7), this.random),
      views: this.views,
      clock: this.clock,
      random: this.random,
      metrics: UNCOUNTED,
      log: SILENT,
      limits: {
        ...{ maxUnansweredFlows: 32, relaysDebounceMs: 3000, relaysRequired: false, mailboxLimit: 1000 },
        ...{ receiptsAreAsked: true, receiptTimeoutMs: 10_000, ...limits },
      },
    };
  }

  /** One commit; views are brought up to date only by `turn`. */
  commit(...changes: Change[]): void {
    this.#position += 1n;
    const commit: Commit = {
      position: this.#position,
      xid: this.#position,
      committedAt: this.clock.now(),
      byAccount: new Map([[ACCOUNT, changes]]),
      global: [],
      truncates: [],
      messages: [],
      resync: new Set(),
      hiddenCuts: new Set(),
      changeCount: changes.length,
    };
    this.store.take(commit, this.clock.now());
  }

  /** The account was read again after a gap: no row differs. */
  afterGap(heard: LastHeard): void {
    this.store.oweResync('gap', undefined, heard);
    this.store.beginResync([], this.clock.now());
    this.store.resync(this.#asRead(), this.clock.now());
  }

  /** The event loop turns: views are brought up to date. */
  turn(): void {
    this.scheduler.run();
  }

  /** Time passes, and the event loop turns. */
  later(ms: number): void {
    this.clock.advance(ms);
    this.turn();
  }

  async client(of: Partial<ConnectedClient> = {}, name = 'client'): Promise<JoinedClient> {
    const joined = this.connectClient(of, name);
    await settled();
    return joined;
  }

  /** The upgrade is over and the join on its way. */
  connectClient(of: Partial<ConnectedClient> = {}, name = 'client', diesAt?: string): JoinedClient {
    const socket = new FakeSocket<ClientPushes>(name, this.heard);
    socket.diesAt = diesAt;
    const channel = new ClientChannel(this.#clientPeer(of), socket, this.services);
    socket.carries(channel);
    return new JoinedClient(socket, channel);
  }

  async gateway(of: Partial<ConnectedGateway> = {}, name = 'gateway'): Promise<JoinedGateway> {
    const joined = this.connectGateway(of, name);
    await settled();
    return joined;
  }

  connectGateway(of: Partial<ConnectedGateway> = {}, name = 'gateway', diesAt?: string): JoinedGateway {
    const socket = new FakeSocket<GatewayPushes>(name, this.heard);
    socket.diesAt = diesAt;
    const channel = new GatewayChannel(this.#gatewayPeer(of), socket, this.services);
    socket.carries(channel);
    return new JoinedGateway(socket, channel);
  }

  async relay(of: Partial<ConnectedRelay> = {}, stampSecret = 'secret', name = 'relay'): Promise<JoinedRelay> {
    const joined = this.connectRelay(of, stampSecret, name);
    await settled();
    return joined;
  }

  connectRelay(of: Partial<ConnectedRelay> = {}, stampSecret = 'secret', name = 'relay'): JoinedRelay {
    const socket = new FakeSocket<RelayPushes>(name, this.heard);
    const channel = new RelayChannel(this.#relayPeer(of), stampSecret, socket, this.services);
    socket.carries(channel);
    return new JoinedRelay(socket, channel);
  }

  #handle(): AccountHandle & { cutsNotYetVisible(): readonly Cut[] } {
    return {
      state: this.store.state,
      flows: this.store.flows,
      position: () => this.store.position,
      cutsNotYetVisible: () => this.cutsNotYetVisible,
      gaps: () => this.gaps,
      mayGrant: () => this.mayGrant,
      connected: (facts) => {
        this.store.connected(facts, this.clock.now());
      },
      sawConnect: () => this.sawConnect,
      release: () => {
        this.released += 1;
      },
    };
  }

  #clientPeer(of: Partial<ConnectedClient>): ConnectedClient {
    this.#upgrades += 1;
    return {
      role: 'client',
      identity: { device: 'client', publicKey: null },
      accountId: ACCOUNT,
      clientId: CLIENT,
      actorId: ACTOR,
      tokenId: TOKEN,
      connectionId: idOf<ConnectionId>(`c${this.#upgrades}`),
      upgradeNumber: this.#upgrades,
      version: '1.5.2',
      publicKey: 'client key',
      pskBase: new Uint8Array(32).fill(1),
      remoteIp: '192.0.2.7',
      region: 'DE',
      latitude: null,
      longitude: null,
      mustSeeConnect: false,
      ...of,
    };
  }

  #relayPeer(of: Partial<ConnectedRelay>): ConnectedRelay {
    this.#upgrades += 1;
    return {
      role: 'relay',
      identity: { device: 'relay', publicKey: null },
      accountId: null,
      tokenId: RELAY_TOKEN,
      connectionId: idOf<ConnectionId>(`r${this.#upgrades}`),
      upgradeNumber: this.#upgrades,
      version: '0.1.0',
      ipv4: '203.0.113.7',
      ipv6: null,
      port: 3478,
      latitude: null,
      longitude: null,
      ...of,
    };
  }

  #gatewayPeer(of: Partial<ConnectedGateway>): ConnectedGateway {
    this.#upgrades += 1;
    return {
      role: 'gateway',
      identity: { device: 'gateway', publicKey: null },
      accountId: ACCOUNT,
      gatewayId: GATEWAY,
      siteId: SITE,
      tokenId: GATEWAY_TOKEN,
      connectionId: idOf<ConnectionId>(`g${this.#upgrades}`),
      upgradeNumber: this.#upgrades,
      version: '1.4.16',
      publicKey: 'gateway key',
      pskBase: new Uint8Array(32).fill(2),
      remoteIp: '192.0.2.8',
      region: 'DE',
      latitude: null,
      longitude: null,
      mustSeeConnect: false,
      ...of,
    };
  }
}

/** Everything that promises alone can finish is finished. */
export async function settled(): Promise<void> {
  for (let i = 0; i < 20; i += 1) await Promise.resolve();
}

/** Unix seconds so long after the start of the clock. */
export function secondsAfterStart(ms: number): number {
  return Math.floor((MONDAY_9 + ms) / 1000);
}

/** Joined, with one open flow and nothing unread. */
export async function withFlow(of: { version?: string; rows?: ReturnType<typeof anAccountInUse> } = {}) {
  const house = new ChannelHouse(of.rows);
  const gateway = await house.gateway(of.version === undefined ? {} : { version: of.version });
  const client = await house.client();
  client.asksFor();
  gateway.answers();
  await house.flowRecords.flush();
  house.turn();
  const heard = [...gateway.socket.events(), ...client.socket.events()].join();
  if (heard !== 'init,authorize_flow,init,flow_created') throw new Error(`no flow: ${heard}`);
  house.heard.length = 0;
  return { house, gateway, client };
}
