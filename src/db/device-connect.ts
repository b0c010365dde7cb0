/** What a client's and a gateway's connect have in common. Runs inside their transaction. */
import { sql } from 'kysely';
import type { Transaction } from 'kysely';
import { CONNECT_MESSAGE, PublicKeyTakenError } from '../core/ports/connects.js';
import type { DeviceSession } from '../core/ports/connects.js';
import type { Tables } from './database-tables.js';
import { isTaken } from './postgres-error.js';

/** The columns both session tables share. */
export function sessionColumns(session: DeviceSession, epoch: bigint) {
  return {
    token_id: session.tokenId,
    public_key: session.publicKey,
    remote_ip: session.remoteIp,
    region: session.region,
    city: session.city,
    latitude: session.latitude,
    longitude: session.longitude,
    version: session.version,
    user_agent: session.userAgent,
    epoch: String(epoch),
    connected_at: new Date(session.at),
  };
}

/** The device's 32 secret bytes, made at its first connect and the same ever after. */
export async function pskBaseOf(
  db: Transaction<Tables>,
  accountId: string,
  device: { readonly client_id: string } | { readonly gateway_id: string },
): Promise<Uint8Array> {
  const owner = { client_id: null, gateway_id: null, ...device };
  const deviceId = 'client_id' in device ? device.client_id : device.gateway_id;
  const known = await db
    .selectFrom('device_secrets')
    .where('account_id', '=', accountId)
    .where('device_id', '=', deviceId)
    .select('psk_base')
    .executeTakeFirst();
  if (known) return known.psk_base;
  const made = await db
    .insertInto('device_secrets')
    .values({ account_id: accountId, ...owner })
    // Another connect of this device was faster: its secret stands, and is returned.
    .onConflict((conflict) =>
      conflict
        .columns(['account_id', 'device_id'])
        .doUpdateSet((row) => ({ psk_base: row.ref('device_secrets.psk_base') })),
    )
    .returning('psk_base')
    .executeTakeFirstOrThrow();
  return made.psk_base;
}

/** Comes down the stream inside the commit, so that the channel knows when the store holds what this connect wrote (D13). */
export async function announceConnect(db: Transaction<Tables>, session: DeviceSession): Promise<void> {
  await sql`SELECT pg_logical_emit_message(true, ${CONNECT_MESSAGE}, ${session.connectionId})`.execute(db);
}

/**
 * Runs a connect. Two first connects of one device race for its row: the loser starts again and finds it.
 * @param uniqueDevice the constraint the loser meets
 */
export async function connecting<Result>(uniqueDevice: string, connect: () => Promise<Result>): Promise<Result> {
  try {
    return await connect().catch((error: unknown) => {
      if (isTaken(error, [uniqueDevice])) return connect();
      throw error;
    });
  } catch (error) {
    if (!isTaken(error, KEY_CONSTRAINTS)) throw error;
    throw new PublicKeyTakenError('the public key is in use by another device of the account', { cause: error });
  }
}

const KEY_CONSTRAINTS = ['client_sessions_public_key_is_taken', 'gateway_sessions_public_key_is_taken'];
