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
import { NO_DELTA, type StateDelta } from '../core/authorizer/state-delta.js';
import { changesOf, mayHideCuts, mustResync, type Change, type Commit } from '../core/changes/commit.js';
import { UnreadableRowError } from '../core/changes/parse-row.js';
import { closingsIn, cutsIn } from '../core/changes/flow-cuts.js';
import type { ConnectionFacts } from '../core/model/connection-facts.js';
import type { FlowRecord } from '../core/model/flow.js';
import type { AccountId, FlowId } from '../core/model/ids.js';
import type { Position } from '../core/model/position.js';
import type { EpochMs } from '../core/model/time.js';
import type { AccountStreams, Cause, Cut, FlowCut } from '../core/ports/account-streams.js';
import type { LastHeard } from '../core/ports/commit-sink.js';
import { contains, type AccountSnapshot, type XidSnapshot } from '../core/ports/hydration-reader.js';
import { flowImpacts, stepImpacts } from './step-impacts.js';

interface Fence {
  readonly snapshot: XidSnapshot;
  readonly upperBound: Position;
}

/** Why the account must be read again, and what the read must show. */
interface OwedResync {
  readonly reason: string;
  /** Transactions whose rows were not applied. Not only the newest: a commit may be visible before an older one is. */
  readonly xids: ReadonlySet<bigint>;
  /** From here on nothing counts as applied until it is paid. */
  readonly from: Position;
  /** Of the commit that first owed it; null when none is known. */
  readonly committedAt: EpochMs | null;
  /** Commits after it may have gone by unheard: rows tell of themselves, but cuts must be looked for. Null: none has. */
  readonly heard: LastHeard | null;
}

export class AccountStore {
  readonly state = new AccountState();
  readonly flows = new FlowTable();
  /** How often commits may have gone by unheard. */
  gaps = 0;
  #live = false;
  #fence: Fence | undefined;
  /** While hydrating: all commits of the account. While a resync or an audit reads: those since it began. */
  #pending: Commit[] | undefined;
  #owed: OwedResync | undefined;
  /**
   * What came to be owed since the present read of a resync began: each pays what was owed before it, so that none waits for
   * ever. Undefined while none is under way.
   */
  #owedNext: OwedResync | undefined;
  /** A read of a resync is under way, or has failed and is begun again: `#owed` is what it is to pay. */
  #isReading = false;
  /** The present read began before the last reason to read, which named no transaction: it proves nothing. */
  #isReadTooOld = false;
  /** Rows of the flows held when the present read began, if it is to look for cuts. */
  #asked: readonly FlowRecord[] = [];
  #position: Position;

  constructor(
    readonly accountId: AccountId,
    private readonly streams: AccountStreams,
    startAt: Position,
    unsettled: Iterable<Commit>,
  ) {
    this.#position = startAt;
    this.#pending = this.#concerning(unsettled);
  }

  get isLive(): boolean {
    return this.#live;
  }

  get position(): Position {
    return this.#position;
  }

