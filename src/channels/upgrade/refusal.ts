/**
 * Why an upgrade is refused, and how that is said: `application/problem+json` with a `code` (D26). 4xx is fatal for
 * every peer of 2025, so it is only for what will never work; everything temporary is 503 with `Retry-After`.
 */
import type { Faults } from './connect-params.js';

export interface Refusal {
  readonly status: 400 | 401 | 403 | 404 | 422 | 426 | 503;
  readonly code: RefusalCode;
  /** For a person; never says which part of a token was wrong. */
  readonly title: string;
  readonly faults?: Faults;
  readonly retryAfterSeconds?: number;
}

export type RefusalCode =
  | 'missing_token'
  | 'invalid_token'
  | 'account_disabled'
  | 'forbidden_origin'
  | 'unsupported_vsn'
  | 'not_found'
  | 'bad_handshake'
  | 'unsupported_websocket_version'
  | 'invalid_connect_params'
  | TemporaryCode;

/** Everything that a later attempt may get past. */
export type TemporaryCode = 'draining' | 'overloaded' | 'unavailable' | 'rate_limit' | 'back_off' | 'duel';

export const NOT_FOUND: Refusal = { status: 404, code: 'not_found', title: 'Not found' };
export const BAD_HANDSHAKE: Refusal = { status: 400, code: 'bad_handshake', title: 'Not a WebSocket handshake' };
export const UNSUPPORTED_WEBSOCKET_VERSION: Refusal = {
  status: 426,
  code: 'unsupported_websocket_version',
  title: 'Only version 13 of WebSocket is spoken',
};
export const MISSING_TOKEN: Refusal = { status: 401, code: 'missing_token', title: 'Missing token' };
/** One answer for malformed, unknown, wrong kind, expired, revoked and disabled: an oracle for nobody (B9). */
export const INVALID_TOKEN: Refusal = { status: 401, code: 'invalid_token', title: 'Invalid token' };
export const ACCOUNT_DISABLED: Refusal = { status: 403, code: 'account_disabled', title: 'The account is disabled' };
export const FORBIDDEN_ORIGIN: Refusal = { status: 403, code: 'forbidden_origin', title: 'Forbidden' };
export const UNSUPPORTED_VSN: Refusal = { status: 403, code: 'unsupported_vsn', title: 'Unsupported vsn' };

export function invalidParams(faults: Faults): Refusal {
  const title = 'Invalid or missing connection parameters';
  return { status: 422, code: 'invalid_connect_params', title, faults };
}

export function comeBack(code: TemporaryCode, afterSeconds: number): Refusal {
  return { status: 503, code, title: TEMPORARY_TITLES[code], retryAfterSeconds: afterSeconds };
}

const TEMPORARY_TITLES: Readonly<Record<TemporaryCode, string>> = {
  draining: 'Shutting down',
  overloaded: 'Too many connects',
  unavailable: 'Temporarily unavailable',
  rate_limit: 'Too many connects of this device',
  back_off: 'The last connection was closed a moment ago',
  duel: 'Another process is connected as this device',
};

const STATUS_TEXT = {
  400: 'Bad Request',
  401: 'Unauthorized',
  403: 'Forbidden',
  404: 'Not Found',
  422: 'Unprocessable Content',
  426: 'Upgrade Required',
  503: 'Service Unavailable',
};

/** The whole HTTP/1.1 response; the connection ends with it. */
export function responseOf(refusal: Refusal): string {
  const { status, code, title, faults, retryAfterSeconds } = refusal;
  const body = JSON.stringify({ type: 'about:blank', status, code, title, ...(faults && { errors: faults }) });
  const headers = [
    `HTTP/1.1 ${status} ${STATUS_TEXT[status]}`,
    'Content-Type: application/problem+json',
    `Content-Length: ${new TextEncoder().encode(body).length}`,
    'Cache-Control: no-store',
    'Connection: close',
    ...(status === 426 ? ['Sec-WebSocket-Version: 13'] : []),
    ...(retryAfterSeconds === undefined ? [] : [`Retry-After: ${retryAfterSeconds}`]),
  ];
  return `${headers.join('\r\n')}\r\n\r\n${body}`;
}
