/** Access that time gives and takes, in real time: windows, a token's end, and what a gateway holds (D18, D20a). */
import { afterAll, afterEach, beforeAll, describe, expect, it, jest } from '@jest/globals';
import { aGroup, aPolicy, setPolicy } from '../support/scene-rows.js';
import { expiryMoved, type OpenFlow, rejected, removed, type Scene, shown, Stage } from '../support/scene.js';
import { type Window, windowOf } from '../support/time-window.js';

jest.setTimeout(30_000);

let stage: Stage;

beforeAll(async () => {
  stage = await Stage.open();
});

afterEach(() => stage.clear());
afterAll(() => stage.close());

const LAST_WITHOUT_EXPIRY_UPDATES = 'Linux/6.8.0 connlib/1.4.13 (x86_64)';

describe('a time window', () => {
  it('takes the flow when it closes and gives the resource when the next one opens, at the second (D18)', async () => {
    const scene = await stage.withFlow();
    const first = windowOf([-60, 2], [4, 600]);
    const closes = first.endsAt - 598;
    expect(await scene.hears(setPolicy(scene, `conditions = '${first.conditions}'`))).toEqual({
      gateway: [expiryMoved(scene.flow, closes)],
      client: [],
    });

    await comes(scene, 'client', 'resource_created_or_updated', closes + 2);
    expect(await scene.heard()).toEqual({
      gateway: [rejected(scene.flow)],
      client: [removed(scene.ids.resourceId), shown(scene)],
    });
    expect((await scene.openFlow()).expiresAt).toBe(first.endsAt);
  });

  it('that opens later than a policy was written gives the resource then, and its flow ends with it', async () => {
    const scene = await stage.joined();
    await scene.hears(setPolicy(scene, `conditions = '[]', disabled_at = now()`));
    const later = windowOf([2, 4]);
    expect(await scene.hears(setPolicy(scene, `conditions = '${later.conditions}', disabled_at = NULL`))).toEqual({
      gateway: [],
      client: [],
    });
    await comes(scene, 'client', 'resource_created_or_updated', later.endsAt - 2);
    await scene.heard();
    const flow = await scene.openFlow();
    expect(flow.expiresAt).toBe(later.endsAt);
    await comes(scene, 'gateway', 'reject_access');
    await comes(scene, 'client', 'resource_deleted');
    expect(await scene.heard()).toEqual({ gateway: [rejected(flow)], client: [removed(scene.ids.resourceId)] });
  });

  it('that opens beside another moves the expiry while the gateway still holds the pair (D20a)', async () => {
    const scene = await stage.joined();
    const [now, then] = [windowOf([-60, 8]), windowOf([3, 600])];
    await scene.hears(setPolicy(scene, `conditions = '${now.conditions}'`));
    const flow = await scene.openFlow();
    expect(flow.expiresAt).toBe(now.endsAt);
    const second = aPolicy(scene, { groupId: await aGroup(scene, 'with-actor'), conditions: then.conditions });
    expect(await scene.hears(second.sql)).toEqual({ gateway: [], client: [] });
    await comes(scene, 'gateway', 'access_authorization_expiry_updated');
    expect(await scene.heard()).toEqual({ gateway: [expiryMoved(flow, then.endsAt)], client: [] });
  });
});

describe('of two policies the longer one goes', () => {
  it('a gateway that knows the message is told the shorter expiry, and told again when it has come', async () => {
    const scene = await stage.withFlow();
    const short = await beside(scene, [-60, 2]);
    expect(await scene.hears(longerGoes(scene))).toEqual({
      gateway: [expiryMoved(scene.flow, short.endsAt)],
      client: [],
    });
    await endsAt(scene, scene.flow, short.endsAt);
  });

  it('an older gateway is told nothing, and is rejected when the shorter one ends', async () => {
    const scene = await withOldGateway();
    const flow = await scene.openFlow();
    const short = await beside(scene, [-60, 2]);
    expect(await scene.hears(longerGoes(scene))).toEqual({ gateway: [], client: [] });
    await endsAt(scene, flow, short.endsAt);
  });

  it('by a membership: the flow moves without a reject, with the expiry of the policy that is left', async () => {
    const scene = await stage.withFlow();
    const short = await beside(scene, [-60, 600]);
    const leaves = `DELETE FROM memberships WHERE group_id = '${scene.ids.groupId}'`;
    expect(await scene.hears(leaves)).toEqual({ gateway: [expiryMoved(scene.flow, short.endsAt)], client: [] });
  });
});

