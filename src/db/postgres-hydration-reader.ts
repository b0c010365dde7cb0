/** Reads one account as one snapshot shows it, as column text, with what the fence needs (D13, events.md B.4.2). */
import { COLUMNS } from '../core/changes/columns.js';
import type { RawRow } from '../core/changes/commit.js';
import type { ConnectionFacts } from '../core/model/connection-facts.js';
import { OWN_REASONS } from '../core/model/flow.js';
import type { AccountId, ClientId, FlowId, TokenId } from '../core/model/ids.js';
import { ACCOUNT_TABLES } from '../core/model/rows.js';
import type { AccountTable } from '../core/model/rows.js';
import type { AccountSnapshot, HydrationReader, XidSnapshot } from '../core/ports/hydration-reader.js';
import { PortalError } from '../core/support/portal-error.js';
import { insertPosition, SELECT_INSERT_POSITION } from './insert-position.js';
import type { Database, RawQuery } from './open-database.js';

/** A standby's snapshot does not list running transactions: the fence would pass what it must hold (events.md B.3.7). */
class StandbyError extends PortalError {
  readonly code = 'DB_IS_STANDBY';
  readonly reaction = 'retry-later';
  constructor() {
    super('this PostgreSQL server is a standby; accounts are read on the primary only');
  }
}

export class PostgresHydrationReader implements HydrationReader {
  constructor(private readonly database: Database) {}

  readAccount(accountId: AccountId, flowIds: readonly FlowId[] = []): Promise<AccountSnapshot> {
    return this.database.inSnapshot('hydrate-account', async (query) => {
      const snapshot = await mustReadSnapshot(query);
      const rows = new Map<AccountTable, readonly RawRow[]>();
      for (const table of ACCOUNT_TABLES) rows.set(table, await query(SELECTS[table], [accountId]));
      const connections = (await query(SELECT_SESSIONS, [accountId])).map(toFacts);
      const cutFlows = new Set(flowIds);
      if (flowIds.length > 0) {
        for (const row of await query(SELECT_UNCUT_FLOWS, [accountId, flowIds])) cutFlows.delete(row['id'] as FlowId);
      }
      return {
        rows,
        connections,
        snapshot,
        cutFlows,
        upperBound: insertPosition((await query(SELECT_INSERT_POSITION))[0]),
      };
    });
  }

  readSnapshot(): Promise<XidSnapshot> {
    return this.database.inSnapshot('read-snapshot', mustReadSnapshot);
  }
}

/** Nothing is cast, so that each value is printed by its type's own output, as in the stream. */
const SELECTS = Object.fromEntries(
  ACCOUNT_TABLES.map((table) => [
    table,
    `SELECT ${COLUMNS[table].join(', ')} FROM ${table} WHERE ${table === 'accounts' ? 'id' : 'account_id'} = $1`,
  ]),
) as Readonly<Record<AccountTable, string>>;

const SELECT_SESSIONS = `SELECT client_id, token_id, region, host(remote_ip) AS remote_ip,
  floor(extract(epoch FROM connected_at) * 1000)::bigint AS connected_at_ms FROM client_sessions WHERE account_id = $1`;

/** A row that a hand closed keeps the hand's reason, or gets one of its own when it had none. */
const SELECT_UNCUT_FLOWS = `SELECT id FROM flows WHERE account_id = $1 AND id = ANY($2::uuid[])
  AND (revoked_at IS NULL OR revoked_reason IN (${OWN_REASONS.map((reason) => `'${reason}'`).join(', ')}))`;

function toFacts(row: RawRow): ConnectionFacts {
  return {
    clientId: row['client_id'] as ClientId,
    tokenId: row['token_id'] as TokenId,
    region: row['region'] ?? null,
    remoteIp: row['remote_ip'] ?? null,
    connectedAt: Number(row['connected_at_ms']),
  };
}

async function mustReadSnapshot(query: RawQuery): Promise<XidSnapshot> {
  const [row] = await query('SELECT pg_is_in_recovery() AS is_standby, pg_current_snapshot() AS snapshot');
  if (row?.['is_standby'] !== 'f') throw new StandbyError();
  return parseSnapshot(row['snapshot'] ?? '');
}

/** `xmin:xmax:xip,xip…`, 64-bit ids of top-level transactions. Source: PostgreSQL documentation, pg_snapshot. */
function parseSnapshot(text: string): XidSnapshot {
  const [, xmax, running] = text.split(':');
  if (xmax === undefined || running === undefined) throw new Error(`not a snapshot: ${text}`);
  return { xmax: BigInt(xmax), running: new Set(running === '' ? [] : running.split(',').map(BigInt)) };
}
