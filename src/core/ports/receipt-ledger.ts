import type { Position } from '../model/position.js';

/**
 * Which commits have revocations on their way (ACK-2): pushed to a gateway, and neither receipted nor ended by its socket;
 * or a hand's on a row that is gone and not put back yet, for a gateway that is away (D8a).
 */
export interface ReceiptLedger {
  /**
   * A revocation that this commit caused is on its way. From now on the position is not acknowledged, until the returned
   * function is called. Call it once or oftener; it does nothing the second time.
   */
  opened(position: Position): () => void;
}
export const RECEIPT_LEDGER = Symbol('ReceiptLedger');
