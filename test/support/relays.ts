/** Simulated relays: they are online, and relay nothing. */
import { randomBytes } from 'node:crypto';
import { aToken } from './demo-account.js';
import { type PeerOptions, RawPeer } from './raw-peer.js';
import type { TestDatabase } from './test-database.js';

export interface TestRelay {
  readonly peer: RawPeer;
  readonly stampSecret: string;
}

/** What a relay says of itself. Each has an address of its own unless told, as each real one has. */
export interface RelayOptions extends Partial<PeerOptions> {
  readonly token: string;
  readonly stampSecret?: string;
}

let made = 0;

/** Online once this resolves. */
export async function joinRelay(wsUrl: string, options: RelayOptions): Promise<TestRelay> {
  made += 1;
  const stampSecret = options.stampSecret ?? randomBytes(32).toString('hex');
  const query = { ipv4: `203.0.113.${made % 256}`, port: `${3478 + Math.floor(made / 256)}`, ...options.query };
  const peer = await RawPeer.joined('relay', wsUrl, { ...options, query, join: { stamp_secret: stampSecret } });
  await peer.settled(); // presence follows `init`
  return { peer, stampSecret };
}

/**
 * One relay for all accounts of a server, which comes back when it is cut off, as a real one does: without any, a server
 * tells clients that speak like real ones that every gateway is offline (D31).
 */
export class StandingRelay {
  #peer: RawPeer | undefined;
  #isStopped = false;

  private constructor(
    private readonly wsUrl: string,
    private readonly options: RelayOptions,
  ) {}

  static async join(db: TestDatabase, wsUrl: string): Promise<StandingRelay> {
    const { text } = await aToken(db, 'relay', {});
    const relay = new StandingRelay(wsUrl, {
      token: text,
      stampSecret: randomBytes(32).toString('hex'),
      query: { ipv4: '198.51.100.1' },
    });
    await relay.#join();
    return relay;
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    if (this.#peer && !this.#peer.isClosed) await this.#peer.close();
  }

  async #join(): Promise<void> {
    const { peer } = await joinRelay(this.wsUrl, this.options);
    this.#peer = peer;
    peer.ws.once('close', () => {
      if (!this.#isStopped) this.#join().catch(() => undefined); // the server is gone for good
    });
  }
}
