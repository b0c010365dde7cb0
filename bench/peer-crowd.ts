/**
 * Many peers in a process of their own, so that what is timed elsewhere does not wait for their frames. Its gateways take
 * every flow they are asked for and tell when the answer to the ping behind a rejection has left them. When told to, all
 * lose their sockets at once and come back.
 */
import { once } from 'node:events';
import { monotonicMs, pause } from './bench.js';
import { BenchPeer, type PeerIdentity } from './bench-peer.js';

export interface CrowdInput {
  readonly serverUrl: string;
  readonly peers: readonly PeerIdentity[];
  /** One more peer, of the floor's server, which sends the frames of a gateway. */
  readonly floorUrl?: string;
}

/** All sockets go at one moment, and each peer tries again at a random moment within this time. */
export interface Drop {
  readonly withinMs: number;
}

export type CrowdSaid =
  | { readonly kind: 'joined' }
  /** The pong behind the rejection of this resource left at this instant of `monotonicMs`. */
  | { readonly kind: 'receipt'; readonly resourceId: string; readonly at: number }
  /** All have had their `init` again. Each one's time since the drop, and how often one was refused or cut off. */
  | { readonly kind: 'back'; readonly afterMs: readonly number[]; readonly refused: number };

/** Upgrades at once, at the start: below the server's own bound. */
const AT_ONCE = 50;
/** A refused peer waits so long, as real ones do; then up to as long again. */
const TRY_AGAIN_AFTER_MS = 1_000;

const [input] = (await once(process, 'message')) as [CrowdInput];
const say = (said: CrowdSaid): void => void process.send?.(said);
let peers: BenchPeer[] = [];
for (let from = 0; from < input.peers.length; from += AT_ONCE) {
  peers.push(...(await Promise.all(input.peers.slice(from, from + AT_ONCE).map(join))));
}
if (input.floorUrl !== undefined) serve(await BenchPeer.connect(input.floorUrl));
process.on('message', ({ withinMs }: Drop) => void dropAll(withinMs));
say({ kind: 'joined' });

async function join(identity: PeerIdentity): Promise<BenchPeer> {
  const peer = await BenchPeer.join(input.serverUrl, identity);
  if (identity.role === 'gateway') serve(peer);
  return peer;
}

function serve(gateway: BenchPeer): void {
  let rejected: string[] = [];
  gateway.onFrame = ({ event, payload }) => {
    if (event === 'authorize_flow') gateway.send('flow_authorized', { ref: (payload as { readonly ref: string }).ref });
    else if (event === 'reject_access') rejected.push((payload as { readonly resource_id: string }).resource_id);
  };
  gateway.onPing = () => {
    const at = monotonicMs();
    for (const resourceId of rejected) say({ kind: 'receipt', resourceId, at });
    rejected = [];
  };
}

async function dropAll(withinMs: number): Promise<void> {
  const droppedAt = monotonicMs();
  for (const peer of peers) peer.drop();
  let refused = 0;
  const afterMs: number[] = [];
  const comeBack = async (identity: PeerIdentity): Promise<BenchPeer> => {
    await pause(Math.random() * withinMs);
    for (;;) {
      try {
        const peer = await join(identity);
        afterMs.push(monotonicMs() - droppedAt);
        return peer;
      } catch {
        refused += 1;
        await pause(TRY_AGAIN_AFTER_MS * (1 + Math.random()));
      }
    }
  };
  peers = await Promise.all(input.peers.map(comeBack));
  say({ kind: 'back', afterMs, refused });
}
