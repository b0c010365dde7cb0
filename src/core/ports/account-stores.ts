/** The in-memory rows of one account, shared by its channels (D16). */
import type { AccountState } from '../authorizer/account-state.js';
import type { FlowTable } from '../authorizer/flow-table.js';
import type { ConnectionFacts } from '../model/connection-facts.js';
import type { AccountId, ConnectionId } from '../model/ids.js';
import type { Position } from '../model/position.js';
import type { Cut } from './account-streams.js';

/** One channel's hold on its account's store. Read `state` and `flows` freely between steps; change them only as said. */
export interface AccountHandle {
  readonly state: AccountState;
  readonly flows: FlowTable;
  /** END LSN of the last commit applied here. */
  position(): Position;
  /**
   * Cuts that the stream has brought and a query may not show yet, by B.3.2 of events.md; also some that it does show.
   * Whoever reads flows from the database looks here first, after subscribing.
   */
  cutsNotYetVisible(): readonly Cut[];
  /** How often commits have gone by unheard: of what was read from the database before, cuts may be missing. */
  gaps(): number;
  /** False while the account is owed a resync or the stream is not proven fresh: nothing new is granted (D14). */
  mayGrant(): boolean;
  /** Replaces a client's connection facts and decides its flows again, in one step (D13). */
  connected(facts: ConnectionFacts): void;
  /** Resolves true when the stream has applied the connect message; false when `withinMs` has passed. */
  sawConnect(connectionId: ConnectionId, withinMs: number): Promise<boolean>;
  /** The channel is done with the store. Idempotent. */
  release(): void;
}

export interface AccountStores {
  /**
   * Hydrates the account unless it is live already; concurrent calls share one hydration. Rejects when it cannot be
   * read: the caller closes the peer, which comes again.
   */
  open(accountId: AccountId): Promise<AccountHandle>;
}
export const ACCOUNT_STORES = Symbol('AccountStores');
