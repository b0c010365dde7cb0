import { type DynamicModule, type FactoryProvider, Module } from '@nestjs/common';
import { FRESHNESS } from '../core/ports/freshness.js';
import {
  buildReplication,
  REPLICATION,
  type Replication,
  type ReplicationOptions,
  type ReplicationPorts,
} from './replication.js';

export interface ReplicationSetup {
  readonly options: ReplicationOptions;
  readonly ports: ReplicationPorts;
}

/** Where the setup comes from: `useFactory` is called with what `inject` names. */
export type ReplicationSetupFactory = Required<Pick<FactoryProvider<ReplicationSetup>, 'inject' | 'useFactory'>> &
  Pick<DynamicModule, 'imports'>;

const SETUP = Symbol('ReplicationSetup');

/**
 * Offers REPLICATION and FRESHNESS. Starts nothing by itself: the stream begins after the stores listen and ends before
 * flow records are flushed, an order that only the caller knows (D40).
 */
@Module({})
export class ReplicationModule {
  static register({ imports = [], inject, useFactory }: ReplicationSetupFactory): DynamicModule {
    return {
      module: ReplicationModule,
      imports,
      providers: [
        { provide: SETUP, inject, useFactory },
        {
          provide: REPLICATION,
          inject: [SETUP],
          useFactory: ({ options, ports }: ReplicationSetup) => buildReplication(options, ports),
        },
        { provide: FRESHNESS, inject: [REPLICATION], useFactory: (replication: Replication) => replication.freshness },
      ],
      exports: [REPLICATION, FRESHNESS],
    };
  }
}
