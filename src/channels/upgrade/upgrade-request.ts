/** What an upgrade request says, as plain values: everything in this folder is a function of it. */
export interface UpgradeRequest {
  readonly method: string;
  /** `1.1` and the like. */
  readonly httpVersion: string;
  /** Path and query as received. Holds the token: never log it. */
  readonly url: string;
  /** Lower-case names, as Node gives them: repeated headers already joined, but for the few it keeps as lists. */
  readonly headers: Readonly<Record<string, string | readonly string[] | undefined>>;
  /** Address of the TCP peer; undefined when the socket is gone already. */
  readonly remoteAddress: string | undefined;
}

/** The value of a header; repeated ones in order, joined by commas. `undefined` when absent. */
export function headerOf(request: UpgradeRequest, name: string): string | undefined {
  const value = Object.hasOwn(request.headers, name) ? request.headers[name] : undefined;
  return typeof value === 'object' ? value.join(', ') : value;
}
