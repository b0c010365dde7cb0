/**
 * The frames of Phoenix channels, in both serializations. V1 is an object, spoken by every Rust peer; V2 is an array,
 * spoken by phoenix.js. Nothing here knows what an event means.
 *
 *   V1  {"topic":…,"event":…,"ref":…,"payload":…}        V2  [join_ref, ref, topic, event, payload]
 */

/** Any JSON scalar. Echoed with its JSON type: a Rust peer sends a number and drops an answer that carries a string. */
export type Ref = string | number | boolean | null;

export interface Frame {
  /** Always null in V1. */
  readonly joinRef: Ref;
  /** Null when absent. */
  readonly ref: Ref;
  readonly topic: string;
  readonly event: string;
  /** As the peer sent it: unknown until a schema has read it. */
  readonly payload: unknown;
}

export type DecodedFrame =
  { readonly ok: true; readonly frame: Frame } | { readonly ok: false; readonly why: 'not-json' | 'not-a-frame' };

/** What of a received frame its reply repeats. */
export type Addressed = Pick<Frame, 'joinRef' | 'ref' | 'topic'>;

export interface Serializer {
  readonly version: 1 | 2;
  /** Never throws. Extra members and a missing payload are fine; a missing topic or event is not. */
  decode(text: string): DecodedFrame;
  /** Its response has no member, which Rust peers insist on (D25, wire-protocol.md 0.3). */
  encodeOk(to: Addressed): string;
  /** An ok reply that carries data: only for requests of clients before 1.4. */
  encodeData(to: Addressed, response: Readonly<Record<string, unknown>>): string;
  /** `extra` stands next to `reason`, which peers insist on. */
  encodeError(to: Addressed, reason: string, extra?: Readonly<Record<string, unknown>>): string;
  /**
   * @param payloadJson JSON text, so that a payload for many peers is written once
   * @param joinRef the join's; V1 leaves it out
   */
  encodePush(topic: string, event: string, payloadJson: string, joinRef: Ref): string;
  /** Says that the channel is gone, not the socket. Only phoenix.js asks for it; a Rust peer would reconnect. */
  encodeClose(topic: string, joinRef: Ref): string;
}

/**
 * @param vsn the query parameter of the upgrade; Rust peers send none
 * @returns `undefined` for a version that we do not speak: the upgrade is refused with 403
 */
export function selectSerializer(vsn: string | undefined): Serializer | undefined {
  if (vsn === undefined) return V1;
  const major = /^([12])(?:\.\d{1,5}){0,2}$/.exec(vsn)?.[1];
  return major === '1' ? V1 : major === '2' ? V2 : undefined;
}

/**
 * Payload of the one WebSocket Ping that is harmless to every peer: they parse it as a frame and ignore it, and the
 * Pong brings it back. Used as a delivery barrier on gateway sockets, never to keep a socket alive (wire-protocol.md 0.5).
 */
export function encodeBarrier(ref: number): string {
  return `{"topic":"phoenix","event":"phx_error","payload":{},"ref":${ref}}`;
}

const NOT_JSON = { ok: false, why: 'not-json' } as const;
const NOT_A_FRAME = { ok: false, why: 'not-a-frame' } as const;

const V1: Serializer = {
  version: 1,
  decode: (text) => {
    const value = parseJson(text);
    if (value === undefined) return NOT_JSON;
    if (typeof value !== 'object' || value === null || Array.isArray(value)) return NOT_A_FRAME;
    return checked(null, own(value, 'ref') ?? null, own(value, 'topic'), own(value, 'event'), own(value, 'payload'));
  },
  encodeOk: (to) => v1('phx_reply', to.topic, to.ref, OK_REPLY),
  encodeData: (to, response) => v1('phx_reply', to.topic, to.ref, dataReply(response)),
  encodeError: (to, reason, extra) => v1('phx_reply', to.topic, to.ref, errorReply(reason, extra)),
  encodePush: (topic, event, payloadJson) => v1(event, topic, null, payloadJson),
  encodeClose: (topic, joinRef) => v1('phx_close', topic, joinRef, '{}'),
};

const V2: Serializer = {
  version: 2,
  decode: (text) => {
    const value = parseJson(text);
    if (value === undefined) return NOT_JSON;
    if (!Array.isArray(value) || value.length !== 5) return NOT_A_FRAME;
    const [joinRef, ref, topic, event, payload] = value as unknown[];
    return checked(joinRef, ref, topic, event, payload);
  },
  encodeOk: (to) => v2(to.joinRef, to.ref, to.topic, 'phx_reply', OK_REPLY),
  encodeData: (to, response) => v2(to.joinRef, to.ref, to.topic, 'phx_reply', dataReply(response)),
  encodeError: (to, reason, extra) => v2(to.joinRef, to.ref, to.topic, 'phx_reply', errorReply(reason, extra)),
  encodePush: (topic, event, payloadJson, joinRef) => v2(joinRef, null, topic, event, payloadJson),
  encodeClose: (topic, joinRef) => v2(joinRef, joinRef, topic, 'phx_close', '{}'),
};

const OK_REPLY = '{"status":"ok","response":{}}';

function dataReply(response: Readonly<Record<string, unknown>>): string {
  return `{"status":"ok","response":${JSON.stringify(response)}}`;
}

function errorReply(reason: string, extra: Readonly<Record<string, unknown>> = {}): string {
  return `{"status":"error","response":${JSON.stringify({ ...extra, reason })}}`;
}

function v1(event: string, topic: string, ref: Ref, payloadJson: string): string {
  const head = `{"topic":${JSON.stringify(topic)},"event":${JSON.stringify(event)},"ref":${JSON.stringify(ref)}`;
  return `${head},"payload":${payloadJson}}`;
}

function v2(joinRef: Ref, ref: Ref, topic: string, event: string, payloadJson: string): string {
  return `${JSON.stringify([joinRef, ref, topic, event]).slice(0, -1)},${payloadJson}]`;
}

function checked(joinRef: unknown, ref: unknown, topic: unknown, event: unknown, payload: unknown): DecodedFrame {
  if (typeof topic !== 'string' || typeof event !== 'string' || !isRef(ref) || !isRef(joinRef)) return NOT_A_FRAME;
  return { ok: true, frame: { joinRef, ref, topic, event, payload } };
}

/** A number that JSON cannot write (1e400 reads as Infinity) could not be echoed. */
function isRef(value: unknown): value is Ref {
  return value === null || ['string', 'boolean'].includes(typeof value) || Number.isFinite(value);
}

/** Only what the peer wrote itself: `{"__proto__":…}` or a polluted prototype adds no member. */
function own(value: object, key: string): unknown {
  return Object.hasOwn(value, key) ? (value as Record<string, unknown>)[key] : undefined;
}

/** Far more than any message has. Every level costs V8 more than its two characters say: 32,000 of them 8 ms (B3). */
const MAX_DEPTH = 64;

/** `undefined` when the text is not JSON, or nested without sense; JSON has no undefined. */
function parseJson(text: string): unknown {
  if (isTooDeep(text)) return undefined;
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}

/** Counts brackets outside of strings, without reading anything else. */
function isTooDeep(text: string): boolean {
  let depth = 0;
  let isInString = false;
  for (let i = 0; i < text.length; i += 1) {
    const char = text[i];
    if (isInString) {
      if (char === '\\') i += 1;
      else if (char === '"') isInString = false;
    } else if (char === '"') isInString = true;
    else if (char === '[' || char === '{') {
      depth += 1;
      if (depth > MAX_DEPTH) return true;
    } else if (char === ']' || char === '}') depth -= 1;
  }
  return false;
}
