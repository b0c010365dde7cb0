import { describe, expect, it } from '@jest/globals';
import { ManualClock } from '../../test/support/manual-clock.js';
import type { DemoOptions } from './demo-options.js';
import { PushWatch } from './push-watch.js';
import { runScriptedTour } from './scripted-tour.js';

/** The tour with peers that hear only what the test lets them hear. */
function aTour() {
  const clock = new ManualClock();
  const watch = new PushWatch(clock);
  const ran: string[] = [];
  const said: string[] = [];
  const options = {
    clock,
    accountId: 'account',
    target: { resourceId: 'wiki', name: 'Wiki', policyId: 'policy' },
    query: async (sql: string) => {
      ran.push(sql);
      return [];
    },
  } as unknown as DemoOptions;
  let isStarted = false;
  const result = runScriptedTour(
    options,
    watch,
    (text) => said.push(text),
    () => (isStarted = true),
  );
  const hears = async (peer: 'client' | 'gateway', event: string): Promise<void> => {
    watch.heard({ at: clock.now(), peer, event, about: '' });
    await turns();
    clock.advance(300); // the pause between two steps
    await turns();
  };
  return { clock, ran, said, result, hears, isStarted: () => isStarted };
}

async function turns(): Promise<void> {
  for (let turn = 0; turn < 5; turn += 1) await Promise.resolve();
}

describe('runScriptedTour', () => {
  it('passes only when the cut reached both peers and the flow came back', async () => {
    const { ran, result, hears, isStarted } = aTour();
    expect(isStarted()).toBe(true);
    await hears('client', 'flow_created');
    await hears('gateway', 'reject_access');
    expect(ran).toHaveLength(1);
    await hears('client', 'resource_deleted');
    expect(ran).toHaveLength(2);
    await hears('client', 'resource_created_or_updated');
    await hears('client', 'flow_created');
    expect(await result).toBe(true);
  });

  it('fails, and says what was missing, when the gateway is not told', async () => {
    const { clock, said, result, hears } = aTour();
    await hears('client', 'flow_created');
    await hears('client', 'resource_deleted');
    clock.advance(10_000);
    expect(await result).toBe(false);
    expect(said.at(-1)).toBe('failed   the gateway heard no reject_access within 10 s');
  });
});
