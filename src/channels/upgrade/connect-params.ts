/**
 * The query parameters of an upgrade, read once into typed values (wire-protocol.md 1.2). Unknown parameters, a version
 * or an account id among them, are ignored; the first of a repeated one counts.
 */
import { judgePublicKey } from '../../core/derivations/public-key.js';
import type { Random } from '../../core/support/clock.js';
import { addressText, parseIpEndpoint } from '../../protocol/ip-endpoint.js';
import { generatedClientName, generatedGatewayName } from './generated-name.js';
import { headerOf } from './upgrade-request.js';
import type { UpgradeRequest } from './upgrade-request.js';
import { versionOf } from './user-agent.js';

/** What is wrong, by parameter: the body of a 422. Never holds a value that the peer sent. */
export type Faults = Readonly<Record<string, readonly string[]>>;

export type Params<T> = { readonly ok: true; readonly params: T } | { readonly ok: false; readonly faults: Faults };

export interface PeerParams {
  readonly userAgent: string;
  readonly version: string;
}

export interface DeviceParams extends PeerParams {
  readonly externalId: string;
  /** 44 characters of base64, as sent. */
  readonly publicKey: string;
  /** Equal for two keys that mean one point: what must be unique. */
  readonly pointKey: string;
}

export interface ClientParams extends DeviceParams {
  /** As sent, else generated. Only a new device takes it. */
  readonly name: string;
  readonly deviceSerial: string | null;
  readonly deviceUuid: string | null;
  readonly identifierForVendor: string | null;
  readonly firebaseInstallationId: string | null;
}

export interface GatewayParams extends DeviceParams {
  /** As sent, and then it replaces the stored one; null when none came. */
  readonly name: string | null;
  /** For a new device: `name`, else generated. */
  readonly newName: string;
}

/** At least one address is not null. */
export interface RelayParams extends PeerParams {
  readonly ipv4: string | null;
  readonly ipv6: string | null;
  readonly port: number;
  readonly name: string | null;
}

/**
 * The token, from `X-Authorization: Bearer …` before the parameter. `undefined` when there is none, or an empty one:
 * 401, before any parameter is looked at.
 */
export function tokenOf(request: UpgradeRequest): string | undefined {
  const bearer = /^Bearer +([^ ]{1,4096})$/i.exec(headerOf(request, 'x-authorization')?.trim() ?? '')?.[1];
  const token = bearer ?? queryOf(request).get('token') ?? '';
  return token === '' ? undefined : token;
}

/** What a request says of its device, unread: for counting, before anything is known to be true. */
export function claimedDeviceOf(request: UpgradeRequest): string {
  const query = queryOf(request);
  const claims = ['external_id', 'ipv4', 'ipv6', 'port'].map((name) => query.get(name) ?? '');
  return claims.join(' ').slice(0, MAX_TEXT_LENGTH);
}

/** The serializer that is asked for; `undefined` when the peer does not care. */
export function vsnOf(request: UpgradeRequest): string | undefined {
  return queryOf(request).get('vsn') ?? undefined;
}

export function clientParams(request: UpgradeRequest, random: Random): Params<ClientParams> {
  const read = new ParamReader(request);
  return read.result({
    ...deviceParams(read),
    name: read.optionalText('name') ?? generatedClientName(random),
    deviceSerial: read.optionalText('device_serial'),
    deviceUuid: read.optionalText('device_uuid'),
    identifierForVendor: read.optionalText('identifier_for_vendor'),
    firebaseInstallationId: read.optionalText('firebase_installation_id'),
  });
}

export function gatewayParams(request: UpgradeRequest, random: Random): Params<GatewayParams> {
  const read = new ParamReader(request);
  const name = read.optionalText('name');
  return read.result({ ...deviceParams(read), name, newName: name ?? generatedGatewayName(random) });
}

export function relayParams(request: UpgradeRequest): Params<RelayParams> {
  const read = new ParamReader(request);
  const addresses = { ipv4: read.address('ipv4', 4), ipv6: read.address('ipv6', 6) };
  if (read.isAbsent('ipv4') && read.isAbsent('ipv6')) read.fault('ipv4', BLANK);
  return read.result({ ...read.peer(), ...addresses, port: read.port(), name: read.optionalText('name') });
}

const BLANK = "can't be blank";
const INVALID = 'is invalid';
const MAX_TEXT_LENGTH = 255;
const DEFAULT_RELAY_PORT = 3478;

function queryOf(request: UpgradeRequest): URLSearchParams {
  const question = request.url.indexOf('?');
  return new URLSearchParams(question < 0 ? '' : request.url.slice(question + 1));
}

function deviceParams(read: ParamReader): DeviceParams {
  return { ...read.peer(), externalId: read.requiredText('external_id'), ...read.publicKey() };
}

/** Reads parameters and remembers what is wrong with them. A value of a faulty parameter is a stand-in, never returned. */
class ParamReader {
  readonly #query: URLSearchParams;
  readonly #faults = new Map<string, readonly string[]>();

  constructor(private readonly request: UpgradeRequest) {
    this.#query = queryOf(request);
  }

  result<T>(params: T): Params<T> {
    if (this.#faults.size === 0) return { ok: true, params };
    return { ok: false, faults: Object.fromEntries(this.#faults) };
  }

  fault(name: string, message: string): void {
    this.#faults.set(name, [...(this.#faults.get(name) ?? []), message]);
  }

  isAbsent(name: string): boolean {
    return (this.#query.get(name) ?? '').trim() === '';
  }

  /** Trimmed, 1 to 255 characters; null when absent or blank. */
  optionalText(name: string): string | null {
    const text = (this.#query.get(name) ?? '').trim();
    if (text === '') return null;
    // PostgreSQL has no NUL. U+FFFD is what bytes that are no UTF-8 become: what the peer meant is lost.
    if (text.includes('\0') || text.includes('\uFFFD')) this.fault(name, INVALID);
    else if ([...text].length > MAX_TEXT_LENGTH) this.fault(name, `should be at most ${MAX_TEXT_LENGTH} character(s)`);
    return text;
  }

  requiredText(name: string): string {
    const text = this.optionalText(name);
    if (text === null) this.fault(name, BLANK);
    return text ?? '';
  }

  publicKey(): Pick<DeviceParams, 'publicKey' | 'pointKey'> {
    const judged = judgePublicKey(this.#query.get('public_key') ?? '');
    if (judged.ok) return { publicKey: judged.publicKey, pointKey: judged.pointKey };
    if (this.isAbsent('public_key')) this.fault('public_key', BLANK);
    else this.fault('public_key', judged.why === 'wrong-length' ? 'should be 44 character(s)' : INVALID);
    return { publicKey: '', pointKey: '' };
  }

  /** Canonical text. */
  address(name: string, version: 4 | 6): string | null {
    if (this.isAbsent(name)) return null;
    const endpoint = parseIpEndpoint((this.#query.get(name) ?? '').trim());
    if (endpoint?.address.version === version && endpoint.port === undefined) return addressText(endpoint.address);
    this.fault(name, INVALID);
    return null;
  }

  port(): number {
    if (this.isAbsent('port')) return DEFAULT_RELAY_PORT;
    const text = this.#query.get('port') ?? '';
    const port = /^\d{1,5}$/.test(text) ? Number(text) : 0;
    if (port < 1 || port > 65_535) this.fault('port', INVALID);
    return port;
  }

  peer(): PeerParams {
    const userAgent = headerOf(this.request, 'user-agent') ?? '';
    const version = versionOf(userAgent);
    if (version === undefined) this.fault('last_seen_user_agent', INVALID);
    return { userAgent, version: version ?? '' };
  }
}
