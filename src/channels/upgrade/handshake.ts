/**
 * Whether a request is a WebSocket handshake at all (RFC 6455, section 4.2.1). Asked before anybody is authenticated: a
 * request that can never become a socket must not let a device in, nor cost a query.
 */
import { BAD_HANDSHAKE, UNSUPPORTED_WEBSOCKET_VERSION, type Refusal } from './refusal.js';
import { headerOf, type UpgradeRequest } from './upgrade-request.js';

/** 16 bytes in base64. */
const KEY = /^[+/0-9A-Za-z]{22}==$/;

/** Why it is none; undefined when it is. */
export function handshakeFault(request: UpgradeRequest): Refusal | undefined {
  const isHandshake =
    request.method === 'GET' &&
    request.httpVersion === '1.1' &&
    headerOf(request, 'host') !== undefined &&
    headerOf(request, 'upgrade')?.toLowerCase() === 'websocket' &&
    KEY.test(headerOf(request, 'sec-websocket-key') ?? '') &&
    !hasBody(request);
  if (!isHandshake) return BAD_HANDSHAKE;
  return headerOf(request, 'sec-websocket-version') === '13' ? undefined : UNSUPPORTED_WEBSOCKET_VERSION;
}

/** What follows the headers of a handshake are frames; a body would be read as some. */
function hasBody(request: UpgradeRequest): boolean {
  const length = headerOf(request, 'content-length');
  return headerOf(request, 'transfer-encoding') !== undefined || (length !== undefined && length !== '0');
}
