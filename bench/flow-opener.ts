/** Clients that ask for flows and gateways that answer at once. */
import { randomUUID } from 'node:crypto';
import { patiently } from './bench.js';
import { BenchPeer } from './bench-peer.js';
import type { Product } from './product.js';
import type { Pair, SeededAccount } from './seeded-account.js';

/** One opened flow: the four frames of it and the two instants. */
export interface OpenedFlow {
  readonly askedAt: number;
  readonly createdAt: number;
  readonly frames: FlowFrames;
}

/** The texts of the last flow, for an echo of the same sizes. */
export interface FlowFrames {
  createFlow: string;
  authorizeFlow: string;
  flowAuthorized: string;
  flowCreated: string;
}

export class FlowOpener {
  readonly #waiting = new Map<string, (at: number) => void>();
  readonly #onReject = new Map<string, (at: number) => void>();
  readonly frames: FlowFrames = { createFlow: '', authorizeFlow: '', flowAuthorized: '', flowCreated: '' };

  private constructor(
    private readonly clients: readonly BenchPeer[],
    private readonly gateways: readonly BenchPeer[],
  ) {
    for (const gateway of gateways) {
      gateway.onFrame = ({ event, payload }, at, text) => {
        if (event === 'authorize_flow') this.#answer(gateway, payload as { ref: string }, text);
        else if (event === 'reject_access') this.#onReject.get((payload as Rejected).resource_id)?.(at);
      };
    }
    for (const client of clients) {
      client.onFrame = ({ event, payload }, at, text) => {
        if (event !== 'flow_created') return;
        this.frames.flowCreated = text;
        this.#waiting.get((payload as Created).resource_id)?.(at);
      };
    }
  }

  static async start(product: Product, account: SeededAccount, gatewayCount: number): Promise<FlowOpener> {
    const gateways: BenchPeer[] = [];
    for (let i = 0; i < gatewayCount; i += 1) {
      const identity = { role: 'gateway' as const, token: account.gatewayToken, externalId: randomUUID() };
      gateways.push(await BenchPeer.join(product.wsUrl, identity));
    }
    const clients: BenchPeer[] = [];
    for (const { token } of account.clients) {
      clients.push(await BenchPeer.join(product.wsUrl, { role: 'client', token, externalId: randomUUID() }));
    }
    return new FlowOpener(clients, gateways);
  }

  /** From `create_flow` sent to `flow_created` received. Unit ms. */
  open({ client, resourceId }: Pair): Promise<number> {
    const peer = this.clients[client];
    if (!peer) throw new RangeError('no such client');
    const text = JSON.stringify({
      ...{ topic: 'client', event: 'create_flow' },
      payload: { resource_id: resourceId, connected_gateway_ids: [] },
      ref: 1,
    });
    this.frames.createFlow = text;
    return patiently(`flow_created of ${resourceId}`, (resolve) => {
      const askedAt = performance.now();
      this.#waiting.set(resourceId, (at) => {
        this.#waiting.delete(resourceId);
        resolve(at - askedAt);
      });
      peer.sendText(text);
    });
  }

  /** Opens all, so many at a time. */
  async openAll(pairs: readonly Pair[], atOnce: number): Promise<void> {
    let next = 0;
    const lane = async (): Promise<void> => {
      for (let pair = pairs[next++]; pair; pair = pairs[next++]) await this.open(pair);
    };
    await Promise.all(Array.from({ length: atOnce }, lane));
  }

  /** When the gateway that holds the pair is told to drop it. */
  rejected({ resourceId }: Pair, withinMs?: number): Promise<number> {
    const begin = (resolve: (at: number) => void): void => {
      this.#onReject.set(resourceId, (at) => {
        this.#onReject.delete(resourceId);
        resolve(at);
      });
    };
    return patiently(`reject_access of ${resourceId}`, begin, withinMs);
  }

  async close(): Promise<void> {
    await Promise.all([...this.clients, ...this.gateways].map((peer) => peer.close()));
  }

  #answer(gateway: BenchPeer, { ref }: { readonly ref: string }, text: string): void {
    const answer = JSON.stringify({ topic: 'gateway', event: 'flow_authorized', payload: { ref }, ref: 1 });
    gateway.sendText(answer);
    this.frames.authorizeFlow = text;
    this.frames.flowAuthorized = answer;
  }
}

interface Rejected {
  readonly resource_id: string;
}

interface Created {
  readonly resource_id: string;
}
