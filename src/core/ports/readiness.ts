import type { Position } from '../model/position.js';

/** What `/readyz` tells a load balancer and a deploy script. */
export interface Readiness {
  /** One sentence per reason not to send peers here; empty when ready. */
  problems(): readonly string[];
  /** Every live channel has applied and pushed everything up to here. */
  appliedPosition(): Position;
}
export const READINESS = Symbol('Readiness');
