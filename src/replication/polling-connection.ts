/** An ordinary connection that asks the slot for commits, row by row as they arrive. */
import { Query } from 'pg';
import type { Position } from '../core/model/position.js';
import { formatPosition, parsePosition } from '../core/model/position.js';
import { PinnedConnection } from './pinned-connection.js';

/**
 * Longer than any peek that is worth waiting for: a stream that is behind for MAX_LAG_SECONDS begins anew anyway. Without
 * a limit a statement that hangs would keep the slot from us for ever.
 */
const STATEMENT_LIMIT_MS = 600_000;
/** Of the longest name of a slot, less what is added to it. */
const MAX_COPIED_NAME = 63 - '_again_4294967295'.length;

export interface Peek {
  readonly slot: string;
  /** `[a-z0-9_]` each. */
  readonly publications: readonly string[];
  /** It ends with the first transaction that reaches so many; one transaction is never cut. Null: no limit. */
  readonly maxRows: number | null;
  /** It ends with the transaction whose commit ends here. Undefined: with the last one. */
  readonly upTo?: Position;
}

export class PollingConnection extends PinnedConnection {
  /** From now on no statement may take for ever; making a slot may. */
  async limitStatements(): Promise<void> {
    await this.ask(`SET statement_timeout = ${STATEMENT_LIMIT_MS}`);
  }

  /** How far the log is on disk. Every commit that ends before is in a peek that begins afterwards. */
  async flushedPosition(): Promise<Position> {
    const [row] = await this.ask('SELECT pg_current_wal_flush_lsn()::text AS flushed');
    return parsePosition(row?.['flushed'] ?? '') ?? 0n;
  }

  /** The server ends a long statement when we are gone, where its system can tell. */
  async noticeWhenUnwanted(): Promise<void> {
    await this.ask(`SET client_connection_check_interval = '10s'`).catch((error: unknown) => {
      if (this.failure) throw error;
    });
  }

  /**
   * A slot that stands where this one stands, also while another connection reads that. It ends with this connection, and
   * has a name of its own: a connection that was lost may be held by the server for a while.
   */
  async copySlot(slot: string): Promise<string> {
    const name = `'${slot.slice(0, MAX_COPIED_NAME)}_again_' || pg_backend_pid()`;
    const [row] = await this.ask(`SELECT slot_name FROM pg_copy_logical_replication_slot('${slot}', ${name}, true)`);
    return row?.['slot_name'] ?? '';
  }

  /** Never back: PostgreSQL refuses that. */
  async advance(slot: string, position: Position): Promise<void> {
    await this.ask(`SELECT end_lsn FROM pg_replication_slot_advance('${slot}', '${formatPosition(position)}')`);
  }

  /**
   * Everything that is not acknowledged, again and again, in the order of commits. Rows are not collected, so a paused
   * connection keeps a huge transaction on the server.
   *
   * @param onMessage gets each message of the output plugin; what it throws ends the connection and is the reason
   */
  peek({ slot, publications, maxRows, upTo }: Peek, onMessage: (message: Buffer) => void): Promise<void> {
    const names = publications.map((name) => `"${name}"`).join(',');
    // As base64: the driver reads text only, and PostgreSQL's own text form of bytes is half as long again.
    const query = new Query(`
      SELECT encode(data, 'base64') AS data FROM pg_logical_slot_peek_binary_changes(
        '${slot}', ${upTo === undefined ? 'NULL' : `'${formatPosition(upTo)}'`}, ${maxRows ?? 'NULL'}, 'proto_version', '1', 'publication_names', '${names}', 'messages', 'true')`);
    return new Promise((resolve, reject) => {
      query.on('row', (row: Readonly<Record<string, unknown>>) => {
        if (this.failure) return;
        try {
          onMessage(Buffer.from(String(row['data']), 'base64'));
        } catch (error) {
          // Thrown on, it would leave through the socket's event and end the process.
          this.destroy(error instanceof Error ? error : new Error(String(error)));
        }
      });
      query.on('error', (error) => {
        reject(this.failure ?? error);
      });
      query.on('end', () => {
        if (this.failure) reject(this.failure);
        else resolve();
      });
      this.client.query(query);
    });
  }
}