  get owedResync(): OwedResync | undefined {
    return both(this.#owed, this.#owedNext);
  }

  /** Position of the oldest commit that waits for a hydration or a resync; undefined when everything taken is applied. */
  get unappliedFrom(): Position | undefined {
    const waiting = this.#live ? undefined : this.#pending?.[0]?.position;
    const owed = this.owedResync?.from;
    return waiting !== undefined && owed !== undefined && waiting < owed ? waiting : (owed ?? waiting);
  }

  /**
   * Takes the account's part of a commit, in one synchronous step (D12). Throws only for a fault of ours; nobody can say
   * then who has heard of the commit, so the store must be given up and its channels closed.
   */
  take(commit: Commit, now: EpochMs): void {
    this.#pending?.push(commit);
    if (!this.#live) return;
    const isShown = this.#fence !== undefined && contains(this.#fence.snapshot, commit.xid);
    // Cuts are events, not state: a fence never drops them (D8a).
    const hidesCuts = mayHideCuts(commit, this.accountId);
    if (hidesCuts || (mustResync(commit, this.accountId) && !isShown)) {
      const heard = { upTo: commit.position - 1n, at: now };
      this.oweResync('commit-not-readable', commit, hidesCuts ? heard : null);
    }
    const changes = changesOf(commit, this.accountId);
    const delta = isShown ? undefined : this.#applyOrOwe(changes, commit);
    this.#position = commit.position;
    // Behind a gap the hand's commit may be one of those that went by.
    if (this.owedResync?.heard == null) for (const flowId of closingsIn(changes)) this.flows.closed(flowId);
    this.#publish(delta, cutsIn(changes, now), commit, now);
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
      if (mustResync(commit, this.accountId)) this.oweResync('commit-not-readable', commit);
      this.#applyOrOwe(changesOf(commit, this.accountId), commit);
    }
    this.#pending = undefined;
    this.#fence = { snapshot: read.snapshot, upperBound: read.upperBound };
    this.#live = true;
  }

  /**
   * @param commit the one that was not applied; undefined when any may be missing: then only a read begun later pays
   * @param heard commits after it have gone by unheard, and the cuts they made with them; null: none has
   */
  oweResync(reason: string, commit?: Commit, heard: LastHeard | null = null): void {
    if (heard !== null) this.gaps += 1;
    const from = commit?.position ?? this.#position + 1n;
    const owed = {
      reason,
      xids: new Set(commit && [commit.xid]),
      from,
      committedAt: commit?.committedAt ?? null,
      heard,
    };
    if (commit && this.#owed && this.#isReading) {
      this.#owedNext = both(this.#owedNext, owed);
    } else {
      this.#owed = both(this.#owed, owed);
      this.#isReadTooOld = true;
    }
  }

  /** Positions and transaction ids start over (events.md B.9, failover): none that is held may be compared with a new one. */
  forgetHistory(): void {
    this.#fence = undefined;
    if (this.#pending) this.#pending = [];
    // What an earlier gap hid is still to be looked for.
    const owed = both(this.#owed, this.#owedNext);
    this.#owed = owed && { ...owed, xids: new Set(), from: 1n, committedAt: null };
    this.#owedNext = undefined;
    this.#position = 0n;
  }

  /** From here on commits are kept as well as applied, so that the snapshot to come can be brought up to date. */
  beginRead(unsettled: Iterable<Commit>): void {
    this.#pending = this.#concerning(unsettled);
  }

  /** The read that begins is to pay what is owed. */
  beginResync(unsettled: Iterable<Commit>, now: EpochMs): void {
    this.beginRead(unsettled);
    this.#isReading = true;
    this.#isReadTooOld = false;
    this.#owed = both(this.#owed, this.#owedNext);
    this.#owedNext = undefined;
    this.#asked = this.#owed?.heard == null ? [] : this.flows.records(now);
  }

  /** Whose rows the read that has begun must look up. */
  get askedFlows(): FlowId[] {
    return this.#asked.map(({ id }) => id);
  }

  /**
   * Merges a fresh read: its rows, then every kept commit it does not contain. The difference to what we hold goes out as
   * one step, with the cuts that went by unheard (CUT-1), which are returned. Undefined: the snapshot is older than what is owed.
   */
  resync(
    read: AccountSnapshot,
    now: EpochMs,
  ): { readonly cuts: readonly FlowCut[]; readonly cause: Cause } | undefined {
    if (this.#isReadTooOld) return undefined;
    for (const xid of this.#owed?.xids ?? []) if (!contains(read.snapshot, xid)) return undefined;
    const fresh = new AccountState();
    fresh.replaceAll(read.rows);
    this.bringUpToDate(fresh, read.snapshot);
    const cause = this.#causeOfResync();
    const heard = this.#owed?.heard ?? null;
    // A read that contains a commit heard after it began looks for no cuts of flows that it did not ask for.
    const next = this.#owedNext;
    const isPaid = next?.heard === null && [...next.xids].every((xid) => contains(read.snapshot, xid));
    this.#owed = isPaid ? undefined : next;
    this.#owedNext = undefined;
    this.#isReading = false;
    this.#fence = { snapshot: read.snapshot, upperBound: read.upperBound };
    // A deleted account takes its flows along: no hand cut them, and they cannot be put back.
    const asked = fresh.account ? this.#asked : [];
    const cuts = asked.filter(({ id }) => read.cutFlows.has(id)).map(unheardCut);
    // Former ones among them are looked up; unless a hand may have cut since, which the next read will see.
    if (this.owedResync?.heard == null) for (const { id } of asked) this.flows.closed(id);
    this.#asked = [];
    this.#takeOver(fresh, heard === null ? cuts : [...cuts, { kind: 'gap', heard }], cause, now);
    return { cuts, cause };
  }

  /** Commits kept for the read under way. */
  get keptCommits(): number {
    return this.#pending?.length ?? 0;
  }

  /** The read under way, begun with `beginRead`, is not merged. */
  endRead(): void {
    if (this.#live) this.#pending = undefined;
  }

  /** Gives a state made from a read under way the kept commits that the read's snapshot lacks; they are not kept on. */
  bringUpToDate(fresh: AccountState, snapshot: XidSnapshot): void {
    for (const commit of this.#pending?.splice(0) ?? []) {
      if (!contains(snapshot, commit.xid)) fresh.apply(changesOf(commit, this.accountId));
    }
  }

  /** Takes over what differs from a state that is known to be right at this position, as one step. Ends the read. */
  repair(fresh: AccountState, now: EpochMs): StateDelta {
    return this.#takeOver(fresh, [], { position: this.#position, committedAt: null }, now);
  }

  /** A client connected again: its newer facts decide from now on (D13). */
  connected(facts: ConnectionFacts, now: EpochMs): void {
    this.state.setConnection(facts);
    const flows = this.flows.ofClient(facts.clientId);
    if (flows.size === 0) return;
    const step = { accountId: this.accountId, position: this.#position, committedAt: null, now };
    this.streams.publish(step, { gateways: flowImpacts(flows), clients: new Map() });
  }

  #takeOver(fresh: AccountState, cuts: readonly Cut[], cause: Cause, now: EpochMs): StateDelta {
    const delta = this.state.replaceWith(fresh);
    this.#pending = undefined;
    this.#publish(delta, cuts, cause, now);
    return delta;
  }

  #applyOrOwe(changes: readonly Change[], commit: Commit): StateDelta | undefined {
    try {
      return this.state.apply(changes);
    } catch (error) {
      if (!(error instanceof UnreadableRowError)) throw error;
      this.oweResync('row-not-readable', commit);
      return undefined;
    }
  }

  /** What the commit that was not applied should have ended: it stays unacknowledged until that is receipted (ACK-2). */
  #causeOfResync(): Cause {
    const owed = this.#owed;
    return owed && owed.from <= this.#position
      ? { position: owed.from, committedAt: owed.committedAt }
      : { position: this.#position, committedAt: null };
  }

  /** The others' commits would only hold back what counts as applied. */
  #concerning(commits: Iterable<Commit>): Commit[] {
    return [...commits].filter(
      (commit) => changesOf(commit, this.accountId).length > 0 || mustResync(commit, this.accountId),
    );
  }

  #publish(delta: StateDelta | undefined, cuts: readonly Cut[], cause: Cause, now: EpochMs): void {
    const live = {
      gateways: this.streams.liveGateways(this.accountId),
      clients: this.streams.liveClients(this.accountId),
    };
    if (!delta && cuts.length === 0) return;
    const impacts = stepImpacts(delta ?? NO_DELTA, cuts, this.state, this.flows, live);
    if (impacts.gateways.size === 0 && impacts.clients.size === 0) return;
    const { position, committedAt } = cause;
    this.streams.publish({ accountId: this.accountId, position, committedAt, now }, impacts);
  }
}

function both(earlier: OwedResync | undefined, later: OwedResync | undefined): OwedResync | undefined {
  if (!earlier || !later) return earlier ?? later;
  const { from, committedAt } = earlier;
  const xids = new Set([...earlier.xids, ...later.xids]);
  return { reason: later.reason, xids, from, committedAt, heard: earlierOf(earlier.heard, later.heard) };
}

function earlierOf(a: LastHeard | null, b: LastHeard | null): LastHeard | null {
  if (!a || !b) return a ?? b;
  return { upTo: a.upTo < b.upTo ? a.upTo : b.upTo, at: Math.min(a.at, b.at) };
}

/** Its row is gone or closed, and whether it is gone need not be known: a row that is there is not put back. */
function unheardCut(record: FlowRecord): FlowCut {
  const { id: flowId, gatewayId, clientId, resourceId } = record;
  const pair = { gatewayId, clientId, resourceId };
  return { kind: 'flow', flowId, ...pair, wasClosed: false, reason: 'cut-by-hand', pushedAt: null, deleted: record };
}
