/**
 * The pairs one gateway holds: what it was told to let through, until when it believes so, and when that ends.
 * The gateway's channel alone makes and closes them (D8, D19). Every change is one synchronous step: table, timer, push
 * and queued row together, so that no commit falls in between (S2).
 */
import { authorizeFlow, UNLIMITED_GRANT_MS, type Allowed, type Decision } from '../../core/authorizer/authorize.js';
import { nextTransition } from '../../core/authorizer/conditions.js';
import type { Flow, FlowTable, Grant } from '../../core/authorizer/flow-table.js';
import { sameShape, shapeOf, type FlowRecord, type RevokedReason, type StoredFlow } from '../../core/model/flow.js';
import type { ClientId, FlowId, ResourceId } from '../../core/model/ids.js';
import { toUnixSeconds, type EpochMs } from '../../core/model/time.js';
import type { AccountHandle } from '../../core/ports/account-stores.js';
import type { Cause } from '../../core/ports/account-streams.js';
import { knowsExpiryUpdate } from '../../protocol/versions.js';
import { expiryUpdated, rejectAccess, type ServedPair } from '../../protocol/views/gateway-views.js';
import { Alarm } from '../alarm.js';
import type { GatewaySocket } from '../channel.js';
import type { ChannelServices } from '../channel-services.js';
import type { ConnectedGateway } from '../connected-peer.js';
import type { Receipts } from './receipts.js';

interface Held {
  readonly flow: Flow;
  /** What the gateway enforces: the first `authorize_flow`'s, moved only by an expiry message or `init` (D20a). */
  heldExpiry: EpochMs;
  /** The alarm counts from here: a clock read again later could have stepped over a boundary. */
  decidedAt: EpochMs;
  readonly alarm: Alarm;
  /** Closed rows of the pair that no receipt covers: it moved on from them. The reject that ends it ends them too. */
  readonly formerIds: FlowId[];
  /** What waits for the row of the current grant. */
  onRecorded: (() => void)[];
}

/** The log is for later; the processor is for the peers that were just written to. */
const REPORT_AFTER_MS = 5;

/** A pair taken back, as the log names it. */
interface Lost {
  readonly clientId: ClientId;
  readonly resourceId: ResourceId;
  readonly reason: RevokedReason;
  readonly position: Cause['position'] | null;
}

/** A pair the gateway may hold and must not, with the rows that say so. */
export interface RejectedPair {
  readonly clientId: ClientId;
  readonly resourceId: ResourceId;
  readonly flowIds: readonly FlowId[];
  /** Of those found unjustified just now; null when they were closed before. */
  readonly cause: Cause | null;
}

/** What a joining gateway is told of its stored flows. */
export interface Restored {
  readonly served: readonly ServedPair[];
  readonly rejected: readonly RejectedPair[];
  /** Clients of which every stored pair is unjustified: the gateway prunes only clients it finds listed (D22). */
  readonly emptied: readonly ClientId[];
}

/** A grant without end is renewed this long before its date: far more than the 60 s that D20a asks for. */
const RENEW_BEFORE_MS = 60 * 60 * 1000;

export class HeldFlows {
  readonly #held = new Map<Flow, Held>();
  readonly #lost: Lost[] = [];
  #cancelReport: (() => void) | undefined;
  #isLetGo = false;
  readonly #table: FlowTable;
  readonly #canMoveExpiry: boolean;
  /** When `decide` last looked; whatever it leads to happens in the same step. */
  #decidedAt: EpochMs = 0;

  constructor(
    private readonly peer: ConnectedGateway,
    private readonly handle: AccountHandle,
    private readonly socket: GatewaySocket,
    private readonly receipts: Receipts,
    private readonly with_: ChannelServices,
    /** Posts to the channel's mailbox. */
    private readonly post: (task: () => void) => void,
  ) {
    this.#table = handle.flows;
    this.#canMoveExpiry = knowsExpiryUpdate(peer.version);
  }

