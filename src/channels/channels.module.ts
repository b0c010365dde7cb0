import { type DynamicModule, Module } from '@nestjs/common';
import { RefSealer } from '../core/derivations/sealed-ref.js';
import { ACCOUNT_STORES, type AccountStores } from '../core/ports/account-stores.js';
import { ACCOUNT_STREAMS, type AccountStreams } from '../core/ports/account-streams.js';
import { CONNECTS, type Connects } from '../core/ports/connects.js';
import { FLOW_RECORDS, type FlowRecords } from '../core/ports/flow-records.js';
import type { GeoIp } from '../core/ports/geo-ip.js';
import { METRICS, type Metrics } from '../core/ports/metrics.js';
import { PRESENCE, type Presence } from '../core/ports/presence.js';
import { RECEIPT_LEDGER, type ReceiptLedger } from '../core/ports/receipt-ledger.js';
import { TOKEN_WATCH, type TokenWatch } from '../core/ports/token-watch.js';
import { VIEW_BACKLOG } from '../core/ports/view-backlog.js';
import type { Clock, Random } from '../core/support/clock.js';
import type { Logger } from '../core/support/logger.js';
import type { Scheduler } from '../core/support/scheduler.js';
import { ApiServer, type ApiServerOptions } from './api-server.js';
import type { ChannelLimits } from './channel-services.js';
import { ClientGateway } from './client/client.gateway.js';
import { GatewayGateway } from './gateway/gateway.gateway.js';
import { RelayGateway } from './relay/relay.gateway.js';
import { SocketFactory, type SocketTimes } from './socket-factory.js';
import { Authenticator } from './upgrade/authenticator.js';
import { ConnectGuard } from './upgrade/connect-guard.js';
import { ViewScheduler } from './view-scheduler.js';

export interface ChannelsSetup {
  /** Where peers are of whom no proxy says it; undefined: unknown. */
  readonly geoIp: GeoIp | undefined;
  readonly clock: Clock;
  readonly random: Random;
  readonly scheduler: Scheduler;
  readonly log: Logger;
  readonly api: ApiServerOptions;
  readonly sockets: SocketTimes;
  readonly limits: ChannelLimits;
}

/** Bytes of the key that seals refs: made here, kept nowhere else, gone with the process (D29). */
const SEAL_KEY_BYTES = 32;

@Module({})
export class ChannelsModule {
  static with({ clock, random, scheduler, log, geoIp, api, sockets, limits }: ChannelsSetup): DynamicModule {
    return {
      module: ChannelsModule,
      providers: [
        { provide: ConnectGuard, useFactory: () => new ConnectGuard(api.connects, clock) },
        { provide: VIEW_BACKLOG, useFactory: () => new ViewScheduler(scheduler) },
        {
          provide: ApiServer,
          inject: [CONNECTS, ConnectGuard, METRICS],
          useFactory: (connects: Connects, guard: ConnectGuard, metrics: Metrics) =>
            new ApiServer(
              new Authenticator(connects, guard, { trusted: api.trustedProxies, geoIp }, clock, random),
              api,
              {
                ...{ clock, random, metrics, log },
              },
            ),
        },
        {
          provide: SocketFactory,
          inject: [
            ACCOUNT_STORES,
            ACCOUNT_STREAMS,
            PRESENCE,
            FLOW_RECORDS,
            RECEIPT_LEDGER,
            TOKEN_WATCH,
            CONNECTS,
            METRICS,
            VIEW_BACKLOG,
            ConnectGuard,
          ],
          useFactory: (
            stores: AccountStores,
            streams: AccountStreams,
            presence: Presence,
            flowRecords: FlowRecords,
            receipts: ReceiptLedger,
            tokens: TokenWatch,
            connects: Connects,
            metrics: Metrics,
            views: ViewScheduler,
            guard: ConnectGuard,
          ) => {
            const sealer = new RefSealer(random.bytes(SEAL_KEY_BYTES), random);
            const ports = { stores, streams, presence, flowRecords, receipts, tokens, connects, metrics };
            return new SocketFactory({ ...ports, sealer, views, clock, random, log, limits }, sockets, guard);
          },
        },
        ClientGateway,
        GatewayGateway,
        RelayGateway,
      ],
      exports: [ApiServer, VIEW_BACKLOG],
    };
  }
}
