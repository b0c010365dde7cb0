/**
 * One joined relay: it is online for as long as this channel lives, and says nothing (wire-protocol.md 5).
 *
 * States: *joining* (its token is watched and asked for again: what was deleted since the upgrade is found here), *online*
 * (`init` is written; peers may be sent to it), *closed*.
 */
import { relayIdOf } from '../../core/derivations/relay-id.js';
import type { AccountId, ConnectionId, RelayId } from '../../core/model/ids.js';
import type { StoredToken } from '../../core/ports/connects.js';
import type { RelayPeer } from '../../core/ports/presence.js';
import type { TokenNews } from '../../core/ports/token-watch.js';
import { DISCONNECT } from '../../protocol/outbound.js';
import type { Frame } from '../../protocol/frame.js';
import { Alarm } from '../alarm.js';
import type { Channel, RelaySocket } from '../channel.js';
import type { ChannelServices } from '../channel-services.js';
import type { ConnectedRelay } from '../connected-peer.js';

export class RelayChannel implements Channel, RelayPeer {
  readonly accountId: AccountId | null;
  readonly relayId: RelayId;
  readonly connectionId: ConnectionId;
  readonly upgradeNumber: number;
  readonly ipv4: string | null;
  readonly ipv6: string | null;
  readonly port: number;
  readonly latitude: number | null;
  readonly longitude: number | null;

  readonly #tokenEnd: Alarm;
  #isClosed = false;
  readonly #undo: (() => void)[] = [];

  constructor(
    private readonly peer: ConnectedRelay,
    readonly stampSecret: string,
    private readonly socket: RelaySocket,
    private readonly with_: ChannelServices,
  ) {
    this.accountId = peer.accountId;
    this.relayId = relayIdOf(stampSecret);
    this.connectionId = peer.connectionId;
    this.upgradeNumber = peer.upgradeNumber;
    this.ipv4 = peer.ipv4;
    this.ipv6 = peer.ipv6;
    this.port = peer.port;
    this.latitude = peer.latitude;
    this.longitude = peer.longitude;
    this.#tokenEnd = new Alarm(with_.clock, () => {
      this.#disconnect('token-expired');
    });
    void this.#join();
  }

  /** A relay sends nothing but its join and heartbeats. */
  receive(frame: Frame): void {
    this.with_.metrics.frameRefused('relay', 'unknown-message');
    this.socket.replyError(frame, 'unknown_message');
  }

  closed(): void {
    this.#isClosed = true;
    this.#tokenEnd.set(null);
    for (const undo of this.#undo.splice(0).reverse()) undo();
  }

  evict(): void {
    this.socket.close(1000, 'newer-connection');
  }

  /** First the watch, then the question: a token deleted in between is heard of (ORD-2). */
  async #join(): Promise<void> {
    const { relayId, accountId } = this;
    try {
      const heard = (news: TokenNews): void => {
        this.#tokenHeard(news);
      };
      const unwatch = this.with_.tokens.watchToken(this.peer.tokenId, accountId, heard);
      this.#undo.push(unwatch);
      const token = await this.with_.connects.findToken(this.peer.tokenId);
      if (!this.#isClosed) this.#start(token);
    } catch (error) {
      // Never a join error: it is fatal to every Rust peer. The reply is out; the peer comes again (D24).
      if (this.#isClosed) return;
      this.with_.log.warn('relay.join-failed', { relayId, accountId, error });
      this.socket.close(1012, 'join-failed');
    }
  }

  #start(token: StoredToken | undefined): void {
    if (token?.kind !== 'relay') {
      this.#disconnect('token-deleted');
      return;
    }
    this.socket.push('init', {});
    if (this.#isClosed) return;
    this.#tokenEnd.set(token.expiresAt);
    this.#undo.push(this.with_.presence.enterRelay(this));
    const { relayId, accountId, ipv4, ipv6, port } = this;
    if (!this.#isClosed) this.with_.log.info('relay.joined', { relayId, accountId, ipv4, ipv6, port });
  }

  #tokenHeard(news: TokenNews): void {
    if (this.#isClosed) return;
    if (news === 'deleted') this.#disconnect('token-deleted');
    else this.socket.close(1012, 'token-doubtful'); // its upgrade is judged anew
  }

  /** Final: the relay exits. */
  #disconnect(why: 'token-deleted' | 'token-expired'): void {
    this.socket.push('disconnect', DISCONNECT);
    this.socket.close(1000, why);
  }
}
