/**
 * A gateway that speaks Phoenix V1 as the Rust gateways do: object frames, number refs, no library. It answers every
 * `authorize_flow` at once and lets nothing through, since it has no tunnel.
 */
import { WebSocket } from 'ws';
import { listMember, member, refusalStatus, textMember, whyRefused, type PeerOptions } from './simulated-peer.js';

/** The server closes a gateway that is silent for 37 s; real ones send after 30 s. */
const HEARTBEAT_MS = 25_000;
const RECONNECT_MS = 1_000;
const USER_AGENT = 'Linux/6.8.0 connlib/1.4.16 (portcullis demo)';

export class SimulatedGateway {
  #ws: WebSocket | undefined;
  #ref = 0;
  #joinedAt: number | undefined;
  #isStopped = false;
  #isAway = false;
  #cancelHeartbeat: (() => void) | undefined;
  #cancelReconnect: (() => void) | undefined;

  constructor(private readonly with_: PeerOptions) {}

  start(): void {
    const { wsUrl, token, externalId, publicKey } = this.with_;
    const query = new URLSearchParams({ token, external_id: externalId, public_key: publicKey, name: 'demo gateway' });
    const ws = new WebSocket(`${wsUrl}/gateway/websocket?${query.toString()}`, {
      perMessageDeflate: false,
      headers: { 'user-agent': USER_AGENT },
    });
    this.#ws = ws;
    ws.on('open', () => {
      this.#isAway = false;
      this.#joinedAt = this.with_.scheduler.elapsedMs();
      this.#send('gateway', 'phx_join', null);
      this.#beat();
    });
    ws.on('message', (data: Buffer) => {
      const frame: unknown = JSON.parse(data.toString());
      this.#received(textMember(frame, 'event'), member(frame, 'payload'));
    });
    ws.on('error', (error) => {
      const status = refusalStatus(error.message);
      if (status !== undefined && status < 500) this.#end(whyRefused(status, this.#joinedAt !== undefined));
    });
    ws.on('close', (code) => {
      this.#closed(code);
    });
  }

  stop(): void {
    this.#isStopped = true;
    this.#cancelHeartbeat?.();
    this.#cancelReconnect?.();
    this.#ws?.close();
  }

  #received(event: string, payload: unknown): void {
    const { clock, scheduler, nameOf } = this.with_;
    const pair = nameOf(textMember(payload, 'resource_id'));
    const heard = (about: string): void => {
      this.with_.heard({ at: clock.now(), peer: 'gateway', event, about });
    };
    switch (event) {
      case 'phx_reply':
        return;
      case 'init': {
        const count = listMember(payload, 'authorizations').length;
        const afterMs = scheduler.elapsedMs() - (this.#joinedAt ?? 0);
        const about = count === 0 ? 'serves nobody yet' : `may go on serving ${count}`;
        this.with_.heard({ at: clock.now(), peer: 'gateway', event, about, answers: { request: 'phx_join', afterMs } });
        return;
      }
      case 'authorize_flow': {
        const resource = textMember(member(payload, 'resource'), 'name') || 'Internet';
        // Part of the client's request: the client's own line says how long the whole of it took.
        this.with_.note(`gateway  authorize_flow  let the client through to ${resource}; answers at once`);
        this.#send('gateway', 'flow_authorized', { ref: member(payload, 'ref') });
        return;
      }
      case 'disconnect':
        heard(textMember(payload, 'reason'));
        this.#end('its token has ended (a real gateway exits)');
        return;
      case 'resource_updated':
        heard(textMember(payload, 'name'));
        return;
      default:
        heard(pair);
    }
  }

  /** The server closes a connection for many reasons; all but `disconnect` and 4xx mean: come back. */
  #closed(code: number): void {
    this.#cancelHeartbeat?.();
    if (this.#isStopped) return;
    if (!this.#isAway) this.with_.note(`gateway  the connection was closed (${code}); connects again`);
    this.#isAway = true;
    this.#cancelReconnect = this.with_.clock.after(RECONNECT_MS, () => {
      this.start();
    });
  }

  #end(why: string): void {
    if (this.#isStopped) return;
    this.stop();
    this.with_.ended(`the gateway stopped: ${why}`);
  }

  #beat(): void {
    this.#cancelHeartbeat = this.with_.clock.after(HEARTBEAT_MS, () => {
      this.#send('phoenix', 'heartbeat', {});
      this.#beat();
    });
  }

  #send(topic: string, event: string, payload: unknown): void {
    this.#ws?.send(JSON.stringify({ topic, event, payload, ref: this.#ref++ }));
  }
}
