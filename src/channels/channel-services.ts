/** What every channel needs from the rest of the house: ports only (D49). */
import type { RefSealer } from '../core/derivations/sealed-ref.js';
import type { AccountStores } from '../core/ports/account-stores.js';
import type { AccountStreams } from '../core/ports/account-streams.js';
import type { Connects } from '../core/ports/connects.js';
import type { FlowRecords } from '../core/ports/flow-records.js';
import type { Metrics } from '../core/ports/metrics.js';
import type { Presence } from '../core/ports/presence.js';
import type { ReceiptLedger } from '../core/ports/receipt-ledger.js';
import type { TokenWatch } from '../core/ports/token-watch.js';
import type { Clock, Random } from '../core/support/clock.js';
import type { Logger } from '../core/support/logger.js';
import type { ViewScheduler } from './view-scheduler.js';

export interface ChannelServices {
  readonly stores: AccountStores;
  readonly streams: AccountStreams;
  readonly presence: Presence;
  readonly flowRecords: FlowRecords;
  readonly receipts: ReceiptLedger;
  readonly tokens: TokenWatch;
  readonly connects: Pick<Connects, 'findToken'>;
  readonly sealer: RefSealer;
  readonly views: ViewScheduler;
  readonly clock: Clock;
  readonly random: Random;
  readonly metrics: Metrics;
  readonly log: Logger;
  readonly limits: ChannelLimits;
}

export interface ChannelLimits {
  /** Unanswered `authorize_flow` per gateway; more than about 258 deadlock gateways from 1.4.16 on (D34). */
  readonly maxUnansweredFlows: number;
  /** How long a relay may be away before its peers are told. Unit ms. */
  readonly relaysDebounceMs: number;
  /** Whether a gateway that was given no relay is passed over for peers that need one (D31). */
  readonly relaysRequired: boolean;
  /** False: a rejection counts as told once it is written to the socket, and no ping is sent. */
  readonly receiptsAreAsked: boolean;
  /** A gateway that has not proven to have read a rejection by then is cut off. Unit ms, from the push. */
  readonly receiptTimeoutMs: number;
  /** Tasks waiting in one channel's mailbox. */
  readonly mailboxLimit: number;
}
