/** Everything that is wrong with the environment, told at once. */
import { PortalError } from '../core/support/portal-error.js';

/** Names every bad variable. Its message is safe to print: a value that may hold a password is never part of it. */
export class ConfigError extends PortalError {
  readonly code = 'CONFIG';
  readonly reaction = 'stop-process';

  /** @param faults one sentence each, beginning with the variable's name. */
  constructor(readonly faults: readonly string[]) {
    super(`cannot start with this environment:\n${faults.map((fault) => `  ${fault}`).join('\n')}`);
  }
}
