/** One small account, written as a person would: everything that has a default is left to it. */
import { randomUUID } from 'node:crypto';
import type { AccountId, ActorId, GroupId, PolicyId, ResourceId, SiteId, TokenId } from '../../src/core/model/ids.js';
import type { TestDatabase } from './test-database.js';

export interface AccountIds {
  readonly accountId: AccountId;
  readonly actorId: ActorId;
  readonly groupId: GroupId;
  readonly siteId: SiteId;
  readonly resourceId: ResourceId;
  readonly policyId: PolicyId;
  readonly clientTokenId: TokenId;
  readonly gatewayTokenId: TokenId;
}

/** An actor in a group that may use a cidr resource behind a site, and a token for each kind of device. */
export async function insertAccount(database: TestDatabase): Promise<AccountIds> {
  const ids = {
    accountId: randomUUID() as AccountId,
    actorId: randomUUID() as ActorId,
    groupId: randomUUID() as GroupId,
    siteId: randomUUID() as SiteId,
    resourceId: randomUUID() as ResourceId,
    policyId: randomUUID() as PolicyId,
    clientTokenId: randomUUID() as TokenId,
    gatewayTokenId: randomUUID() as TokenId,
  };
  await database.sql(`
    INSERT INTO accounts (id) VALUES ('${ids.accountId}');
    INSERT INTO actors (account_id, id) VALUES ('${ids.accountId}', '${ids.actorId}');
    INSERT INTO groups (account_id, id) VALUES ('${ids.accountId}', '${ids.groupId}');
    INSERT INTO memberships (account_id, actor_id, group_id)
      VALUES ('${ids.accountId}', '${ids.actorId}', '${ids.groupId}');
    INSERT INTO sites (account_id, id) VALUES ('${ids.accountId}', '${ids.siteId}');
    INSERT INTO resources (account_id, id, type, address)
      VALUES ('${ids.accountId}', '${ids.resourceId}', 'cidr', '10.20.0.0/16');
    INSERT INTO resource_sites (account_id, resource_id, site_id)
      VALUES ('${ids.accountId}', '${ids.resourceId}', '${ids.siteId}');
    INSERT INTO policies (account_id, id, group_id, resource_id)
      VALUES ('${ids.accountId}', '${ids.policyId}', '${ids.groupId}', '${ids.resourceId}');
    INSERT INTO tokens (id, account_id, kind, actor_id)
      VALUES ('${ids.clientTokenId}', '${ids.accountId}', 'client', '${ids.actorId}');
    INSERT INTO tokens (id, account_id, kind, site_id)
      VALUES ('${ids.gatewayTokenId}', '${ids.accountId}', 'gateway', '${ids.siteId}');
  `);
  return ids;
}
