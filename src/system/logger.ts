/**
 * Logs: one event name and fields, a line of JSON each, or something for eyes on a terminal. To stderr: stdout belongs to
 * the ready line and to what commands print (decisions D37). Secrets are taken out here as well, though callers must
 * not pass them (D8b); what a peer sent cannot forge a line or fill a disk.
 */
import { type DestinationStream, type Level, pino } from 'pino';
import { isColorSupported, prettyFactory } from 'pino-pretty';
import { formatPosition } from '../core/model/position.js';
import type { LogFields, Logger } from '../core/support/logger.js';

export interface LoggerOptions {
  readonly level: LogLevel;
  /** `auto` is pretty on a terminal and JSON elsewhere. */
  readonly format: 'json' | 'pretty' | 'auto';
  /** Default stderr, written synchronously: what was logged before a crash is there. */
  readonly destination?: DestinationStream;
}

export type LogLevel = Extract<Level, 'error' | 'warn' | 'info' | 'debug'>;

export function createLogger(options: LoggerOptions): Logger {
  const destination = options.destination ?? pino.destination({ fd: 2, sync: true });
  const sink = isPretty(options) ? prettified(destination) : destination;
  const log = pino(
    {
      level: options.level,
      base: null,
      messageKey: 'event',
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
    },
    sink,
  );
  return {
    error: (event, fields) => log.error(presentable(fields), event),
    warn: (event, fields) => log.warn(presentable(fields), event),
    info: (event, fields) => log.info(presentable(fields), event),
    // Per message: not even the fields are looked at when nobody listens.
    debug: (event, fields) => log.isLevelEnabled('debug') && log.debug(presentable(fields), event),
  };
}

/** Longer text says nothing more to a person and lets a peer fill the disk. */
const MAX_TEXT = 2048;
/** Deeper values are somebody's whole object, not a field. */
const MAX_DEPTH = 6;
const MAX_ENTRIES = 100;
/** Written by the logger itself; a field of that name would make a line with a key twice. */
const RESERVED = new Set(['level', 'time', 'event']);
const SECRET_NAME = /token|secret|password|passwd|psk|credential|authorization$|cookie/i;
/** Names that contain such a word and are no secret: ids and counts. */
const HARMLESS_NAME = /(id|ids|kind|count)$/i;
/** Control characters, and the line separators that some readers take for line ends. */
const UNPRINTABLE = /[\p{Cc}\u2028\u2029]/gu;
const URL_PASSWORD = /(\b[a-z][a-z0-9+.-]{0,30}:\/\/[^\s/:@]*:)[^\s/@]+@/gi;
/** The longest we make, with room: a token cut in two by the limit must still be seen whole. */
const TOKEN_LENGTH = 128;
/** Whatever a peer put there, before we know whether it is a token. */
const QUERY_TOKEN = /([?&](?:token|password)=)[^&#\s]+/gi;
/** Our tokens by their form (decisions D27), wherever they stand. */
const OUR_TOKEN = /\bpc[cgra]_[0-9A-Za-z]{40,}/g;

function isPretty({ format, destination }: LoggerOptions): boolean {
  return format === 'pretty' || (format === 'auto' && destination === undefined && process.stderr.isTTY);
}

/** Line by line and at once: through a stream the last lines would be lost when the process exits. */
function prettified(destination: DestinationStream): DestinationStream {
  const pretty = prettyFactory({ messageKey: 'event', colorize: isColorSupported && process.stderr.isTTY });
  return { write: (line) => destination.write(String(pretty(line))) };
}

function presentable(fields: LogFields | undefined): Record<string, unknown> {
  return fields ? presentableEntries(Object.entries(fields), 0) : {};
}

function presentableEntries(entries: readonly (readonly [string, unknown])[], depth: number): Record<string, unknown> {
  const shown = entries.slice(0, MAX_ENTRIES).map(([name, value]) => {
    const isSecret = SECRET_NAME.test(name) && !HARMLESS_NAME.test(name) && typeof value !== 'boolean';
    return [
      RESERVED.has(name) ? `${name}_` : presentableText(name),
      isSecret ? '[redacted]' : presentableValue(value, depth),
    ] as const;
  });
  return Object.fromEntries(shown);
}

function presentableValue(value: unknown, depth: number): unknown {
  if (typeof value === 'string') return presentableText(value);
  if (typeof value === 'bigint') return value < 0n ? value.toString() : formatPosition(value); // the only bigints we have
  if (typeof value === 'number') return Number.isFinite(value) ? value : String(value);
  if (value === null || value === undefined || typeof value === 'boolean') return value;
  if (typeof value !== 'object') return `[${typeof value}]`;
  if (depth >= MAX_DEPTH) return '[…]';
  if (value instanceof Error) return presentableError(value, depth + 1);
  if (value instanceof Date) return Number.isNaN(value.getTime()) ? 'invalid date' : value.toISOString();
  if (ArrayBuffer.isView(value)) return `[${value.byteLength} bytes]`; // keys and digests are bytes
  if (value instanceof Map)
    return presentableEntries(
      [...value].map(([key, item]) => [String(key), item]),
      depth + 1,
    );
  if (Array.isArray(value) || value instanceof Set) {
    return [...(value as Iterable<unknown>)].slice(0, MAX_ENTRIES).map((item) => presentableValue(item, depth + 1));
  }
  return presentableEntries(Object.entries(value), depth + 1);
}

/** Not every property: errors of `pg` carry the row they met in `detail`, and its parameters. */
function presentableError(error: Error, depth: number): Record<string, unknown> {
  const code = (error as { code?: unknown }).code;
  return {
    name: presentableText(error.name),
    message: presentableText(error.message),
    ...(typeof code === 'string' ? { code: presentableText(code) } : {}),
    ...(error.stack === undefined ? {} : { stack: stackFrames(error.stack) }),
    ...(error.cause === undefined ? {} : { cause: presentableValue(error.cause, depth) }),
  };
}

/** The message is said already. */
function stackFrames(stack: string): string[] {
  const frames = stack.split('\n').filter((line) => /^\s+at /.test(line));
  return frames.slice(0, 10).map((line) => presentableText(line.trim()));
}

function presentableText(text: string): string {
  const shown = text
    .slice(0, MAX_TEXT + TOKEN_LENGTH)
    .replace(QUERY_TOKEN, '$1[redacted]')
    .replace(OUR_TOKEN, '[redacted]')
    .replace(URL_PASSWORD, '$1[redacted]@')
    .slice(0, MAX_TEXT)
    .replace(UNPRINTABLE, (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`);
  return text.length > MAX_TEXT ? `${shown}… (${text.length} characters)` : shown;
}
