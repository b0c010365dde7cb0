import type { Position } from '../model/position.js';

/** Which commits have revocations on their way: pushed to a gateway, and neither receipted nor ended by its socket (ACK-2). */
export interface ReceiptLedger {
  /**
   * A revocation that this commit caused was pushed. From now on the position is not acknowledged, until the returned
   * function is called. Call it once or oftener; it does nothing the second time.
   */
  opened(position: Position): () => void;
}
export const RECEIPT_LEDGER = Symbol('ReceiptLedger');
