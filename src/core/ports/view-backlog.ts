import type { Position } from '../model/position.js';

/** Client views that a commit marked and that have not been brought up to date yet. */
export interface ViewBacklog {
  /** Position of the oldest commit that some channel has not pushed for; undefined when all are up to date. */
  oldestPosition(): Position | undefined;
}
export const VIEW_BACKLOG = Symbol('ViewBacklog');
