/**
 * A client that speaks Phoenix V2 through the npm `phoenix` package. It pretends that packets to one resource never stop:
 * whenever the resource is there without a flow it asks for one, as real clients do, at most every 2 s.
 */
import { Socket, type Channel } from 'phoenix';
import { WebSocket } from 'ws';
import { listMember, member, refusalStatus, textMember, whyRefused, type PeerOptions } from './simulated-peer.js';

/** A real client asks again no sooner than this (wire-protocol.md 3.4). */
const REPEAT_MS = 2_000;
/** Slower than Phoenix's own: the server lets one device in once a second. */
const RECONNECT_MS = 1_500;
/** The answer is a push, never a reply: a longer wait for one would only keep a finished process alive. */
const NO_REPLY_MS = 1;
const USER_AGENT = 'Linux/6.8.0 connlib/1.5.3 (portcullis demo)';

/** Phoenix names no headers; the server wants to know the version of its peers. */
class NamedWebSocket extends WebSocket {
  constructor(url: string) {
    super(url, { perMessageDeflate: false, headers: { 'user-agent': USER_AGENT } });
  }
}

export class SimulatedClient {
  readonly #socket: Socket;
  readonly #channel: Channel;
  readonly #resources = new Set<string>();
  #gatewayId: string | undefined;
  #hasFlow = false;
  #isOpen = false;
  #isStopped = false;
  #openedAt: number | undefined;
  #askedAt = -Infinity;
  #cancelAsk: (() => void) | undefined;

  /** @param targetId the resource its packets go to */
  constructor(
    private readonly with_: PeerOptions,
    private readonly targetId: string,
  ) {
    const { token, externalId, publicKey } = with_;
    this.#socket = new Socket(`${with_.wsUrl}/client`, {
      transport: NamedWebSocket,
      params: { token, external_id: externalId, public_key: publicKey, name: 'demo client' },
      reconnectAfterMs: () => RECONNECT_MS,
      sessionStorage: NO_STORAGE,
    });
    this.#channel = this.#socket.channel('client', {});
    this.#socket.onOpen(() => {
      this.#isOpen = true;
      this.#openedAt = with_.scheduler.elapsedMs();
    });
    this.#socket.onClose((event) => {
      this.#closed(Number(member(event, 'code')));
    });
    this.#socket.onError((error) => {
      const status = refusalStatus(textMember(error, 'message'));
      if (status !== undefined && status < 500) this.#end(whyRefused(status, this.#openedAt !== undefined));
    });
    this.#socket.onMessage((message) => {
      this.#received(textMember(message, 'event'), member(message, 'payload'));
    });
  }

  start(): void {
    this.#socket.connect();
    this.#channel.join();
  }

  stop(): void {
    this.#isStopped = true;
    this.#rest();
    this.#socket.disconnect();
  }

  #received(event: string, payload: unknown): void {
    switch (event) {
      case 'phx_reply':
      case 'phx_close':
        return;
      case 'init':
        this.#resources.clear();
        for (const resource of listMember(payload, 'resources')) this.#resources.add(textMember(resource, 'id'));
        this.#heard(event, `${this.#resources.size} resources`, { request: 'phx_join', since: this.#openedAt ?? 0 });
        break;
      case 'resource_created_or_updated':
        this.#resources.add(textMember(payload, 'id'));
        this.#heard(event, this.#nameOf(payload, 'id'));
        break;
      case 'resource_deleted':
        this.#lost(String(payload));
        this.#heard(event, this.with_.nameOf(String(payload)));
        break;
      case 'flow_created':
        this.#hasFlow = true;
        this.#gatewayId = textMember(payload, 'gateway_id');
        this.#heard(event, `${this.#nameOf(payload)}: packets may flow`, this.#request());
        break;
      case 'flow_creation_failed':
        this.#heard(event, `${this.#nameOf(payload)}: ${textMember(payload, 'reason')}`, this.#request());
        break;
      case 'relays_presence':
        this.with_.note(`client   relays_presence  ${listMember(payload, 'connected').length} to use`);
        break;
      case 'disconnect':
        this.#heard(event, textMember(payload, 'reason'));
        this.#end('its token has ended (a real client signs out)');
        return;
      default:
        this.#heard(event, '');
    }
    this.#traffic();
  }

  #lost(resourceId: string): void {
    this.#resources.delete(resourceId);
    if (resourceId !== this.targetId) return;
    this.#hasFlow = false;
    this.#rest();
  }

  #closed(code: number): void {
    const wasOpen = this.#isOpen;
    this.#isOpen = false;
    this.#hasFlow = false;
    this.#resources.clear();
    this.#rest();
    if (wasOpen && !this.#isStopped) this.with_.note(`client   the connection was closed (${code}); connects again`);
  }

  #end(why: string): void {
    if (this.#isStopped) return;
    this.stop();
    this.with_.ended(`the client stopped: ${why}`);
  }

  /** Asks now or as soon as it may, and again while there is no flow. */
  #traffic(): void {
    if (this.#isStopped || this.#cancelAsk || this.#hasFlow || !this.#resources.has(this.targetId)) return;
    const waitMs = Math.max(0, this.#askedAt + REPEAT_MS - this.with_.scheduler.elapsedMs());
    this.#cancelAsk = this.with_.clock.after(waitMs, () => {
      this.#cancelAsk = undefined;
      if (this.#hasFlow) return;
      this.#ask();
      this.#traffic();
    });
  }

  #rest(): void {
    this.#cancelAsk?.();
    this.#cancelAsk = undefined;
  }

  #ask(): void {
    this.#askedAt = this.with_.scheduler.elapsedMs();
    this.with_.note(`client   create_flow     has packets for ${this.with_.nameOf(this.targetId)}`);
    const connected = this.#gatewayId === undefined ? [] : [this.#gatewayId];
    const payload = { resource_id: this.targetId, connected_gateway_ids: connected };
    this.#channel.push('create_flow', payload, NO_REPLY_MS);
  }

  #request(): { request: string; since: number } {
    return { request: 'create_flow', since: this.#askedAt };
  }

  #heard(event: string, about: string, answering?: { readonly request: string; readonly since: number }): void {
    const { clock, scheduler } = this.with_;
    const push = { at: clock.now(), peer: 'client' as const, event, about };
    if (!answering) this.with_.heard(push);
    else {
      const afterMs = scheduler.elapsedMs() - answering.since;
      this.with_.heard({ ...push, answers: { request: answering.request, afterMs } });
    }
  }

  #nameOf(payload: unknown, key = 'resource_id'): string {
    return this.with_.nameOf(textMember(payload, key));
  }
}

/** Phoenix looks for the browser's; newer Node versions have one that warns. */
const NO_STORAGE = { getItem: () => null, setItem: () => undefined };
