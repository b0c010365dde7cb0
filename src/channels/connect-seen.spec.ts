import { describe, expect, it, jest } from '@jest/globals';
import type { AccountHandle } from '../core/ports/account-stores.js';
import { connectIsSeen } from './connect-seen.js';
import type { ConnectedClient } from './connected-peer.js';

function ask(held: readonly string[], mustSeeConnect: boolean) {
  const sawConnect = jest.fn<AccountHandle['sawConnect']>().mockResolvedValue(false);
  const handle = { state: { row: (table: string) => (held.includes(table) ? {} : undefined) }, sawConnect };
  const peer = { role: 'client', clientId: 'c', tokenId: 't', connectionId: 'n', mustSeeConnect };
  const answer = connectIsSeen(peer as unknown as ConnectedClient, handle as unknown as AccountHandle);
  return { answer, sawConnect };
}

describe('connectIsSeen (D13)', () => {
  it('a device and token that the store holds start at once', async () => {
    const { answer, sawConnect } = ask(['clients', 'tokens'], false);
    expect(await answer).toBe(true);
    expect(sawConnect).not.toHaveBeenCalled();
  });

  it.each([
    ['a token made a moment ago is waited for, not taken for a deleted one', ['clients'], false],
    ['a new device is waited for', ['tokens'], false],
    ['a connect that changed its own row is waited for', ['clients', 'tokens'], true],
  ])('%s', async (_name, held, mustSeeConnect) => {
    const { answer, sawConnect } = ask(held, mustSeeConnect);
    expect(await answer).toBe(false);
    expect(sawConnect.mock.calls).toEqual([['n', 2000]]);
  });
});
