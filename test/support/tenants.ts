/**
 * Accounts that are the same in everything the schema lets accounts share, and that differ in marks by which a byte on a
 * wire can be told to be of the one or the other.
 */
import { randomBytes, randomUUID } from 'node:crypto';
import type { WebSocket } from 'ws';
import type { AccountId, ActorId, GroupId, PolicyId, ResourceId, SiteId } from '../../src/core/model/ids.js';
import { aToken } from './demo-account.js';
import { relayEntries, type RelayEntry, relayIdOf, RELAYS_UNTIL } from './derivations.js';
import { type Json, keyOf } from './raw-peer.js';
import { joinRelay, type TestRelay } from './relays.js';
import { Scene } from './scene.js';
import type { TestServer } from './test-server.js';
import { Transcript } from './transcript.js';

/** The uuids that every tenant of a test has, each for its own row. */
export type SharedIds = Readonly<Record<(typeof SHARED)[number], string>>;

const SHARED = [
  ...(['actor', 'group', 'membership', 'provider', 'identity', 'site', 'git', 'office'] as const),
  ...(['gitPolicy', 'officePolicy', 'client', 'gateway'] as const),
] as const;

export function sharedIds(): SharedIds {
  return Object.fromEntries(SHARED.map((name) => [name, randomUUID()])) as SharedIds;
}

export const SITE_NAME = 'Frankfurt';

export interface KnownRelay extends TestRelay {
  readonly addrs: readonly string[];
}

/** What the peers that came with a token were sent, by that token. */
export class Recordings {
  readonly #byToken = new Map<string, Transcript[]>();

  /** Keeps every byte the peer is sent from now on. */
  record(peer: { readonly ws: WebSocket }, token: string): void {
    this.#byToken.set(token, [...this.with(token), new Transcript(peer.ws)]);
  }

  with(token: string): readonly Transcript[] {
    return this.#byToken.get(token) ?? [];
  }
}

export class Tenant {
  readonly relays: KnownRelay[] = [];
  /** What is never to be told to anybody. */
  readonly secrets = new Set<string>();
  /** What its own peers may be told, and no others; further marks are for a test to add. */
  readonly marks: Set<string>;
  readonly #tokens = new Set<string>();

  private constructor(
    readonly name: string,
    /** Tells it apart where a name does not fit: in addresses. */
    readonly number: number,
    readonly shared: SharedIds,
    readonly scene: Scene,
    /** Unix second at which the token of its client ends; another one in each tenant. */
    readonly expiresAt: number,
    private readonly recordings: Recordings,
  ) {
    const { slug, gitName, gitAddress, officeAddress, searchDomain, dnsServer } = this;
    this.marks = new Set([slug, gitName, gitAddress, officeAddress, searchDomain, dnsServer]);
  }

  /** With rows, tokens and one relay, and nobody else connected. */
  static async make(
    server: TestServer,
    recordings: Recordings,
    { name, number, shared }: { readonly name: string; readonly number: number; readonly shared: SharedIds },
  ): Promise<Tenant> {
    const accountId = randomUUID() as AccountId;
    const expiresAt = Math.floor(Date.now() / 1000) + number * 86_400;
    await server.db.query('INSERT INTO accounts (id) VALUES ($1)', [accountId]);
    await server.db.sql(rowsOf(accountId, shared));
    const { actor: actorId, site: siteId } = shared;
    const client = await aToken(server.db, 'client', { accountId, actorId, expiresAt: new Date(expiresAt * 1000) });
    const gateway = await aToken(server.db, 'gateway', { accountId, siteId });
    const scene = new Scene(server, {
      accountId,
      actorId: actorId as ActorId,
      groupId: shared.group as GroupId,
      siteId: siteId as SiteId,
      resourceId: shared.git as ResourceId,
      policyId: shared.gitPolicy as PolicyId,
      clientTokenId: client.id,
      gatewayTokenId: gateway.id,
      clientToken: client.text,
      gatewayToken: gateway.text,
    });
    const tenant = new Tenant(name, number, shared, scene, expiresAt, recordings);
    tenant.secrets.add(accountId);
    for (const token of [client, gateway]) tenant.#keep(token);
    await server.db.sql(`
      UPDATE accounts SET slug = '${tenant.slug}', config = '${tenant.config()}' WHERE id = '${accountId}';
      UPDATE resources SET name = '${tenant.gitName}', address = '${tenant.gitAddress}' ${tenant.row('git')};
      UPDATE resources SET address = '${tenant.officeAddress}' ${tenant.row('office')};
      UPDATE tokens SET identity_id = '${shared.identity}' WHERE id = '${client.id}'`);
    await tenant.joinRelay();
    return tenant;
  }

