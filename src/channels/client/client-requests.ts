/**
 * What a live client asks for. Decides in memory and passes on to a gateway, whose channel decides again (D19); nothing
 * here awaits anything (D21). The dialect of clients before 1.4 differs in how answers travel: as replies, not pushes.
 */
import { authorize, subjectOf } from '../../core/authorizer/authorize.js';
import type { ConditionProperty } from '../../core/authorizer/conditions.js';
import type { GatewayId, ResourceId } from '../../core/model/ids.js';
import type { ClientRow } from '../../core/model/rows.js';
import type { AccountHandle } from '../../core/ports/account-stores.js';
import type {
  ClientPeer,
  ConnectionAnswer,
  FlowAnswer,
  FlowDialect,
  GatewayPeer,
  IceKind,
} from '../../core/ports/presence.js';
import { chooseGateway } from '../../core/views/choose-gateway.js';
import type { ClientView } from '../../core/views/client-view.js';
import type { Addressed } from '../../protocol/frame.js';
import type { ClientRequest } from '../../protocol/inbound.js';
import { gatewaySuits, resourceForVersion, servesConnections } from '../../protocol/versions.js';
import { connectionReady, flowCreated, flowCreationFailed } from '../../protocol/views/client-views.js';
import type { ClientSocket } from '../channel.js';
import type { ChannelServices } from '../channel-services.js';
import type { ConnectedClient } from '../connected-peer.js';
import { OpenRequests } from './open-requests.js';

interface Refused {
  readonly reason: 'not_found' | 'offline' | 'forbidden';
  readonly violated?: readonly ConditionProperty[];
}

/** How one request is answered. */
interface Answers {
  refused(refused: Refused): void;
}

export class ClientRequests {
  readonly #open: OpenRequests;

  /** @param self the channel, as gateways see it */
  constructor(
    private readonly self: ClientPeer,
    private readonly peer: ConnectedClient,
    private readonly socket: ClientSocket,
    private readonly handle: AccountHandle,
    private readonly view: ClientView,
    private readonly with_: ChannelServices,
  ) {
    this.#open = new OpenRequests(with_.clock);
  }

