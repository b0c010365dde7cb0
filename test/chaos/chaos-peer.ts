/**
 * A client or gateway that lives through anything: it comes back by itself with back-off, notices a line that has gone
 * silent, and judges every frame it is sent the moment it comes. A client asks for flows now and then, a gateway grants them.
 */
import { WebSocket } from 'ws';
import { keyOf } from '../support/raw-peer.js';
import type { SeededRandom } from '../support/seeded-random.js';
import { checkServerFrame, checkServerPing } from '../support/strict-peer.js';
import { accountsNamedIn, type Device } from './chaos-account.js';
import { type Authorization, ClientModel, GatewayModel, type ShownResource } from './peer-models.js';
import { WALL_MINUS_MONOTONIC_MS } from './witness.js';

/** What all peers of a campaign write into. */
export interface PeerNotes {
  frames: number;
  /** Pings of the server, which are answered by `ws` itself. */
  pings: number;
  joins: number;
  /** When a gateway was told to let a client in. */
  readonly grantedAt: number[];
  /** Sockets that ended, and refused upgrades, by how. */
  readonly endings: Map<string, number>;
  /** Frames no real peer could read, and frames that name another account: never to happen. */
  readonly unreadable: string[];
  readonly tainted: string[];
}

export interface PeerOptions {
  readonly wsUrl: string;
  readonly device: Device;
  readonly random: SeededRandom;
  readonly notes: PeerNotes;
  /** How long a client waits between two requests, on average. */
  readonly askEveryMs: number;
}

interface Frame {
  readonly event: string;
  readonly payload: Readonly<Record<string, unknown>>;
}

const AGENTS = {
  client: 'Ubuntu/24.4.0 connlib/1.5.3 (x86_64; 6.8.0)',
  gateway: 'Linux/6.8.0 connlib/1.4.16 (x86_64)',
};
const HEARTBEAT_MS = 400;
/** A peer that hears nothing for so long gives its socket up. */
const SILENCE_MS = 5_000;
const LONGEST_BACK_OFF_MS = 1_000;

export class ChaosPeer {
  readonly client: ClientModel | undefined;
  readonly gateway: GatewayModel | undefined;
  joinedAt = -Infinity;
  /** Resources a client was given a flow for on this socket, or asked for a moment ago. */
  readonly #asked = new Map<string, number>();
  #ws: WebSocket | undefined;
  #failures = 0;
  #ref = 0;
  #heardAt = 0;
  #isStopped = false;
  #isFrozen = false;
  #asks = true;
  #reconnect: NodeJS.Timeout | undefined;
  readonly #timers: NodeJS.Timeout[] = [];
  readonly #beats = new Map<number, () => void>();

  constructor(private readonly options: PeerOptions) {
    const { role, externalId } = options.device;
    if (role === 'client') this.client = new ClientModel(externalId);
    else this.gateway = new GatewayModel(externalId, (wallMs) => wallMs - WALL_MINUS_MONOTONIC_MS);
  }

  get device(): Device {
    return this.options.device;
  }

  get isJoined(): boolean {
    return (this.client ?? this.gateway)?.log.isOpen ?? false;
  }