  get(clientId: ClientId, resourceId: ResourceId): Flow | undefined {
    return this.#table.get(this.peer.gatewayId, clientId, resourceId);
  }

  has(flow: Flow): boolean {
    return this.#held.has(flow);
  }

  serves(clientId: ClientId): boolean {
    for (const flow of this.#table.ofClient(clientId)) if (flow.gatewayId === this.peer.gatewayId) return true;
    return false;
  }

  holdsResource(resourceId: ResourceId): boolean {
    for (const flow of this.#table.ofResource(resourceId)) if (flow.gatewayId === this.peer.gatewayId) return true;
    return false;
  }

  /** Every pair for an `init`, with the expiry it is to have; a gateway that reads expiries there then holds exactly that. */
  served(): ServedPair[] {
    for (const held of this.#held.values()) {
      if (this.#canMoveExpiry) held.heldExpiry = held.flow.grant.expiresAt;
      this.#arm(held);
    }
    return this.all().map(servedPair);
  }

  /** Whether the pair is justified now: the whole of D17. */
  decide(clientId: ClientId, resourceId: ResourceId): Decision {
    this.#decidedAt = this.#now();
    return authorizeFlow(this.handle.state, clientId, this.peer.gatewayId, resourceId, this.#decidedAt);
  }

  /**
   * Registers what was just allowed, or finds the pair held already. Returns the flow and the expiry to write into
   * `authorize_flow`; call `settleExpiry` after that push.
   */
  grant(clientId: ClientId, resourceId: ResourceId, allowed: Allowed, clientRemoteIp: string | null): Flow | undefined {
    const resource = this.handle.state.resource(resourceId);
    if (!resource) return undefined;
    const existing = this.get(clientId, resourceId);
    if (existing) {
      const grant = this.#grantOf(allowed, existing.grant);
      if (grant !== existing.grant) this.#move(existing, grant, clientRemoteIp);
      return existing;
    }
    const grant = this.#grantOf(allowed, undefined);
    const flow = this.#table.register({
      gatewayId: this.peer.gatewayId,
      clientId,
      resourceId,
      shape: shapeOf(resource),
      grant,
    });
    this.#hold(flow, grant.expiresAt, []);
    this.#record(flow, clientRemoteIp);
    return flow;
  }

  /** A repeated `authorize_flow` does not move the expiry a gateway holds: say it apart when it differs (D20a). */
  settleExpiry(flow: Flow): void {
    const held = this.#held.get(flow);
    if (!held) return;
    held.decidedAt = this.#decidedAt;
    const differs = toUnixSeconds(held.heldExpiry) !== toUnixSeconds(flow.grant.expiresAt);
    if (this.#canMoveExpiry) held.heldExpiry = flow.grant.expiresAt;
    this.#arm(held); // before the push, which may close the socket
    if (this.#canMoveExpiry && differs) {
      this.socket.push('access_authorization_expiry_updated', expiryUpdated(servedPair(flow)));
    }
  }

  /** Runs `then` once the row of the flow is in the database; at once if it is (D21, gateways before 1.4.13). */
  whenRecorded(flow: Flow, then: () => void): void {
    const held = this.#held.get(flow);
    if (!held || flow.record) then();
    else held.onRecorded.push(then);
  }

  /** Decides a held pair again after a commit or at a boundary of time (D20). */
  reconsider(flow: Flow, cause: Cause | null): void {
    const held = this.#held.get(flow);
    if (!held) return;
    const resource = this.handle.state.resource(flow.resourceId);
    if (resource && !sameShape(shapeOf(resource), flow.shape)) {
      this.lose(flow, 'resource-changed', cause);
      return;
    }
    const decision = this.decide(flow.clientId, flow.resourceId);
    if (decision.verdict === 'deny') {
      this.lose(flow, decision.reason === 'site-not-served' ? 'site-left-resource' : 'unjustified', cause);
      return;
    }
    const grant = this.#grantOf(decision, flow.grant);
    if (grant.expiresAt <= this.#now()) {
      this.lose(flow, 'expired', null);
      return;
    }
    if (grant === flow.grant) {
      this.with_.metrics.decided('kept');
      held.decidedAt = this.#decidedAt;
      this.#arm(held); // a new policy may open later
      return;
    }
    this.with_.metrics.decided('moved');
    this.#move(flow, grant, null);
    this.settleExpiry(flow);
  }

  /** Takes the pair back: reject first, then the history, then the client's toggle (D20b). */
  lose(flow: Flow, reason: RevokedReason, cause: Cause | null): void {
    const { flowId } = flow.grant;
    this.socket.push('reject_access', rejectAccess(flow.clientId, flow.resourceId));
    this.with_.metrics.decided('rejected');
    this.closeRejected(flowId, reason, cause);
    this.receipts.pushed({ flowIds: [...(this.#held.get(flow)?.formerIds ?? []), flowId], cause });
    this.#forget(flow);
    const { accountId } = this.peer;
    const { clientId, resourceId } = flow;
    this.#report({ clientId, resourceId, reason, position: cause?.position ?? null });
    // Where address or ip stack changed, the client removes and adds the resource by itself.
    if (reason !== 'resource-changed') this.with_.presence.toggle(accountId, clientId, resourceId);
  }

  /** @param cutId the row that the hand has cut, perhaps one that the pair has moved on from: the reject ends it too */
  loseByHand(flow: Flow, cutId: FlowId, cause: Cause): void {
    const held = this.#held.get(flow);
    if (cutId !== flow.grant.flowId && !held?.formerIds.includes(cutId)) held?.formerIds.push(cutId);
    this.lose(flow, 'cut-by-hand', cause);
  }

  /** Judges the stored flows of a joining gateway and registers those that are justified. */
  restore(stored: readonly StoredFlow[], cause: Cause): Restored {
    const pairs = new Map<string, StoredFlow[]>();
    for (const row of [...stored].sort((a, b) => b.createdAt - a.createdAt)) {
      const key = `${row.clientId}/${row.resourceId}`;
      pairs.set(key, [...(pairs.get(key) ?? []), row]);
    }
    const rejected: RejectedPair[] = [];
    for (const rows of pairs.values()) {
      const [newest] = rows;
      if (!newest) continue;
      const open = rows.filter((row) => row.revokedAt === null);
      const [current, ...replaced] = open;
      for (const row of replaced) this.#closeRow(row.id, 'replaced', null);
      const owed = rows.filter(isOwed);
      const former = owed.filter((row) => row !== current);
      // The hand was not heard, and the pair moved on from the row that it had cut.
      if (current && former.some(isUntoldCut)) this.closeRejected(current.id, 'cut-by-hand', cause);
      else if (current && this.#restoreOne(current, former, cause)) continue;
      if (owed.length === 0) continue;
      const { clientId, resourceId } = newest;
      const flowIds = owed.map((row) => row.id);
      rejected.push({ clientId, resourceId, flowIds, cause: current ? cause : null });
    }
    const served = this.served();
    const listed = new Set(served.map((pair) => pair.clientId));
    const emptied = [...new Set(rejected.map((pair) => pair.clientId))].filter((id) => !listed.has(id));
    return { served, rejected: rejected.sort(byPair), emptied: emptied.sort() };
  }

  /** The channel leaves: the pairs are no longer registered here, but not closed: the gateway goes on serving them. */
  letGo(): void {
    for (const flow of [...this.#held.keys()]) this.#forget(flow);
    this.#isLetGo = true;
    this.#logLost();
  }

  /** The row of a pair whose reject is pushed in this step. */
  closeRejected(flowId: FlowId, reason: RevokedReason, cause: Cause | null): void {
    this.#closeRow(flowId, reason, cause, this.#now());
  }

  all(): Flow[] {
    return [...this.#held.keys()].sort(byPair);
  }

  // ---- helpers ---------------------------------------------------------------------------------------------------

  /** @param former rows of the pair that the gateway may still hold instead: no message moves one to another shape */
  #restoreOne(row: StoredFlow, former: readonly StoredFlow[], cause: Cause): boolean {
    const resource = this.handle.state.resource(row.resourceId);
    const decision = this.decide(row.clientId, row.resourceId);
    const isSame = resource !== undefined && [row, ...former].every((held) => sameShape(shapeOf(resource), held.shape));
    if (!isSame || decision.verdict === 'deny') {
      this.closeRejected(row.id, isSame ? 'unjustified' : 'resource-changed', cause);
      return false;
    }
    const stored: Grant = {
      flowId: row.id,
      policyId: row.policyId,
      membershipId: row.membershipId,
      tokenId: row.tokenId,
      expiresAt: row.expiresAt,
      isUnlimited: decision.until === null,
    };
    const { gatewayId } = this.peer;
    const { clientId, resourceId, shape } = row;
    const flow = this.#table.register({ gatewayId, clientId, resourceId, shape, grant: stored }, row);
    const formerIds = former.map(({ id }) => id);
    this.#hold(flow, row.expiresAt, formerIds);
    const grant = this.#grantOf(decision, stored);
    if (grant !== stored) this.#move(flow, grant, row.clientRemoteIp);
    return true;
  }

  /** The old grant itself when nothing about it changed. An unlimited one keeps its date until that comes. */
  #grantOf(allowed: Allowed, old: Grant | undefined): Grant {
    const isUnlimited = allowed.until === null;
    const now = this.#now();
    const lasts = isUnlimited && old?.isUnlimited && old.expiresAt - now > RENEW_BEFORE_MS;
    const expiresAt = allowed.until ?? (lasts ? old.expiresAt : now + UNLIMITED_GRANT_MS);
    const { policyId, membershipId, tokenId } = allowed;
    if (old?.policyId === policyId && old.tokenId === tokenId && old.expiresAt === expiresAt) return old;
    return { flowId: this.with_.random.uuid() as FlowId, policyId, membershipId, tokenId, expiresAt, isUnlimited };
  }

  /** Another policy, token or expiry: the old row is closed and a new one written, without a reject (D8). */
  #move(flow: Flow, grant: Grant, clientRemoteIp: string | null): void {
    const held = this.#held.get(flow);
    held?.formerIds.push(flow.grant.flowId);
    this.#closeRow(flow.grant.flowId, 'moved', null);
    this.#table.regrant(flow, grant);
    this.#record(flow, clientRemoteIp);
    if (held) this.#arm(held);
  }

  #hold(flow: Flow, heldExpiry: EpochMs, formerIds: FlowId[]): void {
    const alarm = new Alarm(this.with_.clock, () => {
      this.post(() => {
        this.#timeCame(flow);
      });
    });
    const decidedAt = this.#decidedAt;
    const held = { flow, heldExpiry, decidedAt, alarm, formerIds, onRecorded: [] };
    this.#held.set(flow, held);
    this.#arm(held);
  }

  /**
   * Wakes at the pair's end; before it wherever time alone can change the decision, so that a window that opens moves
   * the expiry while the gateway still holds the pair; and early enough to renew a grant that nothing ends (D18, D20a).
   * The end itself still belongs to a window, so the pair is over one millisecond later, as for the client.
   */
  #arm({ flow, heldExpiry, decidedAt, alarm }: Held): void {
    const { grant } = flow;
    let at = Math.min(heldExpiry, grant.expiresAt) + 1;
    if (grant.isUnlimited && this.#canMoveExpiry) at = Math.min(at, grant.expiresAt - RENEW_BEFORE_MS);
    for (const policy of this.handle.state.policiesOfResource(flow.resourceId)) {
      at = Math.min(at, nextTransition(policy.conditions, decidedAt) ?? Infinity);
    }
    alarm.set(at);
  }

  /**
   * At the end of every pair we say so ourselves: the gateway's clock is only a backstop. What is allowed from the same
   * instant on needs a new flow, since the gateway may have dropped the pair already (D20a).
   */
  #timeCame(flow: Flow): void {
    const held = this.#held.get(flow);
    if (!held) return;
    const now = this.#now();
    const end = Math.min(held.heldExpiry, flow.grant.expiresAt);
    if (end < now) this.lose(flow, 'expired', null);
    else if (end === now) held.alarm.set(end + 1);
    else this.reconsider(flow, null);
  }

  #record(flow: Flow, clientRemoteIp: string | null): void {
    const held = this.#held.get(flow);
    const { flowId } = flow.grant;
    const record = this.#recordOf(flow, clientRemoteIp);
    this.with_.flowRecords.add(record, {
      written: () => {
        this.#table.recorded(flow, record);
        if (held?.flow.grant.flowId !== flowId) return;
        for (const then of held.onRecorded.splice(0)) this.post(then);
      },
      unwritable: (error) => {
        this.with_.log.error('flow.unwritable', { flowId, error });
        this.post(() => {
          if (this.#held.has(flow) && flow.grant.flowId === flowId) this.lose(flow, 'unwritable', null);
        });
      },
    });
  }

  #recordOf(flow: Flow, clientRemoteIp: string | null): FlowRecord {
    const { gatewayId, clientId, resourceId, shape, grant } = flow;
    return {
      id: grant.flowId,
      accountId: this.peer.accountId,
      gatewayId,
      clientId,
      resourceId,
      policyId: grant.policyId,
      membershipId: grant.membershipId,
      tokenId: grant.tokenId,
      shape,
      clientRemoteIp: clientRemoteIp ?? this.handle.state.connection(clientId)?.remoteIp ?? null,
      gatewayRemoteIp: this.peer.remoteIp,
      createdAt: this.#now(),
      expiresAt: grant.expiresAt,
    };
  }

  #closeRow(flowId: FlowId, reason: RevokedReason, cause: Cause | null, pushedAt: EpochMs | null = null): void {
    const { accountId } = this.peer;
    this.with_.flowRecords.close({ accountId, flowId, reason, at: this.#now(), cause, pushedAt });
  }

  /** One line for all that a commit took: a write for each pair would hold up the rejects that follow it. */
  #report(lost: Lost): void {
    this.#lost.push(lost);
    if (this.#isLetGo) this.#logLost();
    else
      this.#cancelReport ??= this.with_.clock.after(REPORT_AFTER_MS, () => {
        this.#logLost();
      });
  }

  #logLost(): void {
    this.#cancelReport?.();
    this.#cancelReport = undefined;
    const { accountId, gatewayId } = this.peer;
    const pairs = this.#lost.splice(0);
    if (pairs.length > 0) this.with_.log.info('flows.rejected', { accountId, gatewayId, count: pairs.length, pairs });
  }

  #forget(flow: Flow): void {
    this.#held.get(flow)?.alarm.set(null);
    this.#held.delete(flow);
    this.#table.remove(flow);
  }

  #now(): EpochMs {
    return this.with_.clock.now();
  }
}

/**
 * Whether the row stands for something the gateway may still hold: it has not been proven to have read a reject of it. A
 * row that moved on was never rejected itself; the reject of what it became covers it.
 */
function isOwed(row: StoredFlow): boolean {
  return row.deliveredAt === null;
}

/** The gateway was not told either: what it has been granted since is not a new flow (CUT-1). */
function isUntoldCut(row: StoredFlow): boolean {
  return row.isCutByHand && row.pushedAt === null;
}

function servedPair(flow: Flow): ServedPair {
  return { clientId: flow.clientId, resourceId: flow.resourceId, expiresAt: flow.grant.expiresAt };
}

interface Pair {
  readonly clientId: ClientId;
  readonly resourceId: ResourceId;
}

/** A fixed order of pushes: by client, then by resource. */
export function byPair(a: Pair, b: Pair): number {
  if (a.clientId !== b.clientId) return a.clientId < b.clientId ? -1 : 1;
  if (a.resourceId !== b.resourceId) return a.resourceId < b.resourceId ? -1 : 1;
  return 0;
}
