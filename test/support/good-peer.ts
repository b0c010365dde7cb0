/** A client that only wants to be served, on a thread of its own, and how long it waits. */
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { deviceQuery } from './upgrade.js';

interface Said {
  readonly joined?: boolean;
  readonly closed?: number;
  readonly failed?: string;
  readonly samples?: readonly number[];
}

/** Waits for answers to heartbeats. Unit ms. */
export interface Waits {
  readonly count: number;
  readonly median: number;
  readonly p99: number;
}

const PROBE = new URL('./latency-probe.mjs', import.meta.url);

export class GoodPeer {
  #ended: Said | undefined;

  private constructor(private readonly worker: Worker) {
    worker.on('message', (said: Said) => {
      if (said.closed !== undefined || said.failed !== undefined) this.#ended ??= said;
    });
  }

  static async join(wsUrl: string, token: string, externalId: string): Promise<GoodPeer> {
    const query = new URLSearchParams(deviceQuery(token, externalId));
    const url = `${wsUrl}/client/websocket?${query.toString()}`;
    const worker = new Worker(PROBE, { workerData: { url, headers: { 'user-agent': 'test connlib/1.5.3' } } });
    const peer = new GoodPeer(worker);
    const [said] = (await once(worker, 'message')) as [Said];
    if (said.joined !== true) throw new Error(`the good peer could not join: ${JSON.stringify(said)}`);
    return peer;
  }

  /** Since the last call. Fails when it was cut off: nobody may be who does no harm. */
  async waits(): Promise<Waits> {
    this.worker.postMessage('take');
    for (;;) {
      const [said] = (await once(this.worker, 'message')) as [Said];
      if (this.#ended) throw new Error(`the good peer was cut off: ${JSON.stringify(this.#ended)}`);
      if (!said.samples) continue;
      const sorted = [...said.samples].sort((a, b) => a - b);
      const at = (share: number): number => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0;
      return { count: sorted.length, median: at(0.5), p99: at(0.99) };
    }
  }

  async leave(): Promise<void> {
    this.worker.postMessage('leave');
    await this.worker.terminate();
  }
}