  start(): void {
    this.#connect();
    this.#timers.push(
      setInterval(() => {
        this.#beat();
      }, HEARTBEAT_MS),
    );
    if (this.client) this.#askLater();
  }

  /** Clients ask for nothing more: what is there stays. */
  stopAsking(): void {
    this.#asks = false;
  }

  /** Takes nothing from its socket and says nothing, as a process that is stopped. */
  freeze(): void {
    this.#isFrozen = true;
    this.#ws?.pause();
  }

  thaw(): void {
    this.#isFrozen = false;
    this.#heardAt = performance.now();
    this.#ws?.resume();
  }

  /** Its network is gone for a moment: the socket ends without a word. */
  drop(): void {
    this.#ws?.terminate();
  }

  /** Joins its topic once more on the socket that it has. */
  joinAgain(): void {
    if (this.isJoined) this.#say('phx_join', null);
  }

  /** Everything that was queued for this socket has come; false: there is no socket. */
  settled(): Promise<boolean> {
    if (!this.isJoined) return Promise.resolve(false);
    return new Promise((resolve) => {
      const ref = this.#say('heartbeat', {}, 'phoenix');
      const timer = setTimeout(() => {
        resolve(false);
      }, SILENCE_MS);
      this.#beats.set(ref, () => {
        clearTimeout(timer);
        resolve(true);
      });
    });
  }

  stop(): void {
    this.#isStopped = true;
    clearTimeout(this.#reconnect);
    for (const timer of this.#timers) clearInterval(timer);
    this.#ws?.terminate();
  }

  #connect(): void {
    const { device, wsUrl, notes } = this.options;
    const query = new URLSearchParams({
      ...{ token: device.token, external_id: device.externalId, public_key: keyOf(device.externalId) },
      name: `acct${device.account}-peer`,
    });
    const ws = new WebSocket(`${wsUrl}/${device.role}/websocket?${query.toString()}`, {
      perMessageDeflate: false,
      handshakeTimeout: SILENCE_MS,
      headers: { 'user-agent': AGENTS[device.role] },
    });
    this.#ws = ws;
    this.#heardAt = performance.now();
    let refused: number | undefined;
    ws.on('unexpected-response', (_request, response) => {
      refused = response.statusCode;
      response.resume();
      ws.terminate();
    });
    ws.on('open', () => {
      if (this.#isFrozen) ws.pause();
      this.#say('phx_join', null);
    });
    ws.on('message', (data: Buffer) => {
      this.#take(data.toString());
    });
    ws.on('ping', (data: Buffer) => {
      notes.pings += 1;
      this.#judge(data.toString(), () => {
        checkServerPing(data.toString());
      });
    });
    ws.on('error', () => undefined); // a close follows
    ws.on('close', (code) => {
      this.#ended(refused === undefined ? `closed ${code}` : `refused ${refused}`);
    });
  }

  #ended(how: string): void {
    const { notes, random } = this.options;
    notes.endings.set(how, (notes.endings.get(how) ?? 0) + 1);
    const at = performance.now();
    if (this.isJoined) this.#failures = 0;
    this.client?.closed(at);
    this.gateway?.closed(at);
    for (const wake of this.#beats.values()) wake();
    this.#beats.clear();
    if (this.#isStopped) return;
    const longestMs = Math.min(LONGEST_BACK_OFF_MS, 50 * 2 ** this.#failures);
    this.#failures += 1;
    this.#reconnect = setTimeout(
      () => {
        this.#connect();
      },
      longestMs * (0.5 + random.fraction() / 2),
    );
  }

  #beat(): void {
    if (this.#isFrozen || this.#ws?.readyState !== WebSocket.OPEN) return;
    if (performance.now() - this.#heardAt > SILENCE_MS) this.#ws.terminate();
    else this.#say('heartbeat', {}, 'phoenix');
  }

  #say(event: string, payload: unknown, topic: string = this.device.role): number {
    const ref = this.#ref++;
    if (this.#ws?.readyState === WebSocket.OPEN) this.#ws.send(JSON.stringify({ topic, event, payload, ref }));
    return ref;
  }

  #take(text: string): void {
    const at = performance.now();
    const { device, notes } = this.options;
    this.#heardAt = at;
    notes.frames += 1;
    for (const account of accountsNamedIn(text)) {
      if (account !== device.account)
        notes.tainted.push(`account ${account} in a frame to ${device.externalId}: ${text}`);
    }
    this.#judge(text, () => {
      checkServerFrame(device.role, text);
    });
    const frame = JSON.parse(text) as Frame & { readonly ref: number };
    if (frame.event === 'phx_reply') this.#answered(frame.ref);
    else if (this.client) this.#toClient(this.client, frame, at);
    else if (this.gateway) this.#toGateway(this.gateway, frame, at);
  }

  #answered(ref: number): void {
    this.#beats.get(ref)?.();
    this.#beats.delete(ref);
  }

  #toClient(client: ClientModel, { event, payload }: Frame, at: number): void {
    if (event === 'init') {
      this.#joined(at);
      this.#asked.clear();
      client.init(at, payload['resources'] as readonly ShownResource[]);
    } else if (event === 'resource_created_or_updated') {
      client.changed(at, payload as unknown as ShownResource);
    } else if (event === 'resource_deleted') {
      const id = payload as unknown as string;
      client.deleted(at, id);
      this.#asked.delete(id);
    } else if (event === 'flow_creation_failed') {
      this.#asked.delete(payload['resource_id'] as string);
    }
  }

  #toGateway(gateway: GatewayModel, { event, payload }: Frame, at: number): void {
    const entry = payload as unknown as Authorization;
    if (event === 'init') {
      this.#joined(at);
      gateway.init(at, payload['authorizations'] as readonly Authorization[]);
    } else if (event === 'authorize_flow') {
      const { client, resource, expires_at, ref } = payload as {
        readonly client: { readonly id: string };
        readonly resource: ShownResource;
        readonly expires_at: number;
        readonly ref: string;
      };
      this.options.notes.grantedAt.push(at);
      gateway.authorized(at, { client_id: client.id, resource_id: resource.id, expires_at }, resource);
      this.#say('flow_authorized', { ref });
    } else if (event === 'reject_access') {
      gateway.rejected(at, entry);
    } else if (event === 'access_authorization_expiry_updated') {
      gateway.expiryMoved(at, entry);
    } else if (event === 'resource_updated') {
      gateway.resourceUpdated(payload as unknown as ShownResource);
    }
  }

  #joined(at: number): void {
    this.options.notes.joins += 1;
    this.#failures = 0;
    this.joinedAt = at;
  }

  #askLater(): void {
    const delayMs = this.options.askEveryMs * (0.5 + this.options.random.fraction());
    const timer = setTimeout(() => {
      if (this.#asks && !this.#isFrozen && this.isJoined) this.#ask(performance.now());
      if (!this.#isStopped) this.#askLater();
    }, delayMs);
    this.#timers[1] = timer;
  }

  /** Mostly for what it has no flow for: a real client asks when a packet finds none. */
  #ask(at: number): void {
    const { random } = this.options;
    const resources = this.client?.resources ?? [];
    if (resources.length === 0) return;
    const { id } = random.pick(resources);
    if (at - (this.#asked.get(id) ?? -Infinity) < ASK_AGAIN_MS) return;
    this.#asked.set(id, at);
    this.#say('create_flow', { resource_id: id, connected_gateway_ids: [] });
  }

  #judge(text: string, check: () => void): void {
    try {
      check();
    } catch (error) {
      this.options.notes.unreadable.push(
        `to ${this.device.externalId}: ${(error as Error).message} (${text.slice(0, 300)})`,
      );
    }
  }
}

/** Between two requests of one client for one resource. */
const ASK_AGAIN_MS = 1_500;
