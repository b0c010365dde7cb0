/**
 * Decides who an upgrade request is, and lets the device in: token first, so that nothing is learned without one; then
 * the parameters, and whether the device has to wait; then one transaction that upserts the device and its session (wire-protocol.md 1.4 to 1.7, D27).
 */
import { digestsEqual, digestToken, parseToken } from '../../core/tokens/token.js';
import type { AccountId, ConnectionId } from '../../core/model/ids.js';
import { PublicKeyTakenError, type Connects, type DeviceSession, type StoredToken } from '../../core/ports/connects.js';
import type { PeerRole } from '../../core/ports/metrics.js';
import type { Clock, Random } from '../../core/support/clock.js';
import type { AnyConnected, ConnectedClient, ConnectedGateway, ConnectedRelay } from '../connected-peer.js';
import type { ConnectGuard, DeviceIdentity } from './connect-guard.js';
import {
  claimedDeviceOf,
  clientParams,
  gatewayParams,
  relayParams,
  tokenOf,
  type DeviceParams,
} from './connect-params.js';
import { locationOf } from './geo.js';
import type { GeoIp } from '../../core/ports/geo-ip.js';
import { realIp, type TrustedProxies } from './real-ip.js';
import { ACCOUNT_DISABLED, INVALID_TOKEN, invalidParams, MISSING_TOKEN, type Refusal } from './refusal.js';
import type { UpgradeRequest } from './upgrade-request.js';

export type Authenticated<Peer> =
  { readonly ok: true; readonly peer: Peer } | { readonly ok: false; readonly refusal: Refusal };

export class Authenticator {
  #upgrades = 0;

  constructor(
    private readonly connects: Connects,
    private readonly guard: ConnectGuard,
    private readonly place: { readonly trusted: TrustedProxies; readonly geoIp: GeoIp | undefined },
    private readonly clock: Clock,
    private readonly random: Random,
  ) {}

  /** Rejects only when the database does: the caller answers 503. */
  async authenticate(role: PeerRole, request: UpgradeRequest): Promise<Authenticated<AnyConnected>> {
    const token = await this.#bearer(role, request);
    if (!('id' in token)) return { ok: false, refusal: token };
    try {
      switch (role) {
        case 'client':
          return await this.#client(token, request);
        case 'gateway':
          return await this.#gateway(token, request);
        case 'relay':
          return this.#relay(token, request);
      }
    } catch (error) {
      if (!(error instanceof PublicKeyTakenError)) throw error;
      return { ok: false, refusal: invalidParams({ public_key: ['has already been taken'] }) };
    }
  }

