/** Which gateway is this, and what does its connect change? (wire-protocol.md 1.7, domain.md 5.9) */
import { sql } from 'kysely';
import type { Transaction } from 'kysely';
import type { GatewayId } from '../core/model/ids.js';
import type { ConnectedDevice, GatewayConnect } from '../core/ports/connects.js';
import type { Tables } from './database-tables.js';
import { announceConnect, connecting, pskBaseOf, sessionColumns } from './device-connect.js';
import type { Database } from './open-database.js';

/** Throws PublicKeyTakenError. @param epoch of this process, see `openEpoch` */
export function connectGateway(
  database: Database,
  connect: GatewayConnect,
  epoch: bigint,
): Promise<ConnectedDevice<GatewayId>> {
  return connecting('gateways_are_unique_per_site', () =>
    database.inTransaction('connect-gateway', async (db) => {
      const gateway = (await updateKnownGateway(db, connect)) ?? (await insertGateway(db, connect));
      const pskBase = await pskBaseOf(db, connect.accountId, { gateway_id: gateway.id });
      await writeSession(db, connect, gateway.id, epoch);
      await announceConnect(db, connect.session);
      return {
        id: gateway.id as GatewayId,
        ipv4: gateway.ipv4,
        ipv6: gateway.ipv6,
        pskBase,
        changedPublishedRow: gateway.changed,
      };
    }),
  );
}

interface GatewayUpserted {
  readonly id: string;
  readonly ipv4: string;
  readonly ipv6: string;
  readonly changed: boolean;
}

/** A gateway's name follows what it says, unlike a client's. `undefined` when it is new. */
async function updateKnownGateway(
  db: Transaction<Tables>,
  connect: GatewayConnect,
): Promise<GatewayUpserted | undefined> {
  const known = await db
    .selectFrom('gateways')
    .where('account_id', '=', connect.accountId)
    .where('site_id', '=', connect.siteId)
    .where('external_id', '=', connect.externalId)
    .select(['id', 'ipv4', 'ipv6', 'name'])
    .forNoKeyUpdate()
    .executeTakeFirst();
  if (!known) return undefined;

  const name = connect.name ?? known.name;
  if (name !== known.name) {
    await db
      .updateTable('gateways')
      .set({ name })
      .where('account_id', '=', connect.accountId)
      .where('id', '=', known.id)
      .execute();
  }
  return { id: known.id, ipv4: known.ipv4, ipv6: known.ipv6, changed: name !== known.name };
}

async function insertGateway(db: Transaction<Tables>, connect: GatewayConnect): Promise<GatewayUpserted> {
  const gateway = await db
    .insertInto('gateways')
    .values({
      account_id: connect.accountId,
      site_id: connect.siteId,
      external_id: connect.externalId,
      name: connect.name ?? connect.newName,
    })
    .returning(['id', 'ipv4', 'ipv6'])
    .executeTakeFirstOrThrow();
  return { ...gateway, changed: true };
}

/**
 * Remembers in which earlier epoch the gateway last connected: what it may still hold from then is pruned (D22). An older
 * one stays while some client of it ended unclean and the gateway is not proven to have heard of that.
 */
async function writeSession(db: Transaction<Tables>, connect: GatewayConnect, gatewayId: string, epoch: bigint) {
  const columns = sessionColumns(connect.session, epoch);
  await db
    .insertInto('gateway_sessions')
    .values({ account_id: connect.accountId, gateway_id: gatewayId, previous_epoch: null, ...columns })
    .onConflict((conflict) =>
      conflict.columns(['account_id', 'gateway_id']).doUpdateSet({
        ...columns,
        previous_epoch: sql<string | null>`CASE
          WHEN gateway_sessions.epoch = excluded.epoch OR EXISTS (
            SELECT FROM client_sessions AS client WHERE client.account_id = gateway_sessions.account_id
              AND client.unclean_epoch >= gateway_sessions.previous_epoch
              AND client.unclean_epoch < gateway_sessions.epoch)
          THEN gateway_sessions.previous_epoch ELSE gateway_sessions.epoch END`,
      }),
    )
    .execute();
}
