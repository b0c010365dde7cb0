/** What a change of groups and memberships makes the peers hear, exactly and in order. */
import { randomUUID } from 'node:crypto';
import { afterAll, afterEach, beforeAll, describe, expect, it, jest } from '@jest/globals';
import { aToken } from '../support/demo-account.js';
import { aGroup, aPolicy, membership } from '../support/scene-rows.js';
import { rejected, removed, type Scene, shown, Stage } from '../support/scene.js';

jest.setTimeout(30_000);

let stage: Stage;

beforeAll(async () => {
  stage = await Stage.open();
});

afterEach(() => stage.clear());
afterAll(() => stage.close());

const NOTHING = { gateway: [], client: [] };

describe('an actor who leaves a group', () => {
  it.each([
    ['the membership is deleted', (scene: Scene) => leaves(scene, scene.ids.groupId)],
    ['all memberships are truncated', () => 'TRUNCATE memberships'],
    ['the group is deleted', ({ ids }: Scene) => `DELETE FROM groups WHERE id = '${ids.groupId}'`],
    [
      'the policy goes in the same commit',
      (scene: Scene) => `DELETE FROM policies WHERE id = '${scene.ids.policyId}'; ${leaves(scene, scene.ids.groupId)}`,
    ],
  ])('loses flow and resource when %s', async (_how, statement) => {
    const scene = await stage.withFlow();
    expect(await scene.hears(statement(scene))).toEqual({
      gateway: [rejected(scene.flow)],
      client: [removed(scene.ids.resourceId)],
    });
  });

  it('loses them when the membership is given to another actor, who gains the resource', async () => {
    const scene = await stage.withFlow();
    const actorId = await anActorWithClient(scene, 'theirs');
    const { groupId } = scene.ids;
    expect(await scene.hears(`UPDATE memberships SET actor_id = '${actorId}' WHERE group_id = '${groupId}'`)).toEqual({
      gateway: [rejected(scene.flow)],
      client: [removed(scene.ids.resourceId)],
      theirs: [shown(scene)],
    });
  });

  it('loses them on every device: gateways hear all rejects, by client id, before a client hears anything (ORD-4)', async () => {
    const scene = await stage.withFlow();
    await scene.join('client', 'phone');
    await scene.join('gateway', 'gateway-2');
    const flows = [scene.flow, await scene.openFlow(scene.ids.resourceId, 'phone', 'gateway')].sort((a, b) =>
      a.clientId < b.clientId ? -1 : 1,
    );
    const elsewhere = await scene.openFlow(scene.ids.resourceId, 'phone', 'gateway-2');

    expect(await scene.hears(leaves(scene, scene.ids.groupId))).toEqual({
      gateway: flows.map(rejected),
      'gateway-2': [rejected(elsewhere)],
      client: [removed(scene.ids.resourceId)],
      phone: [removed(scene.ids.resourceId)],
    });
  });
});

describe('an actor whom another group still grants', () => {
  it('keeps the flow without a word: it moves to the other policy (D8, D20)', async () => {
    const scene = await stage.withFlow();
    const other = await aGroup(scene, 'with-actor');
    const second = aPolicy(scene, { groupId: other });
    expect(await scene.hears(second.sql)).toEqual(NOTHING);

    expect(await scene.hears(leaves(scene, scene.ids.groupId))).toEqual(NOTHING);
    expect(await scene.history((rows) => rows.length === 2 && rows[0]?.revoked_reason !== null)).toMatchObject([
      { policy_id: scene.ids.policyId, revoked_reason: 'moved' },
      { policy_id: second.id, revoked_reason: null },
    ]);
    expect(await scene.hears(leaves(scene, other))).toEqual({
      gateway: [rejected(scene.flow)],
      client: [removed(scene.ids.resourceId)],
    });
  });
});

describe('memberships that are written anew', () => {
  it('delete and insert in one commit is told to nobody, under a new id too (D17)', async () => {
    const scene = await stage.withFlow();
    const { accountId, actorId, groupId } = scene.ids;
    const again = membership(accountId, actorId, groupId);
    expect(await scene.hears(`${leaves(scene, groupId)}; ${again}`)).toEqual(NOTHING);
    expect(await scene.hears(`TRUNCATE memberships; ${again}`)).toEqual(NOTHING);
    expect(await scene.hears(leaves(scene, groupId))).toEqual({
      gateway: [rejected(scene.flow)],
      client: [removed(scene.ids.resourceId)],
    });
  });

  it('delete and insert in two commits rejects, and the client may ask again', async () => {
    const scene = await stage.withFlow();
    const { accountId, actorId, groupId } = scene.ids;
    await scene.hears(leaves(scene, groupId));
    expect(await scene.hears(membership(accountId, actorId, groupId))).toEqual({ gateway: [], client: [shown(scene)] });
    await scene.openFlow();
  });
});

// ---- helpers -------------------------------------------------------------------------------------------------------

function leaves({ ids }: Scene, groupId: string): string {
  return `DELETE FROM memberships WHERE actor_id = '${ids.actorId}' AND group_id = '${groupId}'`;
}

/** A second actor, in no group, whose client has joined under the name. */
async function anActorWithClient(scene: Scene, name: string): Promise<string> {
  const { db } = scene.server;
  const actorId = randomUUID();
  await db.query('INSERT INTO actors (account_id, id) VALUES ($1, $2)', [scene.ids.accountId, actorId]);
  const token = await aToken(db, 'client', { accountId: scene.ids.accountId, actorId });
  await scene.join('client', name, { token: token.text });
  return actorId;
}