  async #bearer(role: PeerRole, request: UpgradeRequest): Promise<StoredToken | Refusal> {
    const text = tokenOf(request);
    if (text === undefined) return MISSING_TOKEN;
    const parsed = parseToken(text);
    if (!parsed.ok || parsed.kind !== role) return INVALID_TOKEN;
    const address = realIp(request, this.place.trusted);
    const tooFast = this.guard.rate(`${address} ${parsed.tokenId} ${claimedDeviceOf(request)}`);
    if (tooFast) return tooFast;
    const stored = await this.connects.findToken(parsed.tokenId);
    const digest = digestToken(parsed.nonce, parsed.material, stored?.salt ?? NO_SALT);
    if (stored?.kind !== role || !digestsEqual(digest, stored.digest)) return INVALID_TOKEN;
    if (stored.expiresAt !== null && stored.expiresAt <= this.clock.now()) return INVALID_TOKEN;
    if (!stored.bearerEnabled) return INVALID_TOKEN;
    // Gateways and relays of a disabled account stay: they hold no client that is let in (decisions section 5).
    if (role === 'client' && stored.accountDisabledAt !== null) return ACCOUNT_DISABLED;
    return stored;
  }

  async #client(token: StoredToken, request: UpgradeRequest): Promise<Authenticated<ConnectedClient>> {
    const read = clientParams(request, this.random);
    if (!read.ok) return { ok: false, refusal: invalidParams(read.faults) };
    const { accountId, actorId } = token;
    if (accountId === null || actorId === null) return { ok: false, refusal: INVALID_TOKEN };
    const { params } = read;
    const identity = deviceIdentity('client', [accountId, actorId, params.externalId], params.publicKey);
    const refusal = this.guard.admit(identity);
    if (refusal) return { ok: false, refusal };
    const session = this.#session(token, params, request);
    const device = await this.connects.connectClient({ accountId, actorId, ...params, session });
    const peer = {
      role: 'client' as const,
      clientId: device.id,
      actorId,
      ...this.#facts(accountId, identity, session, device),
    };
    return { ok: true, peer };
  }

  async #gateway(token: StoredToken, request: UpgradeRequest): Promise<Authenticated<ConnectedGateway>> {
    const read = gatewayParams(request, this.random);
    if (!read.ok) return { ok: false, refusal: invalidParams(read.faults) };
    const { accountId, siteId } = token;
    if (accountId === null || siteId === null) return { ok: false, refusal: INVALID_TOKEN };
    const { params } = read;
    const identity = deviceIdentity('gateway', [accountId, siteId, params.externalId], params.publicKey);
    const refusal = this.guard.admit(identity);
    if (refusal) return { ok: false, refusal };
    const session = this.#session(token, params, request);
    const device = await this.connects.connectGateway({ accountId, siteId, ...params, session });
    const peer = {
      role: 'gateway' as const,
      gatewayId: device.id,
      siteId,
      ...this.#facts(accountId, identity, session, device),
    };
    return { ok: true, peer };
  }

  /** No row anywhere: a relay is online or it is not (D5). */
  #relay(token: StoredToken, request: UpgradeRequest): Authenticated<ConnectedRelay> {
    const read = relayParams(request);
    if (!read.ok) return { ok: false, refusal: invalidParams(read.faults) };
    const { version, ipv4, ipv6, port } = read.params;
    const identity = deviceIdentity('relay', [token.accountId ?? '', ipv4 ?? ipv6 ?? '', `${port}`], null);
    const refusal = this.guard.admit(identity);
    if (refusal) return { ok: false, refusal };
    const { latitude, longitude } = locationOf(request, realIp(request, this.place.trusted), this.place);
    this.#upgrades += 1;
    const peer = {
      role: 'relay' as const,
      accountId: token.accountId,
      connectionId: this.random.uuid() as ConnectionId,
      upgradeNumber: this.#upgrades,
      tokenId: token.id,
      identity,
      ...{ version, latitude, longitude, ipv4, ipv6, port },
    };
    return { ok: true, peer };
  }

  #session(token: StoredToken, params: DeviceParams, request: UpgradeRequest): DeviceSession {
    const remoteIp = realIp(request, this.place.trusted);
    return {
      connectionId: this.random.uuid() as ConnectionId,
      tokenId: token.id,
      publicKey: params.publicKey,
      remoteIp,
      ...locationOf(request, remoteIp, this.place),
      userAgent: params.userAgent,
      version: params.version,
      at: this.clock.now(),
    };
  }

  #facts(
    accountId: AccountId,
    identity: DeviceIdentity,
    session: DeviceSession,
    device: { readonly pskBase: Uint8Array; readonly changedPublishedRow: boolean },
  ): Omit<ConnectedClient, 'role' | 'clientId' | 'actorId'> {
    this.#upgrades += 1;
    const { connectionId, tokenId, version, publicKey, remoteIp, region, latitude, longitude } = session;
    return {
      accountId,
      identity,
      connectionId,
      upgradeNumber: this.#upgrades,
      tokenId,
      version,
      publicKey,
      pskBase: device.pskBase,
      remoteIp,
      region,
      latitude,
      longitude,
      mustSeeConnect: device.changedPublishedRow,
    };
  }
}

/** What identifies a device: the key of its row, or for relays the address. JSON, so that no two lists read the same. */
function deviceIdentity(role: PeerRole, key: readonly string[], publicKey: string | null): DeviceIdentity {
  return { device: JSON.stringify([role, ...key]), publicKey };
}

/** An unknown token costs the same digest as a known one. */
const NO_SALT = new Uint8Array(16);
