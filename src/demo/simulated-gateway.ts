/** A gateway that answers every `authorize_flow` at once and lets nothing through, since it has no tunnel. */
import { RustPeer } from './rust-peer.js';
import { listMember, member, textMember, type PeerOptions } from './simulated-peer.js';

const USER_AGENT = 'Linux/6.8.0 connlib/1.4.16 (portcullis demo)';

export class SimulatedGateway {
  readonly #peer: RustPeer;

  constructor(private readonly with_: PeerOptions) {
    const { token, externalId, publicKey } = with_;
    const query = { token, external_id: externalId, public_key: publicKey, name: 'demo gateway' };
    const identity = { role: 'gateway' as const, userAgent: USER_AGENT, query, join: null };
    this.#peer = new RustPeer(identity, with_, (event, payload) => {
      this.#received(event, payload);
    });
  }

  start(): void {
    this.#peer.start();
  }

  stop(): void {
    this.#peer.stop();
  }

  #received(event: string, payload: unknown): void {
    const { clock, nameOf } = this.with_;
    const pair = nameOf(textMember(payload, 'resource_id'));
    const heard = (about: string): void => {
      this.with_.heard({ at: clock.now(), peer: 'gateway', event, about });
    };
    switch (event) {
      case 'phx_reply':
        return;
      case 'init': {
        const count = listMember(payload, 'authorizations').length;
        const about = count === 0 ? 'serves nobody yet' : `may go on serving ${count}`;
        const answers = { request: 'phx_join', afterMs: this.#peer.sinceJoinMs };
        this.with_.heard({ at: clock.now(), peer: 'gateway', event, about, answers });
        return;
      }
      case 'authorize_flow': {
        const resource = textMember(member(payload, 'resource'), 'name') || 'Internet';
        // Part of the client's request: the client's own line says how long the whole of it took.
        this.with_.note(`gateway  authorize_flow  let the client through to ${resource}; answers at once`);
        this.#peer.send('gateway', 'flow_authorized', { ref: member(payload, 'ref') });
        return;
      }
      case 'disconnect':
        heard(textMember(payload, 'reason'));
        this.#peer.end('its token has ended (a real gateway exits)');
        return;
      case 'resource_updated':
        heard(textMember(payload, 'name'));
        return;
      case 'relays_presence':
        this.with_.note(`gateway  relays_presence  ${listMember(payload, 'connected').length} to use`);
        return;
      default:
        heard(pair);
    }
  }
}
