/**
 * What a person or a program does to the rows, as statements of one transaction: the alphabet of a campaign. Most of it takes
 * away, gives back or moves; each is said without looking whether the row is there.
 */
import type { SeededRandom } from '../support/seeded-random.js';
import type { ChaosAccount } from './chaos-account.js';

export interface Operation {
  readonly name: string;
  readonly weight: number;
  /** Statements of one transaction. */
  readonly make: (account: ChaosAccount, random: SeededRandom, serial: () => number) => readonly string[];
  /** How the transaction ends; it commits unless told. */
  readonly end?: 'rollback' | 'prepared' | 'prepared-rollback';
}

const now = 'now()';

export const OPERATIONS: readonly Operation[] = [
  { name: 'disable policy', weight: 6, make: (a, r) => [setPolicy(a, r, `disabled_at = ${now}`)] },
  { name: 'enable policies', weight: 6, make: (a, r) => [setPolicies(a, r, 'disabled_at = NULL')] },
  { name: 'delete policy', weight: 5, make: (a, r) => [`DELETE FROM policies ${somePolicy(a, r)}`] },
  { name: 'insert policies', weight: 9, make: (a, r) => [aPolicy(a, r), aPolicy(a, r)] },
  {
    name: 'move policy to another resource',
    weight: 4,
    make: (a, r) => [setPolicy(a, r, `resource_id = '${a.idOf('resource', r.pick(a.resources))}'`)],
  },
  {
    name: 'move policy to another group',
    weight: 3,
    make: (a, r) => [setPolicy(a, r, `group_id = '${a.idOf('group', r.pick(a.groups))}'`)],
  },
  {
    name: 'policy there and back in one commit',
    weight: 2,
    make: (a, r) => {
      const row = somePolicy(a, r);
      return [`UPDATE policies SET disabled_at = now() ${row}`, `UPDATE policies SET disabled_at = NULL ${row}`];
    },
  },
  { name: 'conditions that hold', weight: 5, make: (a, r) => [setPolicy(a, r, conditions(r.pick(HOLDING)))] },
  { name: 'conditions that do not', weight: 4, make: (a, r) => [setPolicy(a, r, conditions(r.pick(VIOLATED)))] },
  { name: 'leave group', weight: 6, make: (a, r) => [`DELETE FROM memberships ${someMembership(a, r)}`] },
  {
    name: 'join groups',
    weight: 8,
    make: (a, r) => [0, 1].map(() => a.membership(r.pick(a.actors), r.pick(a.groups), r.between(0, 3))),
  },
  {
    name: 'membership under a new id in one commit',
    weight: 3,
    make: (a, r) => {
      const [actor, group] = [r.pick(a.actors), r.pick(a.groups)];
      const where = `WHERE account_id = '${a.id}' AND actor_id = '${a.idOf('actor', actor)}' AND group_id = '${a.idOf('group', group)}'`;
      return [`DELETE FROM memberships ${where}`, a.membership(actor, group, r.between(0, 3))];
    },
  },
  {
    name: 'rename resource',
    weight: 8,
    make: (a, r, serial) => [setResource(a, r, `name = '${a.tag(serial())}'`)],
  },
  {
    name: 'rename resource twice in one commit',
    weight: 2,
    make: (a, r, serial) => {
      const row = someResource(a, r);
      return [serial(), serial()].map((n) => `UPDATE resources SET name = '${a.tag(n)}' ${row}`);
    },
  },
  {
    name: 'change address',
    weight: 4,
    make: (a, r) => {
      const resource = r.pick(a.resources);
      return [
        `UPDATE resources SET address = '${a.address(resource, r.between(0, 3))}' ${a.row('resource', resource)}`,
      ];
    },
  },
  {
    name: 'change filters',
    weight: 2,
    make: (a, r) => [
      setResource(a, r, `filters = '${r.pick(['[]', '[{"protocol": "tcp", "ports": ["80", "443"]}]'])}'`),
    ],
  },
  {
    name: 'long description',
    weight: 1,
    make: (a, r, serial) => [
      setResource(a, r, `address_description = repeat('acct${a.number}-', 30) || '${serial()}'`),
    ],
  },
  {
    name: 'delete resource',
    weight: 1,
    make: (a, r) => [`DELETE FROM resources ${someResource(a, r)}`],
  },
  {
    name: 'insert resource with all it had',
    weight: 4,
    make: (a, r, serial) => wholeResource(a, r.pick(a.resources), serial),
  },
  {
    name: 'delete and insert resource in one commit',
    weight: 2,
    make: (a, r, serial) => {
      const resource = r.pick(a.resources);
      return [`DELETE FROM resources ${a.row('resource', resource)}`, ...wholeResource(a, resource, serial)];
    },
  },
  {
    name: 'resource leaves site',
    weight: 3,
    make: (a, r) => [
      `DELETE FROM resource_sites WHERE resource_id = '${a.idOf('resource', r.pick(a.resources))}' AND site_id = '${a.idOf('site', r.pick(a.sites))}'`,
    ],
  },
  {
    name: 'resource joins sites',
    weight: 5,
    make: (a, r) => [0, 1].map(() => a.link(r.pick(a.resources), r.pick(a.sites))),
  },
  {
    name: 'rename site',
    weight: 1,
    make: (a, r, serial) => [`UPDATE sites SET name = '${a.tag(serial())}' ${a.row('site', r.pick(a.sites))}`],
  },
  { name: 'disable actor', weight: 1, make: (a, r) => [setActor(a, r, `disabled_at = ${now}`)] },
  {
    name: 'enable actors',
    weight: 3,
    make: (a) => [`UPDATE actors SET disabled_at = NULL WHERE account_id = '${a.id}'`],
  },
  {
    name: 'disable provider for a moment',
    weight: 0.2,
    make: (a) => [`UPDATE auth_providers SET disabled_at = now() WHERE account_id = '${a.id}'`],
  },
  {
    name: 'enable provider',
    weight: 1.5,
    make: (a) => [
      `UPDATE auth_providers SET disabled_at = NULL WHERE account_id = '${a.id}' AND disabled_at IS NOT NULL`,
    ],
  },
  {
    name: 'token ends soon',
    weight: 1,
    make: (a, r) => [
      `UPDATE tokens SET expires_at = now() + interval '${r.between(1, 4)} seconds' WHERE id = '${a.idOf('clientToken', r.pick(a.actors))}'`,
    ],
  },
  {
    name: 'tokens go on',
    weight: 2,
    make: (a) => [`UPDATE tokens SET expires_at = NULL WHERE account_id = '${a.id}' AND expires_at IS NOT NULL`],
  },
  {
    name: 'delete token',
    weight: 0.5,
    make: (a, r) => [`DELETE FROM tokens WHERE id = '${a.idOf('clientToken', r.pick(a.actors))}'`],
  },
  { name: 'insert tokens', weight: 2, make: (a) => a.actors.map((actor) => a.clientToken(actor)) },
  { name: 'delete client', weight: 0.5, make: (a, r) => [`DELETE FROM clients ${a.row('client', r.between(0, 7))}`] },
  { name: 'insert client', weight: 1, make: (a, r) => [a.client(r.pick(a.actors), r.between(0, 1))] },
  {
    name: 'verify client, or not',
    weight: 2,
    make: (a, r) => [
      `UPDATE clients SET verified_at = ${r.pick(['now()', 'NULL'])} ${a.row('client', r.between(0, 7))}`,
    ],
  },
  {
    name: 'disable account',
    weight: 0.1,
    make: (a) => [`UPDATE accounts SET disabled_at = now() WHERE id = '${a.id}'`],
  },
  {
    name: 'enable account',
    weight: 1,
    make: (a) => [`UPDATE accounts SET disabled_at = NULL WHERE id = '${a.id}' AND disabled_at IS NOT NULL`],
  },
  {
    name: 'search domain',
    weight: 0.5,
    make: (a, _, serial) => [
      `UPDATE accounts SET config = '{"search_domain": "s${serial()}.acct${a.number}.example"}' WHERE id = '${a.id}'`,
    ],
  },
  {
    name: 'slug',
    weight: 0.1,
    make: (a, _, serial) => [`UPDATE accounts SET slug = 'acct${a.number}_${serial()}' WHERE id = '${a.id}'`],
  },
  { name: 'cut by deleting', weight: 2, make: (a) => [`DELETE FROM flows WHERE ${anOpenFlow(a)}`] },
  { name: 'cut by hand', weight: 2, make: (a) => [`UPDATE flows SET revoked_at = now() WHERE ${anOpenFlow(a)}`] },
  { name: 'give back', weight: 1.5, make: (a, _, serial) => a.seed(serial) },
  { name: 'rolled back', weight: 2, end: 'rollback', make: (a, r, serial) => wreck(a, r, serial) },
  {
    name: 'rolled back to a savepoint',
    weight: 2,
    make: (a, r, serial) => [
      'SAVEPOINT s',
      ...wreck(a, r, serial),
      'ROLLBACK TO s',
      setResource(a, r, `name = '${a.tag(serial())}'`),
    ],
  },
  {
    name: 'prepared',
    weight: 1,
    end: 'prepared',
    make: (a, r, serial) => [setPolicy(a, r, 'disabled_at = now()'), setResource(a, r, `name = '${a.tag(serial())}'`)],
  },
  {
    name: 'prepared and rolled back',
    weight: 0.5,
    end: 'prepared-rollback',
    make: (a, r, serial) => wreck(a, r, serial),
  },
];

