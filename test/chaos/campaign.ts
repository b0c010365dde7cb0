/**
 * A campaign: writers write, clients ask, faults come one after the other, and at the end everything that was seen is held
 * against everything that is true. The same seed gives the same faults and statements; how they fall together does not repeat.
 */
import { cpus } from 'node:os';
import type { Client } from 'pg';
import { SeededRandom } from '../support/seeded-random.js';
import {
  ackViolations,
  type Bounds,
  differences,
  distribution,
  type Distribution,
  type FaultWindow,
  historyViolations,
  type Lateness,
  lateness,
  orderViolations,
  staleGrants,
  uncutPairs,
} from './checkers.js';
import { FAULTS, isRunnable, type RunnableFault } from './faults.js';
import type { Interval, Timeline } from './intervals.js';
import { pause, within } from './pause.js';
import { replay, type Truth } from './replay.js';
import { type Row, WITNESSED_TABLES } from './witness.js';
import { rollBackAbandoned } from './workload.js';
import { STALE_AFTER_MS, World } from './world.js';

export interface CampaignOptions {
  readonly seconds: number;
  readonly seed: number;
  /** Ids of faults, in turn; all that run here when absent. */
  readonly faults?: readonly string[];
  readonly say?: (text: string) => void;
}

export interface FaultReport {
  readonly id: string;
  readonly what: string;
  readonly count: number;
  /** From the end of the fault until everybody was back. Unit ms. */
  readonly recoveryMs: Distribution | undefined;
  /** From a commit, or the rejoin after it, until the gateway was told. Unit ms. */
  readonly longestRevocationMs: number;
  readonly graceMs: number;
}

export interface CampaignReport {
  readonly seed: number;
  readonly seconds: number;
  readonly machine: string;
  readonly peers: number;
  readonly commits: number;
  readonly operations: Readonly<Record<string, number>>;
  readonly frames: number;
  readonly pings: number;
  readonly joins: number;
  readonly endings: Readonly<Record<string, number>>;
  readonly faultsInjected: number;
  readonly revocations: Distribution | undefined;
  /** Of those that met no fault. */
  readonly undisturbedRevocations: Distribution | undefined;
  readonly undisturbedGrants: Distribution | undefined;
  readonly faults: readonly FaultReport[];
  readonly ackSamples: number;
  /** How often the server was killed, or made to throw, at which point of its code. */
  readonly failpoints: Readonly<Record<string, number>>;
  /** What the server logged as warning or error, by event. */
  readonly logged: Readonly<Record<string, number>>;
  readonly violations: Readonly<Record<string, readonly string[]>>;
  readonly violationCount: number;
}

/** reliability.md 2.1: the most a commit takes to be felt when nothing is wrong. */
const DELTA_MS = 1_000;
/** A peer that was cut off is back by then. */
const REJOIN_MS = 5_000;
/** Longer than the wait for an answer of the harness's own that is lost in a fault. */
const HARNESS_GRACE_MS = 1_000;
const FINAL_WITHIN_MS = 20_000;

export async function runCampaign(options: CampaignOptions): Promise<CampaignReport> {
  const random = new SeededRandom(options.seed);
  const world = await World.open({ random: random.fork('world'), writers: 4, writeEveryMs: 150, askEveryMs: 80 });
  try {
    const campaign = new Campaign(world, random.fork('faults'), options);
    await campaign.run();
    return await campaign.judge();
  } finally {
    await world.close();
  }
}

class Campaign {
  readonly #windows: FaultWindow[] = [];
  readonly #recoveries = new Map<string, number[]>();
  readonly #silences: Interval[] = [];
  readonly #broken: string[] = [];
  readonly #startedAt = performance.now();

  constructor(
    private readonly world: World,
    private readonly random: SeededRandom,
    private readonly options: CampaignOptions,
  ) {}

  async run(): Promise<void> {
    const { world, random, options } = this;
    const runnable = FAULTS.filter(isRunnable);
    const given = options.faults?.flatMap((id) => runnable.filter((fault) => fault.id === id));
    const wanted = given ?? runnable;
    // Each once at first, so that a campaign that is long enough has them all; then by weight.
    const turn = given ?? random.shuffled(wanted);
    world.workload.start();
    await pause(2_000);
    const endsAt = this.#startedAt + options.seconds * 1_000;
    for (let i = 0; performance.now() < endsAt && wanted.length > 0; i += 1) {
      const fault = turn[i] ?? random.weighted(wanted);
      await this.#inject(fault, random.fork(`${i} ${fault.id}`));
      await pause(random.between(500, 2_500));
    }
    await pause(endsAt - performance.now());
    await world.workload.stop();
  }

