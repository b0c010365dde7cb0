/** However transactions overlap, what connected clients were told adds up to what the database says (events.md B.3.1). */
import { afterAll, afterEach, beforeAll, describe, expect, it, jest } from '@jest/globals';
import { randomUUID } from 'node:crypto';
import type { Client } from 'pg';
import { aToken } from '../support/demo-account.js';
import type { RawPeer } from '../support/raw-peer.js';
import { rejected, type Scene, Stage } from '../support/scene.js';
import { copyInto, session } from '../support/stream-under-test.js';

jest.setTimeout(30_000);

/** Each with a connected client, and a group and resource of its own that only a membership leads to. */
const MEMBERS = 5;

let stage: Stage;
const sessions: Client[] = [];

beforeAll(async () => {
  stage = await Stage.open();
});

afterEach(async () => {
  for (const one of sessions.splice(0)) await one.end();
  await stage.clear();
});

afterAll(() => stage.close());

interface Member {
  readonly actorId: string;
  readonly groupId: string;
  readonly resourceId: string;
  readonly peer: RawPeer;
}

async function connectedMembers(scene: Scene): Promise<Member[]> {
  const members: Member[] = [];
  const { accountId, siteId } = scene.ids;
  for (let i = 0; i < MEMBERS; i += 1) {
    const [actorId, groupId, resourceId] = [randomUUID(), randomUUID(), randomUUID()];
    await scene.server.db.sql(`
      INSERT INTO actors (account_id, id) VALUES ('${accountId}', '${actorId}');
      INSERT INTO groups (account_id, id) VALUES ('${accountId}', '${groupId}');
      INSERT INTO resources (account_id, id, type, address) VALUES ('${accountId}', '${resourceId}', 'cidr', '10.4${i}.0.0/16');
      INSERT INTO resource_sites VALUES ('${accountId}', '${resourceId}', '${siteId}');
      INSERT INTO policies (account_id, group_id, resource_id) VALUES ('${accountId}', '${groupId}', '${resourceId}')`);
    const { text } = await aToken(scene.server.db, 'client', { accountId, actorId });
    const { peer } = await scene.join('client', `member-${i}`, { token: text });
    members.push({ actorId, groupId, resourceId, peer });
  }
  return members;
}

async function aSession(scene: Scene): Promise<Client> {
  const one = await session(scene.server.db);
  sessions.push(one);
  return one;
}

/** What the client holds after all it was told. */
function told({ received }: RawPeer): string[] {
  const held = new Set<string>();
  for (const { event, payload } of received) {
    if (event === 'init') for (const resource of payload['resources'] as { id: string }[]) held.add(resource.id);
    if (event === 'resource_created_or_updated') held.add(payload['id'] as string);
    if (event === 'resource_deleted') held.delete(payload as unknown as string);
  }
  return [...held].sort();
}

async function inDatabase(scene: Scene, actorId: string): Promise<string[]> {
  const { rows } = await scene.server.db.query<{ id: string }>(
    `SELECT DISTINCT policies.resource_id AS id FROM memberships
     JOIN policies USING (account_id, group_id) JOIN resource_sites USING (account_id, resource_id)
     WHERE memberships.actor_id = $1 AND policies.disabled_at IS NULL ORDER BY 1`,
    [actorId],
  );
  return rows.map(({ id }) => id);
}

async function mustAddUp(scene: Scene, members: readonly Member[]): Promise<void> {
  await scene.heard();
  for (const { actorId, peer } of members) expect(told(peer)).toEqual(await inDatabase(scene, actorId));
}

function join(scene: Scene, { actorId }: Member, { groupId }: Member): string {
  return `INSERT INTO memberships (account_id, actor_id, group_id)
    VALUES ('${scene.ids.accountId}', '${actorId}', '${groupId}') ON CONFLICT DO NOTHING`;
}

function leave({ actorId }: Member, { groupId }: Member): string {
  return `DELETE FROM memberships WHERE actor_id = '${actorId}' AND group_id = '${groupId}'`;
}

const at = (members: readonly Member[], i: number): Member => members[i % members.length] as Member;

describe('a connected client', () => {
  it('D11, E1: has what both of two interleaved transactions gave and took, whichever wrote first', async () => {
    const scene = await stage.joined();
    const members = await connectedMembers(scene);
    const [m0, m1, m2, m3] = [0, 1, 2, 3].map((i) => at(members, i)) as [Member, Member, Member, Member];
    for (const member of [m2, m3]) await scene.server.db.sql(join(scene, member, member));
    await scene.heard();
    const cut = await scene.openFlow(m2.resourceId, 'member-2');

    const [a, b] = [await aSession(scene), await aSession(scene)];
    await a.query(`BEGIN; ${join(scene, m0, m0)}`);
    await b.query(`BEGIN; ${join(scene, m1, m1)}`);
    await a.query(leave(m2, m2));
    await b.query(leave(m3, m3));
    await b.query('COMMIT');
    await a.query('COMMIT');
    const heard = await scene.heard();
    expect(heard['gateway']).toEqual([rejected(cut)]);
    expect(members.map(({ peer }) => told(peer))).toEqual([[m0.resourceId], [m1.resourceId], [], [], []]);
    await mustAddUp(scene, members);
  });

  it('D11, E2: has what a COPY of 1,000 memberships gave, although all its rows of a page have one LSN', async () => {
    const scene = await stage.joined();
    const members = await connectedMembers(scene);
    const { accountId } = scene.ids;
    const strangers = Array.from({ length: 1000 - MEMBERS }, () => randomUUID());
    const one = await aSession(scene);
    await copyInto(
      one,
      'actors (account_id, id)',
      strangers.map((id) => `${accountId}\t${id}`),
    );
    // Ours lie among the strangers, so that none is the first or last row of a page.
    const lines = strangers.map((id, i) => `${accountId}\t${id}\t${at(members, i).groupId}`);
    for (const [i, { actorId, groupId }] of members.entries()) {
      lines.splice(150 * (i + 1), 0, `${accountId}\t${actorId}\t${groupId}`);
    }
    expect(lines).toHaveLength(1000);
    await copyInto(one, 'memberships (account_id, actor_id, group_id)', lines);
    await scene.heard();
    expect(members.map(({ peer }) => told(peer))).toEqual(members.map(({ resourceId }) => [resourceId]));
    await mustAddUp(scene, members);
  });

  it('adds up after three writers changed memberships and policies in transactions that overlap at random', async () => {
    const scene = await stage.joined();
    const members = await connectedMembers(scene);
    const writers = [await aSession(scene), await aSession(scene), await aSession(scene)];
    await Promise.all(
      writers.map(async (writer, w) => {
        for (let round = 0; round < 30; round += 1) {
          await writer.query('BEGIN');
          for (let step = 0; step < 3; step += 1) {
            // A writer changes its own memberships only, so that none waits for another: all that matters is the order.
            const who = at(members, Math.floor(Math.random() * MEMBERS));
            const what = at(members, w);
            await writer.query(Math.random() < 0.5 ? join(scene, who, what) : leave(who, what));
          }
          const isUndone = Math.random() < 0.2;
          if (w === 0)
            await writer.query(`UPDATE policies SET disabled_at = ${round % 2 ? 'NULL' : 'now()'}
            WHERE resource_id = '${at(members, 4).resourceId}'`);
          await writer.query(isUndone ? 'ROLLBACK' : 'COMMIT');
        }
      }),
    );
    await mustAddUp(scene, members);
  });
});
