/**
 * Puts commits and pushes into one readable order and says how long after the commit each push arrived.
 *
 * A push does not name the commit that caused it, and the event store learns of a commit after the peers do. So every line
 * is held for a moment; a push that nobody asked for is then shown with the last commit before its arrival. The figure is
 * arrival by this process's clock minus commit time by the database's, in whole milliseconds: on one machine these are one
 * clock, and `clock-check.ts` warns where they are not.
 */
import { formatPosition } from '../core/model/position.js';
import type { EpochMs } from '../core/model/time.js';
import type { Clock } from '../core/support/clock.js';
import type { SeenCommit } from './commit-feed.js';
import type { HeardPush } from './push-watch.js';

interface Line {
  readonly at: EpochMs;
  /** Of one millisecond: commits first, then what this process heard and did, in that order. */
  readonly rank: 0 | 1;
  /** False while the commit that explains it may still become known. */
  isExplained(): boolean;
  print(): string;
}

/** Longer than the event store lags on an idle machine; shorter feels live. */
const HOLD_MS = 400;
/** A push that no commit explains waits this long for one, and all later lines behind it. */
const LONGEST_HOLD_MS = 1_500;
const TURN_MS = 50;
/** A push that comes later than this after the last commit had another cause: a timer, or the server itself. */
const SAME_CAUSE_MS = 3_000;

export class Timeline {
  readonly #lines: Line[] = [];
  readonly #commits: SeenCommit[] = [];
  #cancel: (() => void) | undefined;

  constructor(
    private readonly clock: Clock,
    private readonly style: Style,
    private readonly write: (line: string) => void,
  ) {}

  start(): void {
    this.#cancel = this.clock.after(TURN_MS, () => {
      this.#release(this.clock.now());
      this.start();
    });
  }

  /** Prints what is still held. */
  stop(): void {
    this.#cancel?.();
    this.#release(Infinity);
  }

  /** Resolves when everything up to now has been printed. Call only between `start` and `stop`. */
  settled(): Promise<void> {
    const until = this.clock.now();
    return new Promise((resolve) => {
      const look = (): void => {
        if (this.#lines.some(({ at }) => at <= until)) this.clock.after(TURN_MS, look);
        else resolve();
      };
      this.clock.after(HOLD_MS, look);
    });
  }

  committed(commit: SeenCommit): void {
    this.#commits.push(commit);
    const text = this.style.commit(`commit   ${commit.what.join(', ')}`);
    this.#add(
      commit.committedAt,
      0,
      always,
      () => `${columns(commit.committedAt, formatPosition(commit.position), '')}${text}`,
    );
  }

  heard(push: HeardPush): void {
    const isExplained = (): boolean => push.answers !== undefined || this.#causeOf(push) !== undefined;
    this.#add(push.at, 1, isExplained, () => this.#pushLine(push));
  }

  /** What a peer did, or what the reader should know. */
  note(text: string): void {
    const at = this.clock.now();
    this.#add(at, 1, always, () => this.style.note(`${columns(at, '', '')}${text}`));
  }

  #pushLine(push: HeardPush): string {
    const { at, peer, event, about, answers } = push;
    const text = this.style.push(event, `${peer.padEnd(8)} ${event}`);
    const what = about === '' ? text : `${text}  ${about}`;
    if (answers) return `${columns(at, '', '')}${what}  (${answers.afterMs.toFixed(1)} ms after ${answers.request})`;
    const cause = this.#causeOf(push);
    if (!cause) return `${columns(at, '', '')}${what}  (no commit just before it)`;
    return `${columns(at, formatPosition(cause.position), `+${Math.round(at - cause.committedAt)} ms`)}${what}`;
  }

  #causeOf({ at }: HeardPush): SeenCommit | undefined {
    return this.#commits.findLast(({ committedAt }) => committedAt <= at && at - committedAt < SAME_CAUSE_MS);
  }

  #add(at: EpochMs, rank: Line['rank'], isExplained: Line['isExplained'], print: Line['print']): void {
    this.#lines.push({ at, rank, isExplained, print });
    // Stable: what happened within one millisecond keeps the order it was heard in.
    this.#lines.sort((a, b) => a.at - b.at || a.rank - b.rank);
  }

  #release(now: EpochMs): void {
    const isDue = (line: Line): boolean =>
      line.at <= now - LONGEST_HOLD_MS || (line.at <= now - HOLD_MS && line.isExplained());
    for (let line = this.#lines[0]; line && isDue(line); line = this.#lines[0]) {
      this.#lines.shift();
      this.write(line.print());
    }
  }
}

function always(): boolean {
  return true;
}

export const TIMELINE_HEADER = `${'time'.padEnd(14)}${'position'.padEnd(12)}${'since'.padStart(9)}   what was pushed to whom`;

function columns(at: EpochMs, position: string, since: string): string {
  return `${clockTime(at).padEnd(14)}${position.padEnd(12)}${since.padStart(9)}   `;
}

/** Local time, as the reader's own clock shows it. */
function clockTime(at: EpochMs): string {
  const date = new Date(at);
  const two = (n: number): string => String(n).padStart(2, '0');
  const ms = String(date.getMilliseconds()).padStart(3, '0');
  return `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}.${ms}`;
}

export interface Style {
  commit(text: string): string;
  /** By event: what takes access away, gives it, or neither. */
  push(event: string, text: string): string;
  note(text: string): string;
}

const PLAIN: Style = { commit: (text) => text, push: (_event, text) => text, note: (text) => text };

const COLOURED: Style = {
  commit: (text) => paint('1;33', text),
  push: (event, text) => (TAKES.has(event) ? paint('31', text) : GIVES.has(event) ? paint('32', text) : text),
  note: (text) => paint('2', text),
};

const TAKES = new Set(['reject_access', 'resource_deleted', 'flow_creation_failed', 'disconnect']);
const GIVES = new Set(['authorize_flow', 'flow_created', 'resource_created_or_updated']);

export function timelineStyle(isColoured: boolean): Style {
  return isColoured ? COLOURED : PLAIN;
}

function paint(code: string, text: string): string {
  return `\u001b[${code}m${text}\u001b[0m`;
}
