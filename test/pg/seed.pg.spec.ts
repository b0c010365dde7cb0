import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { parseToken } from '../../src/core/tokens/token.js';
import { runCommand } from '../support/run-command.js';
import { createTestDatabase } from '../support/test-database.js';
import type { TestDatabase } from '../support/test-database.js';

interface Report {
  readonly account: { id: string; slug: string };
  readonly actor: { id: string };
  readonly group: { id: string };
  readonly site: { id: string };
  readonly resources: { id: string; type: string; name: string; address: string | null }[];
  readonly policies: { id: string; resource_id: string; group_id: string }[];
  readonly tokens: { client: string; gateway: string; relay: string };
  readonly load?: { account: { id: string; slug: string }; tokens: { client: string; gateway: string } }[];
}

let test: TestDatabase;
let first: Report;

const seed = async (...args: string[]): Promise<Report> => {
  const { code, out, err } = await runCommand(test.url, ['seed', '--json', ...args]);
  expect({ code, err }).toEqual({ code: 0, err: '' });
  return JSON.parse(out) as Report;
};

beforeAll(async () => {
  test = await createTestDatabase(); // not even migrated: seed does it
  first = await seed();
});

afterAll(() => test.drop());

describe('portcullis seed', () => {
  it('D39: has a resource of every type, each granted to the listed group', () => {
    expect(first.resources.map((resource) => resource.type).sort()).toEqual(['cidr', 'dns', 'internet', 'ip']);
    expect(first.policies.map((policy) => policy.resource_id)).toEqual(first.resources.map((resource) => resource.id));
    expect(new Set(first.policies.map((policy) => policy.group_id))).toEqual(new Set([first.group.id]));
  });

  it('D39: the actor is in the group, and the tokens are the actor’s, the site’s and the account’s', async () => {
    const { rowCount } = await test.query(
      'SELECT FROM memberships WHERE account_id = $1 AND actor_id = $2 AND group_id = $3',
      [first.account.id, first.actor.id, first.group.id],
    );
    expect(rowCount).toBe(1);
    expect(await tokenRow(first.tokens.client)).toMatchObject({
      kind: 'client',
      actor_id: first.actor.id,
      site_id: null,
    });
    expect(await tokenRow(first.tokens.gateway)).toMatchObject({
      kind: 'gateway',
      actor_id: null,
      site_id: first.site.id,
    });
    expect(await tokenRow(first.tokens.relay)).toMatchObject({ kind: 'relay', actor_id: null, site_id: null });
  });

  it('D39: the Internet resource is served by the system’s Internet site alone', async () => {
    const { rows } = await test.query(`
      SELECT sites.name, managed_by FROM resources JOIN resource_sites ON resource_id = resources.id
      JOIN sites ON sites.id = site_id WHERE resources.type = 'internet'`);
    expect(rows).toEqual([{ name: 'Internet', managed_by: 'system' }]);
  });

  it('D39: a second run changes no row and makes fresh tokens', async () => {
    const rowsBefore = await everyRow();
    const second = await seed();
    expect(await everyRow()).toEqual(rowsBefore);
    expect({ ...second, tokens: null }).toEqual({ ...first, tokens: null });
    expect(second.tokens.client).not.toBe(first.tokens.client);
    expect(await tokenRow(first.tokens.client)).toBeDefined();
  });

  it('D39: a second run puts back what was changed, deleted, or deleted and made again under another id', async () => {
    await test.sql(`
      UPDATE accounts SET disabled_at = now(), config = '{"search_domain": "x.example"}';
      UPDATE policies SET disabled_at = now(), conditions = '[1]';
      DELETE FROM resources WHERE type = 'cidr';
      DELETE FROM memberships;
      INSERT INTO memberships (account_id, actor_id, group_id) VALUES ('${first.account.id}', '${first.actor.id}', '${first.group.id}');
      INSERT INTO groups (account_id, name) VALUES ('${first.account.id}', 'A person’s own');`);
    const again = await seed();
    expect({ ...again, tokens: null }).toEqual({ ...first, tokens: null });
    const { rows } = await test.query(`
      SELECT (SELECT count(*)::int FROM policies WHERE disabled_at IS NOT NULL) AS disabled,
        (SELECT count(*)::int FROM accounts WHERE disabled_at IS NOT NULL OR config <> '{}') AS altered,
        (SELECT count(*)::int FROM memberships) AS memberships,
        (SELECT count(*)::int FROM groups WHERE name = 'A person’s own') AS own`);
    expect(rows).toEqual([{ disabled: 0, altered: 0, memberships: 3, own: 1 }]);
  });

  it('prints something for people without --json', async () => {
    const { code, out } = await runCommand(test.url, ['seed']);
    expect(code).toBe(0);
    expect(out).toContain('account  demo');
    expect(out).toMatch(/client +pcc_/);
  });

  it('D39: --scale makes exactly the rows asked for, and a second time none', async () => {
    const scale = 'accounts=2,actors=7,groups=5,resources=3,policies=15,memberships=35';
    const { load } = await seed('--scale', scale);
    await seed('--scale', scale);
    const count = async (table: string): Promise<unknown> =>
      (
        await test.query(
          `SELECT count(*)::int AS rows FROM ${table} JOIN accounts ON accounts.id = account_id WHERE slug LIKE 'load%'`,
        )
      ).rows[0]?.['rows'];
    expect(load?.map((entry) => entry.account.slug)).toEqual(['load_1', 'load_2']);
    expect(await Promise.all(['actors', 'groups', 'resources', 'policies', 'memberships'].map(count))).toEqual([
      14, 10, 6, 30, 70,
    ]);
    expect(await tokenRow(load?.[1]?.tokens.client)).toMatchObject({
      kind: 'client',
      account_id: load?.[1]?.account.id,
    });
  });

  it.each([
    ['actors=2,groups=2,memberships=5'],
    ['groups=1,resources=1,policies=2'],
    ['actors=0'],
    ['planets=9'],
    ['actors=-1'],
  ])('D35: refuses a scale it cannot make: %s', async (scale) => {
    expect((await runCommand(test.url, ['seed', '--scale', scale])).code).toBe(2);
  });
});

async function tokenRow(text: string | undefined) {
  const parsed = parseToken(text ?? '');
  if (!parsed.ok) throw new Error('not a token');
  return (await test.query('SELECT * FROM tokens JOIN token_secrets ON token_id = id WHERE id = $1', [parsed.tokenId]))
    .rows[0];
}

/** With the transaction that wrote each row last: an update to the same values would show. */
async function everyRow(): Promise<unknown> {
  const tables = ['accounts', 'actors', 'auth_providers', 'identities', 'groups', 'memberships', 'sites', 'resources'];
  const all = [...tables, 'resource_sites', 'policies'].map((table) =>
    test.query(`SELECT xmin, * FROM ${table} ORDER BY 2, 3`),
  );
  return (await Promise.all(all)).map((result) => result.rows);
}
