/** How far behind the database we are, proven by our own heartbeat. */
export interface Freshness {
  /** False when no proof of freshness arrived for longer than the limit: nothing is granted from memory then (D14). */
  isFresh(): boolean;
  /** Why it is not, in words for an operator; undefined when fresh. */
  staleBecause(): string | undefined;
}
export const FRESHNESS = Symbol('Freshness');
