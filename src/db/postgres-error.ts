/** Which of PostgreSQL's errors a catcher here treats differently, by SQLSTATE. Source: PostgreSQL documentation, appendix A. */
import { DatabaseError } from 'pg';

/** True when the statement broke one of these unique constraints. */
export function isTaken(error: unknown, constraints: readonly string[]): boolean {
  return error instanceof DatabaseError && error.code === '23505' && constraints.includes(error.constraint ?? '');
}

/** True when the same row would fail again at any time: class 22 (bad value) and 23 (constraint). */
export function isForGood(error: unknown): boolean {
  return error instanceof DatabaseError && /^2[23]/.test(error.code ?? '');
}
