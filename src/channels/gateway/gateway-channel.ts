/**
 * One joined gateway. It alone decides what its gateway may let through (D19): a client's request, a commit and a timer
 * all end here, each in one synchronous step.
 *
 * States: *joining* (subscribed; cuts are kept, since its rows are being read), *live* (`init` is written; it can be
 * chosen for flows), *closed* (its pairs are no longer registered; the gateway itself goes on serving them until told).
 */
import type { AccountId, ClientId, ConnectionId, GatewayId, ResourceId } from '../../core/model/ids.js';
import type { Position } from '../../core/model/position.js';
import type { EpochMs } from '../../core/model/time.js';
import { pairSecrets } from '../../core/derivations/pair-secrets.js';
import type { AccountHandle } from '../../core/ports/account-stores.js';
import type { AppliedStep, Cut, GatewayImpact, GatewaySubscriber } from '../../core/ports/account-streams.js';
import type {
  ClientPeer,
  FlowDialect,
  FlowRequest,
  GatewayPeer,
  IceKind,
  OpaqueObject,
  PairSecrets,
} from '../../core/ports/presence.js';
import { Mailbox } from '../../core/support/mailbox.js';
import { sameValue } from '../../core/support/same-value.js';
import type { Addressed, Frame } from '../../protocol/frame.js';
import { parseGatewayEvent, type GatewayRequest } from '../../protocol/inbound.js';
import type { GatewayResource } from '../../protocol/outbound.js';
import { prunesOnInit } from '../../protocol/versions.js';
import {
  allowAccess,
  authorizeFlow,
  candidatesOfClient,
  gatewayInit,
  rejectAccess,
  requestConnection,
  type FlowGrant,
} from '../../protocol/views/gateway-views.js';
import { turnExpiry } from '../../protocol/views/relay-entries.js';
import { gatewayResource } from '../../protocol/views/resource-forms.js';
import { Alarm } from '../alarm.js';
import type { Channel, GatewaySocket } from '../channel.js';
import type { ChannelServices } from '../channel-services.js';
import { connectIsSeen } from '../connect-seen.js';
import type { ConnectedGateway } from '../connected-peer.js';
import { PeerRelays } from '../peer-relays.js';
import { FlowQueue, type Unanswered } from './flow-queue.js';
import { byPair, HeldFlows, type Restored } from './held-flows.js';
import { type AsOf, type History, withCuts, withSuspects } from './join-history.js';
import { Receipts } from './receipts.js';

interface Live {
  readonly handle: AccountHandle;
  readonly held: HeldFlows;
  readonly relays: PeerRelays;
  /** No commit that ends behind it took anything from the rows of flows that were read. */
  readonly readUpTo: Position;
  /** When that reading began. */
  readonly readAt: EpochMs;
}

export class GatewayChannel implements Channel, GatewayPeer, GatewaySubscriber {
  readonly accountId: AccountId;
  readonly gatewayId: GatewayId;
  readonly connectionId: ConnectionId;
  readonly upgradeNumber: number;
  readonly version: string;
  readonly remoteIp: string | null;
  readonly latitude: number | null;
  readonly longitude: number | null;

  readonly #mailbox: Mailbox;
  readonly #queue: FlowQueue;
  readonly #receipts: Receipts;
  readonly #tokenEnd: Alarm;
  #live: Live | undefined;
  #isClosed = false;
  /** Cuts committed while the rows were being read, or not long before: the read may or may not show them. */
  readonly #cutsMeanwhile: Cut[] = [];
  /** How often the history was truncated: a read that began before does not say who must be told of instead of the rows. */
  #truncations = 0;
  /** The gateway's form of each resource, as it was last told. */
  readonly #toldForms = new Map<ResourceId, GatewayResource>();
  readonly #secrets = new WeakMap<ClientPeer, PairSecrets>();
  readonly #undo: (() => void)[] = [];

