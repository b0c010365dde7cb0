/**
 * The tour: a simulated relay, gateway and client on a running server, and a timeline of what the latter two hear while
 * somebody edits rows. It sees of the server what any peer and any `psql` sees.
 */
import { toBase64, toBase64Url } from '../core/derivations/rfc4648.js';
import { clockWarning } from './clock-check.js';
import { CommitFeed } from './commit-feed.js';
import type { DemoOptions } from './demo-options.js';
import { PushWatch, type HeardPush } from './push-watch.js';
import { runScriptedTour } from './scripted-tour.js';
import { SimulatedClient } from './simulated-client.js';
import { SimulatedGateway } from './simulated-gateway.js';
import type { PeerOptions } from './simulated-peer.js';
import { simulatedRelay } from './simulated-relay.js';
import { suggestionLines } from './suggestions.js';
import { Timeline, TIMELINE_HEADER, timelineStyle } from './timeline.js';

/** Resolves when the tour is over: true when it went as it should. Rejects when the database does not answer. */
export async function runDemo(options: DemoOptions): Promise<boolean> {
  const { clock, query, print, signal } = options;
  const timeline = new Timeline(clock, timelineStyle(options.isColoured), print);
  const watch = new PushWatch(clock);
  const feed = new CommitFeed(query, options.accountId, clock, {
    committed: (commit) => {
      timeline.committed(commit);
    },
    failed: (error) => {
      timeline.note(`database ${error instanceof Error ? error.message : String(error)}; keeps asking`);
    },
  });
  const end = endOf(signal);
  const heard = (push: HeardPush): void => {
    timeline.heard(push);
    watch.heard(push);
  };
  const note = (text: string): void => {
    timeline.note(text);
  };
  const stopped = (why: string): void => {
    note(why);
    end.come();
  };
  const peers = connectPeers(options, { heard, note, ended: stopped });

  const warning = await clockWarning(query, clock);
  print(opening(options));
  if (warning !== undefined) print(warning);
  if (!options.isScripted) for (const line of suggestionLines(options)) print(line);
  print(`\n${TIMELINE_HEADER}`);

  timeline.start();
  await feed.start();
  try {
    if (!options.isScripted) {
      peers.start();
      await end.reached;
      return signal.aborted; // else a peer was told to stop for good
    }
    const tour = runScriptedTour(options, watch, note, () => {
      peers.start();
    });
    const isPassed = await Promise.race([tour, end.reached.then(() => false)]);
    await timeline.settled();
    return isPassed;
  } finally {
    peers.stop();
    feed.stop();
    timeline.stop();
    if (options.isScripted) await query(RESTORE, [options.accountId, options.target.policyId]);
  }
}

/** The scripted tour leaves the policy as it found it, also when it was interrupted. */
const RESTORE = 'UPDATE policies SET disabled_at = NULL WHERE account_id = $1 AND id = $2 AND disabled_at IS NOT NULL';

function opening({ apiUrl, target, isScripted }: DemoOptions): string {
  return [
    `A simulated client (Phoenix V2) and gateway (V1) connect to ${apiUrl}. The client has packets for "${target.name}".`,
    `Under "since": milliseconds from the commit (time in its WAL record, read from change_log) to the arrival of the push`,
    `here. Under "position": the last commit before the push.${isScripted ? '' : '\n'}`,
  ].join('\n');
}

function connectPeers(options: DemoOptions, listener: Pick<PeerOptions, 'heard' | 'note' | 'ended'>) {
  const { clock, scheduler, random, names, target } = options;
  const common = {
    ...{ clock, scheduler, ...listener },
    wsUrl: options.apiUrl.replace(/^http/, 'ws').replace(/\/$/, ''),
    nameOf: (id: string) => names.get(id) ?? id,
  };
  const peer = (kind: 'client' | 'gateway'): PeerOptions => ({
    ...common,
    token: options.tokens[kind],
    externalId: `portcullis-demo-${kind}`,
    publicKey: toBase64(random.bytes(32)), // a real peer makes a new key at each start
  });
  const gateway = new SimulatedGateway(peer('gateway'));
  const client = new SimulatedClient(peer('client'), target.resourceId);
  const relay = simulatedRelay({ ...common, token: options.tokens.relay }, toBase64Url(random.bytes(32)));
  return {
    /** A client that comes first hears `offline` and asks again 2 s later; so the others have a head start. */
    start: () => {
      relay.start();
      gateway.start();
      clock.after(HEAD_START_MS, () => {
        client.start();
      });
    },
    stop: () => {
      client.stop();
      gateway.stop();
      relay.stop();
    },
  };
}

const HEAD_START_MS = 250;

/** One of: Ctrl-C, or a peer that was told to stop. */
function endOf(signal: AbortSignal): { readonly reached: Promise<void>; readonly come: () => void } {
  let come = (): void => undefined;
  const reached = new Promise<void>((resolve) => (come = resolve));
  if (signal.aborted) come();
  signal.addEventListener('abort', come, { once: true });
  return { reached, come };
}
