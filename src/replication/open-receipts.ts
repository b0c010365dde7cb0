/**
 * Holds back the acknowledgement of commits whose revocations are on their way (ACK-2). A gate of the `Acknowledger`,
 * moved by the gateways' sockets: each of them closes what it opened within the time a receipt may take, so a slow gateway
 * holds back that much log and no more.
 */
import type { Position } from '../core/model/position.js';
import type { ReceiptLedger } from '../core/ports/receipt-ledger.js';

/** No commit ends here: nothing is held back. */
const NOTHING_OPEN: Position = (1n << 64n) - 1n;

export class OpenReceipts implements ReceiptLedger {
  /** How many receipts are open, by position. */
  #open = new Map<Position, number>();

  opened(position: Position): () => void {
    const open = this.#open;
    open.set(position, (open.get(position) ?? 0) + 1);
    let isOpen = true;
    return () => {
      if (!isOpen) return;
      isOpen = false;
      const left = (open.get(position) ?? 0) - 1;
      if (left > 0) open.set(position, left);
      else open.delete(position);
    };
  }

  /** Every commit up to here is receipted, or caused nothing that needs a receipt: the server compares, no commit need end there. */
  receiptedPosition(): Position {
    let lowest = NOTHING_OPEN;
    // Not simply the first: a repair speaks for a commit that is older than the last one applied.
    for (const position of this.#open.keys()) if (position <= lowest) lowest = position - 1n;
    return lowest;
  }

  /** Another branch of history: old positions mean nothing, and what they opened closes nothing new. */
  forget(): void {
    this.#open = new Map();
  }
}
