/**
 * One account in memory, from its first read to its last channel.
 *
 * States, and what holds in each:
 * - `hydrating`: commits are kept in `pending`, in stream order; nothing is shown to anybody. Leaves to `live` when the
 *   snapshot is loaded, or is dropped when it cannot be read.
 * - `live`: the state equals some committed database state and moves through later ones only (G1). While the fence
 *   stands, commits that the snapshot already contained are passed over; it falls once the stream has passed the
 *   snapshot's upper bound. A resync may be owed: the state still takes every commit (a revocation must not wait), but
 *   nothing new is granted until a snapshot that contains the owing transaction is merged.
 *
 * ORD-2: subscribe first, read second, then apply exactly what the snapshot did not contain. Reading first loses what
 * commits in between; applying everything shows older states again.
 */
import { AccountState } from '../core/authorizer/account-state.js';
import { FlowTable } from '../core/authorizer/flow-table.js';
import type { StateDelta } from '../core/authorizer/state-delta.js';
import { changesOf, mustResync, type Commit } from '../core/changes/commit.js';
import { UnreadableRowError } from '../core/changes/parse-row.js';
import { cutsIn } from '../core/changes/flow-cuts.js';
import type { ConnectionFacts } from '../core/model/connection-facts.js';
import type { AccountId } from '../core/model/ids.js';
import type { Position } from '../core/model/position.js';
import type { EpochMs } from '../core/model/time.js';
import type { AccountStreams, Cut } from '../core/ports/account-streams.js';
import { contains, type AccountSnapshot, type XidSnapshot } from '../core/ports/hydration-reader.js';
import { flowImpacts, stepImpacts } from './step-impacts.js';

interface Fence {
  readonly snapshot: XidSnapshot;
  readonly upperBound: Position;
}

export class AccountStore {
  readonly state = new AccountState();
  readonly flows = new FlowTable();
  #live = false;
  #fence: Fence | undefined;
  /** While hydrating: all commits of the account. While a resync is read: those since it began. */
  #pending: Commit[] | undefined;
  #owed: { readonly xid: bigint | undefined; readonly reason: string } | undefined;
  #position: Position;

  constructor(
    readonly accountId: AccountId,
    private readonly streams: AccountStreams,
    startAt: Position,
    unsettled: Iterable<Commit>,
  ) {
    this.#position = startAt;
    this.#pending = [...unsettled];
  }

  get isLive(): boolean {
    return this.#live;
  }

  get position(): Position {
    return this.#position;
  }

  /** Set while a resync is owed: the transaction a snapshot must contain to pay it, if one is known. */
  get owedResync(): { readonly xid: bigint | undefined; readonly reason: string } | undefined {
    return this.#owed;
  }

  /** Position of the oldest commit that waits for a hydration; undefined when none does. */
  get oldestPending(): Position | undefined {
    return this.#live ? undefined : this.#pending?.[0]?.position;
  }

  /**
   * Takes the account's part of a commit, in one synchronous step (D12). Throws only for a fault of ours; nobody can say
   * then who has heard of the commit, so the store must be given up and its channels closed.
   */
  take(commit: Commit, now: EpochMs): void {
    this.#pending?.push(commit);
    if (!this.#live) return;
    const isShown = this.#fence !== undefined && contains(this.#fence.snapshot, commit.xid);
    if (mustResync(commit, this.accountId) && !isShown) this.oweResync('commit-not-readable', commit.xid);
    // Cuts are events, not state: a fence never drops them (D8a).
    const changes = changesOf(commit, this.accountId);
    const delta = isShown ? undefined : this.#applyOrOwe(changes, commit.xid);
    this.#position = commit.position;
    this.#publish(delta, cutsIn(changes, now), now);
  }

  /** The stream has passed `position`. */
  passed(position: Position): void {
    if (position > this.#position) this.#position = position;
    if (this.#fence && position >= this.#fence.upperBound) this.#fence = undefined;
  }

  /** Loads the first snapshot. Throws UnreadableRowError; the store is then of no use. */
  hydrate(read: AccountSnapshot): void {
    this.state.replaceAll(read.rows);
    for (const facts of read.connections) this.state.setConnection(facts);
    for (const commit of this.#pending ?? []) {
      if (contains(read.snapshot, commit.xid)) continue;
      if (mustResync(commit, this.accountId)) this.oweResync('commit-not-readable', commit.xid);
      this.#applyOrOwe(changesOf(commit, this.accountId), commit.xid);
    }
    this.#pending = undefined;
    this.#fence = { snapshot: read.snapshot, upperBound: read.upperBound };
    this.#live = true;
  }

  oweResync(reason: string, xid?: bigint): void {
    const latest = xid !== undefined && (this.#owed?.xid === undefined || xid > this.#owed.xid) ? xid : this.#owed?.xid;
    this.#owed = { xid: latest, reason };
  }

  /** From here on commits are kept as well as applied, so that the snapshot to come can be brought up to date. */
  beginResync(unsettled: Iterable<Commit>): void {
    this.#pending = [...unsettled];
  }

  /**
   * Merges a fresh read: its rows, then every kept commit it does not contain. The difference to what we hold goes out as
   * one step. Returns false when the snapshot is older than what is owed.
   */
  resync(read: AccountSnapshot, now: EpochMs): boolean {
    const owed = this.#owed;
    if (owed?.xid !== undefined && !contains(read.snapshot, owed.xid)) return false;
    const fresh = new AccountState();
    fresh.replaceAll(read.rows);
    for (const commit of this.#pending ?? []) {
      if (!contains(read.snapshot, commit.xid)) fresh.apply(changesOf(commit, this.accountId));
    }
    const delta = this.state.replaceWith(fresh);
    this.#pending = undefined;
    this.#owed = undefined;
    this.#fence = { snapshot: read.snapshot, upperBound: read.upperBound };
    this.#publish(delta, [], now);
    return true;
  }

  /** A client connected again: its newer facts decide from now on (D13). */
  connected(facts: ConnectionFacts, now: EpochMs): void {
    this.state.setConnection(facts);
    const flows = this.flows.ofClient(facts.clientId);
    if (flows.size === 0) return;
    const step = { accountId: this.accountId, position: this.#position, now };
    this.streams.publish(step, { gateways: flowImpacts(flows), clients: new Map() });
  }

  #applyOrOwe(changes: Parameters<AccountState['apply']>[0], xid: bigint): StateDelta | undefined {
    try {
      return this.state.apply(changes);
    } catch (error) {
      if (!(error instanceof UnreadableRowError)) throw error;
      this.oweResync('row-not-readable', xid);
      return undefined;
    }
  }

  #publish(delta: StateDelta | undefined, cuts: readonly Cut[], now: EpochMs): void {
    const live = {
      gateways: this.streams.liveGateways(this.accountId),
      clients: this.streams.liveClients(this.accountId),
    };
    if (!delta && cuts.length === 0) return;
    const impacts = stepImpacts(delta ?? NO_DELTA, cuts, this.state, this.flows, live);
    if (impacts.gateways.size === 0 && impacts.clients.size === 0) return;
    this.streams.publish({ accountId: this.accountId, position: this.#position, now }, impacts);
  }
}

const NO_DELTA: StateDelta = {
  accounts: [],
  actors: [],
  auth_providers: [],
  identities: [],
  groups: [],
  memberships: [],
  sites: [],
  gateways: [],
  clients: [],
  resources: [],
  resource_sites: [],
  policies: [],
  tokens: [],
};
