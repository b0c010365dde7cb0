/**
 * The accounts of a campaign: everything that may exist in them, with fixed ids, so that an operation can name any row
 * whether or not it is there at the moment. Whatever belongs to an account carries its mark, by which a byte on a wire can
 * be told to be of this account (S5).
 */
import { createHash } from 'node:crypto';
import type { TokenId } from '../../src/core/model/ids.js';
import { digestToken, mintToken, TOKEN_SALT_BYTES, TOKEN_SECRET_BYTES } from '../../src/core/tokens/token.js';

const KINDS = [
  ...(['account', 'actor', 'provider', 'identity', 'group', 'site', 'resource', 'policy', 'membership'] as const),
  ...(['clientToken', 'gatewayToken', 'client', 'gateway'] as const),
] as const;

type Kind = (typeof KINDS)[number];

export interface Device {
  readonly role: 'client' | 'gateway';
  readonly account: number;
  readonly externalId: string;
  readonly tokenId: string;
  readonly token: string;
}

const ACTORS = 4;
const GROUPS = 4;
const SITES = 3;
const RESOURCES = 8;
const CLIENTS_PER_ACTOR = 2;

export class ChaosAccount {
  readonly id: string;
  readonly actors = indices(ACTORS);
  readonly groups = indices(GROUPS);
  readonly sites = indices(SITES);
  readonly resources = indices(RESOURCES);

  /** @param number 1 to 9 */
  constructor(readonly number: number) {
    this.id = this.idOf('account', 0);
  }

  idOf(kind: Kind, index: number): string {
    const place = KINDS.indexOf(kind).toString(16).padStart(3, '0');
    return `${markOf(this.number)}-0000-4000-8${place}-${index.toString(16).padStart(12, '0')}`;
  }

  /** A name nothing else ever has; `serial` tells which of two was given later by the same hand. */
  tag(serial: number): string {
    return `acct${this.number}-${serial}`;
  }

  address(resource: number, variant = 0): string {
    if (resource % 2 === 0) return `r${resource}v${variant}.acct${this.number}.example`;
    return `10.${100 + this.number}.${resource * 16 + variant}.0/24`;
  }

  clientIndex(actor: number, place: number): number {
    return actor * CLIENTS_PER_ACTOR + place;
  }

