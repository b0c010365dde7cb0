/**
 * The whole library against an oracle of plain loops, over random histories of one small account. After every command it
 * must answer as the oracle does, say of each commit exactly what changed for whom, and never let time change an answer
 * that it did not announce.
 */
import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { garbageCondition, readableCondition } from '../../../test/support/arbitrary-conditions.js';
import { command, editsOf, type Command, type Write } from '../../../test/support/authorizer-commands.js';
import { MONDAY_9, RESOURCE, type AnyRow } from '../../../test/support/builders.js';
import {
  CLIENTS,
  connectedClients,
  denseAccount,
  FakeDatabase,
  facts,
  GATEWAYS,
  PROVIDERS,
  RESOURCES,
  runs,
} from '../../../test/support/histories.js';
import { accessAll, justifyAll, violatedAt, type OracleRows } from '../../../test/support/oracle-loops.js';
import { WORKED_EXAMPLES } from '../../../test/support/worked-examples.js';
import type { Change, RawRow } from '../changes/commit.js';
import { printRow } from '../changes/print-row.js';
import { shapeOf } from '../model/flow.js';
import type { ClientId, FlowId, ResourceId } from '../model/ids.js';
import type { AccountTable } from '../model/rows.js';
import { Authorizer } from './authorizer.js';
import { FlowTable } from './flow-table.js';

type Snapshot = ReturnType<Authorizer['snapshot']>;
type Difference = ReturnType<Authorizer['connect']>;
type Allowed = Extract<ReturnType<Authorizer['authorize']>, { verdict: 'allow' }>;

// ---- answers in one comparable form --------------------------------------------------------------------------------

/** `client resource` → `policy until end`, by key. */
type Answers = ReadonlyMap<string, string>;

const keyFor = (clientId: string, resourceId: string): string => `${clientId} ${resourceId}`;
const grantOf = ({ policyId, until }: { readonly policyId: string; readonly until: number | null }): string =>
  `${policyId} until ${until}`;

function oracleAnswers(rows: OracleRows, now: number): Answers {
  return new Map(accessAll(rows, now).map((one) => [keyFor(one.clientId, one.resourceId), grantOf(one)]));
}

function libraryAnswers(of: Authorizer | Snapshot, now: number): Answers {
  const answers = new Map<string, string>();
  for (const clientId of CLIENTS) {
    for (const [resourceId, allowed] of of.accessOf(clientId, now))
      answers.set(keyFor(clientId, resourceId), grantOf(allowed));
  }
  return answers;
}

/** `client resource` → what is different, for every pair that differs. */
function differenceBetween(before: Answers, after: Answers): Answers {
  const difference = new Map<string, string>();
  for (const key of new Set([...before.keys(), ...after.keys()])) {
    const [old, now] = [before.get(key), after.get(key)];
    if (old !== now) difference.set(key, `${old ?? 'nothing'}, now ${now ?? 'nothing'}`);
  }
  return difference;
}

function differenceTold(before: Answers, told: Difference): Answers {
  const difference = new Map<string, string>();
  for (const [clientId, { gained, lost, moved }] of told) {
    if (gained.size + lost.size + moved.size === 0) throw new Error('a client without any difference is named');
    const add = (resourceId: ResourceId, what: string): void => {
      const key = keyFor(clientId, resourceId);
      if (difference.has(key)) throw new Error(`${key} is named twice`);
      difference.set(key, what);
    };
    for (const [id, allowed] of gained) add(id, `nothing, now ${grantOf(allowed)}`);
    for (const [id, denied] of lost) {
      if (denied.verdict !== 'deny') expect(denied).toMatchObject({ verdict: 'deny' });
      add(id, `${before.get(keyFor(clientId, id))}, now nothing`);
    }
    for (const [id, change] of moved) add(id, `${grantOf(change.before)}, now ${grantOf(change.after)}`);
  }
  return difference;
}