/** Everything there is no harm in: an account in which as much is allowed as there can be. */
export function restore(account: ChaosAccount, serial: () => number): string[] {
  const { id } = account;
  return [
    `UPDATE accounts SET disabled_at = NULL WHERE id = '${id}'`,
    `UPDATE actors SET disabled_at = NULL WHERE account_id = '${id}'`,
    `UPDATE auth_providers SET disabled_at = NULL WHERE account_id = '${id}'`,
    `UPDATE tokens SET expires_at = NULL WHERE account_id = '${id}'`,
    `UPDATE policies SET disabled_at = NULL, conditions = '[]' WHERE account_id = '${id}'`,
    ...account.seed(serial),
  ];
}

const HOLDING = [
  [],
  [condition('remote_ip', 'is_in_cidr', '127.0.0.1')],
  [condition('client_verified', 'is', 'false'), condition('remote_ip', 'is_not_in_cidr', '192.0.2.1')],
];
/** The region of a peer here is unknown, which is doubt, and doubt is no (S9). */
const VIOLATED = [
  [condition('remote_ip_location_region', 'is_not_in', 'DE')],
  [condition('remote_ip', 'is_not_in_cidr', '127.0.0.1')],
  [condition('client_verified', 'is', 'true')],
  [condition('phase_of_moon', 'is', 'full')],
  [{ property: 1 }],
];