  get devices(): readonly Device[] {
    const account = this.number;
    const clients = this.actors.flatMap((actor) =>
      indices(CLIENTS_PER_ACTOR).map((place): Device => ({
        ...{ role: 'client', account, externalId: this.#clientName(actor, place) },
        tokenId: this.idOf('clientToken', actor),
        token: this.#tokenOf('clientToken', actor).text,
      })),
    );
    const gateways = this.sites.map((site): Device => ({
      ...{ role: 'gateway', account, externalId: `gw-acct${account}-${site}` },
      tokenId: this.idOf('gatewayToken', site),
      token: this.#tokenOf('gatewayToken', site).text,
    }));
    return [...clients, ...gateways];
  }

  /**
   * Statements that make the whole account as it is at first. Rows that are there already are left alone; resources that
   * are not come with names of their own.
   */
  seed(serial: () => number): string[] {
    return [
      this.insert(
        'accounts',
        { id: this.id, name: `Account acct${this.number}-`, slug: `acct${this.number}_slug` },
        true,
      ),
      this.#insert('auth_providers', { id: this.idOf('provider', 0), name: `Provider acct${this.number}-` }),
      ...this.actors.flatMap((actor) => this.#seedActor(actor)),
      ...this.groups.map((group) =>
        this.#insert('groups', { id: this.idOf('group', group), name: `acct${this.number}-g` }),
      ),
      ...this.sites.flatMap((site) => this.#seedSite(site)),
      ...this.actors.flatMap((actor) => [actor, (actor + 1) % GROUPS].map((group) => this.membership(actor, group))),
      ...this.resources.flatMap((resource) => [
        this.resource(resource, this.tag(serial())),
        this.link(resource, resource % SITES),
        ...(resource % 3 === 0 ? [this.link(resource, (resource + 1) % SITES)] : []),
        ...this.groups.filter((group) => (group + resource) % 2 === 0).map((group) => this.policy(group, resource)),
      ]),
    ];
  }

  /** The WHERE of one of its rows. */
  row(kind: Kind, index: number): string {
    return `WHERE account_id = '${this.id}' AND id = '${this.idOf(kind, index)}'`;
  }

  membership(actor: number, group: number, variant = 0): string {
    return this.#insert('memberships', {
      id: this.idOf('membership', variant * 256 + actor * 16 + group),
      actor_id: this.idOf('actor', actor),
      group_id: this.idOf('group', group),
    });
  }

  policy(group: number, resource: number, conditions = '[]'): string {
    return this.#insert('policies', {
      id: this.idOf('policy', group * 16 + resource),
      group_id: this.idOf('group', group),
      resource_id: this.idOf('resource', resource),
      conditions,
    });
  }

  resource(resource: number, name: string): string {
    const type = resource % 2 === 0 ? 'dns' : 'cidr';
    return this.#insert('resources', {
      id: this.idOf('resource', resource),
      type,
      name,
      address: this.address(resource),
    });
  }

  link(resource: number, site: number): string {
    return this.#insert('resource_sites', {
      resource_id: this.idOf('resource', resource),
      site_id: this.idOf('site', site),
    });
  }

  client(actor: number, place: number): string {
    return this.#device('clients', {
      id: this.idOf('client', this.clientIndex(actor, place)),
      actor_id: this.idOf('actor', actor),
      external_id: this.#clientName(actor, place),
      name: `acct${this.number}-client`,
    });
  }

  /** With its secret: a deleted token takes its secret with it. */
  clientToken(actor: number): string {
    const owner = { actor_id: this.idOf('actor', actor), identity_id: this.idOf('identity', actor) };
    return this.#token('clientToken', actor, { kind: 'client', ...owner });
  }

  /** One statement; nothing happens when such a row is there. */
  insert(table: string, row: Readonly<Record<string, string>>, isAccount = false): string {
    const columns = isAccount ? row : { account_id: this.id, ...row };
    const values = Object.values(columns).map((value) => `'${value.replaceAll("'", "''")}'`);
    return `INSERT INTO ${table} (${Object.keys(columns).join(', ')}) VALUES (${values.join(', ')}) ON CONFLICT DO NOTHING`;
  }

  /** A device that is there under another id, since it came back before its row did, is left alone: addresses are claimed first. */
  #device(table: string, row: Readonly<Record<string, string> & Record<'id' | 'external_id', string>>): string {
    const columns = { account_id: this.id, ...row };
    const values = Object.values(columns).map((value) => `'${value}'`);
    return `INSERT INTO ${table} (${Object.keys(columns).join(', ')}) SELECT ${values.join(', ')} WHERE NOT EXISTS
      (SELECT FROM ${table} WHERE account_id = '${this.id}' AND (id = '${row.id}' OR external_id = '${row.external_id}'))`;
  }

  #insert(table: string, row: Readonly<Record<string, string>>): string {
    return this.insert(table, row);
  }

  #seedActor(actor: number): string[] {
    return [
      this.#insert('actors', { id: this.idOf('actor', actor), name: `acct${this.number}-actor` }),
      this.#insert('identities', {
        id: this.idOf('identity', actor),
        actor_id: this.idOf('actor', actor),
        provider_id: this.idOf('provider', 0),
        provider_identifier: `acct${this.number}-${actor}`,
      }),
      this.clientToken(actor),
      ...indices(CLIENTS_PER_ACTOR).map((place) => this.client(actor, place)),
    ];
  }

  #seedSite(site: number): string[] {
    return [
      this.#insert('sites', { id: this.idOf('site', site), name: `acct${this.number}-site${site}` }),
      this.#token('gatewayToken', site, { kind: 'gateway', site_id: this.idOf('site', site) }),
      this.#device('gateways', {
        id: this.idOf('gateway', site),
        site_id: this.idOf('site', site),
        external_id: `gw-acct${this.number}-${site}`,
        name: `acct${this.number}-gateway`,
      }),
    ];
  }

  #token(kind: 'clientToken' | 'gatewayToken', index: number, owner: Readonly<Record<string, string>>): string {
    const { id, salt, digest } = this.#tokenOf(kind, index);
    // token_secrets has no account and no default; ON CONFLICT covers it like every other row.
    return `${this.insert('tokens', { id, account_id: this.id, ...owner }, true)};
      INSERT INTO token_secrets (token_id, salt, digest) VALUES ('${id}', '\\x${salt}', '\\x${digest}') ON CONFLICT DO NOTHING`;
  }

  #tokenOf(kind: 'clientToken' | 'gatewayToken', index: number) {
    const id = this.idOf(kind, index);
    const secret = bytesOf(`secret ${id}`, TOKEN_SECRET_BYTES);
    const salt = bytesOf(`salt ${id}`, TOKEN_SALT_BYTES);
    const digest = Buffer.from(digestToken('', secret, salt)).toString('hex');
    const text = mintToken(kind === 'clientToken' ? 'client' : 'gateway', id as TokenId, secret);
    return { id, text, salt: salt.toString('hex'), digest };
  }

  #clientName(actor: number, place: number): string {
    return `cl-acct${this.number}-${actor}-${place}`;
  }
}

/** Of which accounts a text speaks. */
export function accountsNamedIn(text: string): Set<number> {
  return new Set([...text.matchAll(MARKS)].map((match) => Number(match.slice(1).find((digit) => digit !== undefined))));
}

/** As whole words: five letters also come up in random base64, once in a few dozen campaigns. */
const MARKS = /\bacc0000(\d)-|\bacct(\d)(?=[-._"])|\b10\.10(\d)\./g;

function markOf(account: number): string {
  return `acc0000${account}`;
}

function bytesOf(text: string, length: number): Buffer {
  return createHash('sha256').update(text).digest().subarray(0, length);
}

function indices(count: number): readonly number[] {
  return Array.from({ length: count }, (_, index) => index);
}