/** Compares cheaply; `expect` is asked only when there is something to show. */
function mustEqual(what: string, got: Answers, wanted: Answers): void {
  const isEqual = got.size === wanted.size && [...wanted].every(([key, value]) => got.get(key) === value);
  if (!isEqual) expect({ [what]: Object.fromEntries(got) }).toEqual({ [what]: Object.fromEntries(wanted) });
}

/** All there is in a difference, denials and ids included. */
function wholeText(difference: Difference): string {
  return JSON.stringify(difference, (_, value: unknown) => {
    if (value instanceof Map) return [...value].sort(([a], [b]) => (a < b ? -1 : 1));
    return value;
  });
}

// ---- one account under test ----------------------------------------------------------------------------------------

/** A snapshot, and the database as it was. */
interface Kept {
  readonly snapshot: Snapshot;
  readonly database: FakeDatabase;
  readonly rows: OracleRows;
}

/** One has never connected when a history begins. */
const CONNECTED = connectedClients().slice(1);

class AccountUnderTest {
  readonly #database = new FakeDatabase(denseAccount());
  readonly #authorizer = Authorizer.fromRows(this.#database.raw(), CONNECTED);
  readonly #kept: Kept[] = [];
  #rows: OracleRows;
  #now = MONDAY_9;
  allowed = 0;
  changed = 0;

  constructor() {
    for (const of of CONNECTED) this.#database.connect(of);
    this.#rows = this.#database.readable();
  }

