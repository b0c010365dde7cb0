import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { insertAccount } from '../support/account-rows.js';
import type { AccountIds } from '../support/account-rows.js';
import { runCommand } from '../support/run-command.js';
import { createMigratedDatabase } from '../support/test-database.js';
import type { TestDatabase } from '../support/test-database.js';

let test: TestDatabase;
let ours: AccountIds;

beforeAll(async () => {
  test = await createMigratedDatabase();
  ours = await insertAccount(test);
});

beforeEach(() => test.sql('TRUNCATE flows'));
afterAll(() => test.drop());

const run = (...args: string[]) => runCommand(test.url, ['revocations', ...args]);

/** Reasons as listed, newest first. */
async function listed(...args: string[]): Promise<unknown[]> {
  const { code, out } = await run('--json', ...args);
  expect(code).toBe(0);
  return (JSON.parse(out) as { reason: unknown }[]).map(({ reason }) => reason);
}

/** A flow of our resource, closed so long ago unless told. */
async function aFlow(reason: string | null, ago: string | null, of: Readonly<Record<string, string>> = {}) {
  const columns = {
    account_id: ours.accountId,
    client_id: randomUUID(),
    gateway_id: randomUUID(),
    resource_id: ours.resourceId,
    policy_id: ours.policyId,
    membership_id: randomUUID(),
    token_id: randomUUID(),
    ...of,
  };
  const names = Object.keys(columns);
  await test.query(
    `INSERT INTO flows (${names.join(', ')}, resource_shape, expires_at, revoked_reason, revoked_at)
     VALUES (${names.map((_, i) => `$${i + 3}`).join(', ')},
       '{"type":"cidr","address":null,"ip_stack":null}', now() + interval '1 day', $1, now() - $2::interval)`,
    [reason, ago, ...Object.values(columns)],
  );
}

describe('portcullis revocations', () => {
  it('lists what was decided in the last hour, or since the time it is given, newest first', async () => {
    await aFlow('unjustified', '10 min');
    await aFlow('expired', '5 min');
    await aFlow('cut-by-hand', '61 min');
    await aFlow('resource-changed', '8 days');
    expect(await listed()).toEqual(['expired', 'unjustified']);
    expect(await listed('--since', '2h')).toEqual(['expired', 'unjustified', 'cut-by-hand']);
    expect(await listed('--since', '9d')).toHaveLength(4);
  });

  it('leaves out what is open, and what went on under another row', async () => {
    await aFlow(null, null);
    await aFlow('moved', '1 min');
    await aFlow('replaced', '1 min');
    await aFlow(null, '1 min'); // a hand that gave no reason
    expect(await listed()).toEqual([null]);
  });

  it('of one account when it is named, by id or slug', async () => {
    const other = await insertAccount(test);
    await test.query(`UPDATE accounts SET slug = 'other' WHERE id = $1`, [other.accountId]);
    await aFlow('unjustified', '1 min');
    await aFlow('expired', '1 min', { account_id: other.accountId });
    expect(await listed('--account', 'other')).toEqual(['expired']);
    expect(await listed('--account', ours.accountId)).toEqual(['unjustified']);
    expect(await listed()).toHaveLength(2);
    expect(await run('--account', 'nobody')).toMatchObject({ code: 1, err: expect.stringContaining('"nobody"') });
  });

  it('shows no more than the limit, and says that there are more', async () => {
    for (const ago of ['1 min', '2 min', '3 min']) await aFlow('unjustified', ago);
    const some = await run('--limit', '2');
    expect(some).toMatchObject({ code: 0, err: 'there are more; these are the newest 2' });
    expect(some.out).toMatch(/\(2 rows\)$/);
    expect(await run('--limit', '3')).toMatchObject({ code: 0, err: '' });
  });

  it('says what is gone by its id, and an empty list as one', async () => {
    const clientId = randomUUID();
    await aFlow('unjustified', '1 min', { client_id: clientId });
    expect((await run()).out).toMatch(new RegExp(`\\| ${clientId} \\| Unnamed resource \\|.*\\| unjustified`));
    await test.sql('TRUNCATE flows');
    expect((await run()).out).toMatch(/\(0 rows\)$/);
    expect((await run('--json')).out).toBe('[]');
  });

  it.each([
    [['--since', 'yesterday'], '--since'],
    [['--limit', '0'], '--limit'],
    [['--limit', 'all'], '--limit'],
    [['--color'], '--color'],
    [['all'], 'all'],
  ])('%j is wrong usage', async (args, named) => {
    expect(await run(...args)).toMatchObject({ code: 2, err: expect.stringContaining(named) });
  });
});
