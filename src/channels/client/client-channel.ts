/**
 * One joined client: what it has been told, and its requests.
 *
 * States: *joining* (the store is being opened; frames wait in the mailbox of the socket's peer: a client sends nothing
 * before its join is answered and little before `init`), *live* (the view is at most one scheduler turn behind the
 * store; it is brought up to date before any frame or timer is handled, ORD-3), *closed*.
 * Commits arrive beside the mailbox through `onStep`, which only marks what to look at again.
 */
import {
  authorize,
  candidateResources,
  subjectOf,
  type Decision,
  type Subject,
} from '../../core/authorizer/authorize.js';
import { mergeImpact, noImpact, type ClientEnding, type ClientImpact } from '../../core/authorizer/client-impact.js';
import { nextTransition } from '../../core/authorizer/conditions.js';
import type { AccountId, ClientId, ConnectionId, GatewayId, ResourceId } from '../../core/model/ids.js';
import type { Position } from '../../core/model/position.js';
import type { EpochMs } from '../../core/model/time.js';
import type { AccountHandle } from '../../core/ports/account-stores.js';
import type { AppliedStep, ClientSubscriber } from '../../core/ports/account-streams.js';
import type { ClientPeer, FlowAnswer, GatewayPeer, IceKind } from '../../core/ports/presence.js';
import { Mailbox } from '../../core/support/mailbox.js';
import { sameValue } from '../../core/support/same-value.js';
import { chooseGateway } from '../../core/views/choose-gateway.js';
import { ClientView, type ShownResource } from '../../core/views/client-view.js';
import type { Frame } from '../../protocol/frame.js';
import { parseClientEvent, type ClientRequest } from '../../protocol/inbound.js';
import type { ClientInterface } from '../../protocol/outbound.js';
import { gatewaySuits, resourceForVersion } from '../../protocol/versions.js';
import {
  candidatesOfGateway,
  clientInit,
  clientInterface,
  flowCreated,
  flowCreationFailed,
} from '../../protocol/views/client-views.js';
import { clientResource } from '../../protocol/views/resource-forms.js';
import { Alarm } from '../alarm.js';
import { turnExpiry } from '../../protocol/views/relay-entries.js';
import type { Channel, ClientSocket } from '../channel.js';
import type { ChannelServices } from '../channel-services.js';
import { connectIsSeen } from '../connect-seen.js';
import type { ConnectedClient } from '../connected-peer.js';
import { PeerRelays } from '../peer-relays.js';
import type { Settling } from '../view-scheduler.js';
import { FlowRequests } from './flow-requests.js';

export class ClientChannel implements Channel, ClientPeer, ClientSubscriber, Settling {
  readonly accountId: AccountId;
  readonly clientId: ClientId;
  readonly connectionId: ConnectionId;
  readonly upgradeNumber: number;
  readonly publicKey: string;
  readonly pskBase: Uint8Array;
  readonly remoteIp: string | null;

  readonly #mailbox: Mailbox;
  readonly #view = new ClientView();
  readonly #requests: FlowRequests;
  readonly #tokenEnd: Alarm;
  readonly #timeTurns: Alarm;
  #handle: AccountHandle | undefined;
  #isLive = false;
  #isClosed = false;
  #impact: ClientImpact | undefined;
  #unseenSince: Position | undefined;
  readonly #toggles = new Set<ResourceId>();
  #toldInterface: ClientInterface | undefined;
  readonly #undo: (() => void)[] = [];