  /** @param fractions choose the instants that are looked at besides the present. */
  run(doing: Command, fractions: readonly number[]): void {
    switch (doing.kind) {
      case 'commit':
        this.#commit(doing.writes);
        break;
      case 'preview':
        this.#preview(this.#present, doing.writes);
        for (const kept of this.#kept.slice(-1)) this.#preview(kept, doing.writes);
        break;
      case 'connect':
        this.#judged((before) => {
          this.#database.connect(doing.facts);
          return differenceTold(before, this.#authorizer.connect(doing.facts, this.#now));
        });
        break;
      case 'time':
        this.#moveTo(this.#now + doing.by);
        break;
      case 'time-at':
        this.#moveTo(doing.at);
        break;
      case 'boundary':
        this.#moveTo(this.#boundary(doing.place) + doing.offset);
        break;
      case 'snapshot':
        this.#kept.push({ ...this.#present, snapshot: this.#authorizer.snapshot(), database: this.#database.copy() });
        break;
      case 'snapshot-again':
        for (const kept of this.#kept.slice(-1)) this.#kept.unshift({ ...kept, snapshot: kept.snapshot.snapshot() });
        break;
      case 'release':
        for (const { snapshot } of this.#kept.splice(doing.place, 1)) snapshot.release();
        break;
    }
    this.checkAnswers();
    this.#checkTime(fractions);
    this.#checkKept(fractions);
  }

  checkAnswers(): void {
    const [authorizer, rows, now] = [this.#authorizer, this.#rows, this.#now];
    const wanted = oracleAnswers(rows, now);
    this.allowed += wanted.size;
    mustEqual('accessOf', libraryAnswers(authorizer, now), wanted);

    const reached = new Map<string, string>();
    for (const resourceId of RESOURCES) {
      const clients = authorizer.whoCanReach(resourceId, now);
      for (const [clientId, allowed] of clients) reached.set(keyFor(clientId, resourceId), grantOf(allowed));
      mustBeSorted([...clients.keys()]);
    }
    mustEqual('whoCanReach', reached, wanted);

    const decided = new Map<string, string>();
    for (const clientId of CLIENTS) {
      mustBeSorted([...authorizer.accessOf(clientId, now).keys()]);
      const subject = authorizer.subjectOf(clientId, now);
      for (const resourceId of RESOURCES) {
        const decision = authorizer.authorize(clientId, resourceId, now);
        if (typeof subject !== 'string') {
          const again = authorizer.authorize(subject, resourceId, now);
          if (JSON.stringify(again) !== JSON.stringify(decision)) expect(again).toEqual(decision);
        }
        if (decision.verdict === 'allow') {
          decided.set(keyFor(clientId, resourceId), grantOf(decision));
          this.#mustBeNamed(clientId, decision);
        } else if (decision.reason === 'forbidden') {
          const client = rows.clients.find(({ id }) => id === clientId);
          const violated = client && violatedAt(rows, client, resourceId, now);
          const [named, wantedNames] = [[...decision.violated].sort(), [...(violated ?? ['no client'])].sort()];
          if (named.join() !== wantedNames.join()) expect(named).toEqual(wantedNames);
        }
      }
    }
    mustEqual('authorize', decided, wanted);

    const flows = new Map<string, string>();
    for (const gatewayId of GATEWAYS) {
      for (const clientId of CLIENTS) {
        for (const resourceId of RESOURCES) {
          const decision = authorizer.authorizeFlow(clientId, gatewayId, resourceId, now);
          if (decision.verdict === 'allow')
            flows.set(`${gatewayId} ${keyFor(clientId, resourceId)}`, grantOf(decision));
        }
      }
    }
    const justified = justifyAll(rows, now).map(
      ({ gatewayId, clientId, resourceId }) =>
        [`${gatewayId} ${keyFor(clientId, resourceId)}`, wanted.get(keyFor(clientId, resourceId)) ?? ''] as const,
    );
    mustEqual('authorizeFlow', flows, new Map(justified));
  }

  /** The membership joins the client's actor to the policy's group; the token is the one it connected with. */
  #mustBeNamed(clientId: ClientId, { policyId, membershipId, tokenId }: Allowed): void {
    const { clients, policies, memberships, connections } = this.#rows;
    const membership = memberships.find(({ id }) => id === membershipId);
    const isNamed =
      membership?.actorId === clients.find(({ id }) => id === clientId)?.actorId &&
      membership?.groupId === policies.find(({ id }) => id === policyId)?.groupId &&
      connections.find((row) => row.clientId === clientId)?.tokenId === tokenId;
    if (!isNamed) expect({ membershipId, tokenId }).toBe('of the policy and the connection');
  }

  #commit(writes: readonly Write[]): void {
    const previewed = this.#preview(this.#present, writes);
    const before = this.#authorizer.snapshot();
    const changes = this.#write(this.#database, writes);
    let applied: Difference | undefined;
    this.#judged((answers) => {
      applied = this.#authorizer.apply(changes, this.#now).access;
      return differenceTold(answers, applied);
    });
    const texts = [before.differenceTo(this.#authorizer, this.#now), previewed].map(wholeText);
    const wanted = wholeText(applied ?? new Map());
    if (texts.some((text) => text !== wanted)) expect(texts).toEqual([wanted, wanted]);
    const isRejoin = writes.every(({ kind }) => kind === 'rejoin');
    if (isRejoin) expect(applied?.size).toBe(0); // D17: an id of a membership is no difference
    before.release();
  }

  /** Does something that says what it changed, and holds that against the oracle's answers before and after. */
  #judged(act: (before: Answers) => Answers): void {
    const before = oracleAnswers(this.#rows, this.#now);
    const told = act(before);
    this.#rows = this.#database.readable();
    this.changed += told.size;
    mustEqual('difference', told, differenceBetween(before, oracleAnswers(this.#rows, this.#now)));
  }

  get #present(): Kept {
    return { snapshot: this.#authorizer, database: this.#database, rows: this.#rows };
  }

  #preview({ snapshot, database, rows: before }: Kept, writes: readonly Write[]): Difference {
    const copy = database.copy();
    const changes = this.#write(copy, writes);
    const after = copy.readable();
    const { access, cut } = snapshot.preview(changes, this.#now, flowsOf(before, this.#now));
    const answers = oracleAnswers(before, this.#now);
    mustEqual('preview', differenceTold(answers, access), differenceBetween(answers, oracleAnswers(after, this.#now)));
    const cutFlows = cut.map(({ flow }) => `${flow.gatewayId} ${keyFor(flow.clientId, flow.resourceId)}`).sort();
    const wantedCut = flowsCut(before, after, this.#now);
    if (cutFlows.join() !== wantedCut.join()) expect(cutFlows).toEqual(wantedCut);
    mustEqual('accessOf after a preview', libraryAnswers(snapshot, this.#now), answers);
    return access;
  }

  #write(database: FakeDatabase, writes: readonly Write[]): Change[] {
    return writes.flatMap((write) =>
      editsOf(write, database.readable(), this.#now).flatMap((one) => database.edit(one)),
    );
  }

  #moveTo(to: number): void {
    const before = oracleAnswers(this.#rows, this.#now);
    const after = oracleAnswers(this.#rows, to);
    if (to > this.#now) {
      for (const key of differenceBetween(before, after).keys()) {
        const [clientId = ''] = key.split(' ');
        const announced = this.#authorizer.nextTransition(clientId as ClientId, this.#now) ?? Infinity;
        if (announced > to) expect(announced).toBeLessThanOrEqual(to);
      }
    }
    this.#now = to;
  }

  #boundary(place: number): number {
    const ends = accessAll(this.#rows, this.#now).map(({ until }) => until);
    const expiries = this.#rows.tokens.map(({ expiresAt }) => expiresAt);
    const transitions = CLIENTS.map((id) => this.#authorizer.nextTransition(id, this.#now) ?? null);
    const all = [...ends, ...expiries, ...transitions].filter((at) => at !== null);
    return all[place % Math.max(1, all.length)] ?? this.#now;
  }

  /** D18: until a client's next transition, its answer stays what it is. */
  #checkTime(fractions: readonly number[]): void {
    const answers = oracleAnswers(this.#rows, this.#now);
    const transitions = CLIENTS.map((id) => this.#authorizer.nextTransition(id, this.#now));
    for (const [index, fraction] of fractions.entries()) {
      const next = transitions[index % CLIENTS.length] ?? this.#now + 400 * 86_400_000;
      if (next <= this.#now) expect(next).toBeGreaterThan(this.#now);
      for (const at of [this.#now + Math.floor((next - this.#now) * fraction), next - 1]) {
        const then = oracleAnswers(this.#rows, at);
        mustEqual(`accessOf at ${at}`, libraryAnswers(this.#authorizer, at), then);
        for (const key of differenceBetween(answers, then).keys()) {
          const place = CLIENTS.findIndex((id) => key.startsWith(id));
          const announced = transitions[place] ?? Infinity;
          if (announced > at) expect({ key, at, announced }).toBe('announced before it changes');
        }
      }
    }
  }

  /** STORE-3 */
  #checkKept([fraction = 0]: readonly number[]): void {
    const kept = this.#kept[Math.floor(fraction * this.#kept.length)];
    if (!kept) return;
    const then = oracleAnswers(kept.rows, this.#now);
    mustEqual('accessOf of a snapshot', libraryAnswers(kept.snapshot, this.#now), then);
    const now = oracleAnswers(this.#rows, this.#now);
    const forth = differenceTold(then, kept.snapshot.differenceTo(this.#authorizer, this.#now));
    mustEqual('difference to now', forth, differenceBetween(then, now));
    const back = differenceTold(now, this.#authorizer.differenceTo(kept.snapshot, this.#now));
    mustEqual('difference from now', back, differenceBetween(now, then));
  }
}

function mustBeSorted(ids: readonly string[]): void {
  if (ids.some((id, index) => index > 0 && id <= (ids[index - 1] ?? ''))) expect(ids).toEqual([...ids].sort());
}

/** Every pair that is justified, as its gateway holds it. */
function flowsOf(rows: OracleRows, now: number): FlowTable {
  const flows = new FlowTable();
  for (const { gatewayId, clientId, resourceId, policyId, expiresAt } of justifyAll(rows, now)) {
    const resource = rows.resources.find(({ id }) => id === resourceId);
    if (!resource) throw new Error('justified without a resource');
    const named = { membershipId: 'm' as never, tokenId: 't' as never };
    const grant = { flowId: 'f' as FlowId, policyId, ...named, expiresAt, isUnlimited: false };
    flows.register({ gatewayId, clientId, resourceId, shape: shapeOf(resource), grant });
  }
  return flows;
}

/** D20: what is not justified any more, and what was told another address, type or ip stack. */
function flowsCut(before: OracleRows, after: OracleRows, now: number): string[] {
  const keyOf = (of: ReturnType<typeof justifyAll>[number]): string =>
    `${of.gatewayId} ${keyFor(of.clientId, of.resourceId)}`;
  const shape = (rows: OracleRows, resourceId: ResourceId): string => {
    const resource = rows.resources.find(({ id }) => id === resourceId);
    return JSON.stringify(resource && shapeOf(resource));
  };
  const still = new Set(justifyAll(after, now).map(keyOf));
  return justifyAll(before, now)
    .filter((of) => !still.has(keyOf(of)) || shape(before, of.resourceId) !== shape(after, of.resourceId))
    .map(keyOf)
    .sort();
}

const fraction = fc.double({ min: 0, max: 1, noNaN: true, maxExcluded: true });

describe('the authorizer against the oracle', () => {
  it('AUTH-1, AUTH-3, STORE-3, D18: answers, differences, previews, snapshots and transitions, command by command', () => {
    let [allowed, changed] = [0, 0];
    const commands = fc.array(fc.tuple(command, fc.tuple(fraction, fraction)), { maxLength: 50, size: 'max' });
    fc.assert(
      fc.property(commands, (history) => {
        const account = new AccountUnderTest();
        account.checkAnswers();
        for (const [doing, fractions] of history) account.run(doing, fractions);
        allowed += account.allowed;
        changed += account.changed;
      }),
      { numRuns: runs(1000) },
    );
    // the histories are about something
    expect(allowed).toBeGreaterThan(20 * runs(1000));
    expect(changed).toBeGreaterThan(5 * runs(1000));
  });

  it('S9: a condition that cannot be understood never allows, whatever stands beside it, whoever asks, at any time', () => {
    const good = fc.array(readableCondition(PROVIDERS), { maxLength: 2 });
    const spoilt = fc.tuple(good, garbageCondition(), good).map(([before, bad, after]) => [...before, bad, ...after]);
    const lists = fc.array(fc.oneof({ weight: 5, arbitrary: spoilt }, fc.constant('unreadable' as const)), {
      minLength: 5,
      maxLength: 5,
    });
    const moment = fc.integer({ min: MONDAY_9 - 100 * 86_400_000, max: MONDAY_9 + 100 * 86_400_000 });
    fc.assert(
      fc.property(lists, facts, moment, (conditions, of, now) => {
        const others = denseAccount().filter(([table]) => table !== 'policies');
        const policies = denseAccount().filter((row) => row[0] === 'policies');
        const rows = [
          ...others,
          ...policies.map(([table, row], i): AnyRow => [table, { ...row, conditions: conditions[i] ?? 'unreadable' }]),
        ];
        const authorizer = Authorizer.fromRows(new FakeDatabase(rows).raw(), connectedClients());
        authorizer.connect(of, now);
        for (const clientId of CLIENTS) expect(authorizer.accessOf(clientId, now).size).toBe(0);
      }),
      { numRuns: runs(500) },
    );
  });

  it.each(WORKED_EXAMPLES)('$title', ({ rows, facts: connection, now, expected }) => {
    const raw = new Map<AccountTable, RawRow[]>();
    for (const row of rows) raw.set(row[0], [...(raw.get(row[0]) ?? []), printRow(row[1])]);
    const decision = Authorizer.fromRows(raw, [connection]).authorize(connection.clientId, RESOURCE, now);
    if ('violated' in expected) {
      expect(decision.verdict).toBe('deny');
      expect(new Set('violated' in decision ? decision.violated : [])).toEqual(new Set(expected.violated));
    } else expect(decision).toMatchObject({ verdict: 'allow', ...expected });
  });
});
