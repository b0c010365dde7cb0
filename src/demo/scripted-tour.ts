/** The tour by itself: opens a flow, takes it away by SQL, gives it back, and says whether each was heard. */
import type { DemoOptions } from './demo-options.js';
import { NotHeardError, type PushWatch } from './push-watch.js';

/** Generous: the point is that it comes at all; the timeline says when. */
const WITHIN_MS = 10_000;
/** Between two steps: time to read, and two steps never share a millisecond, within which the timeline cannot order them. */
const PAUSE_MS = 300;

/** Returns true when everything expected was heard. @param start connects the peers */
export async function runScriptedTour(
  options: DemoOptions,
  watch: PushWatch,
  say: (text: string) => void,
  start: () => void,
): Promise<boolean> {
  const { accountId, target, query } = options;
  const setDisabled = async (value: 'now()' | 'NULL'): Promise<void> => {
    const sql = `UPDATE policies SET disabled_at = ${value} WHERE account_id = '${accountId}' AND id = '${target.policyId}'`;
    say(`runs     ${sql}`);
    await query(sql);
  };
  const pause = () => new Promise<void>((resolve) => void options.clock.after(PAUSE_MS, resolve));
  const expect = (peer: 'client' | 'gateway', event: string) => watch.next(peer, event, WITHIN_MS);

  try {
    const opened = expect('client', 'flow_created');
    start();
    await opened;
    await pause();

    const cut = Promise.all([expect('gateway', 'reject_access'), expect('client', 'resource_deleted')]);
    cut.catch(() => undefined); // awaited below; the statement may fail first
    await setDisabled('now()');
    await cut;
    await pause();

    const regranted = Promise.all([expect('client', 'resource_created_or_updated'), expect('client', 'flow_created')]);
    regranted.catch(() => undefined);
    await setDisabled('NULL');
    await regranted;
    return true;
  } catch (error) {
    if (!(error instanceof NotHeardError)) throw error;
    say(`failed   ${error.message}`);
    return false;
  }
}
