/**
 * What depends on the version of a peer (wire-protocol.md 3.7, D33). Versions are the text of the user agent; one that
 * cannot be read counts as older than everything, so it is given less, never more.
 */
import type { ResourceRow } from '../core/model/rows.js';
import { isAtLeast } from '../core/support/peer-version.js';

/** A client of 1.4 or later speaks flows, which no older gateway knows; 1.1 needs 1.1; older ones take any gateway. */
export function gatewaySuits(clientVersion: string, gatewayVersion: string): boolean {
  const needed = ['1.4.0', '1.1.0'].find((since) => isAtLeast(clientVersion, since)) ?? '0.0.0';
  return isAtLeast(gatewayVersion, needed);
}

/** Gateways from here on no longer know `request_connection` and `allow_access` (wire-protocol.md 4.6). */
export function servesConnections(gatewayVersion: string): boolean {
  return !isAtLeast(gatewayVersion, '1.5.0');
}

/** From here on a gateway acts on `authorizations` in `init`: pairs of a listed client that are not listed are revoked. */
export function prunesOnInit(gatewayVersion: string): boolean {
  return isAtLeast(gatewayVersion, '1.4.13');
}

/** From here on a gateway acts on `access_authorization_expiry_updated` and on `expires_at` in `init`. */
export function knowsExpiryUpdate(gatewayVersion: string): boolean {
  return isAtLeast(gatewayVersion, '1.4.14');
}

/** The resource as a peer of this version can understand it; `undefined` when it cannot: hide it. */
export function resourceForVersion(resource: ResourceRow, version: string): ResourceRow | undefined {
  if (resource.type === 'internet') return isAtLeast(version, '1.3.0') ? resource : undefined;
  if (resource.type !== 'dns' || resource.address === null || isAtLeast(version, '1.2.0')) return resource;
  const address = withOldWildcards(resource.address);
  return address === undefined ? undefined : { ...resource, address };
}

/**
 * The pattern in the wildcards of peers before 1.2.0, where `*` meant what `**` means now, and `?` what `*` means now,
 * and only in front. `undefined` when the pattern has others (domain.md 8.5).
 */
function withOldWildcards(address: string): string | undefined {
  const wildcard = ['**', '*', ''].find((prefix) => address.startsWith(prefix)) ?? '';
  const rest = address.slice(wildcard.length);
  if (/[*?]/.test(rest)) return undefined;
  return (wildcard === '**' ? '*' : wildcard === '*' ? '?' : '') + rest;
}
