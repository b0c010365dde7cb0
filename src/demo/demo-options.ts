/** What the tour is given by whoever starts it: where the server is, who its peers are, and the world outside. */
import type { Clock, Random } from '../core/support/clock.js';
import type { Scheduler } from '../core/support/scheduler.js';

/** Runs one statement in the server's database. */
export type Query = (sql: string, values?: readonly unknown[]) => Promise<readonly Readonly<Record<string, unknown>>[]>;

export interface DemoOptions {
  /** `http://host:port` where peers connect; answered a moment ago. */
  readonly apiUrl: string;
  readonly accountId: string;
  readonly actorId: string;
  readonly groupId: string;
  readonly tokens: { readonly client: string; readonly gateway: string; readonly relay: string };
  /** What the client sends its packets to, and the policy that lets it. */
  readonly target: { readonly resourceId: string; readonly name: string; readonly policyId: string };
  /** Names of the account's resources by id, for reading only. */
  readonly names: ReadonlyMap<string, string>;
  readonly query: Query;
  /** Command line that opens psql on the server's database. */
  readonly psql: string;
  /** True: the tour runs by itself and ends. False: it goes on until `signal`. */
  readonly isScripted: boolean;
  readonly isColoured: boolean;
  readonly print: (line: string) => void;
  readonly signal: AbortSignal;
  readonly clock: Clock;
  readonly scheduler: Scheduler;
  readonly random: Random;
}
