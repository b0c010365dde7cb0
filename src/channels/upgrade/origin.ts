/**
 * Keeps web pages of others from opening sockets with a visitor's browser: an `Origin` must be our own
 * (wire-protocol.md 1.5). Native peers send none and pass.
 */
import { comesFromTrustedProxy } from './real-ip.js';
import type { TrustedProxies } from './real-ip.js';
import { headerOf } from './upgrade-request.js';
import type { UpgradeRequest } from './upgrade-request.js';

/**
 * Own means: scheme, host and port of `Host` as the browser saw it. We listen without TLS, so the scheme is http unless
 * a trusted proxy says otherwise in `X-Forwarded-Proto`.
 */
export function isOriginAllowed(request: UpgradeRequest, trusted: TrustedProxies): boolean {
  const origin = headerOf(request, 'origin');
  if (origin === undefined) return true;
  const forwarded = comesFromTrustedProxy(request, trusted) ? headerOf(request, 'x-forwarded-proto') : undefined;
  const scheme = forwarded?.trim().toLowerCase() === 'https' ? 'https' : 'http';
  const ours = originOf(`${scheme}://${headerOf(request, 'host') ?? ''}`);
  return ours !== undefined && originOf(origin) === ours;
}

/** Scheme, host and port, the default port left out; `undefined` when there is more than that, or less. */
function originOf(text: string): string | undefined {
  if (!/^https?:\/\/[^/?#@\\\s]{1,300}$/i.test(text) || !URL.canParse(text)) return undefined;
  return new URL(text).origin;
}
