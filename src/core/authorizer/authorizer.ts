/**
 * The authorizer as a library: one account's rules in memory, moved from commit to commit, asked who may use what, and
 * why, and what a change would do. Framework-free: rows, connections and the time come from the caller.
 * See docs/authorizer.md.
 */
import type { Change, RawRow } from '../changes/commit.js';
import type { ConnectionFacts } from '../model/connection-facts.js';
import type { ClientId, GatewayId, ResourceId } from '../model/ids.js';
import type { AccountTable } from '../model/rows.js';
import type { EpochMs } from '../model/time.js';
import { shapeOf, sameShape } from '../model/flow.js';
import {
  accessDifference,
  accessOf,
  judge,
  nextAccessTransition,
  whoCanReach,
  type Access,
  type AccessDifference,
} from './access.js';
import { changesOfEdits, type AccountEdit } from './account-edits.js';
import type { StateFault } from './account-layers.js';
import { AccountState } from './account-state.js';
import { authorizeFlow, subjectOf, type Allowed, type Decision } from './authorize.js';
import { explain, type Explanation } from './explain.js';
import type { Flow, FlowTable } from './flow-table.js';
import type { Subject, SubjectProblem } from './subject.js';
import { NO_DELTA, type StateDelta } from './state-delta.js';

export interface AppliedChange {
  /** Rows that really differ, by table. */
  readonly delta: StateDelta;
  /** Exactly what changed for whom. */
  readonly access: AccessDifference;
}

export interface Preview extends AppliedChange {
  /** Flows that the commit would cut, and why. */
  readonly cut: readonly FlowCut[];
}

export interface FlowCut {
  readonly flow: Flow;
  /** `resource-changed`: the gateway was told another address, type or ip stack; what is left needs a new flow. */
  readonly why: 'resource-changed' | Exclude<Decision, Allowed>['reason'];
}

export { printExplanation } from './explain.js';
export { FlowTable } from './flow-table.js';
export { UnreadableRowError } from '../changes/parse-row.js';
export type { Access, AccessDifference, ClientDifference } from './access.js';
export type { AccountEdit } from './account-edits.js';
export type { StateFault } from './account-layers.js';
export type { Allowed, Decision, Denied } from './authorize.js';
export type { Subject, SubjectProblem } from './subject.js';
export type { ConditionProperty } from './conditions.js';
export type { Explanation, ExplainedCondition, ExplainedPolicy, ExplainedSubject, PolicyVerdict } from './explain.js';
export type { Flow, Grant } from './flow-table.js';
export type { RowDelta, StateDelta } from './state-delta.js';
export type { Change, RawRow, RowChange, TruncateChange } from '../changes/commit.js';
export type { ConnectionFacts } from '../model/connection-facts.js';
export type * from '../model/ids.js';
export type * from '../model/rows.js';

/** Questions about one account at one moment of its history. `now` is always the caller's, in milliseconds since 1970. */
export class AccountSnapshot {
  #state: AccountState | undefined;

  /** @param state nobody else's from now on */
  protected constructor(state: AccountState) {
    this.#state = state;
  }

  /**
   * Who this client is, for several questions at one instant: give it to `authorize` instead of the id. A text says why
   * nobody may act as it. Good until the account changes or the client connects again.
   */
  subjectOf(clientId: ClientId, now: EpochMs): Subject | SubjectProblem {
    return subjectOf(this.state, clientId, now);
  }

  /**
   * Whether the client may use the resource, by which policy and until when. Allows exactly what `accessOf` lists: some
   * conforming policy of a group of the actor, and a site that serves the resource.
   */
  authorize(client: ClientId | Subject, resourceId: ResourceId, now: EpochMs): Decision {
    const subject = typeof client === 'string' ? this.subjectOf(client, now) : client;
    return judge(this.state, subject, resourceId, now);
  }

  /** Whether this gateway may let the client through to the resource. */
  authorizeFlow(clientId: ClientId, gatewayId: GatewayId, resourceId: ResourceId, now: EpochMs): Decision {
    return authorizeFlow(this.state, clientId, gatewayId, resourceId, now);
  }

  /** Every policy that names the resource with every condition's verdict; `printExplanation` makes text of it. */
  explain(clientId: ClientId, resourceId: ResourceId, now: EpochMs): Explanation {
    return explain(this.state, clientId, resourceId, now);
  }

  accessOf(clientId: ClientId, now: EpochMs): Access {
    return accessOf(this.state, clientId, now);
  }

  whoCanReach(resourceId: ResourceId, now: EpochMs): ReadonlyMap<ClientId, Allowed> {
    return whoCanReach(this.state, resourceId, now);
  }

