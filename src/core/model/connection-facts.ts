import type { ClientId, TokenId } from './ids.js';
import type { EpochMs } from './time.js';

/** What conditions look at, of a client's latest connection. Replaced at every connect; kept while it is offline. */
export interface ConnectionFacts {
  readonly clientId: ClientId;
  /** The token it connected with; its identity, if any, names the provider. */
  readonly tokenId: TokenId;
  /** ISO 3166-1 alpha-2, upper case; null when unknown (a region condition is then violated, S9). */
  readonly region: string | null;
  /** Textual address without zone or prefix; null when unknown. */
  readonly remoteIp: string | null;
  readonly connectedAt: EpochMs;
}
