/**
 * Accounts with connected peers, and what exactly those peers hear after a statement. A test file opens one stage (one
 * server), each test sets a scene on it (an account of its own, so that tests do not meet).
 */
import { aTestAccount, type TestAccount } from './demo-account.js';
import { type Json, type PeerOptions, RawPeer } from './raw-peer.js';
import { type Settings, startTestServer, type TestServer } from './test-server.js';

/** One push as `[event, payload]`; the end of a socket is `['closed', code]`. */
export type Push = [event: string, payload: unknown];

/** A flow both peers know of. */
export interface OpenFlow {
  readonly clientId: string;
  readonly resourceId: string;
  /** Unix seconds, as in `authorize_flow`. */
  readonly expiresAt: number;
}

/** A connected peer with the id of its row. */
export interface Device {
  readonly id: string;
  readonly peer: RawPeer;
}

/** Longer than this the server does not take to apply a commit. */
const APPLY_WITHIN_MS = 5000;

export class Stage {
  readonly #scenes: Scene[] = [];

  private constructor(readonly server: TestServer) {}

  static async open(settings: Settings = {}): Promise<Stage> {
    return new Stage(await startTestServer(settings));
  }

  /** An account in which nobody is connected yet. */
  async account(): Promise<Scene> {
    const scene = new Scene(this.server, await aTestAccount(this.server.db));
    this.#scenes.push(scene);
    return scene;
  }

  /** An account with a gateway named `gateway` and a client named `client`. */
  async joined(): Promise<Scene> {
    const scene = await this.account();
    await scene.join('gateway', 'gateway');
    await scene.join('client', 'client');
    return scene;
  }

  /** As `joined`, with a flow from the client through the gateway. */
  async withFlow(): Promise<Scene & { readonly flow: OpenFlow }> {
    const scene = await this.joined();
    return Object.assign(scene, { flow: await scene.openFlow() });
  }

  /** Ends what the last test left connected: a TRUNCATE reaches every account. */
  async clear(): Promise<void> {
    await Promise.all(this.#scenes.splice(0).map((scene) => scene.leaveAll()));
  }

  async close(): Promise<void> {
    await this.clear();
    await this.server.close();
  }
}

export class Scene {
  readonly #devices = new Map<string, Device>();

  constructor(
    readonly server: TestServer,
    readonly ids: TestAccount,
  ) {}

  /** Joins with the account's token unless told; the name is its external id and the key in what is heard. */
  async join(role: 'client' | 'gateway', name: string, options: Partial<PeerOptions> = {}): Promise<Device> {
    const token = role === 'client' ? this.ids.clientToken : this.ids.gatewayToken;
    const peer = await RawPeer.joined(role, this.server.wsUrl, { token, externalId: name, ...options });
    const { rows } = await this.server.db.query<{ id: string }>(
      `SELECT id FROM ${role}s WHERE account_id = $1 AND external_id = $2`,
      [this.ids.accountId, name],
    );
    const device = { id: rows[0]?.id ?? '', peer };
    this.#devices.set(name, device);
    return device;
  }

  device(name: string): Device {
    const device = this.#devices.get(name);
    if (!device) throw new Error(`nobody called ${name} has joined`);
    return device;
  }

  get gateway(): RawPeer {
    return this.device('gateway').peer;
  }

  get client(): RawPeer {
    return this.device('client').peer;
  }

  /** From the client's first packet to its `flow_created`; nothing else may be said meanwhile. */
  async openFlow(resourceId: string = this.ids.resourceId, from = 'client', through = 'gateway'): Promise<OpenFlow> {
    const { id: clientId, peer: client } = this.device(from);
    const { id: gatewayId, peer: gateway } = this.device(through);
    client.send('create_flow', { resource_id: resourceId, connected_gateway_ids: [gatewayId] });
    const asked = await gateway.next('authorize_flow');
    gateway.send('flow_authorized', { ref: asked['ref'] });
    await gateway.next('phx_reply');
    const created = await client.next('flow_created');
    if (created['resource_id'] !== resourceId) throw new Error('a flow to another resource');
    return { clientId, resourceId, expiresAt: asked['expires_at'] as number };
  }