function condition(property: string, operator: string, ...values: string[]): unknown {
  return { property, operator, values };
}

function conditions(list: readonly unknown[]): string {
  return `conditions = '${JSON.stringify(list)}'`;
}

function wholeResource(account: ChaosAccount, resource: number, serial: () => number): string[] {
  return [
    account.resource(resource, account.tag(serial())),
    ...account.sites.slice(0, 2).map((site) => account.link(resource, (site + resource) % account.sites.length)),
    ...account.groups.map((group) => account.policy(group, resource)),
  ];
}

/** Changes of which nobody may ever hear. */
function wreck(account: ChaosAccount, random: SeededRandom, serial: () => number): string[] {
  return [
    `UPDATE resources SET name = '${account.tag(serial())}' WHERE account_id = '${account.id}'`,
    `DELETE FROM policies WHERE account_id = '${account.id}'`,
    setActor(account, random, 'disabled_at = now()'),
  ];
}

function aPolicy(account: ChaosAccount, random: SeededRandom): string {
  return account.policy(random.pick(account.groups), random.pick(account.resources));
}

function somePolicy(account: ChaosAccount, random: SeededRandom): string {
  return account.row('policy', random.pick(account.groups) * 16 + random.pick(account.resources));
}

function setPolicy(account: ChaosAccount, random: SeededRandom, assignment: string): string {
  return `UPDATE policies SET ${assignment} ${somePolicy(account, random)}`;
}

function setPolicies(account: ChaosAccount, random: SeededRandom, assignment: string): string {
  const group = account.idOf('group', random.pick(account.groups));
  return `UPDATE policies SET ${assignment} WHERE account_id = '${account.id}' AND group_id = '${group}'`;
}

function someMembership(account: ChaosAccount, random: SeededRandom): string {
  const [actor, group] = [
    account.idOf('actor', random.pick(account.actors)),
    account.idOf('group', random.pick(account.groups)),
  ];
  return `WHERE account_id = '${account.id}' AND actor_id = '${actor}' AND group_id = '${group}'`;
}

function someResource(account: ChaosAccount, random: SeededRandom): string {
  return account.row('resource', random.pick(account.resources));
}

function setResource(account: ChaosAccount, random: SeededRandom, assignment: string): string {
  return `UPDATE resources SET ${assignment} ${someResource(account, random)}`;
}

function setActor(account: ChaosAccount, random: SeededRandom, assignment: string): string {
  return `UPDATE actors SET ${assignment} ${account.row('actor', random.pick(account.actors))}`;
}

export function anOpenFlow(account: Pick<ChaosAccount, 'id'>): string {
  const open = `account_id = '${account.id}' AND revoked_at IS NULL AND expires_at > now()`;
  return `(account_id, id) IN (SELECT account_id, id FROM flows WHERE ${open} ORDER BY created_at DESC LIMIT 1)`;
}
