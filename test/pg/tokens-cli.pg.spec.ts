import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { digestsEqual, digestToken, parseToken } from '../../src/core/tokens/token.js';
import { findToken } from '../../src/db/find-token.js';
import type { Database } from '../../src/db/open-database.js';
import { openDatabase } from '../../src/db/open-database.js';
import { insertAccount } from '../support/account-rows.js';
import type { AccountIds } from '../support/account-rows.js';
import { runCommand } from '../support/run-command.js';
import { createMigratedDatabase } from '../support/test-database.js';
import type { TestDatabase } from '../support/test-database.js';

let test: TestDatabase;
let database: Database;
let ours: AccountIds;

beforeAll(async () => {
  test = await createMigratedDatabase();
  database = openDatabase(test.url, { max: 1 });
  ours = await insertAccount(test);
});

afterAll(async () => {
  await database.close();
  await test.drop();
});

const run = (...args: string[]) => runCommand(test.url, args);

describe('portcullis token create', () => {
  it('D27: prints a token whose secret the database can check and does not hold', async () => {
    const { code, out } = await run(
      'token',
      'create',
      '--kind',
      'gateway',
      '--account',
      ours.accountId,
      '--site',
      ours.siteId,
    );
    expect(code).toBe(0);
    const parsed = parseToken(out);
    if (!parsed.ok) throw new Error('not a token');
    const stored = await findToken(database, parsed.tokenId);
    if (!stored) throw new Error('the token is not stored');
    expect(stored).toMatchObject({ kind: 'gateway', siteId: ours.siteId, expiresAt: null });
    expect(digestsEqual(digestToken('', parsed.material, stored.salt), stored.digest)).toBe(true);
    expect(digestsEqual(digestToken('nonce', parsed.material, stored.salt), stored.digest)).toBe(false);
  });

  it('takes an account by its slug, and a time to live', async () => {
    await test.query(`UPDATE accounts SET slug = 'acme' WHERE id = $1`, [ours.accountId]);
    const { out } = await run(
      ...['token', 'create', '--kind', 'client', '--account', 'acme', '--actor', ours.actorId, '--expires', '7d'],
    );
    const parsed = parseToken(out);
    const { rows } = await test.query(
      `SELECT kind, actor_id, round(extract(epoch FROM expires_at - created_at) / 86400) AS days FROM tokens WHERE id = $1`,
      [parsed.ok ? parsed.tokenId : null],
    );
    expect(rows).toEqual([{ kind: 'client', actor_id: ours.actorId, days: '7' }]);
  });

  it('makes a relay token of the installation without an account', async () => {
    const parsed = parseToken((await run('token', 'create', '--kind', 'relay')).out);
    expect(parsed).toMatchObject({ ok: true, kind: 'relay' });
  });

  it('D5: fails for an actor of another account, and stores nothing', async () => {
    const theirs = await insertAccount(test);
    const before = (await test.query('SELECT FROM tokens')).rowCount;
    const { code, err, out } = await run(
      ...['token', 'create', '--kind', 'client', '--account', ours.accountId, '--actor', theirs.actorId],
    );
    expect({ code, out }).toEqual({ code: 1, out: '' });
    expect(err).toContain('tokens_actor_is_of_the_account');
    expect((await test.query('SELECT FROM tokens')).rowCount).toBe(before);
  });

  it('fails for an account that does not exist', async () => {
    const { code, err } = await run('token', 'create', '--kind', 'relay', '--account', 'nobody');
    expect({ code, err }).toEqual({ code: 1, err: 'portcullis token: there is no account "nobody"' });
  });

  it.each([
    [['token'], 'say "token create"'],
    [['token', 'create'], '--kind'],
    [['token', 'create', '--kind', 'admin'], '--kind'],
    [['token', 'create', '--kind', 'client', '--account', 'acme'], '--actor'],
    [['token', 'create', '--kind', 'gateway', '--site', 'not an id', '--account', 'acme'], '--site'],
    [['token', 'create', '--kind', 'relay', '--expires', 'soon'], '--expires'],
    [['token', 'create', '--kind', 'relay', '--site', 'x'], 'no site'],
    [['token', 'create', '--kind', 'relay', '--unknown'], '--unknown'],
  ])('D35: exits with 2 and says how it is used: %j', async (args, about) => {
    const { code, err, out } = await run(...args);
    expect({ code, out }).toEqual({ code: 2, out: '' });
    expect(err).toContain(about);
    expect(err).toContain('usage: portcullis token');
  });
});