  /**
   * The first instant after `now` at which time alone may change what the client may use: never too late, at times too
   * early. Undefined: never.
   */
  nextTransition(clientId: ClientId, now: EpochMs): EpochMs | undefined {
    return nextAccessTransition(this.state, clientId, now);
  }

  /**
   * What is different for whom in `later`, both judged at `now`. Between snapshots of one Authorizer, and that itself, it
   * costs what changed between them; between strangers, the whole of both.
   */
  differenceTo(later: AccountSnapshot, now: EpochMs): AccessDifference {
    const delta = this.state.deltaTo(later.state);
    return accessDifference(this.state, later.state, delta, this.state.reconnectedIn(later.state), now);
  }

  /** What `apply` would answer, and which flows would be cut, if these changes were committed now. Nothing is. */
  preview(changes: readonly Change[], now: EpochMs, flows?: FlowTable): Preview {
    const draft = this.state.fork();
    try {
      const delta = draft.apply(changes);
      const access = accessDifference(this.state, draft, delta, [], now);
      return { delta, access, cut: flows ? cutFlows(this.state, draft, delta, flows, now) : [] };
    } finally {
      draft.release();
    }
  }

  /**
   * Edits as the changes their commit would show, with what the schema deletes along. Nothing is changed.
   * @throws UnreadableRowError when an id of a row to put is no UUID
   */
  changesOf(edits: readonly AccountEdit[]): Change[] {
    return changesOfEdits(this.state, edits);
  }

  /** Rows, and parts of rows, that cannot be read and grant nothing. */
  faults(): Iterable<StateFault> {
    return this.state.faults();
  }

  /** The account as it is now. It stays so, and costs nothing to take; changes then cost a little more until `release`. */
  snapshot(): AccountSnapshot {
    return new AccountSnapshot(this.state.fork());
  }

  /** No more questions: every further call throws. */
  release(): void {
    this.#state?.release();
    this.#state = undefined;
  }

  protected get state(): AccountState {
    if (!this.#state) throw new Error('the snapshot was released');
    return this.#state;
  }
}

/** The account's present: moves with `apply` and `connect`, and answers as it is after the last of them. */
export class Authorizer extends AccountSnapshot {
  /**
   * @param rows column text as PostgreSQL prints it with `DateStyle=ISO` and `TimeZone=UTC`; what cannot be read grants nothing
   * @throws UnreadableRowError when an id of a row is missing or no UUID
   */
  static fromRows(
    rows: ReadonlyMap<AccountTable, readonly RawRow[]>,
    connections: Iterable<ConnectionFacts> = [],
  ): Authorizer {
    const state = new AccountState();
    state.replaceAll(rows);
    for (const facts of connections) state.setConnection(facts);
    return new Authorizer(state);
  }

  /**
   * Applies the account's part of one commit as one step.
   * @param now the instant at which access before and after is judged
   * @throws UnreadableRowError when a row cannot be identified; nothing is changed then
   */
  apply(changes: readonly Change[], now: EpochMs): AppliedChange {
    return this.#moved(now, [], () => this.state.apply(changes));
  }

  /** Replaces what is known of a client's latest connection. */
  connect(facts: ConnectionFacts, now: EpochMs): AccessDifference {
    return this.#moved(now, [facts.clientId], () => {
      this.state.setConnection(facts);
      return NO_DELTA;
    }).access;
  }

  #moved(now: EpochMs, reconnected: readonly ClientId[], move: () => StateDelta): AppliedChange {
    const before = this.state.fork();
    try {
      const delta = move();
      return { delta, access: accessDifference(before, this.state, delta, reconnected, now) };
    } finally {
      before.release();
    }
  }
}

function cutFlows(
  before: AccountState,
  after: AccountState,
  delta: StateDelta,
  flows: FlowTable,
  now: EpochMs,
): FlowCut[] {
  const cut: FlowCut[] = [];
  for (const touched of flows.touchedBy(delta, after).values()) {
    for (const flow of touched) {
      const why = whyUnjustified(after, flow, now);
      if (why !== undefined && whyUnjustified(before, flow, now) === undefined) cut.push({ flow, why });
    }
  }
  return cut;
}

function whyUnjustified(state: AccountState, flow: Flow, now: EpochMs): FlowCut['why'] | undefined {
  const resource = state.resource(flow.resourceId);
  if (resource && !sameShape(shapeOf(resource), flow.shape)) return 'resource-changed';
  const decision = authorizeFlow(state, flow.clientId, flow.gatewayId, flow.resourceId, now);
  return decision.verdict === 'deny' ? decision.reason : undefined;
}
