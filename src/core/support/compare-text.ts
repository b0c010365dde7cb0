/** Orders by code unit, as PostgreSQL orders uuid text and `sort()` without an argument orders strings. */
export function compareText(a: string, b: string): number {
  if (a === b) return 0;
  return a < b ? -1 : 1;
}
