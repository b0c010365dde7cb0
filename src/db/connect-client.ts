/** Which client device is this, and what does its connect change? (wire-protocol.md 1.7, domain.md 5.9) */
import type { Transaction } from 'kysely';
import type { ClientId } from '../core/model/ids.js';
import type { ClientConnect, ConnectedDevice } from '../core/ports/connects.js';
import type { Tables } from './database-tables.js';
import { announceConnect, connecting, pskBaseOf, sessionColumns } from './device-connect.js';
import type { Database } from './open-database.js';

/** Throws PublicKeyTakenError. @param epoch of this process, see `openEpoch` */
export function connectClient(
  database: Database,
  connect: ClientConnect,
  epoch: bigint,
): Promise<ConnectedDevice<ClientId>> {
  return connecting('clients_are_unique_per_actor', () =>
    database.inTransaction('connect-client', async (db) => {
      const client = (await updateKnownClient(db, connect)) ?? (await insertClient(db, connect));
      const pskBase = await pskBaseOf(db, connect.accountId, { client_id: client.id });
      await writeSession(db, connect, client.id, epoch);
      await announceConnect(db, connect.session);
      return {
        id: client.id as ClientId,
        ipv4: client.ipv4,
        ipv6: client.ipv6,
        pskBase,
        changedPublishedRow: client.changed,
      };
    }),
  );
}

interface ClientUpserted {
  readonly id: string;
  readonly ipv4: string;
  readonly ipv6: string;
  readonly changed: boolean;
}

const HARDWARE_IDS = ['device_serial', 'device_uuid', 'identifier_for_vendor', 'firebase_installation_id'] as const;

/**
 * A known device keeps its name and addresses. It keeps its verification while no hardware id we knew is missing or
 * different now; one we hear of for the first time does no harm. `undefined` when the device is new.
 */
async function updateKnownClient(db: Transaction<Tables>, connect: ClientConnect): Promise<ClientUpserted | undefined> {
  const known = await db
    .selectFrom('clients')
    .where('account_id', '=', connect.accountId)
    .where('actor_id', '=', connect.actorId)
    .where('external_id', '=', connect.externalId)
    .select(['id', 'ipv4', 'ipv6', ...HARDWARE_IDS])
    .forNoKeyUpdate()
    .executeTakeFirst();
  if (!known) return undefined;

  const now = hardwareIdsOf(connect);
  const changed = HARDWARE_IDS.some((name) => known[name] !== now[name]);
  if (changed) {
    const isSameHardware = HARDWARE_IDS.every((name) => known[name] === null || known[name] === now[name]);
    await db
      .updateTable('clients')
      .set({ ...now, ...(isSameHardware ? {} : { verified_at: null }) })
      .where('account_id', '=', connect.accountId)
      .where('id', '=', known.id)
      .execute();
  }
  return { id: known.id, ipv4: known.ipv4, ipv6: known.ipv6, changed };
}

async function insertClient(db: Transaction<Tables>, connect: ClientConnect): Promise<ClientUpserted> {
  const client = await db
    .insertInto('clients')
    .values({
      account_id: connect.accountId,
      actor_id: connect.actorId,
      external_id: connect.externalId,
      name: connect.name,
      ...hardwareIdsOf(connect),
    })
    .returning(['id', 'ipv4', 'ipv6'])
    .executeTakeFirstOrThrow();
  return { ...client, changed: true };
}

function hardwareIdsOf(connect: ClientConnect) {
  return {
    device_serial: connect.deviceSerial,
    device_uuid: connect.deviceUuid,
    identifier_for_vendor: connect.identifierForVendor,
    firebase_installation_id: connect.firebaseInstallationId,
  };
}

async function writeSession(db: Transaction<Tables>, connect: ClientConnect, clientId: string, epoch: bigint) {
  const columns = sessionColumns(connect.session, epoch);
  await db
    .insertInto('client_sessions')
    .values({ account_id: connect.accountId, client_id: clientId, unclean_epoch: null, ...columns })
    .onConflict((conflict) => conflict.columns(['account_id', 'client_id']).doUpdateSet(columns))
    .execute();
}