  constructor(
    private readonly peer: ConnectedClient,
    private readonly socket: ClientSocket,
    private readonly with_: ChannelServices,
  ) {
    this.accountId = peer.accountId;
    this.clientId = peer.clientId;
    this.connectionId = peer.connectionId;
    this.upgradeNumber = peer.upgradeNumber;
    this.publicKey = peer.publicKey;
    this.pskBase = peer.pskBase;
    this.remoteIp = peer.remoteIp;
    this.#mailbox = new Mailbox(with_.limits.mailboxLimit, (error) => {
      socket.crashed(error);
    });
    this.#requests = new FlowRequests(with_.clock);
    this.#tokenEnd = new Alarm(with_.clock, () => {
      this.#post(() => {
        this.#disconnect('token-expired');
      });
    });
    this.#timeTurns = new Alarm(with_.clock, () => {
      this.#post(() => {
        this.#mark({ ...noImpact(), everything: true });
        this.settle();
      });
    });
    void this.#join();
  }

  // ---- the socket ------------------------------------------------------------------------------------------------

  receive(frame: Frame): void {
    const request = parseClientEvent(frame.event, frame.payload);
    if (!request) {
      this.with_.metrics.frameRefused('client', 'unknown-message');
      this.socket.replyError(frame, 'unknown_message');
      return;
    }
    this.#post(() => {
      if (!this.#isLive) return;
      this.settle();
      this.#serve(request);
    });
  }

  closed(): void {
    this.#isClosed = true;
    this.#isLive = false;
    this.#mailbox.close();
    this.#tokenEnd.set(null);
    this.#timeTurns.set(null);
    this.#impact = undefined;
    this.#unseenSince = undefined;
    for (const undo of this.#undo.splice(0).reverse()) undo();
  }

  // ---- joining ---------------------------------------------------------------------------------------------------

  async #join(): Promise<void> {
    try {
      const handle = await this.with_.stores.open(this.accountId);
      this.#undo.push(() => {
        handle.release();
      });
      const mayStart = await connectIsSeen(this.peer, handle);
      if (this.#isClosed) this.closed();
      else if (!mayStart) this.socket.close(1012, 'connect-not-seen');
      else this.#post(() => this.#start(handle));
    } catch (error) {
      // Never a join error: it is fatal to every Rust peer. The reply is out; the peer comes again (D24).
      if (this.#isClosed) return; // another channel may be on the socket
      this.with_.log.warn('client.join-failed', { accountId: this.accountId, clientId: this.clientId, error });
      this.socket.close(1012, 'join-failed');
    }
  }

  /** One synchronous step from the store as it is to a client that hears of every commit after (ORD-2). */
  #start(handle: AccountHandle): void {
    this.#handle = handle;
    const { state } = handle;
    const now = this.with_.clock.now();
    const { clientId, accountId } = this;
    const { tokenId, region, remoteIp } = this.peer;
    this.#undo.push(this.with_.presence.enterClient(this));
    if (this.#isClosed) return; // a newer connection of the device was faster
    handle.connected({ clientId, tokenId, region, remoteIp, connectedAt: now });
    const subject = subjectOf(state, clientId, now);
    if (typeof subject === 'string') {
      this.#end(subject === 'token-gone' || subject === 'token-expired' ? 'token-deleted' : 'refused-on-retry');
      return;
    }
    this.#undo.push(this.with_.streams.subscribeClient(accountId, this));
    this.#isLive = true;

    const shown: ShownResource[] = [];
    const ids = candidateResources(state, subject.client);
    shown.push(...this.#view.update(ids, (id) => this.#shown(subject, id, now)).upserted);
    const config = state.account?.config ?? NO_CONFIG;
    this.#toldInterface = clientInterface(subject.client, config);
    const relays = this.#relaysFor(subject).select();
    this.socket.push('init', clientInit(subject.client, config, shown, this.peer.version, relays));
    if (this.#isClosed) return; // it was more than the socket could take
    this.#tokenEnd.set(subject.token.expiresAt);
    this.#awaitTime(ids, now);
    this.with_.log.info('client.joined', { accountId, clientId, position: handle.position(), resources: shown.length });
  }

  #relaysFor({ token }: Subject): PeerRelays {
    const relays = new PeerRelays(
      this.peer,
      turnExpiry(token.expiresAt),
      this.with_,
      (payload) => {
        this.socket.push('relays_presence', payload);
      },
      (task) => {
        this.#post(() => {
          this.settle();
          task();
        });
      },
    );
    this.#undo.push(() => {
      relays.close();
    });
    return relays;
  }

  // ---- commits ---------------------------------------------------------------------------------------------------

  onStep(step: AppliedStep, impact: ClientImpact): void {
    if (!this.#isLive) return;
    if (impact.ending) this.#end(impact.ending);
    else this.#mark(impact, step.position);
  }

  onFailure(error: unknown): void {
    this.socket.crashed(error);
  }

  unseenSince(): Position | undefined {
    return this.#unseenSince;
  }

  /** Pushes the difference between what the client was told and what is true now: removals first. */
  settle(): void {
    const impact = this.#impact;
    const handle = this.#handle;
    if (!impact || !handle || !this.#isLive) return;
    this.#impact = undefined;
    this.#unseenSince = undefined;
    try {
      this.#pushDifference(impact, handle);
    } catch (error) {
      this.socket.crashed(error);
    }
  }

  #pushDifference(impact: ClientImpact, handle: AccountHandle): void {
    const { state } = handle;
    const now = this.with_.clock.now();
    const subject = subjectOf(state, this.clientId, now);
    if (subject === 'token-expired') {
      this.#disconnect('token-expired');
      return;
    }
    // A pair that ends with its window is toggled a moment before the window's own timer: it may be gone for good.
    const ids = new Set([...impact.resources, ...this.#toggles]);
    if (impact.everything) {
      for (const id of this.#view.toldIds()) ids.add(id);
      if (typeof subject !== 'string') for (const id of candidateResources(state, subject.client)) ids.add(id);
    }
    const { removed, upserted } = this.#view.update(
      ids,
      (id) => (typeof subject === 'string' ? undefined : this.#shown(subject, id, now)),
      this.#toggles,
    );
    this.#toggles.clear();

    for (const id of removed) {
      this.#requests.forget(id);
      this.socket.push('resource_deleted', id);
    }
    for (const shown of upserted) this.#pushResource(shown);
    if (impact.interface && typeof subject !== 'string') this.#pushInterface(subject, handle);
    if (this.#isClosed) return; // it was more than the socket could take: nothing is waited for
    if (impact.token && typeof subject !== 'string') this.#tokenEnd.set(subject.token.expiresAt);
    this.#awaitTime(ids, now);
  }

  #pushResource({ resource, sites }: ShownResource): void {
    const payload = clientResource(resource, sites, this.peer.version);
    if (payload) this.socket.push('resource_created_or_updated', payload);
  }

  #pushInterface(subject: Subject, handle: AccountHandle): void {
    const told = clientInterface(subject.client, handle.state.account?.config ?? NO_CONFIG);
    if (sameValue(told, this.#toldInterface)) return;
    this.#toldInterface = told;
    this.socket.push('config_changed', { interface: told });
  }

  #mark(impact: ClientImpact, position = this.#handle?.position()): void {
    if (this.#impact) {
      mergeImpact(this.#impact, impact);
      return;
    }
    this.#impact = noImpact();
    mergeImpact(this.#impact, impact);
    this.#unseenSince = position;
    this.with_.views.enqueue(this);
  }

  /** What the client may see of a resource at `now`. */
  #shown(subject: Subject, resourceId: ResourceId, now: EpochMs): ShownResource | undefined {
    const state = this.#handle?.state;
    const resource = state?.resource(resourceId);
    if (!state || !resource || !resourceForVersion(resource, this.peer.version)) return undefined;
    const sites = state.sitesOfResource(resourceId);
    if (sites.length === 0) return undefined;
    return authorize(state, subject, resourceId, now).verdict === 'allow' ? { resource, sites } : undefined;
  }

  /**
   * Windows open and close at exact instants (D18). Waking too early only looks and finds nothing.
   * @param now the instant the view was computed for: reading the clock again could step over a boundary
   */
  #awaitTime(ids: Iterable<ResourceId>, now: EpochMs): void {
    const state = this.#handle?.state;
    if (!state) return;
    for (const id of ids) {
      for (const policy of state.policiesOfResource(id)) {
        this.#timeTurns.setEarlier(nextTransition(policy.conditions, now));
      }
    }
  }

  // ---- requests --------------------------------------------------------------------------------------------------

  #serve(request: ClientRequest): void {
    switch (request.kind) {
      case 'create-flow':
        this.#createFlow(request.resourceId, new Set<string>(request.connectedGatewayIds));
        return;
      case 'ice-candidates':
        this.#sendIce('ice_candidates', request.gatewayIds, request.candidates);
        return;
      case 'invalidated-ice-candidates':
        this.#sendIce('invalidate_ice_candidates', request.gatewayIds, request.candidates);
        return;
    }
  }

  /** Decides in memory and asks a gateway; nothing here awaits anything (D19, D21). */
  #createFlow(resourceId: ResourceId, connected: ReadonlySet<string>): void {
    const handle = this.#handle;
    if (!handle) return;
    if (!handle.mayGrant()) {
      this.with_.metrics.decided('stale'); // not answered: the client repeats every 2 s (D14)
      return;
    }
    const now = this.with_.clock.now();
    const subject = subjectOf(handle.state, this.clientId, now);
    const decision = this.#decide(handle, subject, resourceId);
    if (decision.verdict === 'deny' || typeof subject === 'string') {
      this.#refuse(resourceId, decision);
      return;
    }
    const gateway = chooseGateway(this.#eligibleGateways(handle, resourceId), connected, this.peer, this.with_.random);
    if (!gateway) {
      if (!this.#requests.mayReportOffline(resourceId)) return;
      this.with_.metrics.decided('offline');
      this.socket.push('flow_creation_failed', flowCreationFailed(resourceId, 'offline'));
      return;
    }
    const sequence = this.#requests.open();
    gateway.requestFlow({ client: this, row: subject.client, resourceId, sequence });
    this.with_.metrics.decided('allowed');
  }

  #decide(handle: AccountHandle, subject: ReturnType<typeof subjectOf>, resourceId: ResourceId): Decision {
    if (typeof subject === 'string') return { verdict: 'deny', reason: subject, violated: [] };
    const decision = authorize(handle.state, subject, resourceId, this.with_.clock.now());
    // Allowed but hidden from it: no site, or its version cannot use it.
    if (decision.verdict === 'allow' && !this.#view.has(resourceId)) return HIDDEN;
    return decision;
  }

  #refuse(resourceId: ResourceId, decision: Decision): void {
    const isForbidden = decision.verdict === 'deny' && decision.reason === 'forbidden';
    const reason = isForbidden ? 'forbidden' : 'not_found';
    this.with_.metrics.decided(reason);
    this.socket.push(
      'flow_creation_failed',
      flowCreationFailed(resourceId, reason, isForbidden ? decision.violated : []),
    );
  }

  #eligibleGateways({ state }: AccountHandle, resourceId: ResourceId): GatewayPeer[] {
    const resource = state.resource(resourceId);
    const eligible: GatewayPeer[] = [];
    for (const gateway of this.with_.presence.gateways(this.accountId)) {
      const row = state.row('gateways', gateway.gatewayId);
      if (!row || !resource || !state.isServedBySite(resourceId, row.siteId)) continue;
      if (!gateway.hasRelay && this.socket.isRustPeer && this.with_.limits.relaysRequired) continue;
      if (!gatewaySuits(this.peer.version, gateway.version) || !resourceForVersion(resource, gateway.version)) continue;
      eligible.push(gateway);
    }
    return eligible;
  }

  #sendIce(kind: IceKind, gatewayIds: readonly GatewayId[], candidates: readonly string[]): void {
    for (const gatewayId of gatewayIds) {
      this.with_.presence.gateway(this.accountId, gatewayId)?.iceFromClient(this.clientId, kind, candidates);
    }
  }

  // ---- signals from gateways -------------------------------------------------------------------------------------

  flowAuthorized(answer: FlowAnswer): void {
    this.#post(() => {
      this.settle();
      if (!this.#isLive || !this.#view.has(answer.resourceId)) return;
      if (!this.#requests.isAwaited(answer.resourceId, answer.sequence)) return;
      this.socket.push('flow_created', flowCreated(answer));
    });
  }

  toggle(resourceId: ResourceId): void {
    if (!this.#isLive) return;
    this.#toggles.add(resourceId);
    this.#mark(noImpact());
  }

  iceFromGateway(gatewayId: GatewayId, kind: IceKind, candidates: readonly string[]): void {
    this.#post(() => {
      if (this.#isLive) this.socket.push(kind, candidatesOfGateway(gatewayId, candidates));
    });
  }

  evict(): void {
    this.socket.close(1000, 'newer-connection');
  }

  // ---- endings ---------------------------------------------------------------------------------------------------

  #end(ending: ClientEnding): void {
    if (ending === 'token-deleted') this.#disconnect(ending);
    else this.socket.close(1000, ending);
  }

  /** Final for the peer: it signs out. Only for its token's own end (wire-protocol.md 2.4). */
  #disconnect(why: string): void {
    this.socket.push('disconnect', { reason: 'token_expired' });
    this.socket.close(1000, why);
  }

  #post(task: () => void): void {
    if (this.#isClosed || this.#mailbox.post(task)) return;
    if (!this.#isClosed) this.socket.close(1011, 'mailbox-full');
  }
}

const NO_CONFIG = { searchDomain: null, upstreamDns: [] };
const HIDDEN: Decision = { verdict: 'deny', reason: 'not-found', violated: [] };