  constructor(
    private readonly peer: ConnectedGateway,
    private readonly socket: GatewaySocket,
    private readonly with_: ChannelServices,
  ) {
    this.accountId = peer.accountId;
    this.gatewayId = peer.gatewayId;
    this.connectionId = peer.connectionId;
    this.upgradeNumber = peer.upgradeNumber;
    this.version = peer.version;
    this.remoteIp = peer.remoteIp;
    this.latitude = peer.latitude;
    this.longitude = peer.longitude;
    this.#mailbox = new Mailbox(with_.limits.mailboxLimit, (error) => {
      socket.crashed(error);
    });
    this.#queue = new FlowQueue(
      with_.limits.maxUnansweredFlows,
      with_.clock,
      (flow) => this.#live?.held.has(flow) ?? false,
    );
    this.#receipts = new Receipts(peer, socket, with_);
    this.#tokenEnd = new Alarm(with_.clock, () => {
      this.#post(() => {
        this.#disconnect('token-expired');
      });
    });
    void this.#join();
  }

  get hasRelay(): boolean {
    return this.#live?.relays.hasAny ?? false;
  }

  // ---- the socket ------------------------------------------------------------------------------------------------

  receive(frame: Frame): void {
    const request = parseGatewayEvent(frame.event, frame.payload);
    if (!request) {
      this.with_.metrics.frameRefused('gateway', 'unknown-message');
      this.socket.replyError(frame, 'unknown_message');
      return;
    }
    this.#post(() => {
      this.#serve(request, frame);
    });
  }

  closed(): void {
    this.#isClosed = true;
    this.#receipts.end();
    this.#live?.held.letGo();
    this.#live = undefined;
    this.#mailbox.close();
    this.#tokenEnd.set(null);
    for (const undo of this.#undo.splice(0).reverse()) undo();
  }

  // ---- joining ---------------------------------------------------------------------------------------------------

  /** D22. The twin goes first, so that nothing is granted in the gateway's name while its flows are read. */
  async #join(): Promise<void> {
    const { accountId, gatewayId } = this;
    try {
      const handle = await this.with_.stores.open(accountId);
      this.#undo.push(() => {
        handle.release();
      });
      const mayStart = await connectIsSeen(this.peer, handle);
      if (this.#isClosed) {
        this.closed();
        return;
      }
      if (!mayStart || !handle.mayGrant()) {
        this.socket.close(1012, mayStart ? 'stale' : 'connect-not-seen');
        return;
      }
      const twin = this.with_.presence.gateway(accountId, gatewayId);
      if (twin && twin.upgradeNumber < this.upgradeNumber) twin.evict();
      this.#undo.push(this.with_.streams.subscribeGateway(accountId, this));
      this.#cutsMeanwhile.push(...handle.cutsNotYetVisible());
      await this.#readFlows(handle);
    } catch (error) {
      this.#joinFailed(error);
    }
  }

  /** What is queued is written first, so that the one query on flows shows everything. */
  async #readFlows(handle: AccountHandle): Promise<void> {
    const { accountId, gatewayId } = this;
    const asOf = this.#asOf(handle);
    const readAt = this.with_.clock.now();
    await this.with_.flowRecords.flush();
    const [{ rows, upperBound }, unwritten] = await Promise.all([
      this.with_.flowRecords.unexpired(accountId, gatewayId, readAt),
      this.with_.flowRecords.clientsOfUncleanEpochs(accountId, gatewayId),
    ]);
    this.#post(() => {
      this.#start(handle, { rows, upperBound, unwritten, readAt, asOf });
    });
  }

  #asOf(handle: AccountHandle): AsOf {
    return { gaps: handle.gaps(), truncations: this.#truncations };
  }

  /** False: what was read then may lack what has to be told. */
  #isStill(handle: AccountHandle, { gaps, truncations }: AsOf): boolean {
    return handle.gaps() === gaps && this.#truncations === truncations;
  }

  #joinFailed(error: unknown): void {
    if (this.#isClosed) return; // another channel may be on the socket
    const { accountId, gatewayId } = this;
    this.with_.log.warn('gateway.join-failed', { accountId, gatewayId, error });
    this.socket.close(1012, 'join-failed');
  }

  #start(handle: AccountHandle, { rows, upperBound, unwritten, readAt, asOf }: History): void {
    const { state } = handle;
    const { accountId, gatewayId } = this;
    const token = state.row('tokens', this.peer.tokenId);
    if (token?.kind !== 'gateway') {
      this.#disconnect('token-deleted');
      return;
    }
    if (!state.row('gateways', gatewayId) || !state.account) {
      this.socket.close(1000, 'gateway-deleted');
      return;
    }
    const twin = this.with_.presence.gateway(accountId, gatewayId);
    if (twin && twin.upgradeNumber > this.upgradeNumber) {
      this.evict();
      return;
    }
    // What is owed may be a cut: a row that was read open, and is not registered yet, would not be looked up (CUT-1, ORD-6).
    if (!handle.mayGrant()) {
      this.socket.close(1012, 'stale');
      return;
    }
    // An older one that went live while we read: what it was granted since is not in what we read.
    twin?.evict();
    if (twin || !this.#isStill(handle, asOf)) {
      this.#readFlows(handle).catch((error: unknown) => {
        this.#joinFailed(error);
      });
      return;
    }

    const held = new HeldFlows(this.peer, handle, this.socket, this.#receipts, this.with_, (task) => {
      this.#post(task);
    });
    this.#live = { handle, held, relays: this.#relays(), readUpTo: upperBound, readAt };
    const cause = { position: handle.position(), committedAt: null };
    const restored = withSuspects(held.restore(withCuts(rows, this.#cutsMeanwhile), cause), unwritten);
    this.#pushInit(this.#live, restored);
    if (this.#isClosed) return; // its `init` was more than the socket could take
    if (unwritten.length > 0) this.#askWhetherTold(this.#live, asOf);
    this.#askAgain(handle, restored);
    this.#tokenEnd.set(token.expiresAt);
    this.#undo.push(this.with_.presence.enterGateway(this));
    this.with_.log.info('gateway.joined', {
      accountId,
      gatewayId,
      position: handle.position(),
      served: restored.served.length,
      rejected: restored.rejected.length,
    });
  }

  /** Placeholders have no row: until it is proven that the gateway has read them, they are repeated at each of its joins. */
  #askWhetherTold({ handle }: Live, asOf: AsOf): void {
    const onReceipt = (): void => {
      if (this.#isStill(handle, asOf)) this.with_.flowRecords.uncleanEpochsTold(this.accountId, this.gatewayId);
    };
    this.#receipts.pushed({ flowIds: [], cause: null, onReceipt });
  }

  /**
   * Rows may have gone before this gateway's were read, by a TRUNCATE that is heard of only now or by what was never heard:
   * it may hold their pairs, and is told of the clients.
   */
  async #tellOfUnwritten(live: Live): Promise<void> {
    const { accountId, gatewayId } = this;
    try {
      await Promise.resolve(); // that they count as unwritten is queued in this very step
      const asOf = this.#asOf(live.handle);
      await this.with_.flowRecords.flush();
      const unwritten = await this.with_.flowRecords.clientsOfUncleanEpochs(accountId, gatewayId);
      this.#post(() => {
        if (this.#live !== live) return;
        if (!this.#isStill(live.handle, asOf)) {
          void this.#tellOfUnwritten(live);
        } else if (unwritten.length > 0) {
          this.#pushInit(live, withSuspects({ served: live.held.served(), rejected: [], emptied: [] }, unwritten));
          this.#askWhetherTold(live, asOf);
        }
      });
    } catch (error) {
      this.#joinFailed(error);
    }
  }

  /** `init`, then a reject for every pair that is not in it, then the present form of every resource that is (D22). */
  #pushInit({ handle, held, relays }: Live, { served, rejected, emptied }: Restored): void {
    const { state } = handle;
    const row = state.row('gateways', this.gatewayId);
    if (!row) return;
    this.socket.push('init', gatewayInit(state.account?.slug ?? '', row, relays.select(), served, emptied));
    for (const { clientId, resourceId, flowIds, cause } of rejected) {
      if (held.get(clientId, resourceId)) continue;
      this.socket.push('reject_access', rejectAccess(clientId, resourceId));
      this.#receipts.pushed({ flowIds, cause });
    }
    for (const resourceId of [...new Set(served.map((pair) => pair.resourceId))].sort()) {
      this.#toldForms.delete(resourceId);
      this.#pushForm(handle, resourceId);
    }
  }

  #relays(): PeerRelays {
    const relays = new PeerRelays(
      this.peer,
      turnExpiry(null),
      this.with_,
      (payload) => {
        this.socket.push('relays_presence', payload);
      },
      (task) => {
        this.#post(task);
      },
    );
    this.#undo.push(() => {
      relays.close();
    });
    return relays;
  }

  /** Clients go on sending to a gateway that lost their pair, unless they have found another (D20b). */
  #askAgain({ flows }: AccountHandle, { rejected }: Restored): void {
    for (const { clientId, resourceId } of rejected) {
      const isServed = [...flows.ofClient(clientId)].some((flow) => flow.resourceId === resourceId);
      if (!isServed) this.with_.presence.toggle(this.accountId, clientId, resourceId);
    }
  }

  // ---- commits ---------------------------------------------------------------------------------------------------

  onStep(step: AppliedStep, impact: GatewayImpact): void {
    if (impact.cuts.some(({ kind }) => kind === 'all')) this.#truncations += 1;
    const live = this.#live;
    if (!live) {
      this.#cutsMeanwhile.push(...impact.cuts); // the state itself is judged at the start
      return;
    }
    // Cuts first: a pair that loses its row and its reason in one commit is rejected once.
    for (const cut of impact.cuts) this.#cut(live, cut, step);
    for (const flow of [...impact.flows].sort(byPair)) live.held.reconsider(flow, step);
    if (impact.isGone) {
      this.socket.close(1000, 'gateway-deleted');
    } else if (impact.deletedTokens.has(this.peer.tokenId)) {
      this.#disconnect('token-deleted');
    } else if (impact.slugChanged) {
      this.#pushInit(live, { served: live.held.served(), rejected: [], emptied: [] });
    } else {
      for (const resourceId of [...impact.resources].sort()) {
        if (live.held.holdsResource(resourceId)) this.#pushForm(live.handle, resourceId);
      }
    }
    this.#receipts.ask();
  }

  onFailure(error: unknown): void {
    this.socket.crashed(error);
  }

  /** An operator's hand: no search for another policy; the client may ask again (D8a). */
  #cut(live: Live, cut: Cut, step: AppliedStep): void {
    const { held } = live;
    if (cut.kind === 'gap') {
      if (live.readUpTo > cut.heard.upTo || live.readAt > cut.heard.at) void this.#tellOfUnwritten(live); // it joined in the gap
      return;
    }
    if (cut.kind === 'all') {
      for (const flow of held.all()) held.lose(flow, 'cut-by-hand', step);
      if (step.position <= live.readUpTo) void this.#tellOfUnwritten(live);
      return;
    }
    if (cut.wasClosed) return;
    const flow = held.get(cut.clientId, cut.resourceId);
    if (flow) {
      held.loseByHand(flow, cut.flowId, step);
    } else {
      this.socket.push('reject_access', rejectAccess(cut.clientId, cut.resourceId));
      held.closeRejected(cut.flowId, 'cut-by-hand', step);
      this.#receipts.pushed({ flowIds: [cut.flowId], cause: step });
    }
  }

  /** Only name and filters can differ here: with another address, type or ip stack the pairs are gone (D20). */
  #pushForm(handle: AccountHandle, resourceId: ResourceId): void {
    const resource = handle.state.resource(resourceId);
    const form = resource && gatewayResource(resource, this.version);
    if (!form || sameValue(this.#toldForms.get(resourceId), form)) return;
    this.#toldForms.set(resourceId, form);
    this.socket.push('resource_updated', form);
  }

  // ---- requests of the gateway -----------------------------------------------------------------------------------

  #serve(request: GatewayRequest, to: Addressed): void {
    switch (request.kind) {
      case 'flow-authorized':
        this.#answered(request.ref, to, undefined);
        return;
      case 'connection-ready':
        this.#answered(request.ref, to, request.payload);
        return;
      case 'ice-candidates':
        this.#sendIce('ice_candidates', request.clientIds, request.candidates);
        return;
      case 'invalidated-ice-candidates':
        this.#sendIce('invalidate_ice_candidates', request.clientIds, request.candidates);
        return;
    }
  }

  /** @param payload what a gateway answers to a client before 1.4; undefined with `flow_authorized` */
  #answered(ref: string, to: Addressed, payload: OpaqueObject | undefined): void {
    const unanswered = this.#takeAnswered(ref, payload === undefined);
    if (!unanswered) {
      this.socket.replyError(to, 'invalid_ref');
    } else {
      // The client waits for this, the gateway for nothing: its reply comes second.
      // Gateways that never prune would keep a pair whose row we lost: the client waits until it is written (D21).
      const tell = (): void => {
        this.#tellClient(unanswered, payload);
      };
      if (prunesOnInit(this.version)) tell();
      else this.#live?.held.whenRecorded(unanswered.flow, tell);
      this.socket.replyOk(to);
    }
    this.#sendWaiting();
  }

  /** What a ref of ours still stands for: not when the flow was taken back meanwhile, or its client has gone (B12). */
  #takeAnswered(ref: string, isFlow: boolean): Unanswered | undefined {
    const claims = this.with_.sealer.open(ref);
    if (claims?.accountId !== this.accountId || claims.gatewayId !== this.gatewayId) return undefined;
    const unanswered = this.#queue.answered(ref);
    if (!unanswered || (unanswered.request.dialect.kind === 'flow') !== isFlow) return undefined;
    return this.#live?.held.has(unanswered.flow) && this.#isConnected(unanswered.request.client)
      ? unanswered
      : undefined;
  }

  /** Only while the flow is still registered: a commit may have taken it back since (D19). */
  #tellClient({ request, flow, secrets }: Unanswered, payload: OpaqueObject | undefined): void {
    const live = this.#live;
    const row = live?.handle.state.row('gateways', this.gatewayId);
    if (!live?.held.has(flow) || !row) return;
    const { client, resourceId, sequence } = request;
    const gatewayPublicKey = this.peer.publicKey;
    if (payload !== undefined) {
      client.connectionReady({ resourceId, sequence, gatewayPublicKey, gatewayPayload: payload });
      return;
    }
    client.flowAuthorized({
      ...{ resourceId, sequence, gatewayPublicKey, secrets },
      gatewayId: this.gatewayId,
      siteId: row.siteId,
      gatewayIpv4: row.ipv4,
      gatewayIpv6: row.ipv6,
    });
  }

  #sendIce(kind: IceKind, clientIds: readonly ClientId[], candidates: readonly string[]): void {
    for (const clientId of clientIds) {
      const client = this.with_.presence.client(this.accountId, clientId);
      if (client && this.#mayExchangeIce(clientId)) client.iceFromGateway(this.gatewayId, kind, candidates);
    }
  }

  // ---- signals from clients --------------------------------------------------------------------------------------

  requestFlow(request: FlowRequest): void {
    this.#post(() => {
      if (this.#live && this.#queue.admit(request)) this.#authorize(this.#live, request);
    });
  }

  iceFromClient(clientId: ClientId, kind: IceKind, candidates: readonly string[]): void {
    this.#post(() => {
      if (this.#mayExchangeIce(clientId)) this.socket.push(kind, candidatesOfClient(clientId, candidates));
    });
  }

  evict(): void {
    this.socket.close(1000, 'newer-connection');
  }

  /** Decides against this gateway's own store, registers and pushes, in one step: no revocation can fall between (S2). */
  #authorize({ handle, held }: Live, request: FlowRequest): void {
    const { client, resourceId } = request;
    if (!this.#isConnected(client) || !handle.mayGrant()) return;
    const decision = held.decide(client.clientId, resourceId);
    const row = handle.state.row('clients', client.clientId);
    const stored = handle.state.resource(resourceId);
    const resource = stored && gatewayResource(stored, this.version);
    if (decision.verdict === 'deny' || !resource || !row) return; // the client asks again, or hears why from its channel
    const flow = held.grant(client.clientId, resourceId, decision, client.remoteIp);
    if (!flow) return;

    const now = this.with_.clock.now();
    const secrets = this.#secretsWith(request);
    const ref = this.with_.sealer.seal({
      accountId: this.accountId,
      gatewayId: this.gatewayId,
      clientConnectionId: client.connectionId,
      resourceId,
      flowId: flow.grant.flowId,
      issuedAt: now,
    });
    this.#queue.sent(ref, { request, flow, secrets, sentAt: now });
    this.#toldForms.set(resourceId, resource);
    const { expiresAt } = flow.grant;
    this.#pushGrant(request.dialect, {
      ...{ ref, resource, client: row, clientPublicKey: client.publicKey, secrets, expiresAt },
    });
    held.settleExpiry(flow);
  }

  #pushGrant(dialect: FlowDialect, grant: FlowGrant): void {
    switch (dialect.kind) {
      case 'flow':
        this.socket.push('authorize_flow', authorizeFlow(grant));
        return;
      case 'request-connection':
        this.socket.push('request_connection', requestConnection(grant, dialect));
        return;
      case 'reuse-connection':
        this.socket.push('allow_access', allowAccess(grant, dialect.payload));
        return;
    }
  }

  /** The connection that asked is still the client's. */
  #isConnected(client: ClientPeer): boolean {
    return this.with_.presence.client(this.accountId, client.clientId)?.connectionId === client.connectionId;
  }

  #sendWaiting(): void {
    for (let request = this.#queue.next(); request && this.#live; request = this.#queue.next()) {
      this.#authorize(this.#live, request);
    }
  }

  /** Derived once per pair of connections: the same text for as long as both keys are the same. Forgotten with the client. */
  #secretsWith({ client }: FlowRequest): PairSecrets {
    const known = this.#secrets.get(client);
    if (known) return known;
    const secrets = pairSecrets({
      client: { id: client.clientId, publicKey: client.publicKey, pskBase: client.pskBase },
      gateway: { id: this.gatewayId, publicKey: this.peer.publicKey, pskBase: this.peer.pskBase },
    });
    this.#secrets.set(client, secrets);
    return secrets;
  }

  #mayExchangeIce(clientId: ClientId): boolean {
    if (this.#live?.held.serves(clientId)) return true;
    const client = this.with_.presence.client(this.accountId, clientId);
    return client !== undefined && this.#queue.concerns(client.connectionId);
  }

  // ---- endings ---------------------------------------------------------------------------------------------------

  #disconnect(why: TokenEnd): void {
    this.socket.push('disconnect', { reason: 'token_expired' });
    this.socket.close(1000, why);
  }

  /** One barrier serves all that the task rejected. */
  #post(task: () => void): void {
    const andAsk = (): void => {
      task();
      this.#receipts.ask();
    };
    if (this.#isClosed || this.#mailbox.post(andAsk)) return;
    if (!this.#isClosed) this.socket.close(1011, 'mailbox-full');
  }
}

type TokenEnd = 'token-deleted' | 'token-expired';
