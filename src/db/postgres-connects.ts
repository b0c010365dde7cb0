import type { ClientId, GatewayId, TokenId } from '../core/model/ids.js';
import type { ClientConnect, ConnectedDevice, Connects, GatewayConnect, StoredToken } from '../core/ports/connects.js';
import { connectClient } from './connect-client.js';
import { connectGateway } from './connect-gateway.js';
import { findToken } from './find-token.js';
import type { Database } from './open-database.js';

/** The port over its three questions. */
export class PostgresConnects implements Connects {
  /** @param epoch of this process, see `openEpoch` */
  constructor(
    private readonly database: Database,
    private readonly epoch: bigint,
  ) {}

  findToken(id: TokenId): Promise<StoredToken | undefined> {
    return findToken(this.database, id);
  }

  connectClient(connect: ClientConnect): Promise<ConnectedDevice<ClientId>> {
    return connectClient(this.database, connect, this.epoch);
  }

  connectGateway(connect: GatewayConnect): Promise<ConnectedDevice<GatewayId>> {
    return connectGateway(this.database, connect, this.epoch);
  }
}
