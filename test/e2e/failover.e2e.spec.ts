/** A real failover: the primary dies, its standby is promoted, and the product finds it behind the same address. */
import { afterEach, describe, expect, it, jest } from '@jest/globals';
import { Pool } from 'pg';
import { migrateToLatest } from '../../src/db/migrate.js';
import { aTestAccount } from '../support/demo-account.js';
import { PostgresPair } from '../support/postgres-pair.js';
import { Scene } from '../support/scene.js';
import { until } from '../support/stream-under-test.js';
import { TcpProxy } from '../support/tcp-proxy.js';
import type { TestDatabase } from '../support/test-database.js';
import { startTestServer, type TestServer } from '../support/test-server.js';

jest.setTimeout(90_000);

class FailoverStage {
  private constructor(
    readonly pair: PostgresPair,
    readonly proxy: TcpProxy,
    readonly db: TestDatabase,
    readonly server: TestServer,
    private readonly place: { isPromoted: boolean },
  ) {}

  static async open(): Promise<FailoverStage> {
    const pair = await PostgresPair.start();
    await migrateToLatest(pair.primary.url);
    const place = { isPromoted: false };
    const proxy = await TcpProxy.listen(() =>
      Number(new URL(place.isPromoted ? pair.standbyUrl : pair.primary.url).port),
    );
    const db = databaseBehind(proxy, pair.primary.url);
    const server = await startTestServer({ HEARTBEAT_INTERVAL_MS: '100' }, db);
    return new FailoverStage(pair, proxy, db, server, place);
  }

  /** An account with a flow whose row is written. */
  async flow(): Promise<Scene> {
    const scene = new Scene(this.server, await aTestAccount(this.db));
    await scene.join('gateway', 'gateway');
    await scene.join('client', 'client');
    await scene.openFlow();
    await scene.history((rows) => rows.length === 1);
    return scene;
  }

  /** Commits it on the primary, whose last act that is. The product hears nothing of it there. */
  async failOverAfter(statement: string): Promise<void> {
    this.proxy.silence();
    const pool = new Pool({ connectionString: this.pair.primary.url, max: 1 });
    await pool.query(statement);
    await pool.end();
    await this.pair.caughtUp();
    await this.pair.failOver();
    this.place.isPromoted = true;
    this.proxy.cut(); // with what was on its way
    this.proxy.heal();
  }

  async close(): Promise<void> {
    await this.server.close();
    await this.db.drop();
    await this.proxy.close();
    await this.pair.remove();
  }
}

let stage: FailoverStage | undefined;

afterEach(async () => {
  await stage?.close();
  stage = undefined;
});

describe('a failover', () => {
  it.each([
    ['with the slot that followed, so that the record has no gap', true],
    ['with a new slot, as before PostgreSQL 17', false],
  ])('S1, D14: a revocation that only the standby had of the primary arrives %s', async (_how, follows) => {
    stage = await FailoverStage.open();
    const { server, pair, db } = stage;
    const [unheard, later, cut] = [await stage.flow(), await stage.flow(), await stage.flow()];
    if (follows) await pair.syncSlots(db.name);
    await stage.failOverAfter(`
      DELETE FROM policies WHERE id = '${unheard.ids.policyId}';
      DELETE FROM flows WHERE account_id = '${cut.ids.accountId}'`);

    for (const { gateway, ids } of [unheard, cut]) {
      expect(await gateway.next('reject_access')).toMatchObject({ resource_id: ids.resourceId });
    }
    await until(async () => (await fetch(`${server.ops}/readyz`)).ok, 'the product to be ready again');
    const pushes = await later.hears(`DELETE FROM policies WHERE id = '${later.ids.policyId}'`);
    expect(pushes['gateway']?.map(([event]) => event)).toEqual(['reject_access']);

    const recorded = follows ? [unheard, later] : [later];
    const deletions = async () => {
      const { rows } = await db.query<{ is_new_epoch: boolean; account_id: string }>(
        `SELECT timeline_epoch > 1 AS is_new_epoch, account_id FROM change_log
         WHERE table_name = 'policies' AND op = 'delete' ORDER BY position`,
      );
      return rows;
    };
    await until(
      async () => (await deletions()).length >= recorded.length,
      'the record, which is written beside the pushes',
    );
    expect(await deletions()).toEqual(recorded.map(({ ids }) => ({ is_new_epoch: true, account_id: ids.accountId })));
    await Promise.all([unheard, later, cut].map((scene) => scene.leaveAll()));
  });
});

function databaseBehind({ port }: TcpProxy, primaryUrl: string): TestDatabase {
  const url = new URL(primaryUrl);
  url.port = String(port);
  const pool = new Pool({ connectionString: url.href, max: 2 });
  pool.on('error', () => undefined);
  return {
    url: url.href,
    name: 'portcullis_failover',
    query: (sql, params) => pool.query(sql, params === undefined ? undefined : [...params]),
    sql: async (text) => void (await pool.query(text)),
    drop: () => pool.end(),
  };
}
