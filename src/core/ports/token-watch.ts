/** News of single tokens, for channels that hold no account's store: relays, some of which belong to no account. */
import type { AccountId, TokenId } from '../model/ids.js';

/**
 * `deleted`: for good. `doubtful`: its row changed, or the stream could not say what happened to it; whoever holds it asks
 * the database again, most simply by letting its peer connect again.
 */
export type TokenNews = 'deleted' | 'doubtful';

export interface TokenWatch {
  /**
   * Calls `heard` for each commit that concerns the token, from this call on, and at once for a commit that the stream has
   * brought and a query may not show yet: who watches first and then asks the database misses nothing (ORD-2). Returns the
   * end of the watch.
   * @param accountId null for a token of the installation
   */
  watchToken(tokenId: TokenId, accountId: AccountId | null, heard: (news: TokenNews) => void): () => void;
}
export const TOKEN_WATCH = Symbol('TokenWatch');
