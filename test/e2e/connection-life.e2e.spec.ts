/** When a device may connect again: rate, back-off and duels, with the limits an operator has (D23, D24a, D34). */
import { afterAll, beforeAll, beforeEach, describe, expect, it, jest } from '@jest/globals';
import { aTestAccount, type TestAccount } from '../support/demo-account.js';
import { keyOf, RawPeer } from '../support/raw-peer.js';
import { startTestServer, type TestServer } from '../support/test-server.js';
import { askUpgrade, deviceQuery, type UpgradeAnswer } from '../support/upgrade.js';

jest.setTimeout(30_000);

let server: TestServer;
let account: TestAccount;

beforeAll(async () => {
  server = await startTestServer({ CONNECT_BURST: '5', CONNECTS_PER_SECOND: '1', MAX_BACK_OFF_SECONDS: '60' });
});

beforeEach(async () => {
  account = await aTestAccount(server.db);
});

afterAll(() => server.close());

function ask(externalId: string, of: { token?: string; publicKey?: string } = {}): Promise<UpgradeAnswer> {
  const query = deviceQuery(of.token ?? account.clientToken, externalId, {
    ...(of.publicKey !== undefined && { public_key: of.publicKey }),
  });
  return askUpgrade(server.api, '/client/websocket', query);
}

const refusal = (answer: UpgradeAnswer) => [answer.status, answer.problem['code'], answer.headers['retry-after']];

function join(externalId: string, publicKey = keyOf(externalId)): Promise<RawPeer> {
  return RawPeer.joined('client', server.wsUrl, { token: account.clientToken, externalId, publicKey });
}

/** Says what no peer says, for which the server closes. */
async function isThrownOut(peer: RawPeer): Promise<void> {
  peer.ws.send(Buffer.from([1]), { binary: true });
  expect(await peer.closed()).toBe(1003);
}

describe('the rate of connects', () => {
  it('is a burst and then one a second for one device, and nobody else waits for it', async () => {
    const answers = [];
    for (let i = 0; i < 6; i += 1) answers.push(await ask('eager'));
    expect(answers.map(({ status }) => status)).toEqual([101, 101, 101, 101, 101, 503]);
    expect(refusal(answers[5] as UpgradeAnswer)).toEqual([503, 'rate_limit', '1']);
    expect((await ask('patient')).status).toBe(101);
  });

  it('is counted before the token is looked up, so guesses at a secret are as slow', async () => {
    const wrong = `${account.clientToken.slice(0, -1)}${account.clientToken.endsWith('x') ? 'y' : 'x'}`;
    expect((await ask('guesser', { token: wrong })).status).toBe(401); // its check does not fit: no question is asked
    const { clientToken } = await aTestAccount(server.db);
    await server.db.query(
      'DELETE FROM token_secrets WHERE token_id IN (SELECT id FROM tokens WHERE account_id <> $1)',
      [account.accountId],
    );
    const statuses = [];
    for (let i = 0; i < 6; i += 1) statuses.push((await ask('guesser', { token: clientToken })).status);
    expect(statuses).toEqual([401, 401, 401, 401, 401, 503]);
  });
});

describe('back-off', () => {
  it('makes a device wait 1 s, then 2 s, after the server closed its socket; it may come after that', async () => {
    await isThrownOut(await join('broken'));
    expect(refusal(await ask('broken'))).toEqual([503, 'back_off', '1']);
    expect((await ask('well')).status).toBe(101);
    await new Promise((resolve) => setTimeout(resolve, 1000));
    await isThrownOut(await join('broken'));
    expect(refusal(await ask('broken'))).toEqual([503, 'back_off', '2']);
  });

  it('is not for a device that left by itself', async () => {
    await (await join('leaver')).close();
    expect((await ask('leaver')).status).toBe(101);
  });

  it('comes after 401: a device whose token is gone hears so at once', async () => {
    await isThrownOut(await join('broken'));
    await server.db.query('DELETE FROM tokens WHERE id = $1', [account.clientTokenId]);
    expect(refusal(await ask('broken')).slice(0, 2)).toEqual([401, 'invalid_token']);
  });
});

describe('a duel', () => {
  it('of two processes with one device’s identity ends with one of them', async () => {
    const [keyA, keyB] = [keyOf('process A'), keyOf('process B')];
    const first = await join('cloned', keyA);
    const second = await join('cloned', keyB);
    expect(await first.closed()).toBe(1000);
    const third = await join('cloned', keyA);
    expect(await second.closed()).toBe(1000);
    const fourth = await join('cloned', keyB);
    expect(await third.closed()).toBe(1000);
    expect(refusal(await ask('cloned', { publicKey: keyA }))).toEqual([503, 'duel', '60']);
    await fourth.settled();
    expect(fourth.drain()).toEqual([]);
    expect(fourth.received.some(({ event }) => event === 'disconnect')).toBe(false);
    await fourth.close();
  });
});
