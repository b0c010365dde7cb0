import type { Position } from '../model/position.js';
import type { SlotStatus } from './slot-status.js';

/** What `/readyz` tells a load balancer and a deploy script. */
export interface Readiness {
  /** One sentence per reason not to send peers here; empty when ready. */
  problems(): readonly string[];
  /** Every live channel has applied and pushed everything up to here. */
  appliedPosition(): Position;
  /** Undefined before the server has said anything of it. */
  slot(): SlotStatus | undefined;
}
export const READINESS = Symbol('Readiness');
