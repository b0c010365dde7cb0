/** What the operator is told when the database that comes with the product cannot serve. */
import { PortalError } from '../core/support/portal-error.js';

/** The embedded PostgreSQL cannot be started here; the message says what to change. */
export class EmbeddedPostgresError extends PortalError {
  readonly code = 'EMBEDDED_POSTGRES';
  readonly reaction = 'stop-process';
}