describe('of two policies a longer one comes', () => {
  it('an older gateway ends the pair at what it holds: rejected then, and the client makes the resource anew', async () => {
    const scene = await withOldGateway();
    const short = windowOf([-60, 4]);
    await scene.hears(setPolicy(scene, `conditions = '${short.conditions}'`));
    const flow = await scene.openFlow();
    expect(flow.expiresAt).toBe(short.endsAt);
    expect(await scene.hears(setPolicy(scene, `conditions = '[]'`))).toEqual({ gateway: [], client: [] });
    await comes(scene, 'gateway', 'reject_access', short.endsAt);
    await comes(scene, 'client', 'resource_created_or_updated');
    expect(await scene.heard()).toEqual({
      gateway: [rejected(flow)],
      client: [removed(scene.ids.resourceId), shown(scene)],
    });
    expect((await scene.openFlow()).expiresAt).toBeGreaterThan(short.endsAt + 13 * 86_400);
  });
});

describe('a token', () => {
  it('that gets an end moves the flow’s; when it comes the client is signed out and the flow rejected', async () => {
    const scene = await stage.withFlow();
    const endsAtSecond = Math.floor(Date.now() / 1000) + 2;
    const end = `UPDATE tokens SET expires_at = to_timestamp(${endsAtSecond}) WHERE id = '${scene.ids.clientTokenId}'`;
    expect(await scene.hears(end)).toEqual({ gateway: [expiryMoved(scene.flow, endsAtSecond)], client: [] });

    await comes(scene, 'client', 'disconnect', endsAtSecond);
    await comes(scene, 'gateway', 'reject_access');
    await scene.client.closed();
    expect(await scene.heard()).toEqual({
      gateway: [rejected(scene.flow)],
      client: [
        ['disconnect', { reason: 'token_expired' }],
        ['closed', 1000],
      ],
    });
  });
});

// ---- helpers -------------------------------------------------------------------------------------------------------

async function withOldGateway(): Promise<Scene> {
  const scene = await stage.account();
  await scene.join('gateway', 'gateway', { userAgent: LAST_WITHOUT_EXPIRY_UPDATES });
  await scene.join('client', 'client');
  return scene;
}

/** A second policy for the actor and the resource, in a group of its own, with a window. */
async function beside(scene: Scene, span: readonly [number, number]): Promise<Window> {
  const groupId = await aGroup(scene, 'with-actor');
  const window = windowOf(span);
  await scene.hears(aPolicy(scene, { groupId, conditions: window.conditions }).sql);
  return window;
}

function longerGoes(scene: Scene): string {
  return `DELETE FROM policies WHERE id = '${scene.ids.policyId}'`;
}

/** The pair and the resource go at the second, and nothing else is said. */
async function endsAt(scene: Scene, flow: OpenFlow, second: number): Promise<void> {
  await comes(scene, 'gateway', 'reject_access', second);
  await comes(scene, 'client', 'resource_deleted');
  expect(await scene.heard()).toEqual({ gateway: [rejected(flow)], client: [removed(scene.ids.resourceId)] });
}

/** Waits for an event, which stays unread; fails when it comes before the second, or not soon after. */
async function comes(scene: Scene, name: string, event: string, second?: number): Promise<void> {
  const { at } = await scene.device(name).peer.awaits(event);
  const cameAt = (Date.now() - performance.now() + at) / 1000;
  if (second === undefined) return;
  expect(cameAt).toBeGreaterThan(second - 0.01); // two clocks
  expect(cameAt).toBeLessThan(second + 1);
}