  serve(request: ClientRequest, to: Addressed): void {
    switch (request.kind) {
      case 'create-flow':
        this.#ask(
          request.resourceId,
          { kind: 'flow' },
          this.#byPush(request.resourceId),
          (eligible) => this.#choose(eligible, request.connectedGatewayIds) ?? 'offline',
        );
        return;
      case 'ice-candidates':
        this.#sendIce('ice_candidates', request.gatewayIds, request.candidates);
        return;
      case 'invalidated-ice-candidates':
        this.#sendIce('invalidate_ice_candidates', request.gatewayIds, request.candidates);
        return;
      case 'prepare-connection':
        this.#prepare(request.resourceId, request.connectedGatewayIds, to);
        return;
      case 'request-connection': {
        const { resourceId, gatewayId, payload, presharedKey } = request;
        this.#ask(
          resourceId,
          { kind: 'request-connection', payload, presharedKey },
          this.#byReply(to),
          this.#named(gatewayId),
          to,
        );
        return;
      }
      case 'reuse-connection': {
        const { resourceId, gatewayId, payload } = request;
        this.#ask(resourceId, { kind: 'reuse-connection', payload }, this.#byReply(to), this.#named(gatewayId), to);
        return;
      }
    }
  }

  /** `resource_deleted` goes out: the client forgets what it asked for. */
  forget(resourceId: ResourceId): void {
    this.#open.forget(resourceId);
  }

  flowAuthorized(answer: FlowAnswer): void {
    if (!this.view.has(answer.resourceId) || !this.#open.isAwaited(answer.resourceId, answer.sequence)) return;
    this.socket.push('flow_created', flowCreated(answer));
  }

  connectionReady(answer: ConnectionAnswer): void {
    const to = this.#open.takeReply(answer.sequence);
    if (!to || !this.view.has(answer.resourceId) || !this.#open.isAwaited(answer.resourceId, answer.sequence)) return;
    this.socket.replyData(to, connectionReady(answer));
  }

  // ---- helpers ---------------------------------------------------------------------------------------------------

  /** @param to where an answer of the gateway goes, when it is a reply */
  #ask(
    resourceId: ResourceId,
    dialect: FlowDialect,
    answers: Answers,
    pick: (eligible: readonly GatewayPeer[]) => GatewayPeer | 'not_found' | 'offline',
    to?: Addressed,
  ): void {
    const row = this.#mayUse(resourceId, answers);
    if (!row) return;
    const gateway = pick(this.#eligible(resourceId, dialect.kind !== 'flow'));
    if (typeof gateway === 'string') {
      answers.refused({ reason: gateway });
      return;
    }
    const sequence = this.#open.add(to);
    gateway.requestFlow({ client: this.self, row, resourceId, sequence, dialect });
    this.with_.metrics.decided('allowed');
  }

  /** Names a gateway and does nothing else: the client asks it next. */
  #prepare(resourceId: ResourceId, connected: readonly GatewayId[], to: Addressed): void {
    const answers = this.#byReply(to);
    if (!this.#mayUse(resourceId, answers)) return;
    const gateway = this.#choose(this.#eligible(resourceId, true), connected);
    const row = gateway && this.handle.state.row('gateways', gateway.gatewayId);
    if (!row || gateway.remoteIp === null) {
      answers.refused({ reason: 'offline' });
      return;
    }
    this.with_.metrics.decided('allowed');
    this.socket.replyData(to, {
      resource_id: resourceId,
      gateway_group_id: row.siteId,
      gateway_id: row.id,
      gateway_remote_ip: gateway.remoteIp,
    });
  }

  /** The client's row when it may use the resource now; else it is told why not, or nothing while we cannot know (D14). */
  #mayUse(resourceId: ResourceId, answers: Answers): ClientRow | undefined {
    const { state } = this.handle;
    if (!this.handle.mayGrant()) {
      this.with_.metrics.decided('stale'); // not answered: the client repeats every 2 s
      return undefined;
    }
    const now = this.with_.clock.now();
    const subject = subjectOf(state, this.self.clientId, now);
    if (typeof subject === 'string') {
      answers.refused({ reason: 'not_found' });
      return undefined;
    }
    const decision = authorize(state, subject, resourceId, now);
    if (decision.verdict === 'deny') {
      const isForbidden = decision.reason === 'forbidden';
      answers.refused(isForbidden ? { reason: 'forbidden', violated: decision.violated } : { reason: 'not_found' });
      return undefined;
    }
    if (this.view.has(resourceId)) return subject.client;
    answers.refused({ reason: 'not_found' }); // allowed but hidden from it: no site, or its version cannot use it
    return undefined;
  }

  #eligible(resourceId: ResourceId, mustServeConnections: boolean): GatewayPeer[] {
    const { state } = this.handle;
    const resource = state.resource(resourceId);
    const needsRelay = this.socket.isRustPeer && this.with_.limits.relaysRequired;
    const eligible: GatewayPeer[] = [];
    for (const gateway of this.with_.presence.gateways(this.self.accountId)) {
      const row = state.row('gateways', gateway.gatewayId);
      if (!row || !resource || !state.isServedBySite(resourceId, row.siteId)) continue;
      if (needsRelay && !gateway.hasRelay) continue;
      if (mustServeConnections && !servesConnections(gateway.version)) continue;
      if (!gatewaySuits(this.peer.version, gateway.version) || !resourceForVersion(resource, gateway.version)) continue;
      eligible.push(gateway);
    }
    return eligible;
  }

  #choose(eligible: readonly GatewayPeer[], connected: readonly GatewayId[]): GatewayPeer | undefined {
    return chooseGateway(eligible, new Set<string>(connected), this.peer, this.with_.random);
  }

  #named(gatewayId: GatewayId): (eligible: readonly GatewayPeer[]) => GatewayPeer | 'not_found' | 'offline' {
    if (!this.handle.state.row('gateways', gatewayId)) return () => 'not_found';
    return (eligible) => eligible.find((gateway) => gateway.gatewayId === gatewayId) ?? 'offline';
  }

  #sendIce(kind: IceKind, gatewayIds: readonly GatewayId[], candidates: readonly string[]): void {
    for (const gatewayId of gatewayIds) {
      this.with_.presence.gateway(this.self.accountId, gatewayId)?.iceFromClient(this.self.clientId, kind, candidates);
    }
  }

  #byPush(resourceId: ResourceId): Answers {
    return {
      refused: ({ reason, violated }) => {
        if (reason === 'offline' && !this.#open.mayReportOffline(resourceId)) return;
        this.with_.metrics.decided(reason);
        this.socket.push('flow_creation_failed', flowCreationFailed(resourceId, reason, violated));
      },
    };
  }

  #byReply(to: Addressed): Answers {
    return {
      refused: ({ reason, violated }) => {
        this.with_.metrics.decided(reason);
        this.socket.replyError(to, reason, violated && { violated_properties: violated });
      },
    };
  }
}