  /**
   * Runs the statements as one commit and resolves with all that each peer was pushed once that commit is applied
   * everywhere. Fails when something was unread before, and when a client heard of the commit before a gateway was told
   * to reject (ORD-4).
   */
  async hears(sql: string): Promise<Record<string, Push[]>> {
    await this.#settled();
    const unread = this.#drain();
    if (Object.values(unread).some((pushes) => pushes.length > 0)) {
      throw new Error(`heard before the statement: ${JSON.stringify(unread)}`);
    }
    const marks = new Map([...this.#devices.values()].map(({ peer }) => [peer, peer.received.length]));
    await this.server.db.sql(sql);
    await this.applied();
    await this.#settled();
    this.#checkOrder(marks);
    return this.#drain();
  }

  /** What nobody has read yet, once everything committed so far is applied and pushed. */
  async heard(): Promise<Record<string, Push[]>> {
    await this.applied();
    await this.#settled();
    return this.#drain();
  }

  /** Everything committed before the call is applied and pushed. */
  async applied(): Promise<void> {
    const { db, ops } = this.server;
    const { rows } = await db.query<{ lsn: string }>('SELECT pg_current_wal_insert_lsn()::text AS lsn');
    await db.query(`SELECT pg_logical_emit_message(true, 'test', 'passes the position above')`);
    const url = `${ops}/readyz?applied=${rows[0]?.lsn}`;
    await until(`${rows[0]?.lsn} to be applied`, async () => (await fetch(url)).ok);
  }

  /** The history of flows, oldest first, once it looks as the test expects: rows are written beside the pushes. */
  async history(isComplete: (rows: readonly FlowHistory[]) => boolean): Promise<readonly FlowHistory[]> {
    let rows: readonly FlowHistory[] = [];
    await until('the history of flows', async () => {
      const read = await this.server.db.query<FlowHistory>(
        'SELECT id, policy_id, resource_id, revoked_reason FROM flows WHERE account_id = $1 ORDER BY created_at, id',
        [this.ids.accountId],
      );
      rows = read.rows;
      return isComplete(rows);
    });
    return rows;
  }

  /** Goes away, and is not heard of any more. */
  async leave(name: string): Promise<void> {
    const { peer } = this.device(name);
    this.#devices.delete(name);
    if (!peer.isClosed) await peer.close();
  }

  async leaveAll(): Promise<void> {
    await Promise.all([...this.#devices.keys()].map((name) => this.leave(name)));
  }

  async #settled(): Promise<void> {
    await Promise.all([...this.#devices.values()].map(({ peer }) => settledOrClosed(peer)));
  }

  /** Everybody's unread frames; a socket that ended says so once, and is then forgotten. */
  #drain(): Record<string, Push[]> {
    const heard: Record<string, Push[]> = {};
    for (const [name, { peer }] of this.#devices) {
      heard[name] = peer.drain();
      if (!peer.isClosed) continue;
      heard[name].push(['closed', peer.closeCode]);
      this.#devices.delete(name);
    }
    return heard;
  }

  #checkOrder(marks: ReadonlyMap<RawPeer, number>): void {
    const since = [...marks].flatMap(([{ role, received }, mark]) =>
      received.slice(mark).map(({ event, at }) => ({ role, event, at })),
    );
    const lastReject = Math.max(...since.filter(({ event }) => event === 'reject_access').map(({ at }) => at));
    const early = since.find(({ role, at }) => role === 'client' && at < lastReject);
    if (early) throw new Error(`a client heard ${early.event} before a gateway heard reject_access`);
  }
}

export interface FlowHistory {
  readonly [column: string]: unknown;
  readonly id: string;
  readonly policy_id: string;
  readonly resource_id: string;
  readonly revoked_reason: string | null;
}

async function settledOrClosed(peer: RawPeer): Promise<void> {
  try {
    if (!peer.isClosed) await peer.settled();
  } catch (error) {
    if (!peer.isClosed) throw error;
  }
}

async function until(what: string, isTrue: () => Promise<boolean>): Promise<void> {
  const deadline = performance.now() + APPLY_WITHIN_MS;
  while (!(await isTrue())) if (performance.now() > deadline) throw new Error(`waited in vain for ${what}`);
}

// ---- what is expected ---------------------------------------------------------------------------------------------

export function rejected(flow: { readonly clientId: string; readonly resourceId: string }): Push {
  return ['reject_access', { client_id: flow.clientId, resource_id: flow.resourceId }];
}

export function expiryMoved(flow: OpenFlow, expiresAt: unknown): Push {
  const { clientId, resourceId } = flow;
  return [
    'access_authorization_expiry_updated',
    { client_id: clientId, resource_id: resourceId, expires_at: expiresAt },
  ];
}

export function removed(resourceId: string): Push {
  return ['resource_deleted', resourceId];
}

/** The scene's resource as its client is told of it, but for what the test changed. */
export function shown({ ids }: Scene, changed: Json = {}): Push {
  return [
    'resource_created_or_updated',
    {
      id: ids.resourceId,
      type: 'cidr',
      address: '10.20.0.0/16',
      name: 'Unnamed resource',
      address_description: null,
      gateway_groups: [{ id: ids.siteId, name: 'Unnamed site' }],
      filters: [],
      ...changed,
    },
  ];
}
