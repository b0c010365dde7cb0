/** The frames of `frame-corpus/`, and what becomes of them: each mutation is one of fast-check's, a handful of numbers. */
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import fc from 'fast-check';
import type { PeerRole } from './strict-peer.js';

type Json = Record<string, unknown>;

/** What stands for `$resource` and its like. */
export type Names = Readonly<Record<'resource' | 'gateway' | 'client' | 'key', string>>;

/** A seed, and what is done to it, one after the other. */
export interface Mutation {
  readonly seed: number;
  readonly steps: readonly { readonly what: number; readonly at: number; readonly word: number }[];
}

const aStep = fc.record(
  { what: fc.nat({ max: 999 }), at: fc.nat({ max: 0xffff }), word: fc.nat({ max: 0xffff }) },
  { noNullPrototype: true },
);

export const aMutation: fc.Arbitrary<Mutation> = fc.record(
  { seed: fc.nat({ max: 0xffff }), steps: fc.array(aStep, { minLength: 1, maxLength: 4 }) },
  { noNullPrototype: true },
);

const FOLDER = new URL('./frame-corpus/', import.meta.url);

function linesOf(file: string): string[] {
  const text = readFileSync(new URL(file, FOLDER), 'utf8');
  return text.split('\n').filter((line) => line !== '');
}

/** Whole frames that are sent as they are, before anything else. */
export function frozenFrames(): readonly string[] {
  const files = readdirSync(FOLDER).filter((name) => name === 'nasty.frames' || name.startsWith('crash-'));
  return files.flatMap(linesOf).map((line) => JSON.parse(line) as string);
}

/** Keeps what ended the server where the next run looks first; returns the name of the file. */
export function keepCrash(frames: readonly Buffer[]): string {
  const text = frames.map((frame) => `${JSON.stringify(frame.toString())}\n`).join('');
  const name = `crash-${createHash('sha256').update(text).digest('hex').slice(0, 12)}.frames`;
  writeFileSync(new URL(name, FOLDER), text);
  return name;
}

export class FrameCorpus {
  readonly #seeds: readonly string[];
  readonly #words: readonly string[];

  /** @param isV2 whether frames are arrays */
  constructor(
    role: PeerRole,
    private readonly isV2: boolean,
    names: Names,
  ) {
    const named = (text: string): string =>
      text.replaceAll(/\$(resource|gateway|client|key)\b/g, (_, name: keyof Names) => names[name]);
    this.#seeds = linesOf(`${role}.frames`).map(named);
    this.#words = linesOf('dictionary.words').map(named);
  }

  /** The bytes of one text frame. */
  mutated({ seed, steps }: Mutation): Buffer {
    const draft = new Draft(pick(this.#seeds, seed), this.#words, this.#seeds);
    for (const { what, at, word } of steps) {
      if (what < FATAL_FROM) pick(ON_CONTENT, what)(draft, at, word);
      else if (what % 2 === 0) spoilFrame(draft, at, word);
    }
    let bytes = Buffer.from(draft.text(this.isV2));
    for (const { what, at, word } of steps) {
      if (what >= FATAL_FROM && what % 2 === 1) bytes = pick(ON_BYTES, at ^ word)(bytes, at, word, this.#words);
    }
    return bytes;
  }
}

/** How the socket of whoever sends this ends; undefined: it does not. Written from the protocol, not from our decoder. */
export function fateOf(bytes: Buffer, isV2: boolean, maxFrameBytes = 65_536): number | undefined {
  if (bytes.length > maxFrameBytes) return 1009;
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return 1007;
  }
  try {
    return isFrame(JSON.parse(text), isV2) && depthOf(text) <= 64 ? undefined : 1002;
  } catch {
    return 1002;
  }
}

/** Also of what a later member of the same name hides. */
function depthOf(json: string): number {
  const brackets = json.replaceAll(/"(?:[^"\\]|\\.)*"|[^[\]{}]/gs, '');
  let depth = 0;
  let deepest = 0;
  for (const bracket of brackets) {
    depth += '[{'.includes(bracket) ? 1 : -1;
    deepest = Math.max(deepest, depth);
  }
  return deepest;
}

function isFrame(value: unknown, isV2: boolean): boolean {
  if (typeof value !== 'object' || value === null || Array.isArray(value) !== isV2) return false;
  if (Array.isArray(value)) {
    const [joinRef, ref, topic, event] = value as unknown[];
    return value.length === 5 && [joinRef, ref].every(isScalar) && [topic, event].every((name) => isText(name));
  }
  const { topic, event, ref } = Object.assign(Object.create(null) as Json, value);
  return isText(topic) && isText(event) && isScalar(ref ?? null);
}

function isText(value: unknown): boolean {
  return typeof value === 'string';
}

function isScalar(value: unknown): boolean {
  return typeof value === 'number' ? Number.isFinite(value) : value === null || /string|boolean/.test(typeof value);
}

function pick<Item>(from: readonly Item[], at: number): Item {
  return from[at % from.length] as Item;
}

/** A frame in the making. Text that no value writes (`1e400`, a member twice) is kept aside and put in at the end. */
class Draft {
  readonly frame: Json;
  readonly #raw: string[] = [];