describe('portcullis', () => {
  it('D35: says what it can do, and for each command more', async () => {
    const { code, out } = await run('--help');
    expect(code).toBe(0);
    for (const command of ['start', 'migrate', 'seed', 'doctor', 'sql', 'token']) {
      expect(out).toContain(`  ${command}`);
      expect(await run(command, '--help')).toMatchObject({
        code: 0,
        out: expect.stringContaining(`portcullis ${command}`),
      });
    }
  });

  it('D35: exits with 2 for a command there is not, and without one', async () => {
    expect((await run('stop')).code).toBe(2);
    expect((await run('toString')).code).toBe(2);
    expect((await run()).code).toBe(2);
  });

  it('names every bad variable in one message', async () => {
    const { code, err } = await runCommand(test.url, ['doctor'], { API_PORT: 'x', REPLICATION_SLOT: 'No!' });
    expect(code).toBe(1);
    expect(err).toContain('API_PORT');
    expect(err).toContain('REPLICATION_SLOT');
  });

  it('exits with 1 when the database cannot be reached', async () => {
    const { code, err } = await runCommand('postgres://nobody@127.0.0.1:1/nothing', ['migrate']);
    expect(code).toBe(1);
    expect(err).toContain('ECONNREFUSED');
  });
});

describe('portcullis sql', () => {
  it('prints a table as psql does, in PostgreSQL’s own text', async () => {
    const { code, out } = await run(
      'sql',
      `SELECT 1 AS one, NULL AS nothing, true AS yes, '{"a": 1}'::jsonb AS json, 'ü' AS text`,
    );
    expect(code).toBe(0);
    expect(out).toBe(
      [
        ' one | nothing | yes | json     | text',
        '-----+---------+-----+----------+------',
        ' 1   |         | t   | {"a": 1} | ü',
        '(1 row)',
      ].join('\n'),
    );
  });

  it('runs several statements as one transaction and prints each result or tag', async () => {
    const { out } = await run(
      'sql',
      `CREATE TABLE t (a int); INSERT INTO t VALUES (1), (2); DELETE FROM t RETURNING a; SELECT FROM t`,
    );
    expect(out).toBe(['CREATE', 'INSERT 0 2', ' a', '---', ' 1', ' 2', '(2 rows)', 'DELETE 2', 'SELECT 0'].join('\n'));
    const failed = await run('sql', `INSERT INTO t VALUES (3); INSERT INTO t VALUES ('x')`);
    expect(failed).toMatchObject({ code: 1, out: '', err: expect.stringContaining('ERROR:  invalid input syntax') });
    expect((await test.query('SELECT FROM t')).rowCount).toBe(0);
  });

  it('prints notices and the detail of an error beside the result', async () => {
    expect((await run('sql', 'DROP TABLE IF EXISTS nothing')).err).toBe(
      'NOTICE:  table "nothing" does not exist, skipping',
    );
    const { err } = await run('sql', `INSERT INTO accounts (id) VALUES ('${ours.accountId}')`);
    expect(err).toContain('DETAIL:  Key (id)=');
  });

  it('a value cannot break the table or reach the terminal', async () => {
    const { out } = await run('sql', `SELECT E'a\\nb\\x1b[31m' AS value`);
    expect(out.split('\n')).toHaveLength(4);
    expect(out).not.toContain('\u001b');
  });
});