  get slug(): string {
    return `${this.name}_${this.scene.ids.accountId.slice(0, 8)}`;
  }

  get gitName(): string {
    return `Git of ${this.name}`;
  }

  get gitAddress(): string {
    return `*.git.${this.name}.example`;
  }

  get officeAddress(): string {
    return `10.1${this.number}.0.0/16`;
  }

  get searchDomain(): string {
    return `search.${this.name}.example`;
  }

  get dnsServer(): string {
    return `192.0.2.${this.number}:53`;
  }

  /** For `accounts.config`, with another search domain if told. */
  config(searchDomain = this.searchDomain): string {
    const clients_upstream_dns = [{ protocol: 'ip_port', address: this.dnsServer }];
    return JSON.stringify({ search_domain: searchDomain, clients_upstream_dns });
  }

  /** The WHERE of its row with this shared id. */
  row(name: keyof SharedIds): string {
    return `WHERE account_id = '${this.scene.ids.accountId}' AND id = '${this.shared[name]}'`;
  }

  /** Its resources as its clients are told of them. */
  git(changed: Json = {}): Json {
    return { ...this.gitForGateway(), ...this.#forClients(), ip_stack: 'dual', ...changed };
  }

  office(changed: Json = {}): Json {
    return { ...this.officeForGateway(), ...this.#forClients(), ...changed };
  }

  gitForGateway(changed: Json = {}): Json {
    const { gitAddress: address, gitName: name } = this;
    return { id: this.shared.git, type: 'dns', address, name, filters: [], ...changed };
  }

  officeForGateway(): Json {
    return { id: this.shared.office, type: 'cidr', address: this.officeAddress, name: 'Office', filters: [] };
  }

  /** What its client is to be told of its relays, and what its gateway. */
  entries(role: 'client' | 'gateway', relays: readonly KnownRelay[] = this.relays): RelayEntry[] {
    const expiresAt = role === 'client' ? this.expiresAt : RELAYS_UNTIL;
    return relays.flatMap((relay) => relayEntries(relay, keyOf(role), expiresAt));
  }

  /** Another relay, with an address of its own, in place of those that have left. */
  async joinRelay(): Promise<KnownRelay> {
    const token = await this.token('relay');
    const place = this.number + 100 + this.#relaysMade++; // leaves room for a few dozen beside the other tenant's
    const [ipv4, ipv6] = [`198.51.${this.number}.${place}`, `2001:db8:${this.number}:${place}::7`];
    const stampSecret = randomBytes(32).toString('hex');
    const options = { token, stampSecret, query: { ipv4, ipv6, port: '3478' } };
    const relay = { ...(await joinRelay(this.scene.server.wsUrl, options)), addrs: [`${ipv4}:3478`, `[${ipv6}]:3478`] };
    this.relays.splice(0, this.relays.length, ...this.relays.filter(({ peer }) => !peer.isClosed), relay);
    this.secrets.add(stampSecret);
    this.marks.add(relayIdOf(stampSecret));
    for (const role of ['client', 'gateway'] as const) {
      for (const { addr, password } of this.entries(role, [relay])) this.marks.add(addr).add(password);
    }
    return relay;
  }

  #relaysMade = 0;

  /** The text of a further token of its actor, its site or itself. */
  async token(kind: 'client' | 'gateway' | 'relay'): Promise<string> {
    const { accountId } = this.scene.ids;
    const { actor: actorId, site: siteId } = this.shared;
    const owner = { accountId, ...(kind === 'client' && { actorId }), ...(kind === 'gateway' && { siteId }) };
    const token = await aToken(this.scene.server.db, kind, owner);
    this.#keep(token);
    return token.text;
  }

  get transcripts(): Transcript[] {
    return [...this.#tokens].flatMap((token) => this.recordings.with(token));
  }

  /** Everything its peers were sent, one frame each. */
  get heard(): string[] {
    return this.transcripts.flatMap(({ frames }) => frames.map(({ text }) => text));
  }

  /** What it would give away: what is never told, what is told to its own, and what its own were told of flows. */
  get taint(): ReadonlySet<string> {
    return new Set([...this.secrets, ...this.marks, ...this.heard.flatMap(secretsOfFlow)]);
  }

  async leave(): Promise<void> {
    await this.scene.leaveAll();
    for (const { peer } of this.relays) if (!peer.isClosed) await peer.close();
  }

  #keep(token: { readonly id: string; readonly text: string }): void {
    this.#tokens.add(token.text);
    this.secrets.add(token.text).add(token.id);
  }

  #forClients(): Json {
    return { address_description: null, gateway_groups: [{ id: this.shared.site, name: SITE_NAME }] };
  }
}

/** Frames that a peer was sent and that hold something of another tenant. */
export function leaks(of: Tenant, to: Tenant): string[] {
  const { taint } = of;
  const found = to.heard.flatMap((frame) =>
    [...taint].filter((mark) => frame.includes(mark)).map((mark) => `${mark} of ${of.name} in ${frame}`),
  );
  const told = of.heard.flatMap((frame) =>
    [...of.secrets].filter((secret) => frame.includes(secret)).map((secret) => `secret ${secret} in ${frame}`),
  );
  return [...found, ...told];
}

/** Ref, preshared key and ICE passwords of a flow: all of them are made for one pair of one tenant. */
function secretsOfFlow(frame: string): string[] {
  if (!/^\{.*"event":"(authorize_flow|request_connection|allow_access)"/.test(frame)) return [];
  const { payload } = JSON.parse(frame) as { payload: Record<string, Record<string, string>> & { ref: string } };
  const { ref, client, client_ice_credentials, gateway_ice_credentials } = payload;
  const secrets = [ref, client?.['preshared_key'], client_ice_credentials?.['password']];
  return [...secrets, gateway_ice_credentials?.['password']].filter((secret) => secret !== undefined);
}

/** The rows in which tenants do not differ but for their account. */
function rowsOf(accountId: string, ids: SharedIds): string {
  const insert = (table: string, row: Readonly<Record<string, string>>): string =>
    `INSERT INTO ${table} (account_id, ${Object.keys(row).join(', ')})
      VALUES ('${[accountId, ...Object.values(row)].join("', '")}')`;
  return [
    insert('actors', { id: ids.actor, name: 'Ada' }),
    insert('auth_providers', { id: ids.provider }),
    insert('identities', {
      ...{ id: ids.identity, actor_id: ids.actor, provider_id: ids.provider, provider_identifier: 'ada' },
    }),
    insert('groups', { id: ids.group, name: 'Engineers' }),
    insert('memberships', { id: ids.membership, actor_id: ids.actor, group_id: ids.group }),
    insert('sites', { id: ids.site, name: SITE_NAME }),
    insert('resources', { id: ids.git, type: 'dns', name: 'Git', address: 'git.example' }),
    insert('resources', { id: ids.office, type: 'cidr', name: 'Office', address: '10.0.0.0/16' }),
    insert('resource_sites', { resource_id: ids.git, site_id: ids.site }),
    insert('resource_sites', { resource_id: ids.office, site_id: ids.site }),
    insert('policies', { id: ids.gitPolicy, group_id: ids.group, resource_id: ids.git }),
    insert('policies', { id: ids.officePolicy, group_id: ids.group, resource_id: ids.office }),
    insert('clients', { id: ids.client, actor_id: ids.actor, external_id: 'client', name: 'laptop' }),
    insert('gateways', { id: ids.gateway, site_id: ids.site, external_id: 'gateway', name: 'gw-1' }),
  ].join(';\n');
}
