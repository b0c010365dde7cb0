/** What the catcher does next. An error class exists because a catcher does something different with it. */
export type Reaction = 'stop-process' | 'resync' | 'retry-later' | 'refuse-peer';

export abstract class PortalError extends Error {
  abstract readonly code: string;
  abstract readonly reaction: Reaction;

  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = new.target.name;
  }
}