  async #inject(fault: RunnableFault, random: SeededRandom): Promise<void> {
    const { world } = this;
    const { id, graceMs } = fault;
    const from = performance.now();
    this.#say(`${id} ${fault.what}`);
    try {
      const note = await fault.inject(world, random);
      if (note) this.#silences.push({ from: note.silentSince, to: performance.now() });
    } catch (error) {
      const { message, cause } = error as Error;
      this.#broken.push(`${id}: ${message} ${cause instanceof Error ? cause.message : ''}`);
    }
    if (world.witnessLost) throw new Error(`the witness was lost in ${id}`, { cause: world.witnessLost });
    const to = performance.now();
    this.#windows.push({ id, from, to, graceMs });
    if (world.process.hasEnded) {
      this.#broken.push(`${id}: the process ended by itself`);
      await world.mustRun();
    }
    // Also after a fault that cuts nobody off somebody may be on the way back, since tokens come and go all the time.
    const limitMs = Math.max(graceMs, REJOIN_MS);
    const isBack = (await within(limitMs, () => world.isReady())) && (await world.everybodyIsBack(limitMs));
    const recoveryMs = performance.now() - to;
    this.#recoveries.set(id, [...(this.#recoveries.get(id) ?? []), recoveryMs]);
    if (!isBack || recoveryMs > limitMs) {
      this.#broken.push(
        `${id}: not everybody was back ${Math.round(recoveryMs)} ms after it was over (${limitMs} allowed)`,
      );
      await world.everybodyIsBack(FINAL_WITHIN_MS);
    }
    this.#say(`${id} over after ${Math.round(to - from)} ms, all back after ${Math.round(recoveryMs)} ms more`);
  }

  async judge(): Promise<CampaignReport> {
    const { world, options } = this;
    const { found: atRest, endsAt } = await this.#comeToRest();
    const truth = replay(world.witness.commits, endsAt);
    const held = this.#held(truth, endsAt);
    const shown = new Map(world.peers.flatMap(({ client }) => [...(client?.finish(endsAt) ?? [])]));
    const bounds: Bounds = { deltaMs: DELTA_MS, faults: [...this.#windows, ...this.#stalls()] };

    const spansOf = this.#spansOf;
    const revocations = lateness(held, truth.justified, { since: 'truth-ended', spansOf }, bounds);
    const cuts = uncutPairs(held, truth.cuts, spansOf, bounds);
    const excess = lateness(shown, truth.shown, { since: 'truth-ended', spansOf }, bounds);
    const missing = lateness(truth.shown, shown, { since: 'began', spansOf }, bounds);
    const connected = new Map(world.peers.map(({ device }) => [device.externalId, spansOf(device.externalId)]));
    const welcome = new Map(
      world.peers.map(({ device }) => [device.externalId, truth.welcome.get(device.tokenId) ?? []]),
    );
    const unwelcome = lateness(connected, welcome, { since: 'truth-ended', spansOf }, bounds);
    const seen = world.peers.flatMap(({ client, gateway }) => (client ?? gateway)?.log.names ?? []);
    const committed = new Set(world.witness.commits.flatMap(({ mark }) => (mark === undefined ? [] : [mark])));
    const unsettled = await world.withSql((sql) => world.workload.settle(sql, committed));
    const recordable = world.witness.commits
      .filter(({ changes }) => changes.some(({ table }) => RECORDED.has(table)))
      .map(({ position }) => position);
    const violations: Record<string, readonly string[]> = {
      heldTooLong: revocations.filter(({ isLate }) => isLate).map((late) => this.#tell(late)),
      heldAcrossCut: cuts.filter(({ isLate }) => isLate).map((late) => this.#tell(late)),
      shownTooLong: excess.filter(({ isLate }) => isLate).map((late) => this.#tell(late)),
      shownTooLate: missing.filter(({ isLate }) => isLate).map((late) => this.#tell(late)),
      connectedTooLong: unwelcome.filter(({ isLate }) => isLate).map((late) => this.#tell(late)),
      order: orderViolations(seen, truth.names),
      atRest: [...atRest, ...this.#finalShown(truth)],
      history: [
        ...(unsettled ?? ['transactions of unknown end could not be settled']),
        ...historyViolations(world.workload.done, committed),
        ...(await this.#historyAgainstTables(truth)),
      ],
      taint: world.notes.tainted,
      unreadable: world.notes.unreadable,
      acknowledged: ackViolations(world.ackSamples, recordable),
      grantedWhileStale: staleGrants(world.notes.grantedAt, this.#silences, STALE_AFTER_MS + HARNESS_GRACE_MS),
      recovery: this.#broken,
      process: world.unexpectedExits > 0 ? [`the process ended by itself ${world.unexpectedExits} times`] : [],
    };
    const durations = (of: readonly Lateness[]): number[] => of.map(({ since, to }) => to - since);
    const undisturbed = (of: readonly Lateness[]): Lateness[] => of.filter(({ faults }) => faults.length === 0);
    return {
      seed: options.seed,
      seconds: Math.round((endsAt - this.#startedAt) / 1_000),
      machine: `${cpus().length} cores, Node ${process.versions.node}`,
      peers: world.peers.length,
      commits: world.witness.commits.length,
      operations: countBy(world.workload.done, ({ outcome }) => outcome),
      frames: world.notes.frames,
      pings: world.notes.pings,
      joins: world.notes.joins,
      endings: Object.fromEntries(world.notes.endings),
      faultsInjected: this.#windows.length,
      revocations: distribution(durations(revocations)),
      undisturbedRevocations: distribution(durations(undisturbed(revocations))),
      undisturbedGrants: distribution(durations(undisturbed(missing))),
      faults: this.#faultReports(revocations),
      ackSamples: world.ackSamples.length,
      failpoints: world.failpoints,
      logged: countBy(world.log, eventOf),
      violations,
      violationCount: Object.values(violations).reduce((sum, list) => sum + list.length, 0),
    };
  }

  /** Heals everything and waits until nothing moves; then checker 3 for the gateways, and everybody leaves. */
  async #comeToRest(): Promise<{ readonly found: readonly string[]; readonly endsAt: number }> {
    const { world } = this;
    world.toDatabase.heal();
    world.toProduct.heal();
    for (const peer of world.peers) peer.stopAsking();
    await world.withSql(rollBackAbandoned);
    const found: string[] = [];
    if (!(await world.everybodyIsBack(FINAL_WITHIN_MS))) found.push('not everybody came back at the end');
    if (!(await world.isApplied(FINAL_WITHIN_MS))) found.push('the last commit was not applied at the end');
    let wrong: string[] = [];
    const isAtRest = async (): Promise<boolean> => {
      await Promise.all(world.peers.map((peer) => peer.settled()));
      wrong = (await this.#heldAgainstFlows()) ?? ['the table of flows could not be read'];
      return wrong.length === 0;
    };
    await within(FINAL_WITHIN_MS, isAtRest, 200);
    for (const { isJoined, device } of world.peers) if (isJoined) this.#joinedAtEnd.add(device.externalId);
    const endsAt = performance.now();
    // Whoever is refused comes again and again, and each connect is a commit: now nothing more is.
    await world.quiet();
    return { found: [...found, ...wrong], endsAt };
  }

  readonly #joinedAtEnd = new Set<string>();

  /** What the gateways that are connected hold is what the product has on record as open. */
  async #heldAgainstFlows(): Promise<string[] | undefined> {
    return this.world.withSql(async (sql) => {
      const { rows } = await sql.query<{ gateway: string; pair: string }>(`
        SELECT gateways.external_id AS gateway, client_id || '|' || resource_id AS pair FROM flows
          JOIN gateways ON gateways.account_id = flows.account_id AND gateways.id = gateway_id
        WHERE revoked_at IS NULL AND expires_at > now()`);
      return this.world.peers.flatMap(({ gateway, isJoined }) => {
        if (!gateway || !isJoined) return [];
        const open = rows.filter((row) => row.gateway === gateway.name).map(({ pair }) => pair);
        return differences(`${gateway.name} against the open flows`, gateway.heldAt(performance.now()), open);
      });
    });
  }

  /** Checker 3 for the clients. */
  #finalShown(truth: Truth): string[] {
    return this.world.peers.flatMap(({ client, device }) => {
      if (!client || !this.#joinedAtEnd.has(device.externalId)) return [];
      const shown = client.resources.map((resource) => {
        const { id, name, address, address_description: description, gateway_groups: sites = [] } = resource;
        return `${id}: ${name} ${address} ${description} ${sites
          .map((site) => site.id)
          .sort()
          .join()}`;
      });
      const expected = [...truth.finalShown].flatMap(([key, text]) => {
        const [owner, id] = key.split('|');
        return owner === client.name ? [`${id}: ${text}`] : [];
      });
      return differences(client.name, shown, expected);
    });
  }

  /** The witness proves itself: what it replayed is what is in the tables. */
  async #historyAgainstTables(truth: Truth): Promise<string[]> {
    const found = await this.world.withSql(async (sql) => {
      await sql.query(`SET TimeZone TO 'UTC'`);
      const wrong: string[] = [];
      for (const table of WITNESSED_TABLES) {
        const columns = await columnsOf(sql, table);
        // In the form in which the log has it; a cast of an address would add its prefix.
        const texts = columns
          .map((column) => `CASE WHEN "${column}" IS NOT NULL THEN format('%s', "${column}") END AS "${column}"`)
          .join(', ');
        const { rows } = await sql.query<Row>(`SELECT ${texts} FROM ${table}`);
        // A column that was dropped is still in rows that were not written since.
        const textOf = (row: Row): string => JSON.stringify(columns.map((column) => row[column]));
        wrong.push(...differences(`history of ${table}`, (truth.rows.get(table) ?? []).map(textOf), rows.map(textOf)));
      }
      return wrong;
    });
    return found ?? ['the tables could not be read at the end'];
  }

  #held(truth: Truth, endsAt: number): Map<string, Timeline> {
    const held = new Map<string, Timeline>();
    for (const { gateway } of this.world.peers) {
      for (const [key, timeline] of gateway?.finish(endsAt) ?? []) {
        const [name, client = '', ...rest] = key.split('|');
        held.set([name, truth.externalIds.get(client) ?? client, ...rest].join('|'), timeline);
      }
    }
    return held;
  }

  /** The first part of a key names its peer. */
  readonly #spansOf = (key: string): Timeline => {
    const [name] = key.split('|');
    const peer = this.world.peers.find(({ device }) => device.externalId === name);
    return (peer?.client ?? peer?.gateway)?.log.spans ?? [];
  };

  #stalls(): FaultWindow[] {
    return this.world.stalls.map((stall) => ({ ...stall, id: 'harness', graceMs: HARNESS_GRACE_MS }));
  }

  #faultReports(revocations: readonly Lateness[]): FaultReport[] {
    return FAULTS.filter(isRunnable).flatMap(({ id, what, graceMs }) => {
      const recoveries = this.#recoveries.get(id);
      if (!recoveries) return [];
      const delays = revocations.filter(({ faults }) => faults.includes(id)).map(({ since, to }) => to - since);
      const longestRevocationMs = Math.round(delays.reduce((most, delay) => Math.max(most, delay), 0));
      return [
        { id, what, count: recoveries.length, recoveryMs: distribution(recoveries), longestRevocationMs, graceMs },
      ];
    });
  }

  #tell({ key, since, from, to, faults }: Lateness): string {
    const t = (at: number): string => `${((at - this.#startedAt) / 1_000).toFixed(3)} s`;
    const lateMs = Math.round(to - since);
    return `${key}: wrong since ${t(since)}, from ${t(from)} to ${t(to)} (${lateMs} ms) [${faults.join(' ')}]`;
  }

  #say(text: string): void {
    this.options.say?.(`${((performance.now() - this.#startedAt) / 1_000).toFixed(1)} s: ${text}`);
  }
}

/** Tables whose changes the product records. */
const RECORDED = new Set<string>(WITNESSED_TABLES.filter((table) => table !== 'client_sessions'));

function countBy<Item>(items: readonly Item[], by: (item: Item) => string): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const item of items) counts[by(item)] = (counts[by(item)] ?? 0) + 1;
  return counts;
}

/** Of a line of the server's log; what is no JSON is nobody's event. */
function eventOf(line: string): string {
  const [, level, event] = /"level":"(\w+)".*"event":"([^"]+)"/.exec(line) ?? [];
  return event === undefined ? 'no event' : `${level} ${event}`;
}

async function columnsOf(sql: Client, table: string): Promise<string[]> {
  const { rows } = await sql.query<{ name: string }>(
    `SELECT attname AS name FROM pg_attribute WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum`,
    [table],
  );
  return rows.map(({ name }) => name);
}
