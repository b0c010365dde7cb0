/** Tells who asked when the stream brings news of a token (port TokenWatch). Costs nothing while nobody asks. */
import { mustResync, type Commit } from '../core/changes/commit.js';
import type { AccountId, TokenId } from '../core/model/ids.js';
import type { TokenNews, TokenWatch } from '../core/ports/token-watch.js';
import type { Logger } from '../core/support/logger.js';
import { MultiMap } from '../core/support/multi-map.js';

interface Watch {
  readonly accountId: AccountId | null;
  readonly heard: (news: TokenNews) => void;
}

export class TokenWatches implements TokenWatch {
  readonly #watches = new MultiMap<TokenId, Watch>();

  /** @param unsettled commits streamed but not known to be visible to a query yet */
  constructor(
    private readonly unsettled: () => Iterable<Commit>,
    private readonly log: Logger,
  ) {}

  watchToken(tokenId: TokenId, accountId: AccountId | null, heard: (news: TokenNews) => void): () => void {
    const watch = { accountId, heard };
    for (const commit of this.unsettled()) {
      if (newsIn(commit).has(tokenId) || truncatesTokens(commit) || hidesNews(commit, accountId)) {
        this.#tell(watch, 'doubtful');
        return () => undefined;
      }
    }
    this.#watches.add(tokenId, watch);
    return () => {
      this.#watches.delete(tokenId, watch);
    };
  }

  take(commit: Commit): void {
    if (this.#watches.isEmpty) return;
    if (truncatesTokens(commit)) {
      for (const watch of this.#watches.allValues()) this.#tell(watch, 'deleted');
      return;
    }
    for (const [id, news] of newsIn(commit)) for (const watch of [...this.#watches.get(id)]) this.#tell(watch, news);
    if (commit.resync === 'all' || commit.resync.size > 0) {
      for (const watch of this.#watches.allValues()) {
        if (hidesNews(commit, watch.accountId)) this.#tell(watch, 'doubtful');
      }
    }
  }

  /** The stream has lost its thread: any token may be gone. */
  doubtAll(): void {
    for (const watch of this.#watches.allValues()) this.#tell(watch, 'doubtful');
  }

  #tell(watch: Watch, news: TokenNews): void {
    try {
      watch.heard(news);
    } catch (error) {
      this.log.error('store.token-watcher-failed', { error });
    }
  }
}

/** What became of each token in the commit, net: one that was deleted and inserted again is only doubtful. */
function newsIn(commit: Commit): ReadonlyMap<TokenId, TokenNews> {
  const news = new Map<TokenId, TokenNews>();
  for (const changes of [commit.global, ...commit.byAccount.values()]) {
    for (const change of changes) {
      if (change.kind === 'truncate' || change.table !== 'tokens') continue;
      if (change.old) news.set(change.old['id'] as TokenId, change.kind === 'delete' ? 'deleted' : 'doubtful');
      else if (change.new && news.has(change.new['id'] as TokenId)) news.set(change.new['id'] as TokenId, 'doubtful');
    }
  }
  return news;
}

function truncatesTokens({ truncates }: Commit): boolean {
  return truncates.some(({ tables }) => tables.includes('tokens'));
}

/** Rows of the account were in the commit and are not in our hands. Those of no account are owed as everybody's. */
function hidesNews(commit: Commit, accountId: AccountId | null): boolean {
  return accountId === null ? commit.resync === 'all' : mustResync(commit, accountId);
}
