/** What a change of a policy makes the peers hear, exactly and in order. */
import { afterAll, afterEach, beforeAll, describe, expect, it, jest } from '@jest/globals';
import { aGroup, aPolicy, aResource, condition, setPolicy, shownOther } from '../support/scene-rows.js';
import { rejected, removed, shown, Stage } from '../support/scene.js';

jest.setTimeout(30_000);

let stage: Stage;

beforeAll(async () => {
  stage = await Stage.open();
});

afterEach(() => stage.clear());
afterAll(() => stage.close());

const NOTHING = { gateway: [], client: [] };

describe('a policy that stops granting', () => {
  it('rejects the flow and takes the resource away when it is deleted', async () => {
    const scene = await stage.withFlow();
    expect(await scene.hears(`DELETE FROM policies WHERE id = '${scene.ids.policyId}'`)).toEqual(lost(scene));
  });

  it('does the same when it is disabled, and gives the resource but not the flow back when it is enabled', async () => {
    const scene = await stage.withFlow();
    expect(await scene.hears(setPolicy(scene, 'disabled_at = now()'))).toEqual(lost(scene));
    expect(await scene.hears(setPolicy(scene, 'disabled_at = NULL'))).toEqual({ gateway: [], client: [shown(scene)] });
    await scene.openFlow();
  });

  it('does the same when it is given to a group without the actor', async () => {
    const scene = await stage.withFlow();
    const others = await aGroup(scene, 'without-actor');
    expect(await scene.hears(setPolicy(scene, `group_id = '${others}'`))).toEqual(lost(scene));
  });

  it('takes one resource away and gives the other when it is moved between resources', async () => {
    const scene = await stage.withFlow();
    const other = await aResource(scene);
    expect(await scene.hears(setPolicy(scene, `resource_id = '${other}'`))).toEqual({
      gateway: [rejected(scene.flow)],
      client: [removed(scene.ids.resourceId), shownOther(scene, other)],
    });
  });

  it('does the same when its conditions become violated, and tells nobody while they hold', async () => {
    const scene = await stage.withFlow();
    const onlyFrom = (range: string): string =>
      setPolicy(scene, `conditions = '${condition('remote_ip', 'is_in_cidr', range)}'`);
    expect(await scene.hears(onlyFrom('127.0.0.0/8'))).toEqual(NOTHING);
    expect(await scene.hears(onlyFrom('192.0.2.0/24'))).toEqual(lost(scene));
  });

  it('does the same when all policies are truncated', async () => {
    const scene = await stage.withFlow();
    expect(await scene.hears('TRUNCATE policies')).toEqual(lost(scene));
  });
});

describe('a change of a policy that changes nobody’s access', () => {
  it('is told to nobody: another group of the actor, another text, an equal value', async () => {
    const scene = await stage.withFlow();
    const mine = await aGroup(scene, 'with-actor');
    expect(await scene.hears(setPolicy(scene, `group_id = '${mine}'`))).toEqual(NOTHING);
    expect(await scene.hears(setPolicy(scene, `description = 'for the audit'`))).toEqual(NOTHING);
    expect(await scene.hears(setPolicy(scene, 'group_id = group_id'))).toEqual(NOTHING);
  });

  it('is told to nobody when another policy grants the same: the flow moves to it without a reject (D8, D20)', async () => {
    const scene = await stage.withFlow();
    const second = aPolicy(scene, { groupId: await aGroup(scene, 'with-actor') });
    expect(await scene.hears(second.sql)).toEqual(NOTHING);

    expect(await scene.hears(`DELETE FROM policies WHERE id = '${scene.ids.policyId}'`)).toEqual(NOTHING);
    expect(await scene.history((rows) => rows.length === 2 && rows[0]?.revoked_reason !== null)).toMatchObject([
      { policy_id: scene.ids.policyId, revoked_reason: 'moved' },
      { policy_id: second.id, revoked_reason: null },
    ]);
    expect(await scene.hears(`DELETE FROM policies WHERE id = '${second.id}'`)).toEqual(lost(scene));
  });
});

describe('a policy that goes from A to B and back', () => {
  it('in three commits rejects, in order, exactly the flow each commit takes away', async () => {
    const scene = await stage.withFlow();
    const other = await aResource(scene);
    const toA = setPolicy(scene, `resource_id = '${scene.ids.resourceId}'`);
    const toB = setPolicy(scene, `resource_id = '${other}'`);
    const leavesA = {
      gateway: [rejected(scene.flow)],
      client: [removed(scene.ids.resourceId), shownOther(scene, other)],
    };

    expect(await scene.hears(toB)).toEqual(leavesA);
    const flow = await scene.openFlow(other);
    expect(await scene.hears(toA)).toEqual({ gateway: [rejected(flow)], client: [removed(other), shown(scene)] });
    await scene.openFlow();
    expect(await scene.hears(toB)).toEqual(leavesA);
  });

  it('in commits that arrive together still rejects the flow and makes the client forget it', async () => {
    const scene = await stage.withFlow();
    const others = await aGroup(scene, 'without-actor');
    const toB = setPolicy(scene, `group_id = '${others}'`);
    const toA = setPolicy(scene, `group_id = '${scene.ids.groupId}'`);
    expect(await scene.hears(`BEGIN; ${toB}; COMMIT; BEGIN; ${toA}; COMMIT`)).toEqual({
      gateway: [rejected(scene.flow)],
      client: [removed(scene.ids.resourceId), shown(scene)],
    });
    await scene.openFlow();
  });

  it('in one commit is told to nobody (D12)', async () => {
    const scene = await stage.withFlow();
    const others = await aGroup(scene, 'without-actor');
    const toB = setPolicy(scene, `group_id = '${others}'`);
    const toA = setPolicy(scene, `group_id = '${scene.ids.groupId}'`);
    expect(await scene.hears(`${toB}; ${toA}`)).toEqual(NOTHING);
  });
});

describe('a policy whose conditions somebody typed wrong', () => {
  it.each([
    ['no list of conditions', `'[1, "x"]'`],
    ['an unknown property', `'[{"property":"phase_of_moon","operator":"is_in","values":["full"]}]'`],
    ['a range that is none', `'[{"property":"remote_ip","operator":"is_in_cidr","values":["127.0.0.0/99"]}]'`],
  ])('denies, and its neighbours grant as before: %s (D15)', async (_what, typed) => {
    const scene = await stage.withFlow();
    const other = await aResource(scene);
    expect(await scene.hears(aPolicy(scene, { resourceId: other }).sql)).toEqual({
      gateway: [],
      client: [shownOther(scene, other)],
    });
    await scene.openFlow(other);

    expect(await scene.hears(setPolicy(scene, `conditions = ${typed}`))).toEqual(lost(scene));
    expect(await scene.hears(setPolicy(scene, `conditions = '[]'`))).toEqual({ gateway: [], client: [shown(scene)] });
  });
});

// ---- helpers -------------------------------------------------------------------------------------------------------

type WithFlow = Awaited<ReturnType<Stage['withFlow']>>;

function lost(scene: WithFlow) {
  return { gateway: [rejected(scene.flow)], client: [removed(scene.ids.resourceId)] };
}
