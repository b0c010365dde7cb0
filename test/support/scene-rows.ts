/** Further rows of a scene's account, and the statements that change the ones it has. */
import { randomUUID } from 'node:crypto';
import { shown, type Push, type Scene } from './scene.js';

/** A group; with the scene's actor in it or without. No policy names it yet, so nobody hears of it. */
export async function aGroup({ server, ids }: Scene, actor: 'with-actor' | 'without-actor'): Promise<string> {
  const id = randomUUID();
  await server.db.sql(`INSERT INTO groups (account_id, id) VALUES ('${ids.accountId}', '${id}');
    ${actor === 'with-actor' ? membership(ids.accountId, ids.actorId, id) : ''}`);
  return id;
}

export async function aSite({ server, ids }: Scene, name = 'Other site'): Promise<string> {
  const id = randomUUID();
  await server.db.query('INSERT INTO sites (account_id, id, name) VALUES ($1, $2, $3)', [ids.accountId, id, name]);
  return id;
}

/** The cidr resource `10.30.0.0/16` behind the scene's site. No policy names it yet, so nobody hears of it. */
export async function aResource({ server, ids }: Scene): Promise<string> {
  const id = randomUUID();
  await server.db.sql(`
    INSERT INTO resources (account_id, id, type, address) VALUES ('${ids.accountId}', '${id}', 'cidr', '10.30.0.0/16');
    INSERT INTO resource_sites (account_id, resource_id, site_id) VALUES ('${ids.accountId}', '${id}', '${ids.siteId}')`);
  return id;
}

/** What a client is told of a resource made by `aResource`. */
export function shownOther(scene: Scene, resourceId: string): Push {
  return shown(scene, { id: resourceId, address: '10.30.0.0/16' });
}

/** The statement that makes a policy, and its id. */
export function aPolicy(
  { ids }: Scene,
  { groupId = ids.groupId as string, resourceId = ids.resourceId as string, conditions = '[]' },
): { readonly id: string; readonly sql: string } {
  const id = randomUUID();
  const sql = `INSERT INTO policies (account_id, id, group_id, resource_id, conditions)
    VALUES ('${ids.accountId}', '${id}', '${groupId}', '${resourceId}', '${conditions}')`;
  return { id, sql };
}

export function membership(accountId: string, actorId: string, groupId: string): string {
  return `INSERT INTO memberships (account_id, actor_id, group_id) VALUES ('${accountId}', '${actorId}', '${groupId}')`;
}

export function setPolicy({ ids }: Scene, assignment: string): string {
  return `UPDATE policies SET ${assignment} WHERE id = '${ids.policyId}'`;
}

export function setResource({ ids }: Scene, assignment: string): string {
  return `UPDATE resources SET ${assignment} WHERE id = '${ids.resourceId}'`;
}

export function setAccount({ ids }: Scene, assignment: string): string {
  return `UPDATE accounts SET ${assignment} WHERE id = '${ids.accountId}'`;
}

/** One condition, as JSON for `policies.conditions`. */
export function condition(property: string, operator: string, ...values: string[]): string {
  return JSON.stringify([{ property, operator, values }]);
}
