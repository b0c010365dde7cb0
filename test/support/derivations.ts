/** What wire-protocol.md section 6 and domain.md 7.5 derive, computed here from the text and not by the product. */
import { createHash, pbkdf2Sync } from 'node:crypto';
import type { TestDatabase } from './test-database.js';

export interface RelayEntry {
  readonly id: string;
  readonly type: 'turn';
  readonly addr: string;
  readonly username: string;
  readonly password: string;
  readonly expires_at: number;
}

/** What a gateway's TURN credentials, and those of a token without end, carry: 2038-01-01 (wire-protocol.md 6.5). */
export const RELAYS_UNTIL = 2_145_916_800;

/** First 122 bits of SHA-256 of the stamp secret, laid out as a v4 UUID (domain.md 7.5). */
export function relayIdOf(stampSecret: string): string {
  const hex = createHash('sha256').update(stampSecret).digest('hex');
  const variant = ((parseInt(hex.charAt(16), 16) & 3) | 8).toString(16);
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-4${hex.slice(13, 16)}-${variant}${hex.slice(17, 20)}-${hex.slice(20, 32)}`;
}

/** The entries a peer is given for a relay, one for each of its `ip:port` (6.5). */
export function relayEntries(
  relay: { readonly stampSecret: string; readonly addrs: readonly string[] },
  publicKey: string,
  expiresAt: number,
): RelayEntry[] {
  const salt = base64NoPad(publicKey);
  return relay.addrs.map((addr) => ({
    id: relayIdOf(relay.stampSecret),
    type: 'turn',
    addr,
    username: `${expiresAt}:${salt}`,
    password: base64NoPad(`${expiresAt}:${relay.stampSecret}:${salt}`),
    expires_at: expiresAt,
  }));
}

interface Ends {
  readonly accountId: string;
  readonly client: { readonly id: string; readonly publicKey: string };
  readonly gateway: { readonly id: string; readonly publicKey: string };
}

/** The preshared key of a pair (6.7), from the secret bytes that the database holds for the two devices. */
export async function presharedKeyOf(db: TestDatabase, { accountId, client, gateway }: Ends): Promise<string> {
  const baseOf = async (role: 'client' | 'gateway', id: string): Promise<Buffer> => {
    const text = `SELECT psk_base FROM device_secrets WHERE account_id = $1 AND ${role}_id = $2`;
    const { rows } = await db.query<{ psk_base: Buffer }>(text, [accountId, id]);
    return rows[0]?.psk_base ?? Buffer.alloc(0);
  };
  const bases = Buffer.concat([await baseOf('client', client.id), await baseOf('gateway', gateway.id)]);
  const salt = `WG_PSK|C_ID:${client.id}|G_ID:${gateway.id}|C_PK:${client.publicKey}|G_PK:${gateway.publicKey}`;
  return pbkdf2Sync(bases, salt, 1, 32, 'sha256').toString('base64');
}

function base64NoPad(text: string): string {
  return createHash('sha256').update(text).digest('base64').replace(/=+$/, '');
}
