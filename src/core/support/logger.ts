/**
 * One event name plus fields from a shared list. error: a person must act; warn: someone may; info: lifecycle;
 * debug: per message. Never a token, key or secret (decisions D8b).
 */
export interface Logger {
  error(event: string, fields?: LogFields): void;
  warn(event: string, fields?: LogFields): void;
  info(event: string, fields?: LogFields): void;
  debug(event: string, fields?: LogFields): void;
}

export type LogFields = Readonly<Record<string, unknown>>;