  constructor(
    seed: string,
    readonly words: readonly string[],
    readonly seeds: readonly string[],
  ) {
    this.frame = JSON.parse(seed) as Json;
  }

  /** A value that will be written as this text. */
  raw(text: string): string {
    this.#raw.push(text);
    return `\u{f0000}${this.#raw.length - 1}\u{f0001}`;
  }

  value(word: number): unknown {
    const text = pick(this.words, word);
    return /^-?\d/.test(text) ? this.raw(text) : (JSON.parse(text) as unknown);
  }

  name(word: number): string {
    const value = this.value(word);
    return typeof value === 'string' && !value.startsWith('\u{f0000}') ? value : 'payload';
  }

  /** Some object or list of the frame, and the name of one of its members; `0` when it has none. */
  member(at: number): { readonly holder: Json; readonly key: string } {
    let holder = this.frame;
    for (let luck = at; ; luck = Math.floor(luck / 3)) {
      const keys = Object.keys(holder);
      const key = keys.length === 0 ? '0' : pick(keys, luck);
      const inner = holder[key];
      if (typeof inner !== 'object' || inner === null || luck % 3 === 0) return { holder, key };
      holder = inner as Json;
    }
  }

  text(isV2: boolean): string {
    const { topic, event, payload, ref, ...more } = this.frame;
    const frame = isV2 ? [more['join_ref'] ?? '1', ref ?? null, topic, event, payload ?? null] : this.frame;
    return JSON.stringify(frame).replaceAll(
      /"\u{f0000}(\d+)\u{f0001}"/gu,
      (_, index: string) => this.#raw[Number(index)] ?? 'null',
    );
  }
}

/** Own even when it is called `__proto__`. A list keeps its length. */
function put(holder: Json, key: string, value: unknown): void {
  if (Array.isArray(holder) && key === 'length') return;
  Object.defineProperty(holder, key, { value, writable: true, enumerable: true, configurable: true });
}

type OnContent = (draft: Draft, at: number, word: number) => void;
type OnBytes = (bytes: Buffer, at: number, word: number, words: readonly string[]) => Buffer<ArrayBuffer>;

const inPayload: OnContent = (draft, at, word) => {
  const payload = draft.frame['payload'];
  if (typeof payload !== 'object' || payload === null) put(draft.frame, 'payload', draft.value(word));
  else if (Object.keys(payload).length > 0) put(payload as Json, pick(Object.keys(payload), at), draft.value(word));
  else put(payload as Json, draft.name(at), draft.value(word));
};

/** What may leave no frame is rarer: it ends its socket, and the next one costs a connect. */
const FATAL_FROM = 996;

const spoilFrame: OnContent = (draft, at, word) => {
  put(draft.frame, pick(['topic', 'event', 'ref', 'payload', 'join_ref'], at), draft.value(word));
};

const ON_CONTENT: readonly OnContent[] = [
  ...Array.from({ length: 8 }, () => inPayload),
  (draft, at) => {
    const { holder, key } = draft.member(at);
    if (holder !== draft.frame || key === 'payload' || key === 'ref') delete holder[key];
  },
  (draft, at, word) => {
    const { holder, key } = draft.member(at);
    if (holder === draft.frame) return;
    put(holder, draft.name(word), holder[key]);
    delete holder[key];
  },
  (draft, at, word) => {
    const { holder } = draft.member(at);
    const name = draft.name(word);
    if (holder !== draft.frame || !(name in draft.frame)) put(holder, name, draft.value(at));
  },
  (draft, _at, word) => {
    put(draft.frame, 'event', draft.name(word));
  },
  (draft, _at, word) => {
    put(draft.frame, 'topic', draft.name(word));
  },
  (draft, _at, word) => {
    const ref = draft.value(word);
    put(draft.frame, 'ref', typeof ref === 'object' ? null : ref);
  },
  (draft, at, word) => {
    put(draft.frame, 'payload', (JSON.parse(pick(draft.seeds, at + word)) as Json)['payload']);
  },
  (draft, at, word) => {
    const depth = 1 + (at % 2000);
    const [open, close] = word % 2 === 0 ? ['[', ']'] : ['{"a":', '}'];
    put(draft.frame, 'payload', draft.raw(`${open.repeat(depth)}1${close.repeat(depth)}`));
  },
  (draft, at, word) => {
    const value = JSON.stringify(pick(draft.words, word));
    put(
      draft.frame,
      'payload',
      draft.raw(
        `[${Array(at % 300)
          .fill(value)
          .join()}]`,
      ),
    );
  },
  (draft, at, word) => {
    // One member twice: the last one counts.
    const payload = JSON.stringify(draft.frame['payload'] ?? null).replaceAll(/[\u{f0000}\u{f0001}]/gu, '');
    const twice = `{${JSON.stringify(draft.name(word))}:1,${payload.startsWith('{"') ? payload.slice(1) : '"a":2}'}`;
    put(draft.frame, 'payload', draft.raw(at % 2 === 0 ? twice : `[${twice},${twice}]`));
  },
  (draft, at, word) => {
    put(draft.frame, 'payload', { [draft.name(word)]: draft.name(at).repeat(at % 500) });
  },
];

const ON_BYTES: readonly OnBytes[] = [
  (bytes, at, word) => {
    const flipped = Buffer.from(bytes);
    if (flipped.length > 0) flipped[at % flipped.length] = (flipped[at % flipped.length] ?? 0) ^ (1 << (word % 8));
    return flipped;
  },
  (bytes, at, word) => {
    const from = at % (bytes.length + 1);
    return Buffer.concat([bytes.subarray(0, from), bytes.subarray(from + (word % 16))]);
  },
  (bytes, at, word) => {
    const from = at % (bytes.length + 1);
    return Buffer.concat([bytes.subarray(0, from), bytes.subarray(Math.max(0, from - (word % 64)))]);
  },
  (bytes, at) => Buffer.from(bytes.subarray(0, at % (bytes.length + 1))),
  (bytes, at, word, words) => {
    const from = at % (bytes.length + 1);
    return Buffer.concat([bytes.subarray(0, from), Buffer.from(pick(words, word)), bytes.subarray(from)]);
  },
  (bytes, at, word) => {
    const from = at % (bytes.length + 1);
    const noise = Buffer.from([word & 0xff, word >> 8, at & 0xff, 0xf5, 0xed].slice(0, 1 + (at % 5)));
    return Buffer.concat([bytes.subarray(0, from), noise, bytes.subarray(from)]);
  },
  (bytes) => Buffer.concat([Buffer.from('['), bytes, Buffer.from(']')]),
  (bytes) => Buffer.concat([bytes, bytes]),
];
