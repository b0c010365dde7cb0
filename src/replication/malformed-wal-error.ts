import { PortalError } from '../core/support/portal-error.js';

/**
 * Bytes of the stream are not what the protocol says: too short, too long, an unknown kind, a row outside a transaction.
 * The catcher drops the connection and reads again from the acknowledged position; when that fails too, it makes a new
 * slot and has every store read again. Never skips a message: a skipped one could be a revocation.
 */
export class MalformedWalError extends PortalError {
  readonly code = 'REPL_MALFORMED_WAL';
  readonly reaction = 'resync';
}
