/** REPLICATION_MODE=poll, as an operator runs it: a revocation reaches its gateway, across a crash too (events.md B.12). */
import { afterAll, afterEach, beforeAll, expect, it, jest } from '@jest/globals';
import { aTestAccount } from '../support/demo-account.js';
import { eventually } from '../support/eventually.js';
import { launchOn, type ServerOnDatabase } from '../support/launched-server.js';
import { Scene } from '../support/scene.js';
import { setPolicy } from '../support/scene-rows.js';
import { createMigratedDatabase, type TestDatabase } from '../support/test-database.js';

jest.setTimeout(60_000);

let db: TestDatabase;
let running: ServerOnDatabase | undefined;

beforeAll(async () => {
  db = await createMigratedDatabase();
});

afterEach(async () => {
  await running?.process.kill();
  running = undefined;
});

afterAll(() => db.drop());

/** A gateway that holds an open flow of a client. */
async function start(): Promise<{ readonly scene: Scene; readonly flow: { clientId: string; resourceId: string } }> {
  running = await launchOn(db, { REPLICATION_MODE: 'poll' });
  const scene = new Scene(running, await aTestAccount(db));
  await scene.join('gateway', 'gateway');
  await scene.join('client', 'client');
  return { scene, flow: await scene.openFlow() };
}

async function slotPassed(position: string): Promise<boolean> {
  const { rows } = await db.query<{ passed: boolean }>(
    `SELECT confirmed_flush_lsn >= $1::pg_lsn AS passed FROM pg_replication_slots WHERE database = $2`,
    [position, db.name],
  );
  return rows[0]?.passed === true;
}

it('a policy disabled by SQL is heard by the gateway, receipted, and acknowledged; nobody streams', async () => {
  const { scene, flow } = await start();
  await db.sql(setPolicy(scene, 'disabled_at = now()'));
  expect(await scene.gateway.next('reject_access')).toEqual({ client_id: flow.clientId, resource_id: flow.resourceId });
  const { rows } = await db.query<{ lsn: string }>('SELECT pg_current_wal_lsn()::text AS lsn');
  await eventually('the slot to pass the commit', () => slotPassed(rows[0]?.lsn ?? ''));
  const senders = await db.query(
    `SELECT FROM pg_stat_replication r JOIN pg_stat_activity a USING (pid) WHERE a.datname = $1`,
    [db.name],
  );
  expect(senders.rows).toEqual([]);
});

it('S1: one that is disabled while the server is dead is told to the gateway when it comes again', async () => {
  const { scene, flow } = await start();
  // Killed before, its client would be named by a placeholder instead (D22).
  await eventually('the flow to be on record', async () => {
    const { rows } = await db.query('SELECT FROM flows WHERE account_id = $1', [scene.ids.accountId]);
    return rows.length === 1;
  });
  await running?.process.kill();
  await db.sql(setPolicy(scene, 'disabled_at = now()'));
  running = await launchOn(db, { REPLICATION_MODE: 'poll' });
  const again = new Scene(running, scene.ids);
  await again.join('gateway', 'gateway');
  expect(again.gateway.init['authorizations']).not.toContainEqual(
    expect.objectContaining({ resource_id: flow.resourceId }),
  );
  expect(await again.gateway.next('reject_access')).toEqual({ client_id: flow.clientId, resource_id: flow.resourceId });
});
