/**
 * What a peer believes, told by the frames on its socket alone, as a real one of 2025 would understand them. Pure: each call
 * brings its time. Intervals of what a gateway enforced and a client displayed are what the checkers compare with the truth.
 */
import { NIL_UUID } from '../../src/core/model/ids.js';
import { type Interval, type Timeline, Timelines } from './intervals.js';

/** A name of a resource as one socket was told it. */
export interface SeenName {
  readonly socket: string;
  readonly resource: string;
  readonly name: string;
}

/** When a socket was joined, and what was said on it of names. */
class SocketLog {
  readonly spans: Interval[] = [];
  readonly names: SeenName[] = [];
  readonly #last = new Map<string, string>();
  #openSince: number | undefined;

  constructor(private readonly peer: string) {}

  get isOpen(): boolean {
    return this.#openSince !== undefined;
  }

  opened(at: number): void {
    if (this.isOpen) return;
    this.#openSince = at;
    this.#last.clear();
  }

  closed(at: number): void {
    if (this.#openSince !== undefined) this.spans.push({ from: this.#openSince, to: at });
    this.#openSince = undefined;
  }

  saw(resource: string, name: string): void {
    if (this.#last.get(resource) === name) return;
    this.#last.set(resource, name);
    this.names.push({ socket: `${this.peer}#${this.spans.length}`, resource, name });
  }
}

export interface ShownResource {
  readonly id: string;
  readonly name?: string;
  readonly address?: string;
  readonly address_description?: string | null;
  readonly gateway_groups?: readonly { readonly id: string }[];
}

/** By `client|resource`. */
export class ClientModel {
  readonly log: SocketLog;
  readonly #shown = new Timelines();
  readonly #resources = new Map<string, ShownResource>();

  constructor(readonly name: string) {
    this.log = new SocketLog(name);
  }

  get resources(): readonly ShownResource[] {
    return [...this.#resources.values()];
  }

  init(at: number, resources: readonly ShownResource[]): void {
    this.log.opened(at);
    this.#resources.clear();
    for (const resource of resources) this.#keep(resource);
    this.#shown.onlyOn(new Map(resources.map(({ id }) => [this.#key(id), Infinity])), at);
  }

  changed(at: number, resource: ShownResource): void {
    this.#keep(resource);
    this.#shown.on(this.#key(resource.id), at);
  }

  deleted(at: number, id: string): void {
    this.#resources.delete(id);
    this.#shown.off(this.#key(id), at);
  }

  closed(at: number): void {
    this.log.closed(at);
  }

  finish(at: number): ReadonlyMap<string, Timeline> {
    this.closed(at);
    return this.#shown.finish(at);
  }

  #keep(resource: ShownResource): void {
    this.#resources.set(resource.id, resource);
    this.log.saw(resource.id, resource.name ?? '');
  }

  #key(resource: string): string {
    return `${this.name}|${resource}`;
  }
}

export interface Authorization {
  readonly client_id: string;
  readonly resource_id: string;
  /** Unix seconds. */
  readonly expires_at: number;
}

/**
 * By `gateway|client id|resource|address`. It keeps what it holds when its socket ends. A repeated `authorize_flow` does not
 * move the expiry (D20a). `init` prunes the pairs of the clients that it lists, and of no others (D22).
 */
export class GatewayModel {
  readonly log: SocketLog;
  readonly #held = new Timelines();
  /** `client|resource` → the address it is held with; `*`: told by `init` alone. */
  readonly #addresses = new Map<string, string>();

  /** @param toMonotonic from milliseconds since 1970 */
  constructor(
    readonly name: string,
    private readonly toMonotonic: (wallMs: number) => number,
  ) {
    this.log = new SocketLog(name);
  }

  init(at: number, authorizations: readonly Authorization[]): void {
    this.log.opened(at);
    const listed = new Set(authorizations.map(({ client_id }) => client_id));
    const wanted = new Set(authorizations.map((entry) => `${entry.client_id}|${entry.resource_id}`));
    for (const pair of [...this.#addresses.keys()]) {
      const [client = ''] = pair.split('|');
      if (listed.has(client) && !wanted.has(pair)) this.#drop(at, pair);
    }
    for (const entry of authorizations) {
      if (entry.resource_id !== NIL_UUID) this.#hold(at, entry, this.#addresses.get(pairOf(entry)) ?? '*', true);
    }
  }

  authorized(at: number, entry: Authorization, resource: ShownResource): void {
    this.log.saw(resource.id, resource.name ?? '');
    const pair = pairOf(entry);
    const known = this.#addresses.get(pair);
    const isHeld = known !== undefined && this.#held.isOn(this.#key(pair, known), at);
    if (isHeld && known === resource.address) return;
    if (known !== undefined) this.#drop(at, pair);
    this.#hold(at, entry, resource.address ?? '', false);
  }

  rejected(at: number, entry: Omit<Authorization, 'expires_at'>): void {
    this.#drop(at, pairOf(entry));
  }

  expiryMoved(at: number, entry: Authorization): void {
    const address = this.#addresses.get(pairOf(entry));
    if (address !== undefined) this.#hold(at, entry, address, true);
  }

  resourceUpdated(resource: ShownResource): void {
    this.log.saw(resource.id, resource.name ?? '');
  }

  /** `client id|resource`, of what it holds at this moment. */
  heldAt(at: number): string[] {
    return [...this.#addresses].flatMap(([pair, address]) =>
      this.#held.isOn(this.#key(pair, address), at) ? [pair] : [],
    );
  }

  closed(at: number): void {
    this.log.closed(at);
  }

  finish(at: number): ReadonlyMap<string, Timeline> {
    this.closed(at);
    return this.#held.finish(at);
  }

  #hold(at: number, entry: Authorization, address: string, movesExpiry: boolean): void {
    const pair = pairOf(entry);
    this.#addresses.set(pair, address);
    const key = this.#key(pair, address);
    if (movesExpiry || !this.#held.isOn(key, at)) this.#held.on(key, at, this.toMonotonic(entry.expires_at * 1000));
  }

  #drop(at: number, pair: string): void {
    const address = this.#addresses.get(pair);
    if (address === undefined) return;
    this.#addresses.delete(pair);
    this.#held.off(this.#key(pair, address), at);
  }

  #key(pair: string, address: string): string {
    return `${this.name}|${pair}|${address}`;
  }
}

function pairOf({ client_id, resource_id }: Omit<Authorization, 'expires_at'>): string {
  return `${client_id}|${resource_id}`;
}
