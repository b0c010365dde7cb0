/**
 * One joined client: what it has been told, and its requests.
 *
 * States: *joining* (the store is being opened; frames wait in the mailbox of the socket's peer: a client sends nothing
 * before its join is answered and little before `init`), *live* (the view is at most one scheduler turn behind the
 * store; it is brought up to date before any frame or timer is handled, ORD-3), *closed*.
 * Commits arrive beside the mailbox through `onStep`, which only marks what to look at again.
 */
import { authorize, candidateResources, subjectOf } from '../../core/authorizer/authorize.js';
import { mergeImpact, noImpact, type ClientEnding, type ClientImpact } from '../../core/authorizer/client-impact.js';
import { nextTransition } from '../../core/authorizer/conditions.js';
import type { Subject } from '../../core/authorizer/subject.js';
import type { AccountId, ClientId, ConnectionId, GatewayId, ResourceId } from '../../core/model/ids.js';
import type { Position } from '../../core/model/position.js';
import type { EpochMs } from '../../core/model/time.js';
import type { AccountHandle } from '../../core/ports/account-stores.js';
import type { AppliedStep, ClientSubscriber } from '../../core/ports/account-streams.js';
import type { ClientPeer, ConnectionAnswer, FlowAnswer, IceKind } from '../../core/ports/presence.js';
import { Mailbox } from '../../core/support/mailbox.js';
import { sameValue } from '../../core/support/same-value.js';
import { ClientView, type ShownResource } from '../../core/views/client-view.js';
import type { Frame } from '../../protocol/frame.js';
import { parseClientEvent } from '../../protocol/inbound.js';
import type { ClientInterface } from '../../protocol/outbound.js';
import { resourceForVersion } from '../../protocol/versions.js';
import { candidatesOfGateway, clientInit, clientInterface } from '../../protocol/views/client-views.js';
import { clientResource } from '../../protocol/views/resource-forms.js';
import { Alarm } from '../alarm.js';
import { turnExpiry } from '../../protocol/views/relay-entries.js';
import type { Channel, ClientSocket } from '../channel.js';
import type { ChannelServices } from '../channel-services.js';
import { connectIsSeen } from '../connect-seen.js';
import type { ConnectedClient } from '../connected-peer.js';
import { PeerRelays } from '../peer-relays.js';
import type { Settling } from '../view-scheduler.js';
import { ClientRequests } from './client-requests.js';

interface Live {
  readonly handle: AccountHandle;
  readonly requests: ClientRequests;
}

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
  readonly #tokenEnd: Alarm;
  readonly #timeTurns: Alarm;
  #live: Live | undefined;
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
      this.settle();
      this.#live?.requests.serve(request, frame);
    });
  }

  closed(): void {
    this.#isClosed = true;
    this.#live = undefined;
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
    const requests = new ClientRequests(this, this.peer, this.socket, handle, this.#view, this.with_);
    this.#live = { handle, requests };

    const shown: ShownResource[] = [];
    const ids = candidateResources(state, subject.client);
    shown.push(...this.#view.update(ids, (id) => this.#shown(handle, subject, id, now)).upserted);
    const config = state.account?.config ?? NO_CONFIG;
    this.#toldInterface = clientInterface(subject.client, config);
    const relays = this.#relaysFor(subject).select();
    this.socket.push('init', clientInit(subject.client, config, shown, this.peer.version, relays));
    if (this.#isClosed) return; // it was more than the socket could take
    this.#tokenEnd.set(subject.token.expiresAt);
    this.#awaitTime(handle, ids, now);
    for (const id of this.with_.presence.takeOwedToggles(accountId, clientId)) this.toggle(id);
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
    if (!this.#live) return;
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
    const live = this.#live;
    if (!impact || !live) return;
    this.#impact = undefined;
    this.#unseenSince = undefined;
    try {
      this.#pushDifference(impact, live);
    } catch (error) {
      this.socket.crashed(error);
    }
  }

  #pushDifference(impact: ClientImpact, { handle, requests }: Live): void {
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
      (id) => (typeof subject === 'string' ? undefined : this.#shown(handle, subject, id, now)),
      this.#toggles,
    );
    this.#toggles.clear();

    for (const id of removed) {
      requests.forget(id);
      this.socket.push('resource_deleted', id);
    }
    for (const shown of upserted) this.#pushResource(shown);
    if (impact.interface && typeof subject !== 'string') this.#pushInterface(subject, handle);
    if (this.#isClosed) return; // it was more than the socket could take: nothing is waited for
    if (impact.token && typeof subject !== 'string') this.#tokenEnd.set(subject.token.expiresAt);
    this.#awaitTime(handle, ids, now);
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

  #mark(impact: ClientImpact, position = this.#live?.handle.position()): void {
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
  #shown({ state }: AccountHandle, subject: Subject, resourceId: ResourceId, now: EpochMs): ShownResource | undefined {
    const served = state.served(resourceId);
    if (!served || !resourceForVersion(served.resource, this.peer.version)) return undefined;
    return authorize(state, subject, resourceId, now).verdict === 'allow' ? served : undefined;
  }

  /**
   * Windows open and close at exact instants (D18). Waking too early only looks and finds nothing.
   * @param now the instant the view was computed for: reading the clock again could step over a boundary
   */
  #awaitTime({ state }: AccountHandle, ids: Iterable<ResourceId>, now: EpochMs): void {
    for (const id of ids) {
      for (const policy of state.policiesOfResource(id)) {
        this.#timeTurns.setEarlier(nextTransition(policy.conditions, now));
      }
    }
  }

  // ---- signals from gateways -------------------------------------------------------------------------------------

  flowAuthorized(answer: FlowAnswer): void {
    this.#post(() => {
      this.settle();
      this.#live?.requests.flowAuthorized(answer);
    });
  }

  connectionReady(answer: ConnectionAnswer): void {
    this.#post(() => {
      this.settle();
      this.#live?.requests.connectionReady(answer);
    });
  }

  toggle(resourceId: ResourceId): void {
    if (!this.#live) return;
    this.#toggles.add(resourceId);
    this.#mark(noImpact());
  }

  iceFromGateway(gatewayId: GatewayId, kind: IceKind, candidates: readonly string[]): void {
    this.#post(() => {
      if (this.#live) this.socket.push(kind, candidatesOfGateway(gatewayId, candidates));
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
