/**
 * The lives of this process, so that a gateway that comes back after a crash can be told to drop what we may have granted
 * and not written (D22).
 */
import { sql, type Transaction } from 'kysely';
import type { AccountId, ClientId, GatewayId } from '../core/model/ids.js';
import type { EpochMs } from '../core/model/time.js';
import type { Tables } from './database-tables.js';
import type { Database } from './open-database.js';

/**
 * Starts an epoch; call it before any peer is accepted. Clients that connected in an epoch that ended unclean are marked,
 * because their next connect replaces the epoch in their session.
 */
export function openEpoch(database: Database): Promise<bigint> {
  return database.inTransaction('open-epoch', async (db) => {
    await sql`
      UPDATE client_sessions SET unclean_epoch = epoch FROM epochs
      WHERE epochs.id = client_sessions.epoch AND epochs.clean_at IS NULL
        AND client_sessions.unclean_epoch IS DISTINCT FROM client_sessions.epoch`.execute(db);
    const { id } = await db.insertInto('epochs').defaultValues().returning('id').executeTakeFirstOrThrow();
    return BigInt(id);
  });
}

/** The last batch of flows is written: nothing was granted in this epoch that is not on record. */
export async function markClean(database: Database, epoch: bigint, at: EpochMs): Promise<void> {
  await database.ask('mark-epoch-clean', (db) =>
    db
      .updateTable('epochs')
      .set({ clean_at: new Date(at) })
      .where('id', '=', String(epoch))
      .execute(),
  );
}

/**
 * The history of flows is gone: whatever any gateway may hold, we know nothing of it. Every client counts as of an unclean
 * epoch that no gateway has rejoined since, this one's own gateways included (D8a).
 * @param accountId null: of all accounts
 */
export function forgetHistory(database: Database, accountId: AccountId | null): Promise<void> {
  return database.inTransaction('forget-flow-history', (db) => forgetHistoryIn(db, accountId));
}

/** The same, in the transaction after which nobody could know any more that commits went by unheard. */
export async function forgetHistoryIn(db: Transaction<Tables>, accountId: AccountId | null): Promise<void> {
  const ofThose = accountId === null ? sql`` : sql`AND account_id = ${accountId}`;
  await sql`
    UPDATE client_sessions SET unclean_epoch = last.id FROM (SELECT max(id) AS id FROM epochs) AS last
    WHERE unclean_epoch IS DISTINCT FROM last.id ${ofThose}`.execute(db);
  await sql`
    UPDATE gateway_sessions SET previous_epoch = epoch
    WHERE previous_epoch IS DISTINCT FROM epoch ${ofThose}`.execute(db);
}

/**
 * The gateway has been told of these clients. From now on only later epochs count, this one included should it end
 * unclean: its next connect in another epoch then says so.
 */
export async function settleUncleanEpochs(
  database: Database,
  accountId: AccountId,
  gatewayId: GatewayId,
): Promise<void> {
  await database.ask('settle-unclean-epochs', (db) =>
    db
      .updateTable('gateway_sessions')
      .set((is) => ({ previous_epoch: sql<string>`${is.ref('epoch')} + 1` }))
      .where('account_id', '=', accountId)
      .where('gateway_id', '=', gatewayId)
      .execute(),
  );
}

/**
 * Clients that may have a flow with this gateway that we never wrote: they were connected in an epoch that ended unclean,
 * not before the gateway's last one. Empty for a gateway that never connected in an earlier epoch.
 */
export function clientsOfUncleanEpochs(
  database: Database,
  accountId: AccountId,
  gatewayId: GatewayId,
): Promise<readonly ClientId[]> {
  return database.ask('clients-of-unclean-epochs', async (db) => {
    const rows = await db
      .selectFrom('gateway_sessions')
      .innerJoin('client_sessions', (join) =>
        join
          .onRef('client_sessions.account_id', '=', 'gateway_sessions.account_id')
          .onRef('client_sessions.unclean_epoch', '>=', 'gateway_sessions.previous_epoch'),
      )
      .where('gateway_sessions.account_id', '=', accountId)
      .where('gateway_sessions.gateway_id', '=', gatewayId)
      .select('client_sessions.client_id')
      .orderBy('client_sessions.client_id')
      .execute();
    return rows.map((row) => row.client_id as ClientId);
  });
}
